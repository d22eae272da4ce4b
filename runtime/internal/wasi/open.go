package wasi

import pathpkg "path"

// fifoRetry is how often opening a named pipe for writing is tried again: the
// kernel has no event for "somebody opened the other end". In nanoseconds.
const fifoRetry = 10e6

func pathOpen(h *Host, m memory, a []uint64) (Errno, error) {
	result := uint32(a[8])
	if !m.has(result, 4) {
		return EFAULT, nil
	}
	dir, path, errno := h.at(m, uint32(a[0]), RightPathOpen, uint32(a[2]), uint32(a[3]))
	if errno != ESUCCESS {
		return errno, nil
	}
	fd, errno := h.free()
	if errno != ESUCCESS {
		return errno, nil
	}
	req := openRequest{
		path: path, oflags: uint32(a[4]), base: Rights(a[5]), inheriting: Rights(a[6]), flags: uint32(a[7]),
	}
	if req.lookup, errno = follow(uint32(a[1])); errno != ESUCCESS {
		return errno, nil
	}
	if errno := req.check(dir); errno != ESUCCESS {
		return errno, nil
	}
	o, errno, err := h.open(dir, &req)
	if err != nil || errno != ESUCCESS {
		return errno, err
	}
	h.put(fd, o)
	m.putUint32(result, fd)
	return ESUCCESS, nil
}

// openRequest is what the guest asks path_open for.
type openRequest struct {
	path             string
	lookup           OpenFlags
	oflags, flags    uint32
	base, inheriting Rights
}

// check returns why the directory does not allow r.
func (r *openRequest) check(dir *open) Errno {
	if r.oflags&^oflagsAll != 0 || r.flags&^uint32(flagsAll) != 0 {
		return EINVAL
	}
	if r.oflags&(oflagCreate|oflagDirectory) == oflagCreate|oflagDirectory {
		return EINVAL
	}
	needed, inherited := Rights(0), Rights(0)
	if r.oflags&oflagCreate != 0 {
		needed |= RightPathCreateFile
	}
	if r.oflags&oflagTruncate != 0 {
		needed |= RightPathFilestatSetSize
	}
	flags := FdFlags(r.flags)
	if flags&FlagDsync != 0 {
		inherited |= RightFdDatasync
	}
	if flags&(FlagRsync|FlagSync) != 0 {
		inherited |= RightFdSync
	}
	// Reading and writing decide how the file is opened. Of the other rights the
	// descriptor gets those that its file's type and the directory allow:
	// programs ask for more than they need.
	inherited |= r.base & (RightFdRead | RightFdWrite)
	if dir.may(needed) != ESUCCESS || dir.Inheriting&inherited != inherited {
		return ENOTCAPABLE
	}
	return ESUCCESS
}

// open opens what r asks for.
func (h *Host) open(dir *open, r *openRequest) (*open, Errno, error) {
	flags := r.lookup
	read, write := r.base&RightFdRead != 0, r.base&RightFdWrite != 0
	if write {
		flags |= OpenWrite
	}
	if read || !write {
		flags |= OpenRead
	}
	if r.oflags&oflagDirectory != 0 {
		flags |= OpenDirectory
	}
	if r.oflags&oflagExclusive != 0 {
		flags |= OpenExclusive
	}
	create := r.oflags&oflagCreate != 0
	if dir.readOnly {
		if write || r.oflags&oflagTruncate != 0 {
			return nil, h.refuseOpen(dir, r), nil
		}
		if create && r.oflags&oflagExclusive != 0 {
			return nil, h.refuseOpen(dir, r), nil
		}
		flags &^= OpenExclusive
	} else {
		if create {
			flags |= OpenCreate
		}
		if r.oflags&oflagTruncate != 0 {
			flags |= OpenTruncate
		}
	}
	handle, errno, err := h.openWaiting(dir, r, flags)
	if err != nil {
		return nil, ESUCCESS, err
	}
	if errno == ENOENT && create && dir.readOnly {
		errno = h.refuseCreate(dir, r.path)
	}
	if errno != ESUCCESS {
		return nil, errno, nil
	}
	st, errno := h.k.Stat(handle)
	if errno != ESUCCESS {
		h.k.Close(handle) // nothing was written
		return nil, errno, nil
	}
	o := &open{
		Descriptor: Descriptor{
			Kind: KindFile, Source: dir.Source, Path: Text(pathpkg.Join(string(dir.Path), r.path)),
			Read: read, Write: write, Flags: FdFlags(r.flags),
		},
		owned: true, readOnly: dir.readOnly,
	}
	o.attach(handle, &st)
	o.Dev, o.Ino, o.Born = st.Dev, st.Ino, st.Born
	o.Base = r.base & o.meaningful()
	o.Inheriting = r.inheriting & dir.Inheriting
	// Beyond what decides the mode, nothing that the directory does not pass on.
	o.Base &= dir.Inheriting
	if o.Type != FileDirectory {
		o.Inheriting &= o.meaningful()
	}
	return o, ESUCCESS, nil
}

