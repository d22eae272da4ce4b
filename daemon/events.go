package daemon

import (
	"sync"
	"time"
)

// maxBehind is how many events a subscriber may be behind.
const maxBehind = 256

// hub hands events to those who listen. A subscriber that is too slow loses events, and is told how many.
type hub struct {
	mu   sync.Mutex
	subs map[*subscription]struct{}
}

// subscription is one who listens.
type subscription struct {
	hub     *hub
	process string // of which; empty for all
	c       chan Event
	lost    int // guarded by hub.mu
}

// subscribe returns a subscription to the events of a process, or of all if its name is empty. Close ends it.
func (h *hub) subscribe(process string) *subscription {
	s := &subscription{hub: h, process: process, c: make(chan Event, maxBehind)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = make(map[*subscription]struct{})
	}
	h.subs[s] = struct{}{}
	return s
}

func (s *subscription) close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.hub.subs, s)
}

// takeLost returns how many events were lost since it was asked last.
func (s *subscription) takeLost() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	n := s.lost
	s.lost = 0
	return n
}

// publish hands an event to all who listen; it never waits.
func (h *hub) publish(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		if s.process != "" && s.process != e.Process {
			continue
		}
		select {
		case s.c <- e:
		default:
			s.lost++
		}
	}
}
