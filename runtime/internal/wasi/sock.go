package wasi

// connection returns the attached socket of that number.
func (h *Host) connection(fd uint32) (*open, Errno) {
	o, errno := h.get(fd)
	switch {
	case errno != ESUCCESS:
		return nil, errno
	case !o.isSocket():
		return nil, ENOTSOCK
	}
	return o, o.dead
}

func sockAccept(h *Host, m memory, a []uint64) (Errno, error) {
	flags, result := uint32(a[1]), uint32(a[2])
	o, errno := h.connection(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	if !m.has(result, 4) {
		return EFAULT, nil
	}
	switch {
	case !o.listens() || flags&^uint32(FlagNonblock) != 0:
		return EINVAL, nil
	case o.may(RightSockAccept) != ESUCCESS:
		return ENOTCAPABLE, nil
	}
	fd, errno := h.free()
	if errno != ESUCCESS {
		return errno, nil
	}
	for {
		handle, errno := h.k.Accept(o.handle)
		switch {
		case errno == ESUCCESS:
			h.put(fd, newConnection(o, handle, FdFlags(flags)))
			m.putUint32(result, fd)
			return ESUCCESS, nil
		case errno != EAGAIN || o.Flags&FlagNonblock != 0:
			return errno, nil
		}
		if errno, err := h.wait(o, PollIn, -1); err != nil || errno != ESUCCESS {
			return errno, err
		}
	}
}

// newListener returns the descriptor of the listening socket of that index.
func newListener(index int, network string, handle Handle) *open {
	if kindOfNetwork(network) == "udp" {
		return &open{
			Descriptor: Descriptor{
				Kind: KindListener, Source: index, Read: true, Write: true, Type: FileSocketDgram, Base: rightsConnection,
			},
			handle: handle, owned: true,
		}
	}
	return &open{
		Descriptor: Descriptor{
			Kind: KindListener, Source: index, Read: true, Type: FileSocketStream,
			Base: rightsListener, Inheriting: rightsConnection,
		},
		handle: handle, owned: true,
	}
}

// newConnection returns the descriptor of a connection that a listener accepted.
func newConnection(listener *open, handle Handle, flags FdFlags) *open {
	o := &open{
		Descriptor: Descriptor{
			Kind: KindConnection, Source: listener.Source, Read: true, Write: true, Type: FileSocketStream,
			Flags: flags, Base: rightsConnection & listener.Inheriting,
		},
		handle: handle, owned: true,
	}
	if listener.Kind == KindSocket {
		o.Kind, o.Made = KindSocket, &MadeSocket{Network: listener.Made.Network, Phase: PhaseConnected}
	}
	return o
}

func sockRecv(h *Host, m memory, a []uint64) (Errno, error) {
	flags, size, roflags := uint32(a[3]), uint32(a[4]), uint32(a[5])
	o, errno := h.connection(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	bufs, errno := m.iovecs(&h.iov, uint32(a[1]), uint32(a[2]))
	if errno != ESUCCESS {
		return errno, nil
	}
	if !m.has(size, 4) || !m.has(roflags, 2) {
		return EFAULT, nil
	}
	if flags&^(riRecvPeek|riRecvWaitall) != 0 {
		return EINVAL, nil
	}
	if errno := o.mayRead(); errno != ESUCCESS {
		return errno, nil
	}
	var n int
	var truncated bool
	if len(bufs) > 0 {
		var err error
		n, truncated, errno, err = h.recv(o, bufs, flags)
		if err != nil || errno != ESUCCESS {
			return errno, err
		}
	}
	m.putUint32(size, uint32(n))
	m[roflags], m[uint64(roflags)+1] = 0, 0
	if truncated {
		m[roflags] = roRecvDataTruncated
	}
	return ESUCCESS, nil
}

// recv receives from a socket, when it has something. With riRecvWaitall it
// waits for all of bufs, but returns what it has at the end of the stream, at an
// error, and when it is interrupted.
func (h *Host) recv(o *open, bufs [][]byte, flags uint32) (int, bool, Errno, error) {
	var how RecvFlags
	if flags&riRecvPeek != 0 {
		how |= RecvPeek
	}
	for {
		n, truncated, errno := h.k.Recv(o.handle, bufs, how)
		if errno == EAGAIN && o.Flags&FlagNonblock == 0 {
			errno, err := h.wait(o, PollIn, -1)
			if err == nil && errno == ESUCCESS {
				continue
			}
			return 0, false, errno, err
		}
		all := flags&riRecvWaitall != 0 && o.Type == FileSocketStream && o.Flags&FlagNonblock == 0
		if errno != ESUCCESS || n == 0 || !all || n == totalBytes(bufs) {
			return n, truncated, errno, nil
		}
		if how&RecvPeek == 0 {
			return n + h.recvRest(o, advance(bufs, n)), truncated, ESUCCESS, nil
		}
		if !h.waitMore(o, n) {
			return n, truncated, ESUCCESS, nil
		}
	}
}

// recvRest receives until bufs are full, and returns how much it got when that
// cannot be. An error of the connection stays in the socket for the next call:
// to receive would take it away.
func (h *Host) recvRest(o *open, bufs [][]byte) int {
	done := 0
	for len(bufs) > 0 {
		fds := append(h.poll.one[:0], PollFD{Handle: o.handle, Events: PollIn})
		switch n, errno := h.k.Poll(fds, -1); {
		case errno == EINTR && !h.k.Interrupted():
			continue
		case errno != ESUCCESS, n > 0 && fds[0].Revents&(PollError|PollInvalid) != 0:
			return done
		}
		n, _, errno := h.k.Recv(o.handle, bufs, 0)
		if errno != ESUCCESS && errno != EAGAIN || errno == ESUCCESS && n == 0 {
			return done
		}
		done += n
		bufs = advance(bufs, n)
	}
	return done
}

// peekRetry is how often a peek that waits for all looks again: the socket polls
// as readable all the while. In nanoseconds.
const peekRetry = 2e6

// waitMore waits until the socket has more than n bytes. It returns false if
// there will not be more, or not before an interrupt.
func (h *Host) waitMore(o *open, n int) bool {
	for {
		fds := append(h.poll.one[:0], PollFD{Handle: o.handle, Events: PollIn | PollCount})
		if _, errno := h.k.Poll(fds, 0); errno != ESUCCESS {
			return false
		}
		if fds[0].Available > uint64(n) {
			return true
		}
		if fds[0].Revents&(PollHangup|PollError|PollInvalid) != 0 {
			return false
		}
		now, errno := h.k.Now(ClockMonotonic)
		if errno != ESUCCESS {
			return false
		}
		if errno, err := h.wait(nil, 0, now+peekRetry); err != nil || errno != ESUCCESS {
			return false
		}
	}
}

func sockSend(h *Host, m memory, a []uint64) (Errno, error) {
	result := uint32(a[4])
	o, errno := h.connection(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	bufs, errno := m.iovecs(&h.iov, uint32(a[1]), uint32(a[2]))
	if errno != ESUCCESS {
		return errno, nil
	}
	if !m.has(result, 4) {
		return EFAULT, nil
	}
	if uint32(a[3]) != 0 {
		return EINVAL, nil // preview 1 defines no flag
	}
	if errno := o.mayWrite(); errno != ESUCCESS {
		return errno, nil
	}
	n, errno, err := h.send(o, bufs)
	if err != nil || errno != ESUCCESS {
		return errno, err
	}
	m.putUint32(result, uint32(n))
	return ESUCCESS, nil
}

// send sends everything, waiting for room. Once a part is sent it does not fail
// any more: it returns how much.
func (h *Host) send(o *open, bufs [][]byte) (int, Errno, error) {
	done := 0
	for len(bufs) > 0 {
		n, errno := h.k.Send(o.handle, bufs)
		done += n
		bufs = advance(bufs, n)
		if errno == ESUCCESS {
			continue
		}
		var err error
		if errno == EAGAIN && o.Flags&FlagNonblock == 0 {
			errno, err = h.wait(o, PollOut, -1)
			if err == nil && errno == ESUCCESS {
				continue
			}
		}
		if done > 0 {
			break
		}
		return 0, errno, err
	}
	return done, ESUCCESS, nil
}

func sockShutdown(h *Host, _ memory, a []uint64) (Errno, error) {
	how := uint32(a[1])
	o, errno := h.connection(uint32(a[0]))
	switch {
	case errno != ESUCCESS:
		return errno, nil
	case how == 0 || how&^(sdRd|sdWr) != 0:
		return EINVAL, nil
	case o.listens():
		return ENOTCONN, nil
	case o.may(RightSockShutdown) != ESUCCESS:
		return ENOTCAPABLE, nil
	}
	return h.k.Shutdown(o.handle, int(how)), nil
}
