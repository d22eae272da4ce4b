package worker

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"perdure/memsnap"
	"perdure/runtime"
)

const (
	maxWarnings  = 16  // in a Status
	eventBacklog = 256 // events that a client may be behind
)

// state is what a worker knows of its process: what the events of the runtime said. Its methods may be called from any
// goroutine.
type state struct {
	mu        sync.Mutex
	status    Status
	listeners map[*listener]bool
}

// listener is a client that is told of events.
type listener struct {
	c    chan Event
	lost uint64 // guarded by state.mu
}

func newState(s *Spec) *state {
	return &state{
		status: Status{
			Version: ProtocolVersion, Name: s.Name, PID: pid(), Phase: PhaseStarting, Started: time.Now(),
		},
		listeners: make(map[*listener]bool),
	}
}

// snapshot returns the status, with lists of its own.
func (s *state) snapshot() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Warnings, st.NotApplied = slices.Clone(st.Warnings), slices.Clone(st.NotApplied)
	return st
}

// set changes the status.
func (s *state) set(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

// warn notes something that the operator should know.
func (s *state) warn(format string, args ...any) {
	s.event(runtime.WarningEvent{What: fmt.Sprintf(format, args...)})
}

// event notes an event of the runtime and passes it on.
func (s *state) event(e runtime.Event) {
	w := newEvent(e, time.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.status
	switch e := e.(type) {
	case runtime.ProgressEvent:
		st.Progress = e.String()
	case runtime.CommittedEvent:
		st.Generation, st.LastFailure = e.Generation.Number, ""
		st.Last = cleanInfo(e.Generation)
	case runtime.CommitFailedEvent:
		st.LastFailure = e.Err.Error()
	case runtime.LowSpaceEvent:
		st.LastFailure = e.Err.Error()
		if e.Tries > 1 {
			return // it has been said
		}
	case runtime.WarningEvent, runtime.SkippedEvent:
		st.Warnings = append(st.Warnings, e.String())
		if n := len(st.Warnings); n > maxWarnings {
			st.Warnings = slices.Delete(st.Warnings, 0, n-maxWarnings)
		}
	}
	for l := range s.listeners {
		l.sendLocked(w)
	}
}

// sendLocked hands over an event, unless the client is too far behind.
func (l *listener) sendLocked(e Event) {
	if l.lost > 0 {
		select {
		case l.c <- Event{Time: e.Time, Kind: EventLost, Number: l.lost, Text: fmt.Sprintf("%d events were lost: the reader is too slow", l.lost)}:
			l.lost = 0
		default:
			l.lost++
			return
		}
	}
	select {
	case l.c <- e:
	default:
		l.lost++
	}
}

// listen returns a listener that is told of all events from now on, and what ends that.
func (s *state) listen() (*listener, func()) {
	l := &listener{c: make(chan Event, eventBacklog)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[l] = true
	return l, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, l)
	}
}

// cleanInfo returns an Info that is the same behind JSON.
func cleanInfo(i memsnap.Info) *memsnap.Info {
	i.Err = nil
	return &i
}
