package wasi

// maxTransfer is how much of a file is read or written between two looks at the
// interrupt.
const maxTransfer = 8 << 20

// mayRead returns why the descriptor cannot be read from.
func (o *open) mayRead() Errno {
	switch {
	case o.dead != ESUCCESS:
		return o.dead
	case o.Type == FileDirectory:
		return EISDIR
	case o.listens():
		return ENOTCONN
	case !o.Read:
		return EBADF
	}
	return o.may(RightFdRead)
}

// mayWrite returns why the descriptor cannot be written to.
func (o *open) mayWrite() Errno {
	switch {
	case o.dead != ESUCCESS:
		return o.dead
	case o.Type == FileDirectory:
		return EISDIR
	case o.listens():
		return ENOTCONN
	case !o.Write:
		return EBADF
	}
	return o.may(RightFdWrite)
}

// vector prepares a call with buffers: the descriptor, the buffers, and a check
// of the pointer to the result.
func (h *Host) vector(m memory, fd, iovs, count, result uint32) (*open, [][]byte, Errno) {
	o, errno := h.get(fd)
	if errno != ESUCCESS {
		return nil, nil, errno
	}
	if !m.has(result, 4) {
		return nil, nil, EFAULT
	}
	bufs, errno := m.iovecs(&h.iov, iovs, count)
	return o, bufs, errno
}

func fdRead(h *Host, m memory, a []uint64) (Errno, error) {
	result := uint32(a[3])
	o, bufs, errno := h.vector(m, uint32(a[0]), uint32(a[1]), uint32(a[2]), result)
	if errno == ESUCCESS {
		errno = o.mayRead()
	}
	if errno != ESUCCESS {
		return errno, nil
	}
	n, errno, err := h.read(o, bufs)
	if err != nil || errno != ESUCCESS {
		return errno, err
	}
	m.putUint32(result, uint32(n))
	return ESUCCESS, nil
}

func fdPread(h *Host, m memory, a []uint64) (Errno, error) {
	result := uint32(a[4])
	o, bufs, errno := h.vector(m, uint32(a[0]), uint32(a[1]), uint32(a[2]), result)
	if errno == ESUCCESS {
		errno = o.mayRead()
	}
	if errno != ESUCCESS {
		return errno, nil
	}
	offset, ok := offsetArg(a[3])
	switch {
	case o.stream || o.isSocket():
		return ESPIPE, nil
	case o.may(RightFdSeek) != ESUCCESS:
		return ENOTCAPABLE, nil
	case !ok:
		return EINVAL, nil
	}
	n, errno := h.readAt(o, bufs, offset)
	if errno != ESUCCESS {
		return errno, nil
	}
	m.putUint32(result, uint32(n))
	return ESUCCESS, nil
}

func fdWrite(h *Host, m memory, a []uint64) (Errno, error) {
	result := uint32(a[3])
	o, bufs, errno := h.vector(m, uint32(a[0]), uint32(a[1]), uint32(a[2]), result)
	if errno == ESUCCESS {
		errno = o.mayWrite()
	}
	if errno != ESUCCESS {
		return errno, nil
	}
	n, errno, err := h.write(o, bufs)
	if err != nil || errno != ESUCCESS {
		return errno, err
	}
	m.putUint32(result, uint32(n))
	return ESUCCESS, nil
}

func fdPwrite(h *Host, m memory, a []uint64) (Errno, error) {
	result := uint32(a[4])
	o, bufs, errno := h.vector(m, uint32(a[0]), uint32(a[1]), uint32(a[2]), result)
	if errno == ESUCCESS {
		errno = o.mayWrite()
	}
	if errno != ESUCCESS {
		return errno, nil
	}
	offset, ok := offsetArg(a[3])
	switch {
	case o.stream || o.isSocket():
		return ESPIPE, nil
	case o.may(RightFdSeek) != ESUCCESS:
		return ENOTCAPABLE, nil
	case !ok:
		return EINVAL, nil
	}
	n, _, errno := h.writeAt(o, bufs, offset, o.writeFlags()&^WriteAppend)
	if errno != ESUCCESS {
		return errno, nil
	}
	m.putUint32(result, uint32(n))
	return ESUCCESS, nil
}

// read reads where the descriptor stands.
func (h *Host) read(o *open, bufs [][]byte) (int, Errno, error) {
	switch {
	case len(bufs) == 0:
		return 0, ESUCCESS, nil
	case o.isSocket():
		n, _, errno, err := h.recv(o, bufs, 0)
		return n, errno, err
	case o.stream:
		return h.readStream(o, bufs)
	case !o.owned:
		n, errno := h.readAt(o, bufs, AtPosition)
		return n, errno, nil
	}
	n, errno := h.readAt(o, bufs, o.Offset)
	o.Offset += int64(n)
	return n, errno, nil
}

