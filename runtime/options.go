package runtime

import (
	"errors"
	"fmt"
	"os"
	"time"

	"perdure/memsnap"
	"perdure/runtime/internal/wasi"
)

// Options say what to run and how. Dir and CacheDir are required, and Program or Source
// unless the process exists.
type Options struct {
	// Dir is the directory of this process: its lock, its program and its generations.
	// It is made if missing, with mode 0700.
	Dir string
	// Name is what messages call the process.
	Name string
	// CacheDir keeps instrumented and compiled code, by program and version. Processes
	// share it. Empty means none.
	CacheDir string

	// Program is the path of the module; Source, if not nil, its bytes. Without either the
	// process goes on with the copy that it keeps.
	Program string
	Source  []byte

	// Fresh starts the program anew. What was saved stays, in the directory Dir.ended-N
	// beside it.
	Fresh bool

	// Args are the arguments, the program's own name first. Args and Env are taken at
	// the start of the guest's life and belong to its state from then on.
	Args, Env []string
	Preopens  []Preopen
	Listeners []Listener
	// AllowConnect and AllowBind are the addresses that the guest may connect to and send
	// to, and bind sockets of its own to.
	AllowConnect, AllowBind []SocketRule
	// Sockets, if not nil, keeps the sockets while no worker runs the process, so that its
	// connections go on in the next run. It is asked once the lock is held. The Process
	// closes what it gets.
	Sockets func() (SocketKeeper, error) `json:"-"`

	// Output takes what the guest writes to its standard output and error; nil means those of
	// this process. Stdin is the guest's standard input; nil means that of this process. It
	// stays the caller's, and open until Close.
	Output Output   `json:"-"`
	Stdin  *os.File `json:"-"`
	// OpenFiles is how many descriptors the guest may have; 0 means 4096.
	OpenFiles int

	// CommandOnly refuses a reactor, for a caller who calls nothing.
	CommandOnly bool
	// DurableCalls makes Call return only when a generation or the journal has what the call
	// did. A journal of DurabilityProcess does not survive the loss of power.
	DurableCalls bool

	// Every is the time between the starts of two cuts; 0 means only on request and at
	// the end. It stretches so that snapshots take at most MaxShare of the time.
	Every time.Duration
	// MaxShare is the part of the time that snapshots may take; 0 means a quarter.
	MaxShare float64
	// Keep says which generations are kept; the zero value keeps all.
	Keep memsnap.Policy
	// Key authenticates the generations, as memsnap.Options.Key does; nil means none.
	Key []byte `json:"-"`
	// Durability is what survives a crash beyond the newest generation; empty means
	// DurabilityNone. JournalMax is after how many recorded bytes a cut is taken at once; 0
	// means 64 MiB, and the most is 512 MiB. OnDivergence is what becomes of a process that
	// cannot be brought to where it was; empty means DivergenceGeneration.
	Durability   Durability
	JournalMax   uint64
	OnDivergence OnDivergence
	// MemoryLimit bounds linear memory, in bytes; 0 means 4 GiB.
	MemoryLimit uint64

	// Events, if not nil, is told what happens. It is called from several goroutines, but
	// not at once, and must not call the Process.
	Events func(Event) `json:"-"`

	offline *offline // of Replay
	hooks   hooks    // of tests
}

// Preopen is a directory that the guest is given.
type Preopen struct {
	Host     string
	Guest    string
	ReadOnly bool
}

// Output takes what a guest writes to its standard output (stream 1) and error (stream 2). To
// the guest they look like a terminal.
type Output interface {
	// Write takes all or a first part of p, which is valid during the call only, without
	// waiting. When n is 0 and wait is not, it takes nothing now and is to be asked again after
	// wait; the guest waits, and may be cut meanwhile. An error that is an errno of the system,
	// such as ENOSPC, is what the guest gets; any other is an I/O error to it. It is called on
	// the guest's goroutine and must not call the Process.
	Write(stream int, p []byte) (n int, wait time.Duration, err error)
}

// SocketKeeper holds the sockets of a process while no worker runs it. KeptSocket,
// KeptListener and SocketPosition are what its methods deal in.
type (
	SocketKeeper   = wasi.SocketKeeper
	KeptSocket     = wasi.KeptSocket
	KeptListener   = wasi.KeptListener
	SocketPosition = wasi.SocketPosition
)

// SocketRule allows addresses.
type SocketRule = wasi.SocketRule

// Listener is a listening socket that the guest is given: network tcp, tcp4, tcp6, udp,
// udp4, udp6 or unix, and an address as in package net.
type Listener struct {
	Network, Address string
}

const (
	defaultShare = 0.25
	// forceAfter is how long a cut waits for a suspend point from which the guest can go
	// on in hot code.
	forceAfter = 50 * time.Millisecond
	// A guest that does nothing but wait is cut whenever it has waited for this part longer
	// than at the last cut, and every idleEvery at the latest.
	idleShare = 8
	idleEvery = 30 * time.Second
	// lastFor is how long a process that stops tries to store its last generation on a full
	// disk, and lastEvery how often. Who stops it may kill it after ten seconds.
	lastFor   = 8 * time.Second
	lastEvery = 100 * time.Millisecond
	// collectAfter is how many bytes may be allocated between two garbage collections.
	collectAfter = 48 << 20
	// collectEvery is after how many host calls that is looked at between cuts.
	collectEvery = 64
	// yieldEvery is after how many host calls a guest lets others run, if there are any. Go's monitor takes the
	// processor from a goroutine that has not for 10 ms, and then looks every 20 µs, which took it a tenth of the time.
	yieldEvery = 512
)

func (o *Options) check() error {
	switch {
	case o.Dir == "":
		return errors.New("no directory for the process")
	case o.OpenFiles < 0:
		return errors.New("the number of open files is negative")
	case o.MemoryLimit != 0 && o.MemoryLimit < wasmPageSize:
		return fmt.Errorf("a memory limit of %d bytes is less than one wasm page of %d", o.MemoryLimit, wasmPageSize)
	}
	return nil
}
