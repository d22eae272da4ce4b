package journal

import (
	"encoding/binary"
	"errors"

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
	if j.playing {
		return 0, nil // when the guest has got to where it was
	}
	return j.k.Settle()
}

// Held implements wasi.Kernel. The host does not call it.
func (j *Journal) Held(s wasi.SocketState) (wasi.SocketPosition, bool) { return j.k.Held(s) }

// ahead tells how much further a connection stands than the guest knows, since a call was under
// way at the crash: how many bytes it had received and sent.
func (j *Journal) ahead(o *object) (received, sent uint64) {
	if !o.used || o.real != wasi.NoHandle || o.socket == nil {
		return 0, 0
	}
	now, ok := j.k.Held(*o.socket)
	at := o.socket.Position
	if !ok || now.Consumed < at.Consumed {
		return 0, 0
	}
	return now.Consumed - at.Consumed, max(now.Written, at.Written) - at.Written
}

// settleSockets looks which call on a connection was under way at the crash. What it received
// lies behind the last record, where its own was to be. Where the past has a flaw, or more than
// one call would have to be it, nothing is known: a connection that has moved is then reset. It
// returns false then.
func (j *Journal) settleSockets() (known bool) {
	if j.past.flaw != nil {
		return false
	}
	var under *object
	for i := range j.objects {
		o := &j.objects[i]
		if received, sent := j.ahead(o); received > 0 || sent > 0 {
			if under != nil || received > 0 && sent > 0 {
				return false
			}
			under = o
		}
	}
	if under != nil {
		received, sent := j.ahead(under)
		switch {
		case sent > maxRead || received > maxRecv:
			return false // no call moves so much
		case received > 0:
			if !j.findEarly(under, received) {
				return false
			}
			under.socket.Position.Consumed += received
		default:
			under.sent = int(sent)
			under.socket.Position.Written += sent
		}
	}
	for i := range j.objects {
		o := &j.objects[i]
		if o.used && o.socket != nil && o.real == wasi.NoHandle {
			// An end that the call under way has made is made again.
			if now, ok := j.k.Held(*o.socket); ok {
				o.socket.Position.Closed, o.socket.Position.Deaf = now.Closed, now.Deaf
			}
		}
	}
	return true
}

// findEarly finds what a connection has received and the guest has not: in a record of its own,
// since the crash before this one, or behind the last record.
func (j *Journal) findEarly(o *object, received uint64) bool {
	if b, ok := j.early[o.socket.ID]; ok {
		if uint64(len(b)) != received {
			return false
		}
		o.early = append([]byte(nil), b...)
		return true
	}
	s := j.past.segs[len(j.past.segs)-1]
	from := j.past.end + recordHeader + 8
	if uint64(from)+received > uint64(s.room) || !s.landing(j.past.end) {
		return false
	}
	o.early = append([]byte(nil), s.mem[from:from+int(received)]...)
	j.landed = o
	return true
}

// keepEarly makes a record of what lies behind the past, where it lies: the next crash may come
// before the guest has it.
func (j *Journal) keepEarly(s *segment) {
	if o := j.landed; o != nil {
		binary.LittleEndian.PutUint64(s.mem[s.tail+recordHeader:], o.socket.ID)
		s.seal(opEarly, 0, 0, 8+len(o.early))
		j.landed = nil
	}
}

// early is what a connection had received at a crash, and the guest had not.
type early struct {
	id       uint64 // the keeper's number
	received []byte
}

// setEarly notes what peek has passed. It holds behind the answers before it, the last of which may be of the same
// connection and is still being played when peek looks for another one.
func (j *Journal) setEarly() {
	for _, e := range j.passed {
		if j.early == nil {
			j.early = map[uint64][]byte{}
		}
		j.early[e.id] = e.received
	}
	j.passed = j.passed[:0]
}

var errNotKept = errors.New("nobody has kept it")

// attachSocket takes a connection, or a socket that the guest made, back from its keeper.
func (j *Journal) attachSocket(o *object) (err error) {
	switch {
	case o.made != nil:
		o.real, err = j.k.Remake(*o.made, o.socket)
	case o.socket != nil:
		o.real, err = j.k.Adopt(*o.socket)
	default:
		return errNotKept
	}
	if err != nil {
		o.real, o.early, o.sent, o.out = wasi.NoHandle, nil, 0, nil
	}
	return err
}

// moves counts what the past moves on a connection.
func (j *Journal) moves(h wasi.Handle, received, sent int) {
	if o := j.object(h); o != nil && o.socket != nil {
		o.socket.Position.Consumed += uint64(received)
		o.socket.Position.Written += uint64(sent)
		if e := j.early[o.socket.ID]; received > 0 && e != nil {
			j.early[o.socket.ID] = e[min(received, len(e)):]
		}
	}
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
	return j.add(object{real: real, kind: wasi.KindConnection, stream: true}), nil
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
		o := object{real: wasi.NoHandle, dead: wasi.ECONNRESET, kind: wasi.KindConnection, stream: true, fd: -1}
		if keeper, id := uint64(r.number(0)), uint64(r.number(1)); id != 0 {
			o.socket = &wasi.SocketState{Keeper: keeper, ID: id}
		}
		return j.add(o), wasi.ESUCCESS
	}
	real, errno := j.outside(h)
	var s wasi.SocketState
	if errno == wasi.ESUCCESS {
		if real, errno = j.k.Accept(real); errno == wasi.ESUCCESS {
			s, _ = j.k.Socket(real)
		}
	}
	j.put(opAccept, 0, errno, int64(s.Keeper), int64(s.ID))
	if errno != wasi.ESUCCESS {
		return wasi.NoHandle, errno
	}
	return j.add(object{real: real, kind: wasi.KindConnection, stream: true}), wasi.ESUCCESS
}

