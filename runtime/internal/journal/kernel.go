package journal

import (
	"encoding/binary"
	"path"

	"perdure/runtime/internal/wasi"
)

// maxRead is how much of one read is recorded at a time, and maxRecv how much is received, in
// bytes. To transfer less than was asked for is every read's right.
const (
	maxRead = 8 << 20
	maxRecv = 1 << 20
)

// Now implements wasi.Kernel.
func (j *Journal) Now(c wasi.Clock) (int64, wasi.Errno) {
	if int(c) >= len(j.last) {
		return 0, wasi.EINVAL
	}
	k := key(0).num(int64(c))
	if r, ok := j.replay(opNow, k); ok {
		if r.err() == wasi.ESUCCESS {
			j.last[c] = r.number(0)
		}
		return r.number(0), r.err()
	}
	if j.quiet && j.playing && c != wasi.ClockRealtime {
		return j.last[c], wasi.ESUCCESS // the host asks what the clocks showed at the cut
	}
	t, errno := j.k.Now(c)
	if errno == wasi.ESUCCESS {
		t += j.offset[c]
		j.last[c] = t
	}
	j.put(opNow, k, errno, t)
	return t, errno
}

// Resolution implements wasi.Kernel.
func (j *Journal) Resolution(c wasi.Clock) (int64, wasi.Errno) {
	k := key(0).num(int64(c))
	if r, ok := j.replay(opResolution, k); ok {
		return r.number(0), r.err()
	}
	t, errno := j.k.Resolution(c)
	j.put(opResolution, k, errno, t)
	return t, errno
}

// Random implements wasi.Kernel.
func (j *Journal) Random(p []byte) wasi.Errno {
	k := key(0).num(int64(len(p)))
	if r, ok := j.replay(opRandom, k); ok {
		copy(p, r.payload)
		return r.err()
	}
	errno := j.k.Random(p)
	j.bytes(opRandom, k, errno, nil, [][]byte{p}, len(p))
	return errno
}

// bytes records an answer that is some numbers and the first n bytes of bufs.
func (j *Journal) bytes(o op, k key, errno wasi.Errno, vs []int64, bufs [][]byte, n int) {
	b := j.room(8*len(vs) + n)
	if b == nil {
		return
	}
	for i, v := range vs {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(v))
	}
	at := 8 * len(vs)
	for _, p := range bufs {
		at += copy(b[at:8*len(vs)+n], p)
	}
	j.seal(o, k, errno, len(b))
}

// Poll implements wasi.Kernel.
func (j *Journal) Poll(fds []wasi.PollFD, deadline int64) (int, wasi.Errno) {
	k := key(0).num(int64(len(fds)))
	for i := range fds {
		k = k.num(int64(fds[i].Events))
	}
	if r, ok := j.replay(opPoll, k); ok {
		for i := range fds {
			fds[i].Revents, fds[i].Available = 0, 0
		}
		for i := 1; 8*i < len(r.payload); i += 2 {
			v := uint64(r.number(i))
			if at := v >> 8; at < uint64(len(fds)) {
				fds[at].Revents = wasi.PollEvents(v)
				fds[at].Available = uint64(r.number(i + 1))
			}
		}
		return int(r.number(0)), r.err()
	}
	n, errno := j.poll(fds, deadline)
	j.recordPoll(k, fds, n, errno)
	return n, errno
}

// recordPoll records what a poll found: how many, then for each that has events its index and
// events, and what it has available.
func (j *Journal) recordPoll(k key, fds []wasi.PollFD, n int, errno wasi.Errno) {
	found := 0
	for i := range fds {
		if fds[i].Revents != 0 {
			found++
		}
	}
	b := j.room(8 + 16*found)
	if b == nil {
		return
	}
	binary.LittleEndian.PutUint64(b, uint64(n))
	at := 8
	for i := range fds {
		if fds[i].Revents != 0 {
			binary.LittleEndian.PutUint64(b[at:], uint64(i)<<8|uint64(fds[i].Revents))
			binary.LittleEndian.PutUint64(b[at+8:], fds[i].Available)
			at += 16
		}
	}
	j.seal(opPoll, k, errno, len(b))
}

