package wasi

import "golang.org/x/sys/unix"

// Poll implements Kernel.
func (s *System) Poll(fds []PollFD, deadline int64) (int, Errno) {
	p := append(s.fds[:0], unix.PollFd{Fd: int32(s.wake), Events: unix.POLLIN})
	for i := range fds {
		var events int16
		if fds[i].Events&PollIn != 0 {
			events |= unix.POLLIN | unix.POLLRDHUP
		}
		if fds[i].Events&PollOut != 0 {
			events |= unix.POLLOUT
		}
		p = append(p, unix.PollFd{Fd: int32(fds[i].Handle), Events: events})
	}
	s.fds = p
	for {
		var timeout *unix.Timespec
		if deadline >= 0 {
			now, errno := s.Now(ClockMonotonic)
			if errno != ESUCCESS {
				return 0, errno
			}
			ts := unix.NsecToTimespec(max(0, deadline-now))
			timeout = &ts
		}
		_, err := unix.Ppoll(p, timeout, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, toErrno(err)
		}
		n := 0
		for i := range fds {
			fds[i].Revents, fds[i].Available = 0, 0
			if r := p[i+1].Revents; r != 0 {
				n++
				fds[i].Revents = pollEvents(r)
				if r&unix.POLLIN != 0 {
					fds[i].Available = available(int(fds[i].Handle))
				}
			}
		}
		if n == 0 && p[0].Revents != 0 {
			return 0, EINTR
		}
		return n, ESUCCESS
	}
}

func pollEvents(r int16) PollEvents {
	var e PollEvents
	if r&unix.POLLIN != 0 {
		e |= PollIn
	}
	if r&unix.POLLOUT != 0 {
		e |= PollOut
	}
	if r&(unix.POLLHUP|unix.POLLRDHUP) != 0 {
		e |= PollHangup
	}
	if r&unix.POLLERR != 0 {
		e |= PollError
	}
	if r&unix.POLLNVAL != 0 {
		e |= PollInvalid
	}
	return e
}

// available returns how many bytes fd has to read, 0 if it cannot tell.
func available(fd int) uint64 {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ) // which is FIONREAD
	if err != nil || n < 0 {
		return 0
	}
	return uint64(n)
}
