package journal

import (
	"encoding/binary"
	"net/netip"

	"perdure/runtime/internal/wasi"
)

// MakeSocket implements wasi.Kernel.
func (j *Journal) MakeSocket(network string) (wasi.Handle, wasi.Errno) {
	k := key(0).text(network)
	if r, ok := j.replay(opMakeSocket, k); ok {
		if r.err() != wasi.ESUCCESS {
			return wasi.NoHandle, r.err()
		}
		o := object{real: wasi.NoHandle, dead: wasi.ECONNRESET, kind: wasi.KindConnection, fd: -1}
		o.made, o.socket = &wasi.MadeSocket{Network: network, Phase: wasi.PhaseNew}, recordedSocket(r)
		return j.add(o), wasi.ESUCCESS
	}
	real, errno := j.k.MakeSocket(network)
	j.putSocket(opMakeSocket, k, errno, real)
	if errno != wasi.ESUCCESS {
		return wasi.NoHandle, errno
	}
	return j.add(object{real: real, kind: wasi.KindConnection}), wasi.ESUCCESS
}

// putSocket records an answer that is a socket, as the keeper knows it.
func (j *Journal) putSocket(o op, k key, errno wasi.Errno, real wasi.Handle) {
	var s wasi.SocketState
	if errno == wasi.ESUCCESS {
		s, _ = j.k.Socket(real)
	}
	j.put(o, k, errno, int64(s.Keeper), int64(s.ID))
}

// recordedSocket is the reverse; nil if no keeper had it.
func recordedSocket(r record) *wasi.SocketState {
	keeper, id := uint64(r.number(0)), uint64(r.number(1))
	if id == 0 {
		return nil
	}
	return &wasi.SocketState{Keeper: keeper, ID: id}
}

// Remake implements wasi.Kernel. The host calls it at a start only.
func (j *Journal) Remake(made wasi.MadeSocket, state *wasi.SocketState) (wasi.Handle, error) {
	if j.opt.Offline {
		return j.add(object{real: wasi.NoHandle, dead: wasi.ECONNRESET, kind: wasi.KindConnection}), nil
	}
	real, err := j.k.Remake(made, state)
	if err != nil {
		return wasi.NoHandle, err
	}
	return j.add(object{real: real, kind: wasi.KindConnection}), nil
}

// Bind implements wasi.Kernel.
func (j *Journal) Bind(h wasi.Handle, a wasi.Address) (wasi.Address, wasi.Errno) {
	k := key(0).text(a.String())
	if r, ok := j.replay(opBind, k); ok {
		at := decodeAddress(r.payload)
		if made := j.madeOf(h); made != nil && r.err() == wasi.ESUCCESS {
			made.Phase, made.Bound = wasi.PhaseBound, wasi.Text(at.String())
		}
		return at, r.err()
	}
	real, errno := j.outside(h)
	var at wasi.Address
	if errno == wasi.ESUCCESS {
		at, errno = j.k.Bind(real, a)
	}
	j.address(opBind, k, errno, at)
	return at, errno
}

// StartListening implements wasi.Kernel. The handle stays the same.
func (j *Journal) StartListening(h wasi.Handle, backlog int) (wasi.Handle, wasi.Errno) {
	k := key(0).num(int64(backlog))
	if r, ok := j.replay(opListen, k); ok {
		if made := j.madeOf(h); made != nil && r.err() == wasi.ESUCCESS {
			made.Phase, made.Backlog = wasi.PhaseListening, backlog
			j.object(h).socket = recordedSocket(r)
		}
		return h, r.err()
	}
	real, errno := j.outside(h)
	if errno == wasi.ESUCCESS {
		if real, errno = j.k.StartListening(real, backlog); errno == wasi.ESUCCESS {
			j.object(h).real = real
		}
	}
	j.putSocket(opListen, k, errno, real)
	return h, errno
}

// Connect implements wasi.Kernel.
func (j *Journal) Connect(h wasi.Handle, a wasi.Address) wasi.Errno {
	errno := j.effect(opConnect, key(0).text(a.String()), h, false, func(real wasi.Handle) wasi.Errno { return j.k.Connect(real, a) })
	if made := j.madeOf(h); made != nil && (errno == wasi.ESUCCESS || errno == wasi.EINPROGRESS) {
		made.Phase, made.Remote = wasi.PhaseConnected, wasi.Text(a.String())
		if s := j.object(h).socket; s != nil {
			s.Position.Dialled = true
		}
	}
	return errno
}

// madeOf returns what is known of a socket that the guest made, while the past is played; nil if
// it is none.
func (j *Journal) madeOf(h wasi.Handle) *wasi.MadeSocket {
	if o := j.object(h); o != nil && j.playing {
		return o.made
	}
	return nil
}

