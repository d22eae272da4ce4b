package wasi

import "golang.org/x/sys/unix"

// pollMany is from how many descriptors on the System asks its epoll set instead of naming all to the operating system
// each time.
const pollMany = 16

// poller is the part of a System that waits.
type poller struct {
	fds    []unix.PollFd     // scratch of Poll
	direct []int32           // scratch: indices in Poll's fds of those that are not in the epoll set
	events []unix.EpollEvent // scratch
	epoll  int               // the epoll set; 0 until it is needed
	round  uint32            // number of the Poll, to tell who is asked for in it
	set    []watched         // by handle
}

// watched is what the epoll set has of a descriptor, and what the present Poll asks of it.
type watched struct {
	events uint32 // it is in the set for these; 0: it is not
	asked  uint32 // in the Poll of that round
	round  uint32
	read   int32 // index in Poll's fds of who asks to read, and to write; -1 for nobody
	write  int32
}

// Poll implements Kernel.
func (s *System) Poll(fds []PollFD, deadline int64) (int, Errno) {
	if len(fds) < pollMany || !s.watch(fds) {
		s.direct = s.direct[:0]
		for i := range fds {
			s.direct = append(s.direct, int32(i))
		}
	}
	many := len(s.direct) < len(fds)
	if many {
		if n := s.collect(fds); n > 0 {
			if len(s.direct) == 0 {
				return n, ESUCCESS
			}
			return s.wait(fds, n, 0) // the others are asked too, without waiting
		}
	}
	return s.wait(fds, 0, deadline)
}

// wait waits for the descriptors that are asked directly and for the epoll set. So many have events already.
func (s *System) wait(fds []PollFD, ready int, deadline int64) (int, Errno) {
	p := append(s.fds[:0], unix.PollFd{Fd: int32(s.wake), Events: unix.POLLIN})
	for _, i := range s.direct {
		p = append(p, unix.PollFd{Fd: int32(fds[i].Handle), Events: asked(fds[i].Events)})
	}
	many := ready == 0 && len(s.direct) < len(fds)
	if many {
		p = append(p, unix.PollFd{Fd: int32(s.epoll), Events: unix.POLLIN})
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
		if s.mend(fds, p[1:]) {
			continue
		}
		n := ready
		for k, i := range s.direct {
			fds[i].Revents, fds[i].Available = 0, 0
			if r := p[k+1].Revents; r != 0 {
				n++
				s.found(&fds[i], uint32(uint16(r)))
			}
		}
		if many && p[len(p)-1].Revents != 0 {
			n += s.collect(fds)
			if n == 0 && p[0].Revents == 0 {
				continue // it was of one that nobody asks for now
			}
		}
		if n == 0 && p[0].Revents != 0 {
			return 0, EINTR
		}
		return n, ESUCCESS
	}
}

// mend mends the queues of listeners whose keeper has died, p being what the operating system says of the descriptors that
// are asked directly. It reports whether it did: then nothing may be readable any more, where a guest that accepts would
// wait.
func (s *System) mend(fds []PollFD, p []unix.PollFd) (mended bool) {
	for k, i := range s.direct {
		if p[k].Revents&unix.POLLHUP == 0 || s.keeper == nil {
			continue
		}
		if l := s.known[fds[i].Handle]; l != nil && l.listen >= 0 {
			mended = s.keeper.Mend(l.queue) || mended
		}
	}
	return mended
}

func asked(e PollEvents) int16 {
	var events int16
	if e&PollIn != 0 {
		events |= unix.POLLIN | unix.POLLRDHUP
	}
	if e&PollOut != 0 {
		events |= unix.POLLOUT
	}
	return events
}

// found notes the events of a descriptor. Those of epoll have the numbers of poll.
func (s *System) found(fd *PollFD, r uint32) {
	fd.Revents = pollEvents(int16(r))
	switch k := s.known[fd.Handle]; {
	case r&unix.POLLIN == 0:
	case k == nil || k.state.Remote == "" || r&unix.POLLRDHUP != 0 || fd.Events&PollCount != 0:
		fd.Available = available(int(fd.Handle))
	default:
		fd.Available = 1 // to ask would be every fourth call of a server
	}
}

// watch brings the epoll set up to date with what is asked, and notes in direct what it cannot have. It returns false if
// there is no set.
func (s *System) watch(fds []PollFD) bool {
	if s.epoll == 0 {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return false
		}
		s.epoll, s.events = fd, make([]unix.EpollEvent, 256)
	}
	s.round++
	s.direct = s.direct[:0]
	for i := range fds {
		fds[i].Revents, fds[i].Available = 0, 0
		h := int(fds[i].Handle)
		if k := s.known[fds[i].Handle]; h < 0 || k != nil && k.listen >= 0 {
			// The queue of a listener may become another one behind the same number.
			s.direct = append(s.direct, int32(i))
			continue
		}
		for h >= len(s.set) {
			s.set = append(s.set, watched{})
		}
		w := &s.set[h]
		if w.round != s.round {
			w.round, w.asked, w.read, w.write = s.round, 0, -1, -1
		}
		if fds[i].Events&PollIn != 0 {
			w.read = int32(i)
		} else {
			w.write = int32(i)
		}
		w.asked |= uint32(uint16(asked(fds[i].Events)))
	}
	for i := range fds {
		// One that has been asked directly is not of this round, or cannot be in the set.
		h := int(fds[i].Handle)
		if h < 0 || h >= len(s.set) || s.set[h].round != s.round {
			continue
		}
		if w := &s.set[h]; w.asked != w.events && !s.change(h, w) {
			s.direct = append(s.direct, int32(i))
		}
	}
	return true
}

// change makes the epoll set look for what is asked of a descriptor; false if it cannot be in the set.
func (s *System) change(h int, w *watched) bool {
	op := unix.EPOLL_CTL_MOD
	if w.events == 0 {
		op = unix.EPOLL_CTL_ADD
	}
	if unix.EpollCtl(s.epoll, op, h, &unix.EpollEvent{Events: w.asked, Fd: int32(h)}) != nil {
		s.unwatch(Handle(h))
		return false // a regular file, which is always ready, or no descriptor: poll knows what to say
	}
	w.events = w.asked
	return true
}

// unwatch takes a descriptor out of the epoll set, before it is closed: another process may have a duplicate, with which
// it would stay there.
func (s *System) unwatch(h Handle) {
	if s.epoll == 0 || int(h) >= len(s.set) || h < 0 || s.set[h].events == 0 {
		return
	}
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, int(h), nil) // it may have gone by itself
	s.set[h].events = 0
}

// collect takes events from the epoll set and returns how many more of fds have some.
func (s *System) collect(fds []PollFD) int {
	n := 0
	for {
		got, err := unix.EpollWait(s.epoll, s.events, 0)
		if err == unix.EINTR {
			continue
		}
		stale := false
		for _, ev := range s.events[:max(got, 0)] {
			w := &s.set[ev.Fd]
			if w.round != s.round {
				s.unwatch(Handle(ev.Fd)) // nobody asks for it now
				stale = true
				continue
			}
			always := ev.Events & (unix.EPOLLHUP | unix.EPOLLERR)
			if r := ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP) | always; w.read >= 0 && r != 0 {
				s.found(&fds[w.read], r)
				n++
			}
			if r := ev.Events&unix.EPOLLOUT | always; w.write >= 0 && r != 0 {
				s.found(&fds[w.write], r)
				n++
			}
		}
		if n > 0 || !stale || got < 1 {
			// More may be ready than fit; the guest asks again.
			return n
		}
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