// poll asks the outside. What could not be attached is ready at once, with an error.
func (j *Journal) poll(fds []wasi.PollFD, deadline int64) (int, wasi.Errno) {
	j.commit() // the guest may wait for an answer to what it has done
	own := make([]wasi.PollFD, 0, 8)
	index := make([]int, 0, 8)
	dead := 0
	for i := range fds {
		fds[i].Revents, fds[i].Available = 0, 0
		real, errno := j.outside(fds[i].Handle)
		switch errno {
		case wasi.ESUCCESS:
			own = append(own, wasi.PollFD{Handle: real, Events: fds[i].Events})
			index = append(index, i)
			continue
		case wasi.EBADF:
			fds[i].Revents = wasi.PollInvalid
		default:
			fds[i].Revents = fds[i].Events | wasi.PollHangup | wasi.PollError
		}
		dead++
	}
	switch {
	case dead > 0:
		deadline = 0
	case deadline >= 0:
		deadline = max(0, deadline-j.offset[wasi.ClockMonotonic])
	}
	n, errno := j.k.Poll(own, deadline)
	if errno == wasi.EINTR && dead > 0 {
		return dead, wasi.ESUCCESS
	}
	if errno != wasi.ESUCCESS {
		return n, errno
	}
	for at, i := range index {
		fds[i].Revents, fds[i].Available = own[at].Revents, own[at].Available
	}
	return n + dead, wasi.ESUCCESS
}

// Interrupt implements wasi.Kernel.
func (j *Journal) Interrupt(pending bool) { j.k.Interrupt(pending) }

// Interrupted implements wasi.Kernel.
func (j *Journal) Interrupted() bool {
	if r, ok := j.replay(opInterrupted, 0); ok {
		return r.number(0) != 0
	}
	yes := j.k.Interrupted()
	v := int64(0)
	if yes {
		v = 1
	}
	j.put(opInterrupted, 0, wasi.ESUCCESS, v)
	return yes
}

// OpenRoot implements wasi.Kernel. The host calls it at the start only.
func (j *Journal) OpenRoot(p string) (wasi.Handle, error) {
	real, err := j.k.OpenRoot(p)
	if err != nil {
		return wasi.NoHandle, err
	}
	return j.add(object{real: real, root: true, path: p}), nil
}

// Open implements wasi.Kernel.
func (j *Journal) Open(dir wasi.Handle, p string, flags wasi.OpenFlags) (wasi.Handle, wasi.Errno) {
	k := key(0).num(int64(flags)).text(p)
	pre := standing{}
	if flags&wasi.OpenCreate != 0 && flags&wasi.OpenExclusive != 0 {
		var settled bool
		if pre, settled = j.intend(opOpen, k, func() standing { return j.look(dir, p) }); settled && !pre.there {
			// What is there now was made by the call that was under way.
			flags &^= wasi.OpenExclusive | wasi.OpenCreate
		}
	}
	if r, ok := j.replay(opOpen, k); ok {
		if r.err() != wasi.ESUCCESS {
			return wasi.NoHandle, r.err()
		}
		o := object{real: wasi.NoHandle, dead: wasi.EIO, kind: wasi.KindFile, flags: flags, path: string(r.payload), fd: -1}
		if o.path == "" {
			o.path = path.Join(j.pathOf(dir), p)
		}
		return j.add(o), wasi.ESUCCESS
	}
	if flags&(wasi.OpenCreate|wasi.OpenTruncate) != 0 {
		j.commit()
	}
	real, errno := j.outside(dir)
	if errno == wasi.ESUCCESS {
		real, errno = j.k.Open(real, p, flags)
		if errno == wasi.ENOENT && pre.asked && flags&wasi.OpenCreate == 0 {
			// The call that was under way had not made it.
			real, _ = j.outside(dir)
			real, errno = j.k.Open(real, p, flags|wasi.OpenCreate|wasi.OpenExclusive)
		}
	}
	where := ""
	h := wasi.NoHandle
	if errno == wasi.ESUCCESS {
		h = j.add(object{real: real, kind: wasi.KindFile})
		if flags&wasi.OpenName == 0 && !j.quiet {
			where, _ = j.k.Path(real) // empty if it cannot be told
		}
	}
	j.bytes(opOpen, k, errno, nil, [][]byte{[]byte(where)}, len(where))
	return h, errno
}

