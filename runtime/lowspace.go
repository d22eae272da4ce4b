package runtime

import (
	"errors"
	"fmt"
	"syscall"

	"perdure/memsnap"
)

// LowSpaceEvent tells that a generation could not be made because there is too little room:
// the disk or a quota is full, or less is free than the policy wants and nothing may be
// purged. The guest runs on; snapshots are tried as usual, and the first for which there is
// room carries everything. Whoever tells people says it when Tries is 1, and again at
// RoomAgainEvent.
type LowSpaceEvent struct {
	// Free and Want are what is free and what has to be, in bytes; 0 where the file system
	// itself has refused.
	Free, Want uint64
	Tries      int // how many generations in a row could not be made
	Err        error
}

func (e LowSpaceEvent) String() string {
	return fmt.Sprintf("there is no room for snapshots, the program runs on without: %v", e.Err)
}

// RoomAgainEvent tells that a generation was made after there had been no room for any.
type RoomAgainEvent struct {
	Generation memsnap.Info
	Missed     int // how many could not be made
}

func (e RoomAgainEvent) String() string {
	return fmt.Sprintf("there is room for snapshots again, since generation %d", e.Generation.Number)
}

// lowSpace tells whether an error is one of too little room.
func lowSpace(err error) (LowSpaceEvent, bool) {
	e := LowSpaceEvent{Err: err}
	var low *memsnap.LowSpaceError
	if errors.As(err, &low) {
		e.Free, e.Want = low.Free, low.Want
		return e, true
	}
	return e, errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// tell tells what became of a generation.
func (c *cutter) tell(p *Process, info memsnap.Info, err error) {
	low, full := lowSpace(err)
	switch {
	case err != nil && full:
		c.noRoom++
		low.Tries = c.noRoom
		p.event(low)
	case err != nil:
		p.event(CommitFailedEvent{err})
	case info.Number != 0:
		if c.noRoom > 0 {
			p.event(RoomAgainEvent{Generation: info, Missed: c.noRoom})
			c.noRoom = 0
		}
		p.event(CommittedEvent{info})
	}
}
