package journal

import (
	"encoding/binary"

	"perdure/runtime/internal/wasi"
)

// Attach implements wasi.Kernel. The host calls it, Listen, Adopt and Settle at a start only.
func (j *Journal) Attach(cut uint64) error {
	if j.opt.Offline {
		return nil
	}
	return j.k.Attach(cut)
}

// Settle implements wasi.Kernel.
func (j *Journal) Settle() (reset int, err error) {
	if j.opt.Offline {
		return 0, nil
	}
	return j.k.Settle()
}

// Listen implements wasi.Kernel.
func (j *Journal) Listen(key, network, address, last string) (wasi.Handle, error) {
	if j.opt.Offline {
		return j.add(object{real: wasi.NoHandle, dead: wasi.EIO, kind: wasi.KindListener}), nil
	}
	real, err := j.k.Listen(key, network, address, last)
	if err != nil {
		return wasi.NoHandle, err
	}
	return j.add(object{real: real, kind: wasi.KindListener}), nil
}

// Adopt implements wasi.Kernel.
func (j *Journal) Adopt(s wasi.SocketState) (wasi.Handle, error) {
	if j.opt.Offline {
		return j.add(object{real: wasi.NoHandle, dead: wasi.ECONNRESET, kind: wasi.KindConnection}), nil
	}
	real, err := j.k.Adopt(s)
	if err != nil {
		return wasi.NoHandle, err
	}
	return j.add(object{real: real, kind: wasi.KindConnection}), nil
}

// Socket implements wasi.Kernel. The host calls it for itself only.
func (j *Journal) Socket(h wasi.Handle) (wasi.SocketState, bool) {
	real, errno := j.outside(h)
	if errno != wasi.ESUCCESS {
		return wasi.SocketState{}, false
	}
	return j.k.Socket(real)
}

// Accept implements wasi.Kernel.
func (j *Journal) Accept(h wasi.Handle) (wasi.Handle, wasi.Errno) {
	if r, ok := j.replay(opAccept, 0); ok {
		if r.err() != wasi.ESUCCESS {
			return wasi.NoHandle, r.err()
		}
		return j.add(object{real: wasi.NoHandle, dead: wasi.ECONNRESET, kind: wasi.KindConnection, fd: -1}), wasi.ESUCCESS
	}
	real, errno := j.outside(h)
	if errno == wasi.ESUCCESS {
		real, errno = j.k.Accept(real)
	}
	j.put(opAccept, 0, errno)
	if errno != wasi.ESUCCESS {
		return wasi.NoHandle, errno
	}
	return j.add(object{real: real, kind: wasi.KindConnection}), wasi.ESUCCESS
}

// Recv implements wasi.Kernel.
func (j *Journal) Recv(h wasi.Handle, bufs [][]byte, flags wasi.RecvFlags) (int, bool, wasi.Errno) {
	bufs = clip(bufs, maxRecv)
	k := key(0).num(int64(flags), int64(total(bufs)))
	if r, ok := j.replay(opRecv, k); ok {
		j.require(r, len(r.payload) >= 8 && len(r.payload)-8 <= total(bufs))
		scatter(bufs, r.payload[8:])
		return len(r.payload) - 8, r.number(0) != 0, r.err()
	}
	real, errno := j.outside(h)
	if errno != wasi.ESUCCESS {
		j.put(opRecv, k, errno, 0)
		return 0, false, errno
	}
	// What arrives lands in the journal first, so that there is no moment in which it is
	// nowhere but in this process.
	b := j.room(8 + total(bufs))
	if b == nil {
		return j.k.Recv(real, bufs, flags)
	}
	n, truncated, errno := j.k.Recv(real, [][]byte{b[8:]}, flags)
	v := uint64(0)
	if truncated {
		v = 1
	}
	binary.LittleEndian.PutUint64(b, v)
	scatter(bufs, b[8:8+n])
	j.seal(opRecv, k, errno, 8+n)
	return n, truncated, errno
}

// Send implements wasi.Kernel.
func (j *Journal) Send(h wasi.Handle, bufs [][]byte) (int, wasi.Errno) {
	k := key(0).data(bufs...)
	if r, ok := j.replay(opSend, k); ok {
		j.require(r, r.number(0) >= 0 && r.number(0) <= int64(total(bufs)))
		return int(r.number(0)), r.err()
	}
	j.commit()
	real, errno := j.outside(h)
	n := 0
	if errno == wasi.ESUCCESS {
		n, errno = j.k.Send(real, bufs)
	}
	j.put(opSend, k, errno, int64(n))
	return n, errno
}

// Shutdown implements wasi.Kernel.
func (j *Journal) Shutdown(h wasi.Handle, how int) wasi.Errno {
	return j.effect(opShutdown, key(0).num(int64(how)), h, false, func(real wasi.Handle) wasi.Errno { return j.k.Shutdown(real, how) })
}