// pathOf returns the path of an object that is not attached.
func (j *Journal) pathOf(h wasi.Handle) string {
	if o := j.object(h); o != nil {
		return o.path
	}
	return ""
}

// Close implements wasi.Kernel.
func (j *Journal) Close(h wasi.Handle) wasi.Errno {
	if r, ok := j.replay(opClose, 0); ok {
		j.remove(h)
		return r.err()
	}
	o := j.object(h)
	if o == nil {
		return wasi.EBADF
	}
	errno := wasi.ESUCCESS
	if o.real != wasi.NoHandle {
		errno = j.k.Close(o.real)
	}
	j.remove(h)
	j.put(opClose, 0, errno)
	return errno
}

// Stat implements wasi.Kernel.
func (j *Journal) Stat(h wasi.Handle) (wasi.Stat, wasi.Errno) {
	if r, ok := j.replay(opStat, 0); ok {
		st := decodeStat(r.payload)
		if o := j.object(h); o != nil && r.err() == wasi.ESUCCESS {
			o.stat = st
		}
		return st, r.err()
	}
	real, errno := j.outside(h)
	var st wasi.Stat
	if errno == wasi.ESUCCESS {
		st, errno = j.k.Stat(real)
	}
	b := encodeStat(&st)
	j.bytes(opStat, 0, errno, nil, [][]byte{b[:]}, len(b))
	return st, errno
}

const statSize = 8*8 + 8

func encodeStat(st *wasi.Stat) (b [statSize]byte) {
	for i, v := range [...]uint64{st.Dev, st.Ino, st.Nlink, st.Size, st.Atim, st.Mtim, st.Ctim, st.Born} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	b[64] = byte(st.Type)
	if st.Fifo {
		b[65] = 1
	}
	if st.Terminal {
		b[66] = 1
	}
	return b
}

func decodeStat(b []byte) (st wasi.Stat) {
	if len(b) != statSize {
		return st
	}
	for i, v := range [...]*uint64{&st.Dev, &st.Ino, &st.Nlink, &st.Size, &st.Atim, &st.Mtim, &st.Ctim, &st.Born} {
		*v = binary.LittleEndian.Uint64(b[8*i:])
	}
	st.Type, st.Fifo, st.Terminal = wasi.FileType(b[64]), b[65] != 0, b[66] != 0
	return st
}

// Path implements wasi.Kernel. The host calls it for itself only.
func (j *Journal) Path(h wasi.Handle) (string, wasi.Errno) {
	real, errno := j.outside(h)
	if errno != wasi.ESUCCESS {
		return "", errno
	}
	return j.k.Path(real)
}

// Readlink implements wasi.Kernel.
func (j *Journal) Readlink(h wasi.Handle) (string, wasi.Errno) {
	if r, ok := j.replay(opReadlink, 0); ok {
		return string(r.payload), r.err()
	}
	real, errno := j.outside(h)
	target := ""
	if errno == wasi.ESUCCESS {
		target, errno = j.k.Readlink(real)
	}
	j.bytes(opReadlink, 0, errno, nil, [][]byte{[]byte(target)}, len(target))
	return target, errno
}

// ReadDir implements wasi.Kernel.
func (j *Journal) ReadDir(h wasi.Handle, maxBytes int) ([]wasi.DirEntry, wasi.Errno) {
	k := key(0).num(int64(maxBytes))
	if r, ok := j.replay(opReadDir, k); ok {
		return decodeEntries(r.payload), r.err()
	}
	real, errno := j.outside(h)
	var list []wasi.DirEntry
	if errno == wasi.ESUCCESS {
		list, errno = j.k.ReadDir(real, maxBytes)
	}
	b := encodeEntries(list)
	j.bytes(opReadDir, k, errno, nil, [][]byte{b}, len(b))
	return list, errno
}

func encodeEntries(list []wasi.DirEntry) (b []byte) {
	for _, e := range list {
		b = binary.LittleEndian.AppendUint64(b, e.Ino)
		b = append(b, byte(e.Type))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Name)))
		b = append(b, e.Name...)
	}
	return b
}

