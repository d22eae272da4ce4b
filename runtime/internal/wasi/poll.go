package wasi

import (
	"encoding/binary"
	"math"
)

// pollScratch is kept from call to call.
type pollScratch struct {
	one  [1]PollFD
	subs []subscription
	fds  []PollFD
	// clock tells that a clock is waited for, and wall that it is the wall clock. A server that
	// waits for its clients only need not know the time, which costs as much as a system call.
	clock, wall bool
}

// subscription is one thing that poll_oneoff waits for.
type subscription struct {
	userdata uint64
	kind     uint8
	errno    Errno // decided without waiting
	ready    bool  // likewise
	hangup   bool  // with ready
	nbytes   uint64
	fd       int // index in pollScratch.fds, if it has to be asked

	deadline int64 // of a clock: in the time of wall or of the guest's monotonic clock
	wall     bool
}

// wallRecheck is how often a wait for a wall-clock time looks at that clock,
// which others may set. In nanoseconds.
const wallRecheck = 500e6

// pollBytes is how many bytes a writable descriptor takes at least, which is
// what PIPE_BUF means.
const pollBytes = 4096

func pollOneoff(h *Host, m memory, a []uint64) (Errno, error) {
	in, out, count, result := uint32(a[0]), uint32(a[1]), uint32(a[2]), uint32(a[3])
	if count == 0 || uint64(count) > uint64(h.cfg.Limits.Subscriptions) {
		return EINVAL, nil
	}
	if !m.has(in, uint64(count)*sizeSubscription) || !m.has(out, uint64(count)*sizeEvent) || !m.has(result, 4) {
		return EFAULT, nil
	}
	s := &h.poll
	s.subs, s.fds, s.clock, s.wall = s.subs[:0], s.fds[:0], false, false
	for i := range uint64(count) {
		sub, errno := h.subscribe(m[uint64(in)+i*sizeSubscription:][:sizeSubscription])
		if errno != ESUCCESS {
			return errno, nil
		}
		s.subs = append(s.subs, sub)
	}
	n, errno, err := h.await(m, out)
	if err != nil || errno != ESUCCESS {
		return errno, err
	}
	m.putUint32(result, n)
	return ESUCCESS, nil
}

// subscribe reads a subscription.
func (h *Host) subscribe(b []byte) (subscription, Errno) {
	sub := subscription{userdata: binary.LittleEndian.Uint64(b), kind: b[8], fd: -1}
	switch sub.kind {
	case eventClock:
		h.subscribeClock(&sub, b)
	case eventFdRead, eventFdWrite:
		h.subscribeFile(&sub, binary.LittleEndian.Uint32(b[16:]))
	default:
		return sub, EINVAL
	}
	return sub, ESUCCESS
}

func (h *Host) subscribeClock(sub *subscription, b []byte) {
	id := binary.LittleEndian.Uint32(b[16:])
	timeout := int64(min(binary.LittleEndian.Uint64(b[24:]), math.MaxInt64))
	flags := binary.LittleEndian.Uint16(b[40:])
	switch {
	case flags&^subclockAbstime != 0 || id > uint32(ClockThreadCPU):
		sub.errno = EINVAL
	case id > uint32(ClockMonotonic):
		sub.errno = ENOTSUP // nobody can say when so much CPU time will be used
	case flags&subclockAbstime != 0:
		sub.deadline, sub.wall = timeout, id == uint32(ClockRealtime)
	default:
		// A relative time passes as the guest's own time does, whatever clock it
		// names: setting the wall clock does not change it.
		if h.issued < 0 {
			h.issued = h.monotonic()
		}
		sub.deadline = h.issued + min(timeout, math.MaxInt64-h.issued)
	}
	h.poll.clock = h.poll.clock || sub.errno == ESUCCESS
	h.poll.wall = h.poll.wall || sub.wall
}

func (h *Host) subscribeFile(sub *subscription, fd uint32) {
	o, errno := h.get(fd)
	if errno != ESUCCESS {
		sub.errno = errno
		return
	}
	read := sub.kind == eventFdRead
	event, right, slot := PollOut, RightFdWrite, &o.pollSlots[1]
	if read {
		event, right, slot = PollIn, RightFdRead, &o.pollSlots[0]
	}
	switch {
	case o.dead == ECONNRESET:
		sub.ready, sub.hangup = true, true // as a reset connection polls
	case o.dead != ESUCCESS:
		sub.errno = o.dead
	case o.Type == FileDirectory:
		sub.ready = true
	case o.may(RightPollFdReadwrite|right) != ESUCCESS:
		sub.errno = ENOTCAPABLE
	case !o.stream && !o.isSocket():
		sub.ready = true
		sub.nbytes = pollBytes
		if read {
			sub.nbytes = h.remaining(o)
		}
	default:
		// A descriptor is asked once, however many subscriptions it has: the
		// kernel bounds how many it looks at.
		fds := h.poll.fds
		if *slot >= len(fds) || fds[*slot] != (PollFD{Handle: o.handle, Events: event}) {
			*slot = len(fds)
			h.poll.fds = append(fds, PollFD{Handle: o.handle, Events: event})
		}
		sub.fd = *slot
	}
}