// refuseOpen returns what a read-only directory says to an open that would
// change something.
func (h *Host) refuseOpen(dir *open, r *openRequest) Errno {
	there, errno := h.k.Open(dir.handle, r.path, OpenName|r.lookup)
	switch {
	case errno == ENOENT && r.oflags&oflagCreate != 0:
		return h.refuseCreate(dir, r.path)
	case errno != ESUCCESS:
		return errno
	}
	h.k.Close(there) // it only named the file
	if r.oflags&(oflagCreate|oflagExclusive) == oflagCreate|oflagExclusive {
		return EEXIST
	}
	return EROFS
}

// refuseCreate returns what a read-only directory says to a file being made.
func (h *Host) refuseCreate(dir *open, path string) Errno {
	pl, errno := h.place(dir, path)
	if errno != ESUCCESS {
		return errno // there is no directory to make it in
	}
	h.leave(pl)
	return EROFS
}

// openWaiting opens, and waits for a reader if it is a named pipe and the guest
// has not asked to be refused. To open one for reading never waits: the first
// read does.
func (h *Host) openWaiting(dir *open, r *openRequest, flags OpenFlags) (Handle, Errno, error) {
	for {
		handle, errno := h.k.Open(dir.handle, r.path, flags)
		if errno != ENXIO || flags&OpenRead != 0 || FdFlags(r.flags)&FlagNonblock != 0 {
			return handle, errno, nil
		}
		name, nameErrno := h.k.Open(dir.handle, r.path, OpenName|r.lookup)
		if nameErrno != ESUCCESS {
			return NoHandle, errno, nil
		}
		st, nameErrno := h.k.Stat(name)
		h.k.Close(name) // it only named the file
		if nameErrno != ESUCCESS || !st.Fifo {
			return NoHandle, errno, nil // a socket, or a device that is not there
		}
		now, errno := h.k.Now(ClockMonotonic)
		if errno != ESUCCESS {
			return NoHandle, errno, nil
		}
		if errno, err := h.wait(nil, 0, now+fifoRetry); err != nil || errno != ESUCCESS {
			return NoHandle, errno, err
		}
	}
}

// attach makes o stand for handle, which st describes.
func (o *open) attach(handle Handle, st *Stat) {
	o.handle = handle
	o.dead = ESUCCESS
	o.Type = st.Type
	o.fifo = st.Fifo
	o.terminal = st.Terminal
	switch st.Type {
	case FileRegular, FileBlockDevice, FileDirectory, FileSocketStream, FileSocketDgram:
		o.stream = false
	default:
		o.stream = true
	}
}

// meaningful returns the rights that mean something for what o is attached to.
func (o *open) meaningful() Rights {
	switch {
	case o.Type == FileDirectory:
		return rightsDirectory
	case o.isSocket():
		return rightsConnection
	case o.fifo, o.terminal, o.Type == FileUnknown:
		return rightsStream
	}
	return rightsFile
}