func decodeEntries(b []byte) (list []wasi.DirEntry) {
	for len(b) >= 13 {
		n := binary.LittleEndian.Uint32(b[9:])
		if uint64(n) > uint64(len(b)-13) {
			return list
		}
		list = append(list, wasi.DirEntry{Ino: binary.LittleEndian.Uint64(b), Type: wasi.FileType(b[8]), Name: string(b[13 : 13+n])})
		b = b[13+n:]
	}
	return list
}

// SetTimes implements wasi.Kernel.
func (j *Journal) SetTimes(h wasi.Handle, atim, mtim wasi.TimeUpdate) wasi.Errno {
	k := key(0)
	for _, t := range [...]wasi.TimeUpdate{atim, mtim} {
		if t.Set && !t.Now {
			k = k.num(int64(t.At))
		}
	}
	return j.effect(opSetTimes, k, h, func(real wasi.Handle) wasi.Errno { return j.k.SetTimes(real, atim, mtim) })
}

// effect carries out, or plays, a call that answers with an error number only and may be
// carried out twice.
func (j *Journal) effect(o op, k key, h wasi.Handle, do func(wasi.Handle) wasi.Errno) wasi.Errno {
	if r, ok := j.replay(o, k); ok {
		return r.err()
	}
	j.commit()
	real, errno := j.outside(h)
	if errno == wasi.ESUCCESS {
		errno = do(real)
	}
	j.put(o, k, errno)
	return errno
}

// Read implements wasi.Kernel.
func (j *Journal) Read(h wasi.Handle, bufs [][]byte, offset int64) (int, wasi.Errno) {
	bufs = clip(bufs, maxRead)
	k := key(0).num(offset, int64(total(bufs)))
	if r, ok := j.replay(opRead, k); ok {
		scatter(bufs, r.payload)
		if offset == wasi.AtPosition && h >= 0 && int(h) < len(j.standards) {
			j.standards[h].position += int64(len(r.payload))
		}
		return len(r.payload), r.err()
	}
	real, errno := j.outside(h)
	n := 0
	if errno == wasi.ESUCCESS {
		n, errno = j.k.Read(real, bufs, offset)
	}
	j.bytes(opRead, k, errno, nil, bufs, n)
	return n, errno
}

// clip returns the first most bytes of bufs.
func clip(bufs [][]byte, most int) [][]byte {
	for i, b := range bufs {
		if len(b) > most {
			return append(append([][]byte(nil), bufs[:i]...), b[:most])
		}
		most -= len(b)
	}
	return bufs
}

// Seek implements wasi.Kernel.
func (j *Journal) Seek(h wasi.Handle, offset int64, whence int) (int64, wasi.Errno) {
	k := key(0).num(offset, int64(whence))
	if r, ok := j.replay(opSeek, k); ok {
		if h >= 0 && int(h) < len(j.standards) && r.err() == wasi.ESUCCESS {
			j.standards[h].position = r.number(0)
		}
		return r.number(0), r.err()
	}
	real, errno := j.outside(h)
	pos := int64(0)
	if errno == wasi.ESUCCESS {
		pos, errno = j.k.Seek(real, offset, whence)
	}
	j.put(opSeek, k, errno, pos)
	return pos, errno
}

// Truncate implements wasi.Kernel.
func (j *Journal) Truncate(h wasi.Handle, size int64) wasi.Errno {
	return j.effect(opTruncate, key(0).num(size), h, func(real wasi.Handle) wasi.Errno { return j.k.Truncate(real, size) })
}

// Allocate implements wasi.Kernel.
func (j *Journal) Allocate(h wasi.Handle, offset, length int64) wasi.Errno {
	return j.effect(opAllocate, key(0).num(offset, length), h, func(real wasi.Handle) wasi.Errno { return j.k.Allocate(real, offset, length) })
}

// Advise implements wasi.Kernel.
func (j *Journal) Advise(h wasi.Handle, offset, length int64, advice int) wasi.Errno {
	return j.effect(opAdvise, key(0).num(offset, length, int64(advice)), h, func(real wasi.Handle) wasi.Errno {
		return j.k.Advise(real, offset, length, advice)
	})
}

// Sync implements wasi.Kernel.
func (j *Journal) Sync(h wasi.Handle, dataOnly bool) wasi.Errno {
	return j.effect(opSync, 0, h, func(real wasi.Handle) wasi.Errno { return j.k.Sync(real, dataOnly) })
}