// readStream reads from what has no offset, when it has something.
func (h *Host) readStream(o *open, bufs [][]byte) (int, Errno, error) {
	nonblock := o.Flags&FlagNonblock != 0
	// A named pipe that nobody has opened for writing yet reads as ended, but
	// polls as not ready: there is nothing to read yet, since open(2) would have
	// waited for the first writer.
	ask := o.owned && o.fifo
	if ask && nonblock {
		fds := append(h.poll.one[:0], PollFD{Handle: o.handle, Events: PollIn})
		if n, errno := h.k.Poll(fds, 0); n == 0 && (errno == ESUCCESS || errno == EINTR) {
			return 0, EAGAIN, nil
		}
		ask = false
	}
	for {
		if !ask {
			n, errno := h.k.Read(o.handle, bufs, Streaming)
			if errno != EAGAIN || nonblock {
				return n, errno, nil
			}
		}
		ask = false
		if errno, err := h.wait(o, PollIn, -1); err != nil || errno != ESUCCESS {
			return 0, errno, err
		}
	}
}

// readAt reads a file at offset. An interrupt shortens a long transfer.
func (h *Host) readAt(o *open, bufs [][]byte, offset int64) (int, Errno) {
	done := 0
	for {
		part, last := clip(bufs, maxTransfer)
		n, errno := h.k.Read(o.handle, part, offset)
		done += n
		if errno != ESUCCESS {
			if done > 0 {
				errno = ESUCCESS
			}
			return done, errno
		}
		if last || n < totalBytes(part) || h.k.Interrupted() {
			return done, ESUCCESS
		}
		bufs = advance(bufs, n)
		if offset >= 0 {
			offset += int64(n)
		}
	}
}

// writeFlags returns how the descriptor's flags make it write.
func (o *open) writeFlags() WriteFlags {
	var f WriteFlags
	if o.Flags&FlagAppend != 0 {
		f |= WriteAppend
	}
	if o.Flags&FlagDsync != 0 {
		f |= WriteDsync
	}
	if o.Flags&(FlagSync|FlagRsync) != 0 {
		f |= WriteSync
	}
	return f
}

// write writes where the descriptor stands, or at the end.
func (h *Host) write(o *open, bufs [][]byte) (int, Errno, error) {
	switch {
	case len(bufs) == 0:
		return 0, ESUCCESS, nil
	case o.isSocket():
		return h.send(o, bufs)
	case o.stream:
		return h.writeStream(o, bufs)
	case !o.owned:
		n, _, errno := h.writeAt(o, bufs, AtPosition, o.writeFlags())
		return n, errno, nil
	}
	n, end, errno := h.writeAt(o, bufs, o.Offset, o.writeFlags())
	if n > 0 {
		o.Offset = end
	}
	return n, errno, nil
}

// writeStream writes everything to what has no offset, waiting for room. Once a
// part is written it does not fail any more: it returns how much. An interrupt
// shortens a long transfer.
func (h *Host) writeStream(o *open, bufs [][]byte) (int, Errno, error) {
	done := 0
	for {
		n, _, errno := h.k.Write(o.handle, bufs, Streaming, 0)
		done += n
		bufs = advance(bufs, n)
		switch {
		case len(bufs) == 0:
			return done, ESUCCESS, nil
		case errno == ESUCCESS && (done < maxTransfer || !h.k.Interrupted()):
			continue
		case errno == EAGAIN && o.Flags&FlagNonblock == 0:
			var err error
			if errno, err = h.wait(o, PollOut, -1); err == nil && errno == ESUCCESS {
				continue
			} else if err != nil && done == 0 {
				return 0, ESUCCESS, err
			}
		}
		if done > 0 {
			errno = ESUCCESS
		}
		return done, errno, nil
	}
}

// writeAt writes a file at offset and returns the offset behind what it wrote.
// An interrupt shortens a long transfer.
func (h *Host) writeAt(o *open, bufs [][]byte, offset int64, flags WriteFlags) (int, int64, Errno) {
	done := 0
	for {
		part, last := clip(bufs, maxTransfer)
		n, end, errno := h.k.Write(o.handle, part, offset, flags)
		done += n
		if errno != ESUCCESS {
			if done > 0 {
				errno = ESUCCESS
			}
			return done, offset, errno
		}
		if flags&WriteAppend != 0 {
			offset = end
		} else if offset >= 0 {
			offset += int64(n)
		}
		if last || n < totalBytes(part) || h.k.Interrupted() {
			return done, offset, ESUCCESS
		}
		bufs = advance(bufs, n)
	}
}

// clip returns the start of bufs, of at most limit bytes, and whether that is
// all of it.
func clip(bufs [][]byte, limit int) ([][]byte, bool) {
	n := 0
	for i, b := range bufs {
		if n+len(b) > limit {
			if i > 0 {
				return bufs[:i], false
			}
			return [][]byte{b[:limit]}, false
		}
		n += len(b)
	}
	return bufs, true
}
