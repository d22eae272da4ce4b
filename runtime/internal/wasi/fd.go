package wasi

import (
	"encoding/binary"
	"math"
)

// may returns ENOTCAPABLE unless the descriptor has all of the rights.
func (o *open) may(rights Rights) Errno {
	if o.Base&rights != rights {
		return ENOTCAPABLE
	}
	return ESUCCESS
}

// file returns the attached descriptor of that number if it has the rights and
// is one on which file operations make sense: not a directory, not a stream.
func (h *Host) file(fd uint32, rights Rights) (*open, Errno) {
	o, errno := h.live(fd)
	switch {
	case errno != ESUCCESS:
		return nil, errno
	case o.Type == FileDirectory:
		return nil, EISDIR
	case o.stream || o.isSocket():
		return nil, ESPIPE
	}
	return o, o.may(rights)
}

func (o *open) isSocket() bool {
	return o.Type == FileSocketStream || o.Type == FileSocketDgram
}

// offsetArg returns v, a file offset or length of the guest, as a signed one.
func offsetArg(v uint64) (int64, bool) {
	return int64(v), v <= math.MaxInt64
}

func fdAdvise(h *Host, _ memory, a []uint64) (Errno, error) {
	o, errno := h.file(uint32(a[0]), RightFdAdvise)
	if errno == EISDIR {
		errno = EBADF
	}
	if errno != ESUCCESS {
		return errno, nil
	}
	offset, ok1 := offsetArg(a[1])
	length, ok2 := offsetArg(a[2])
	advice := uint32(a[3])
	if !ok1 || !ok2 || advice > 5 {
		return EINVAL, nil
	}
	return h.k.Advise(o.handle, offset, length, int(advice)), nil
}

func fdAllocate(h *Host, _ memory, a []uint64) (Errno, error) {
	o, errno := h.file(uint32(a[0]), 0)
	if errno != ESUCCESS {
		return errno, nil
	}
	offset, ok1 := offsetArg(a[1])
	length, ok2 := offsetArg(a[2])
	switch {
	case !o.Write:
		return EBADF, nil
	case o.may(RightFdAllocate) != ESUCCESS:
		return ENOTCAPABLE, nil
	case length == 0:
		return EINVAL, nil
	case !ok1 || !ok2 || offset > math.MaxInt64-length:
		return EFBIG, nil
	}
	return h.k.Allocate(o.handle, offset, length), nil
}

func fdClose(h *Host, _ memory, a []uint64) (Errno, error) {
	fd := uint32(a[0])
	if _, errno := h.get(fd); errno != ESUCCESS {
		return errno, nil
	}
	return h.drop(fd), nil
}

func fdDatasync(h *Host, _ memory, a []uint64) (Errno, error) {
	return h.sync(uint32(a[0]), RightFdDatasync, true), nil
}

func fdSync(h *Host, _ memory, a []uint64) (Errno, error) {
	return h.sync(uint32(a[0]), RightFdSync, false), nil
}

func (h *Host) sync(fd uint32, right Rights, dataOnly bool) Errno {
	o, errno := h.live(fd)
	if errno == ESUCCESS && o.isSocket() {
		errno = EINVAL // as fsync(2) says of what has no storage
	}
	if errno == ESUCCESS {
		errno = o.may(right)
	}
	if errno != ESUCCESS {
		return errno
	}
	return h.k.Sync(o.handle, dataOnly)
}