// remaining returns how many bytes lie between the position and the end.
func (h *Host) remaining(o *open) uint64 {
	st, errno := h.k.Stat(o.handle)
	if errno != ESUCCESS {
		return 0
	}
	pos := o.Offset
	if !o.owned {
		if pos, errno = h.k.Seek(o.handle, 0, whenceCur); errno != ESUCCESS {
			return 0
		}
	}
	if uint64(pos) >= st.Size {
		return 0
	}
	return st.Size - uint64(pos)
}

// await waits until one of the subscriptions has an event, and writes the
// events to out, which is large enough.
func (h *Host) await(m memory, out uint32) (uint32, Errno, error) {
	s := &h.poll
	for {
		until, errno := h.nextLook()
		if errno != ESUCCESS {
			return 0, errno, nil
		}
		_, errno = h.k.Poll(s.fds, until)
		interrupted := errno == EINTR
		if interrupted {
			for i := range s.fds {
				s.fds[i].Revents = 0
			}
		} else if errno != ESUCCESS {
			return 0, errno, nil
		}
		now, wall, errno := h.lookAtClocks()
		if errno != ESUCCESS {
			return 0, errno, nil
		}
		n := uint32(0)
		for i := range s.subs {
			if h.writeEvent(m, out+n*sizeEvent, &s.subs[i], now, wall) {
				n++
			}
		}
		if n > 0 {
			return n, ESUCCESS, nil
		}
		if interrupted && h.k.Interrupted() {
			h.noteDeadline(now, wall)
			return 0, ESUCCESS, ErrInterrupted
		}
	}
}

// lookAtClocks returns the guest's monotonic time and the wall clock's, as far as the
// subscriptions need them.
func (h *Host) lookAtClocks() (now, wall int64, errno Errno) {
	if h.poll.clock {
		if now, errno = h.now(ClockMonotonic); errno != ESUCCESS {
			return 0, 0, errno
		}
	}
	if h.poll.wall {
		wall, errno = h.now(ClockRealtime)
	}
	return now, wall, errno
}

// nextLook returns when to look at the subscriptions again, in kernel time: at
// once if one is decided, at the earliest deadline otherwise, and never (-1) if
// there is none.
func (h *Host) nextLook() (int64, Errno) {
	for i := range h.poll.subs {
		if sub := &h.poll.subs[i]; sub.errno != ESUCCESS || sub.ready {
			return 0, ESUCCESS
		}
	}
	now, wall, errno := h.lookAtClocks()
	if errno != ESUCCESS {
		return 0, errno
	}
	left := int64(-1)
	for i := range h.poll.subs {
		sub := &h.poll.subs[i]
		if sub.kind != eventClock {
			continue
		}
		wait := max(0, sub.deadline-now)
		if sub.wall {
			wait = min(max(0, sub.deadline-wall), wallRecheck)
		}
		if left < 0 || wait < left {
			left = wait
		}
	}
	if left < 0 {
		return -1, ESUCCESS
	}
	now -= h.monotonicBase
	return now + min(left, math.MaxInt64-now), ESUCCESS
}

// noteDeadline sets the deadline that goes with the interrupted call.
func (h *Host) noteDeadline(now, wall int64) {
	for i := range h.poll.subs {
		sub := &h.poll.subs[i]
		if sub.kind != eventClock {
			continue
		}
		at := sub.deadline
		if sub.wall {
			left := max(0, sub.deadline-wall)
			at = now + min(left, math.MaxInt64-now)
		}
		if h.deadline < 0 || at < h.deadline {
			h.deadline = at
		}
	}
}

// writeEvent writes the event of a subscription at p, if it has one.
func (h *Host) writeEvent(m memory, p uint32, sub *subscription, now, wall int64) bool {
	errno, nbytes, flags := sub.errno, sub.nbytes, uint16(0)
	happened := errno != ESUCCESS || sub.ready
	switch {
	case happened:
		if sub.hangup {
			flags = eventHangup
		}
	case sub.kind == eventClock:
		t := now
		if sub.wall {
			t = wall
		}
		happened = t >= sub.deadline
	default:
		fd := &h.poll.fds[sub.fd]
		happened = fd.Revents != 0
		nbytes = fd.Available
		if sub.kind == eventFdWrite {
			nbytes = pollBytes
		}
		if fd.Revents&(PollHangup|PollError) != 0 {
			flags = eventHangup
		}
		if fd.Revents&PollInvalid != 0 {
			errno = EBADF
		}
	}
	if !happened {
		return false
	}
	b, ok := m.bytes(p, sizeEvent)
	if !ok {
		return false // checked before
	}
	clear(b)
	binary.LittleEndian.PutUint64(b[0:], sub.userdata)
	binary.LittleEndian.PutUint16(b[8:], uint16(errno))
	b[10] = sub.kind
	if sub.kind != eventClock && errno == ESUCCESS {
		binary.LittleEndian.PutUint64(b[16:], nbytes)
		binary.LittleEndian.PutUint16(b[24:], flags)
	}
	return true
}
