package runtime

import (
	"sync/atomic"

	"perdure/runtime/internal/journal"
	"perdure/runtime/internal/linmem"
)

// Status is what a process is doing.
type Status struct {
	// MemoryBytes is the size of the guest's linear memory.
	MemoryBytes uint64
	// Generation is the newest one, 0 if there is none.
	Generation uint64
	// Waiting tells that the guest waits in a host call, or is a reactor that nobody calls.
	Waiting bool
	// Reactor tells that the program has functions to be called and no _start.
	Reactor bool
	// Program is its SHA-256, in hexadecimal.
	Program string
	// Restarts counts how often the process was restored since it began.
	Restarts uint64
	// Sockets are those that the guest has, and had at the restore.
	Sockets SocketCounts
	// Journal is what would be played again if the worker were killed now.
	Journal JournalStatus
}

// JournalStatus is the length of a journal since the last cut.
type JournalStatus struct {
	// Bytes is how much is recorded, 0 without a journal.
	Bytes int64 `json:"bytes"`
	// ReplayNS is about how long it takes at most to play it, in nanoseconds: the time that has gone by since the cut, of
	// which waiting is not played.
	ReplayNS int64 `json:"replay_ns"`
}

// SocketCounts count the sockets of a process, as of the last cut.
type SocketCounts struct {
	// Open are those that it has.
	Open int `json:"open"`
	// Resumed, Lost and Reset are what has become of them at the last restore: they go on, the guest gets an error, or the
	// connection was reset, since it had been used after the generation or was unknown to it.
	Resumed int `json:"resumed"`
	Lost    int `json:"lost"`
	Reset   int `json:"reset"`
}

// status is what Status reads while others run.
type status struct {
	memory     atomic.Pointer[linmem.Memory]
	generation atomic.Uint64
	waiting    atomic.Bool
	sockets    atomic.Pointer[socketView] // nil before the first cut
	journal    atomic.Pointer[journal.Journal]
}

// Status tells what the process is doing. It may be called from any goroutine between Open and
// Close and after; it waits for nobody, and the guest does not notice.
func (p *Process) Status() Status {
	s := Status{
		Generation: p.status.generation.Load(), Waiting: p.status.waiting.Load(),
		Program: p.sum, Reactor: p.reactor, Restarts: p.restarts,
	}
	if v := p.status.sockets.Load(); v != nil {
		s.Sockets = v.counts
	}
	if j := p.status.journal.Load(); j != nil {
		bytes, since := j.Length()
		s.Journal = JournalStatus{bytes, since.Nanoseconds()}
	}
	if m := p.status.memory.Load(); m != nil {
		s.MemoryBytes = m.Size()
	}
	return s
}
