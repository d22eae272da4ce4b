package journal

import (
	"encoding/binary"

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
		j.require(r, len(r.payload) == len(p))
		copy(p, r.payload)
		return r.err()
	}
	errno := j.k.Random(p)
	j.bytes(opRandom, k, errno, len(p), p)
	return errno
}

// Poll implements wasi.Kernel.
func (j *Journal) Poll(fds []wasi.PollFD, deadline int64) (int, wasi.Errno) {
	j.fields = binary.LittleEndian.AppendUint64(j.fields[:0], uint64(len(fds)))
	for i := range fds {
		j.fields = append(j.fields, byte(fds[i].Events))
	}
	k := key(0).data(j.fields)
	if r, ok := j.replay(opPoll, k); ok {
		j.replayPoll(r, fds)
		return int(r.number(0)), r.err()
	}
	n, errno := j.poll(fds, deadline)
	j.recordPoll(k, fds, n, errno)
	return n, errno
}

// replayPoll is the reverse of recordPoll.
func (j *Journal) replayPoll(r record, fds []wasi.PollFD) {
	n := r.number(0)
	j.require(r, len(r.payload)%16 == 8 && n >= 0 && n <= int64(len(fds)))
	for i := range fds {
		fds[i].Revents, fds[i].Available = 0, 0
	}
	for i := 1; 8*i < len(r.payload); i += 2 {
		v := uint64(r.number(i))
		j.require(r, v>>8 < uint64(len(fds)))
		fds[v>>8].Revents = wasi.PollEvents(v)
		fds[v>>8].Available = uint64(r.number(i + 1))
	}
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
	own, index := j.polled[:0], j.index[:0]
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
			fds[i].Revents = fds[i].Events&(wasi.PollIn|wasi.PollOut) | wasi.PollHangup | wasi.PollError
		}
		dead++
	}
	j.polled, j.index = own, index
	switch {
	case dead > 0:
		deadline = 0
	case deadline >= 0:
		deadline = max(0, deadline-j.offset[wasi.ClockMonotonic])
	}
	n, errno := j.pollOutside(own, deadline)
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

// pollOutside polls, and meanwhile tries connections again that have not taken what waited.
func (j *Journal) pollOutside(fds []wasi.PollFD, deadline int64) (int, wasi.Errno) {
	for len(j.waiting) > 0 {
		now, errno := j.k.Now(wasi.ClockMonotonic)
		if errno != wasi.ESUCCESS || deadline >= 0 && deadline <= now+int64(stuckRetry) {
			break
		}
		if n, errno := j.k.Poll(fds, now+int64(stuckRetry)); n > 0 || errno != wasi.ESUCCESS {
			return n, errno
		}
		j.commit()
	}
	return j.k.Poll(fds, deadline)
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
	again := false // the call may have been carried out already
	if flags&wasi.OpenCreate != 0 && flags&wasi.OpenExclusive != 0 && !j.quiet {
		pre, settle := j.intend(opOpen, k, func() standing { return j.look(dir, p) })
		again = settle && !pre.there
	}
	if r, ok := j.replay(opOpen, k); ok {
		if r.err() != wasi.ESUCCESS {
			return wasi.NoHandle, r.err()
		}
		o := object{real: wasi.NoHandle, dead: wasi.EIO, kind: wasi.KindFile, flags: flags, path: string(r.payload), fd: -1}
		if o.path == "" {
			o.path = j.pathOf(dir) + "/" + p
		}
		return j.add(o), wasi.ESUCCESS
	}
	changes := flags&(wasi.OpenCreate|wasi.OpenTruncate) != 0
	if changes {
		j.commit()
	}
	real, errno := j.outside(dir)
	if errno == wasi.ESUCCESS {
		real, errno = j.open(real, p, flags, again)
	}
	where := ""
	h := wasi.NoHandle
	if errno == wasi.ESUCCESS {
		h = j.add(object{real: real, kind: wasi.KindFile, flags: flags})
		if !j.quiet {
			if changes {
				j.durableFile(real)
				j.durableName(dir, p)
			}
			if flags&wasi.OpenName == 0 {
				where, _ = j.k.Path(real) // empty if it cannot be told
			}
		}
	}
	j.bytes(opOpen, k, errno, len(where), []byte(where))
	return h, errno
}

// open opens. When the call may have been carried out already, what is there was made by it.
func (j *Journal) open(dir wasi.Handle, p string, flags wasi.OpenFlags, again bool) (wasi.Handle, wasi.Errno) {
	if again {
		h, errno := j.k.Open(dir, p, flags&^(wasi.OpenExclusive|wasi.OpenCreate)|wasi.OpenNoFollow)
		if errno != wasi.ENOENT {
			return h, errno
		}
	}
	return j.k.Open(dir, p, flags)
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
	o := j.object(h)
	if o == nil || j.failed {
		return wasi.EBADF
	}
	if r, ok := j.replay(opClose, 0); ok {
		j.remove(h)
		return r.err()
	}
	o = j.object(h) // the past may have ended here
	errno := wasi.ESUCCESS
	j.drain(h)
	if o.real != wasi.NoHandle {
		errno = j.k.Close(o.real)
	}
	closed := *o
	j.remove(h)
	j.put(opClose, 0, errno)
	if !j.quiet {
		j.dropOrphan(&closed)
	}
	return errno
}

