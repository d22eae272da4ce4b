package worker

import (
	"time"

	"perdure/memsnap"
	"perdure/runtime"
)

// EventKind says what an Event tells of.
type EventKind string

// The kinds of events: those of package runtime, and EventLost.
const (
	EventProgress  EventKind = "progress"   // Done of Total
	EventStarted   EventKind = "started"    // from the beginning
	EventRetired   EventKind = "retired"    // the old state, by a fresh start
	EventRestored  EventKind = "restored"   // from Generation
	EventReplayed  EventKind = "replayed"   // what the journal has
	EventSockets   EventKind = "sockets"    // what has become of them at the restore
	EventCalled    EventKind = "called"     // a call that the process was restored in has ended
	EventSkipped   EventKind = "skipped"    // a damaged generation, Number
	EventCommitted EventKind = "committed"  // Generation
	EventFailed    EventKind = "failed"     // a generation could not be made
	EventLowSpace  EventKind = "low-space"  // the first of several that could not be made for want of room
	EventRoomAgain EventKind = "room-again" // Generation was made after Number that could not
	EventWarning   EventKind = "warning"
	EventLost      EventKind = "lost" // the client was too slow for Number events
)

// Event is something that happened to the process.
type Event struct {
	Time time.Time `json:"time"`
	Kind EventKind `json:"kind"`
	Text string    `json:"text"` // for people
	// Generation goes with some kinds, and so do the others.
	Generation *memsnap.Info `json:"generation,omitempty"`
	Number     uint64        `json:"number,omitempty"`
	Done       int           `json:"done,omitempty"`
	Total      int           `json:"total,omitempty"`
}

// newEvent gives an event of the runtime the form that it has on the wire.
func newEvent(e runtime.Event, now time.Time) Event {
	w := Event{Time: now, Text: e.String()}
	switch e := e.(type) {
	case runtime.ProgressEvent:
		w.Kind, w.Done, w.Total = EventProgress, e.Done, e.Total
	case runtime.StartedEvent:
		w.Kind = EventStarted
	case runtime.RetiredEvent:
		w.Kind = EventRetired
	case runtime.RestoredEvent:
		w.Kind, w.Generation = EventRestored, cleanInfo(e.Generation)
	case runtime.ReplayedEvent:
		w.Kind = EventReplayed
	case runtime.SocketsEvent:
		w.Kind = EventSockets
	case runtime.CallFinishedEvent:
		w.Kind = EventCalled
	case runtime.SkippedEvent:
		w.Kind, w.Number = EventSkipped, e.Generation
	case runtime.CommittedEvent:
		w.Kind, w.Generation = EventCommitted, cleanInfo(e.Generation)
	case runtime.CommitFailedEvent:
		w.Kind = EventFailed
	case runtime.LowSpaceEvent:
		w.Kind = EventLowSpace
	case runtime.RoomAgainEvent:
		w.Kind, w.Generation, w.Number = EventRoomAgain, cleanInfo(e.Generation), uint64(e.Missed)
	default:
		w.Kind = EventWarning
	}
	return w
}