// Recv implements wasi.Kernel.
func (j *Journal) Recv(h wasi.Handle, bufs [][]byte, flags wasi.RecvFlags) (int, bool, wasi.Errno) {
	bufs = clip(bufs, maxRecv)
	j.fields = binary.LittleEndian.AppendUint64(j.fields[:0], uint64(flags))
	j.fields = binary.LittleEndian.AppendUint64(j.fields, uint64(total(bufs)))
	k := key(0).data(j.fields)
	if r, ok := j.replay(opRecv, k); ok {
		j.require(r, len(r.payload) >= 8 && len(r.payload)-8 <= total(bufs))
		scatter(bufs, r.payload[8:])
		if flags&wasi.RecvPeek == 0 {
			j.moves(h, len(r.payload)-8, 0)
			if o := j.object(h); o != nil && o.socket != nil && r.err() == wasi.ESUCCESS {
				delete(j.early, o.socket.ID) // the guest has it
			}
		}
		return len(r.payload) - 8, r.number(0) != 0, r.err()
	}
	real, errno := j.outside(h)
	if errno != wasi.ESUCCESS {
		j.put(opRecv, k, errno, 0)
		return 0, false, errno
	}
	if o := j.object(h); o != nil && len(o.early) > 0 {
		return j.recvEarly(o, k, bufs, flags)
	}
	// What arrives lands in the journal first, so that there is no moment in which it is
	// nowhere but in this process.
	b := j.room(8 + total(bufs))
	if b == nil {
		return j.k.Recv(real, bufs, flags)
	}
	j.seg.land()
	j.into[0] = b[8:]
	n, truncated, errno := j.k.Recv(real, j.into[:], flags)
	v := uint64(0)
	if truncated {
		v = 1
	}
	binary.LittleEndian.PutUint64(b, v)
	scatter(bufs, b[8:8+n])
	j.seal(opRecv, k, errno, 8+n)
	return n, truncated, errno
}

// recvEarly gives the guest what it was being given at the crash.
func (j *Journal) recvEarly(o *object, k key, bufs [][]byte, flags wasi.RecvFlags) (int, bool, wasi.Errno) {
	n := min(len(o.early), total(bufs))
	scatter(bufs, o.early[:n])
	var truncated [8]byte
	j.bytes(opRecv, k, wasi.ESUCCESS, 8+n, truncated[:], o.early[:n])
	if flags&wasi.RecvPeek == 0 {
		o.early = o.early[n:]
	}
	return n, false, wasi.ESUCCESS
}

// Send implements wasi.Kernel.
func (j *Journal) Send(h wasi.Handle, bufs [][]byte) (int, wasi.Errno) {
	k := key(0).data(bufs...)
	if r, ok := j.replay(opSend, k); ok {
		j.require(r, r.number(0) >= 0 && r.number(0) <= int64(total(bufs)))
		j.moves(h, 0, int(r.number(0)))
		j.keepSent(h, bufs, int(r.number(0)))
		return int(r.number(0)), r.err()
	}
	real, errno := j.outside(h)
	n := 0
	switch o := j.object(h); {
	case errno != wasi.ESUCCESS:
	case o != nil && o.sent > 0:
		n = min(o.sent, total(bufs)) // by the call that was under way at the crash
		o.sent -= n
	case o != nil && o.failed != wasi.ESUCCESS:
		errno, o.failed = o.failed, wasi.ESUCCESS
	case j.putOff(h, real, bufs):
		n = total(bufs)
	default:
		if j.commit(); o != nil && len(o.out) > 0 {
			errno = wasi.EAGAIN // what comes before is not sent yet
			break
		}
		if n, errno = j.k.Send(real, bufs); o != nil {
			o.free = 0
		}
	}
	j.put(opSend, k, errno, int64(n))
	return n, errno
}

// Shutdown implements wasi.Kernel.
func (j *Journal) Shutdown(h wasi.Handle, how int) wasi.Errno {
	j.drain(h)
	errno := j.effect(opShutdown, key(0).num(int64(how)), h, false, func(real wasi.Handle) wasi.Errno { return j.k.Shutdown(real, how) })
	if o := j.object(h); o != nil && o.socket != nil && j.playing && errno == wasi.ESUCCESS {
		o.socket.Position.Deaf = o.socket.Position.Deaf || how&1 != 0
		o.socket.Position.Closed = o.socket.Position.Closed || how&2 != 0
	}
	return errno
}