func fdFdstatGet(h *Host, m memory, a []uint64) (Errno, error) {
	o, errno := h.get(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	b, ok := m.bytes(uint32(a[1]), sizeFdstat)
	if !ok {
		return EFAULT, nil
	}
	clear(b)
	b[0] = byte(o.Type)
	binary.LittleEndian.PutUint16(b[2:], uint16(o.Flags))
	binary.LittleEndian.PutUint64(b[8:], uint64(o.Base))
	binary.LittleEndian.PutUint64(b[16:], uint64(o.Inheriting))
	return ESUCCESS, nil
}

func fdFdstatSetFlags(h *Host, _ memory, a []uint64) (Errno, error) {
	o, errno := h.get(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	flags := uint32(a[1])
	if flags&^uint32(flagsAll) != 0 {
		return EINVAL, nil
	}
	if errno := o.may(RightFdFdstatSetFlags); errno != ESUCCESS {
		return errno, nil
	}
	o.Flags = FdFlags(flags)
	return ESUCCESS, nil
}

func fdFdstatSetRights(h *Host, _ memory, a []uint64) (Errno, error) {
	o, errno := h.get(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	base, inheriting := Rights(a[1]), Rights(a[2])
	if base&^o.Base != 0 || inheriting&^o.Inheriting != 0 {
		return ENOTCAPABLE, nil
	}
	o.Base, o.Inheriting = base, inheriting
	return ESUCCESS, nil
}

func fdFilestatGet(h *Host, m memory, a []uint64) (Errno, error) {
	result := uint32(a[1])
	o, errno := h.live(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	if !m.has(result, sizeFilestat) {
		return EFAULT, nil
	}
	if errno := o.may(RightFdFilestatGet); errno != ESUCCESS {
		return errno, nil
	}
	st, errno := h.k.Stat(o.handle)
	if errno != ESUCCESS {
		return errno, nil
	}
	putFilestat(m, result, &st)
	return ESUCCESS, nil
}

// putFilestat writes st at p, which has been checked.
func putFilestat(m memory, p uint32, st *Stat) {
	b, ok := m.bytes(p, sizeFilestat)
	if !ok {
		return
	}
	clear(b)
	binary.LittleEndian.PutUint64(b[0:], st.Dev)
	binary.LittleEndian.PutUint64(b[8:], st.Ino)
	b[16] = byte(st.Type)
	binary.LittleEndian.PutUint64(b[24:], st.Nlink)
	binary.LittleEndian.PutUint64(b[32:], st.Size)
	binary.LittleEndian.PutUint64(b[40:], st.Atim)
	binary.LittleEndian.PutUint64(b[48:], st.Mtim)
	binary.LittleEndian.PutUint64(b[56:], st.Ctim)
}

func fdFilestatSetSize(h *Host, _ memory, a []uint64) (Errno, error) {
	o, errno := h.file(uint32(a[0]), 0)
	if errno == ESPIPE {
		errno = EINVAL // as ftruncate(2) says of what has no size
	}
	if errno != ESUCCESS {
		return errno, nil
	}
	size, ok := offsetArg(a[1])
	switch {
	case !o.Write:
		return EBADF, nil
	case o.may(RightFdFilestatSetSize) != ESUCCESS:
		return ENOTCAPABLE, nil
	case !ok:
		return EFBIG, nil
	}
	return h.k.Truncate(o.handle, size), nil
}

func fdFilestatSetTimes(h *Host, _ memory, a []uint64) (Errno, error) {
	o, errno := h.live(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	atim, mtim, errno := timeUpdates(a[1], a[2], uint32(a[3]))
	if errno == ESUCCESS {
		errno = o.may(RightFdFilestatSetTimes)
	}
	if errno == ESUCCESS && o.readOnly {
		errno = EROFS
	}
	if errno != ESUCCESS {
		return errno, nil
	}
	return h.k.SetTimes(o.handle, atim, mtim), nil
}

// timeUpdates returns what the arguments of a set_times function mean.
func timeUpdates(atim, mtim uint64, flags uint32) (a, m TimeUpdate, errno Errno) {
	const both = fstAtim | fstAtimNow
	if flags&^fstAll != 0 || flags&both == both || flags&(both<<2) == both<<2 {
		return a, m, EINVAL
	}
	a = TimeUpdate{Set: flags&(fstAtim|fstAtimNow) != 0, Now: flags&fstAtimNow != 0, At: atim}
	m = TimeUpdate{Set: flags&(fstMtim|fstMtimNow) != 0, Now: flags&fstMtimNow != 0, At: mtim}
	return a, m, ESUCCESS
}

func fdPrestatGet(h *Host, m memory, a []uint64) (Errno, error) {
	name, errno := h.prestat(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	b, ok := m.bytes(uint32(a[1]), sizePrestat)
	if !ok {
		return EFAULT, nil
	}
	clear(b) // the tag of a directory is 0
	binary.LittleEndian.PutUint32(b[4:], uint32(len(name)))
	return ESUCCESS, nil
}

func fdPrestatDirName(h *Host, m memory, a []uint64) (Errno, error) {
	name, errno := h.prestat(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	if uint64(uint32(a[2])) < uint64(len(name)) {
		return ENAMETOOLONG, nil
	}
	b, ok := m.bytes(uint32(a[1]), uint32(len(name)))
	if !ok {
		return EFAULT, nil
	}
	copy(b, name)
	return ESUCCESS, nil
}

// prestat returns the name of a preopened directory. EBADF for anything else:
// that is where programs stop looking for more of them.
func (h *Host) prestat(fd uint32) (Text, Errno) {
	o, errno := h.get(fd)
	if errno != ESUCCESS || !o.Preopened {
		return "", EBADF
	}
	return h.preopens[o.Source].Guest, ESUCCESS
}

func fdRenumber(h *Host, _ memory, a []uint64) (Errno, error) {
	from, to := uint32(a[0]), uint32(a[1])
	o, errno := h.get(from)
	if errno == ESUCCESS {
		// The target must be open: numbers are given out by us, never by the guest.
		_, errno = h.get(to)
	}
	if errno != ESUCCESS || from == to {
		return errno, nil
	}
	replaced := h.table[to]
	h.table[to] = o
	o.FD = to
	h.table[from] = replaced
	// Like dup2, the result does not tell how closing the old one went.
	h.drop(from)
	return ESUCCESS, nil
}

func fdSeek(h *Host, m memory, a []uint64) (Errno, error) {
	delta, whence, result := int64(a[1]), uint32(a[2]), uint32(a[3])
	o, errno := h.live(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	if !m.has(result, 8) {
		return EFAULT, nil
	}
	right := RightFdSeek
	if whence == whenceCur && delta == 0 && o.Base&RightFdTell != 0 {
		right = RightFdTell
	}
	pos, errno := h.seek(o, delta, whence, right)
	if errno == ESUCCESS {
		m.putUint64(result, uint64(pos))
	}
	return errno, nil
}

func fdTell(h *Host, m memory, a []uint64) (Errno, error) {
	result := uint32(a[1])
	o, errno := h.live(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	if !m.has(result, 8) {
		return EFAULT, nil
	}
	right := RightFdTell
	if o.Base&RightFdSeek != 0 {
		right = RightFdSeek // which implies it
	}
	pos, errno := h.seek(o, 0, whenceCur, right)
	if errno == ESUCCESS {
		m.putUint64(result, uint64(pos))
	}
	return errno, nil
}

// seek moves the position of the descriptor and returns it.
func (h *Host) seek(o *open, delta int64, whence uint32, right Rights) (int64, Errno) {
	switch {
	case o.Type == FileDirectory:
		return 0, EISDIR
	case o.isSocket() || o.fifo || o.terminal:
		return 0, ESPIPE
	case whence > whenceEnd:
		return 0, EINVAL
	case o.may(right) != ESUCCESS:
		return 0, ENOTCAPABLE
	case o.stream || !o.owned:
		return h.k.Seek(o.handle, delta, int(whence))
	}
	var from int64
	switch whence {
	case whenceCur:
		from = o.Offset
	case whenceEnd:
		end, errno := h.k.Seek(o.handle, 0, whenceEnd)
		if errno != ESUCCESS {
			return 0, errno
		}
		from = end
	}
	if delta > 0 && from > math.MaxInt64-delta {
		return 0, EOVERFLOW
	}
	if from+delta < 0 {
		return 0, EINVAL
	}
	o.Offset = from + delta
	return o.Offset, ESUCCESS
}
