package runtime

import (
	"fmt"
	"time"

	"perdure/memsnap"
)

// Event is something that happened to a process. Its String is a line for people.
type Event interface{ String() string }

// ProgressEvent tells how far long work is. Total is 0 when it is not known.
type ProgressEvent struct {
	What        string
	Done, Total int
}

func (e ProgressEvent) String() string {
	if e.Total == 0 {
		return e.What
	}
	return fmt.Sprintf("%s: %d of %d", e.What, e.Done, e.Total)
}

// StartedEvent tells that the guest starts from the beginning, and why there is nothing to
// go on from, if there was a life before.
type StartedEvent struct {
	Ended    bool // the life before has ended, with ExitCode
	ExitCode uint32
}

func (e StartedEvent) String() string {
	if e.Ended {
		return fmt.Sprintf("it had ended with status %d and starts anew", e.ExitCode)
	}
	return "started"
}

// RetiredEvent tells where the state went that a fresh start made room for.
type RetiredEvent struct{ Dir string }

func (e RetiredEvent) String() string { return "the old state is kept in " + e.Dir }

// RestoredEvent tells which generation the guest goes on from.
type RestoredEvent struct {
	Generation memsnap.Info
	Took       time.Duration // from Open to the guest's next instruction
}

func (e RestoredEvent) String() string {
	return fmt.Sprintf("goes on from generation %d of %s", e.Generation.Number, e.Generation.Time.Local().Format("2006-01-02 15:04:05.000"))
}

// CallFinishedEvent tells how a call of a reactor ended that a restore has found under way: there
// is nobody else to tell.
type CallFinishedEvent struct {
	Export  string
	Results []Value
	Err     error // a *TrapError, or nil
}

func (e CallFinishedEvent) String() string {
	if e.Err != nil {
		return fmt.Sprintf("the call of %s that was under way has failed: %v", plain(e.Export), e.Err)
	}
	return fmt.Sprintf("the call of %s that was under way has returned %v", plain(e.Export), e.Results)
}

// ReplayedEvent tells that the guest has been brought to where it was when it was killed.
type ReplayedEvent struct {
	Records int           // answers of the outside that were played
	Took    time.Duration // from the restore on
}

func (e ReplayedEvent) String() string {
	return fmt.Sprintf("played %d answers from the journal, nothing is lost", e.Records)
}

// SkippedEvent tells that a generation could not be used and an older one is tried.
type SkippedEvent struct {
	Generation uint64
	Err        error
}

func (e SkippedEvent) String() string {
	return fmt.Sprintf("generation %d cannot be used, trying an older one: %v", e.Generation, e.Err)
}

// CommittedEvent tells that a generation is durable.
type CommittedEvent struct{ Generation memsnap.Info }

func (e CommittedEvent) String() string {
	g := e.Generation
	return fmt.Sprintf("generation %d: %d new pages, %d bytes, pause %v", g.Number, g.PagesNew, g.BytesStored, g.Pause.Round(time.Microsecond))
}

// CommitFailedEvent tells that a generation could not be made. The guest runs on, and
// the next one carries everything.
type CommitFailedEvent struct{ Err error }

func (e CommitFailedEvent) String() string {
	return fmt.Sprintf("snapshot failed, the program runs on and the next one is tried as usual: %v", e.Err)
}

// SocketsEvent tells what became of the sockets at a restore.
type SocketsEvent struct {
	Resumed int // connections that go on, listeners and other sockets that are there again
	Lost    int // those of which the guest gets an error
	Reset   int // connections that were reset: they had been used after the snapshot
}

func (e SocketsEvent) String() string {
	return fmt.Sprintf("%d sockets go on, %d are lost, %d were reset", e.Resumed, e.Lost, e.Reset)
}

// WarningEvent tells of something that did not come back as it was.
type WarningEvent struct{ What string }

func (e WarningEvent) String() string { return e.What }