// RecvFrom implements wasi.Kernel.
func (j *Journal) RecvFrom(h wasi.Handle, bufs [][]byte, flags wasi.RecvFlags) (int, bool, wasi.Address, wasi.Errno) {
	bufs = clip(bufs, maxRecv)
	k := key(0).num(int64(flags), int64(total(bufs)))
	if r, ok := j.replay(opRecvFrom, k); ok {
		n := r.number(1)
		j.require(r, n >= 0 && n <= int64(len(r.payload)-16) && n <= int64(total(bufs)))
		scatter(bufs, r.payload[16:16+n])
		return int(n), r.number(0) != 0, decodeAddress(r.payload[16+n:]), r.err()
	}
	real, errno := j.outside(h)
	var n int
	var truncated bool
	var sender wasi.Address
	if errno == wasi.ESUCCESS {
		n, truncated, sender, errno = j.k.RecvFrom(real, bufs, flags)
	}
	a := encodeAddress(sender)
	if b := j.room(16 + n + len(a)); b != nil {
		v := uint64(0)
		if truncated {
			v = 1
		}
		binary.LittleEndian.PutUint64(b, v)
		binary.LittleEndian.PutUint64(b[8:], uint64(n))
		at := 16
		for _, p := range bufs {
			at += copy(b[at:16+n], p)
		}
		copy(b[16+n:], a)
		j.seal(opRecvFrom, k, errno, len(b))
	}
	return n, truncated, sender, errno
}

// SendTo implements wasi.Kernel.
func (j *Journal) SendTo(h wasi.Handle, bufs [][]byte, to wasi.Address) (int, wasi.Errno) {
	k := key(0).data(bufs...).text(to.String())
	if r, ok := j.replay(opSendTo, k); ok {
		j.require(r, r.number(0) >= 0 && r.number(0) <= int64(total(bufs)))
		return int(r.number(0)), r.err()
	}
	j.commit()
	real, errno := j.outside(h)
	n := 0
	if errno == wasi.ESUCCESS {
		n, errno = j.k.SendTo(real, bufs, to)
	}
	j.put(opSendTo, k, errno, int64(n))
	return n, errno
}

// SocketOption implements wasi.Kernel.
func (j *Journal) SocketOption(h wasi.Handle, option wasi.SocketOption) (int32, wasi.Errno) {
	k := key(0).num(int64(option))
	if r, ok := j.replay(opOption, k); ok {
		return int32(r.number(0)), r.err()
	}
	real, errno := j.outside(h)
	v := int32(0)
	if errno == wasi.ESUCCESS {
		v, errno = j.k.SocketOption(real, option)
	}
	j.put(opOption, k, errno, int64(v))
	return v, errno
}

// SetSocketOption implements wasi.Kernel.
func (j *Journal) SetSocketOption(h wasi.Handle, option wasi.SocketOption, value int32) wasi.Errno {
	errno := j.effect(opSetOption, key(0).num(int64(option), int64(value)), h, false, func(real wasi.Handle) wasi.Errno {
		return j.k.SetSocketOption(real, option, value)
	})
	if made := j.madeOf(h); made != nil && errno == wasi.ESUCCESS {
		made.Options = append(made.Options, wasi.SocketOptionValue{Option: option, Value: value})
	}
	return errno
}

// SocketName implements wasi.Kernel.
func (j *Journal) SocketName(h wasi.Handle, peer bool) (wasi.Address, wasi.Errno) {
	k := key(0)
	if peer {
		k = k.num(1)
	}
	if r, ok := j.replay(opSocketName, k); ok {
		return decodeAddress(r.payload), r.err()
	}
	real, errno := j.outside(h)
	var a wasi.Address
	if errno == wasi.ESUCCESS {
		a, errno = j.k.SocketName(real, peer)
	}
	j.address(opSocketName, k, errno, a)
	return a, errno
}

// Resolve implements wasi.Kernel.
func (j *Journal) Resolve(name string) ([]netip.Addr, wasi.Errno) {
	k := key(0).text(name)
	if r, ok := j.replay(opResolve, k); ok {
		var list []netip.Addr
		for b := r.payload; len(b) >= 1 && len(b) > int(b[0]); b = b[1+int(b[0]):] {
			var a netip.Addr
			if a.UnmarshalBinary(b[1:1+int(b[0])]) == nil {
				list = append(list, a)
			}
		}
		return list, r.err()
	}
	list, errno := j.k.Resolve(name)
	var b []byte
	for _, a := range list {
		if t, err := a.MarshalBinary(); err == nil && len(t) < 256 {
			b = append(append(b, byte(len(t))), t...)
		}
	}
	j.bytes(opResolve, k, errno, len(b), b)
	return list, errno
}

func (j *Journal) address(o op, k key, errno wasi.Errno, a wasi.Address) {
	b := encodeAddress(a)
	j.bytes(o, k, errno, len(b), b)
}

// encodeAddress writes an address: a byte that says which kind it is, then netip's binary form
// or the path.
func encodeAddress(a wasi.Address) []byte {
	if a.Path != "" {
		return append([]byte{'u'}, a.Path...)
	}
	b, err := a.IP.MarshalBinary()
	if err != nil || !a.IP.IsValid() {
		return nil
	}
	return append([]byte{'i'}, b...)
}

func decodeAddress(b []byte) (a wasi.Address) {
	switch {
	case len(b) == 0:
	case b[0] == 'u':
		a.Path = string(b[1:])
	case b[0] == 'i':
		_ = a.IP.UnmarshalBinary(b[1:]) // an address that is none stays empty
	}
	return a
}