// Stat implements wasi.Kernel.
func (j *Journal) Stat(h wasi.Handle) (wasi.Stat, wasi.Errno) {
	if r, ok := j.replay(opStat, 0); ok {
		j.require(r, len(r.payload) == statSize)
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
	if errno == wasi.ESUCCESS {
		if st.Nlink > 0 && j.adopted[fileID{st.Dev, st.Ino}] {
			st.Nlink-- // one of its names is not the guest's
		}
		if o := j.object(h); o != nil {
			o.stat = st
		}
	}
	if b := j.room(statSize); b != nil {
		encodeStat(b, &st)
		j.seal(opStat, 0, errno, statSize)
	}
	return st, errno
}

const statSize = 8*8 + 8

func encodeStat(b []byte, st *wasi.Stat) {
	for i, v := range [...]uint64{st.Dev, st.Ino, st.Nlink, st.Size, st.Atim, st.Mtim, st.Ctim, st.Born} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	clear(b[64:statSize])
	b[64] = byte(st.Type)
	if st.Fifo {
		b[65] = 1
	}
	if st.Terminal {
		b[66] = 1
	}
}

func decodeStat(b []byte) (st wasi.Stat) {
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
	j.bytes(opReadlink, 0, errno, len(target), []byte(target))
	return target, errno
}

// ReadDir implements wasi.Kernel.
func (j *Journal) ReadDir(h wasi.Handle, maxBytes int) ([]wasi.DirEntry, wasi.Errno) {
	k := key(0).num(int64(maxBytes))
	if r, ok := j.replay(opReadDir, k); ok {
		list, ok := decodeEntries(r.payload)
		j.require(r, ok)
		return list, r.err()
	}
	real, errno := j.outside(h)
	var list []wasi.DirEntry
	if errno == wasi.ESUCCESS {
		list, errno = j.k.ReadDir(real, maxBytes)
	}
	b := encodeEntries(list)
	j.bytes(opReadDir, k, errno, len(b), b)
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

func decodeEntries(b []byte) (list []wasi.DirEntry, ok bool) {
	for len(b) > 0 {
		if len(b) < 13 {
			return nil, false
		}
		n := binary.LittleEndian.Uint32(b[9:])
		if n == 0 || uint64(n) > uint64(len(b)-13) {
			return nil, false
		}
		list = append(list, wasi.DirEntry{Ino: binary.LittleEndian.Uint64(b), Type: wasi.FileType(b[8]), Name: string(b[13 : 13+n])})
		b = b[13+n:]
	}
	return list, true
}

// SetTimes implements wasi.Kernel.
func (j *Journal) SetTimes(h wasi.Handle, atim, mtim wasi.TimeUpdate) wasi.Errno {
	k := key(0)
	for _, t := range [...]wasi.TimeUpdate{atim, mtim} {
		if t.Set && !t.Now {
			k = k.num(int64(t.At))
		}
	}
	return j.effect(opSetTimes, k, h, true, func(real wasi.Handle) wasi.Errno { return j.k.SetTimes(real, atim, mtim) })
}

// effect carries out, or plays, a call that answers with an error number only and may be
// carried out twice. changes tells that it changes a file.
func (j *Journal) effect(o op, k key, h wasi.Handle, changes bool, do func(wasi.Handle) wasi.Errno) wasi.Errno {
	if r, ok := j.replay(o, k); ok {
		return r.err()
	}
	j.commit()
	real, errno := j.outside(h)
	if errno == wasi.ESUCCESS {
		errno = do(real)
	}
	if errno == wasi.ESUCCESS && changes {
		j.durableFile(real)
	}
	j.put(o, k, errno)
	return errno
}

// Read implements wasi.Kernel.
func (j *Journal) Read(h wasi.Handle, bufs [][]byte, offset int64) (int, wasi.Errno) {
	bufs = clip(bufs, maxRead)
	most := total(bufs)
	k := key(0).num(offset, int64(most))
	if r, ok := j.replay(opRead, k); ok {
		j.require(r, len(r.payload) <= most)
		scatter(bufs, r.payload)
		if at, ok := j.positions[h]; ok && offset == wasi.AtPosition {
			j.positions[h] = at + int64(len(r.payload))
		}
		return len(r.payload), r.err()
	}
	real, errno := j.outside(h)
	n := 0
	if errno == wasi.ESUCCESS {
		n, errno = j.k.Read(real, bufs, offset)
	}
	j.bytes(opRead, k, errno, n, bufs...)
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
		if _, ok := j.positions[h]; ok && r.err() == wasi.ESUCCESS {
			j.positions[h] = r.number(0)
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
	return j.effect(opTruncate, key(0).num(size), h, true, func(real wasi.Handle) wasi.Errno { return j.k.Truncate(real, size) })
}

// Allocate implements wasi.Kernel.
func (j *Journal) Allocate(h wasi.Handle, offset, length int64) wasi.Errno {
	return j.effect(opAllocate, key(0).num(offset, length), h, true, func(real wasi.Handle) wasi.Errno { return j.k.Allocate(real, offset, length) })
}

// Advise implements wasi.Kernel.
func (j *Journal) Advise(h wasi.Handle, offset, length int64, advice int) wasi.Errno {
	return j.effect(opAdvise, key(0).num(offset, length, int64(advice)), h, false, func(real wasi.Handle) wasi.Errno {
		return j.k.Advise(real, offset, length, advice)
	})
}

// Sync implements wasi.Kernel.
func (j *Journal) Sync(h wasi.Handle, dataOnly bool) wasi.Errno {
	return j.effect(opSync, 0, h, false, func(real wasi.Handle) wasi.Errno { return j.k.Sync(real, dataOnly) })
}
