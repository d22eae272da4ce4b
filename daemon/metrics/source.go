package metrics

import "time"

// Source is the daemon, as far as it is measured. Its methods are called from several goroutines
// and must not wait for disks, nor long for workers.
type Source interface {
	// Processes returns what is known of each process, in any order.
	Processes() []Process
	// Alive returns why the daemon does not do its work; nil if it does.
	Alive() error
	// Ready returns what is still missing before the daemon has taken over: the first look at the
	// folder, or processes that are neither adopted nor started yet. Nil is ready.
	Ready() error
}

// States are the states of a process, as users see them.
var States = [...]string{"running", "parked", "hibernated", "stopped", "ended", "failed"}

// Process is what is measured of one process.
type Process struct {
	Name string
	// State is one of States.
	State string
	// Restarts counts the starts that followed an end that nobody asked for.
	Restarts uint64
	// Generation is the number of the newest durable generation; 0 if there is none.
	Generation uint64
	// MemoryBytes is the size of the guest's linear memory.
	MemoryBytes uint64
	// Sockets are those that the guest has; SocketsResumed, SocketsLost and SocketsReset what has become of them at the last
	// restore.
	Sockets, SocketsResumed, SocketsLost, SocketsReset int
	// JournalBytes is how much is recorded since the last cut.
	JournalBytes int64
	// Started is when the worker began; zero if there is none.
	Started time.Time
	// Tally are the generations since the daemon knows the process.
	Tally Tally
}

// Tally adds up the generations of one process. The zero Tally is empty. It is a value: a copy of
// one goes on by itself. It is not for concurrent use.
type Tally struct {
	committed, failed uint64
	pauses            [len(pauseBounds) + 1]uint64 // by the bound that holds them; the last have none
	pause             time.Duration                // of all
	pages, bytes      uint64
	last              Generation
}

// Generation is what is measured of a generation that was committed.
type Generation struct {
	// Time is when it was committed.
	Time time.Time
	// Pause is how long the guest stood still for it.
	Pause time.Duration
	// DirtyPages are the pages of 4 KiB that had been written since the one before, and StoredBytes the
	// length of its file.
	DirtyPages, StoredBytes uint64
}

// pauseBounds are the upper bounds of the histogram of pauses. Milliseconds are what is promised.
var pauseBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, time.Second,
}

// Commit adds a generation.
func (t *Tally) Commit(g Generation) {
	i := 0
	for i < len(pauseBounds) && g.Pause > pauseBounds[i] {
		i++
	}
	t.pauses[i]++
	t.committed++
	t.pause += g.Pause
	t.pages += g.DirtyPages
	t.bytes += g.StoredBytes
	t.last = g
}

// Fail adds a generation that could not be made.
func (t *Tally) Fail() { t.failed++ }

// buckets returns the histogram as Prometheus wants it: how many pauses were at most that long, in
// seconds.
func (t *Tally) buckets() map[float64]uint64 {
	buckets := make(map[float64]uint64, len(pauseBounds))
	var below uint64
	for i, bound := range pauseBounds {
		below += t.pauses[i]
		buckets[bound.Seconds()] = below
	}
	return buckets
}
