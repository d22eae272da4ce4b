package worker

import (
	"time"

	"perdure/config"
	"perdure/memsnap"
	"perdure/runtime"
)

// The files of a worker in the directory of its process, beside those of package runtime.
const (
	// SocketFile is the control socket. It is bound and dialled through an open descriptor of
	// the directory (/proc/self/fd/N/worker.sock), since the path may be longer than a socket
	// address can be.
	SocketFile = "worker.sock"
	// OutcomeFile has how the last worker ended, as JSON of [Outcome]. A worker removes it when
	// it starts and writes it durably before it exits; a worker that was killed leaves none.
	OutcomeFile = "outcome.json"
	// LogFile has what the worker itself wrote to its standard output and error: nothing, unless something went wrong that
	// it could not say otherwise. It begins anew with each worker.
	LogFile = "worker.log"
	// lockFile is locked by the worker as long as it lives, and has its process id and the descriptor with the lock. It
	// guards the other three; the lock of package runtime guards the state.
	lockFile = "worker.lock"
)

// ExitLocked is the status with which a worker exits that found another one.
const ExitLocked = 123

// ProtocolVersion is the version of the control protocol.
const ProtocolVersion = 1

// SpecVersion is the version of Spec.
const SpecVersion = 1

// Spec is what a daemon tells a worker, as JSON on its standard input.
type Spec struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	// Dir is the directory of the process, CacheDir the one of compiled code, Log the file that
	// the guest's output is appended to. All are absolute.
	Dir      string `json:"dir"`
	CacheDir string `json:"cache_dir"`
	Log      string `json:"log"`
	// Program is the path of the module. Its file may be gone: then the copy in Dir runs.
	// SHA256 is what the daemon saw there, in hexadecimal; empty if the copy is meant. A file
	// that is another one by now is refused, so that a program never changes unseen.
	Program string `json:"program"`
	SHA256  string `json:"sha256"`
	// Fresh starts the program anew; the old state is kept beside it as NAME.ended-N.
	Fresh bool `json:"fresh"`
	// Keeper is the unix socket of the keeper of sockets; empty means none.
	Keeper string `json:"keeper,omitempty"`
	// Settings are all that the configuration says of the process.
	Settings config.Process `json:"settings"`
}

// Phase is what a worker is doing.
type Phase string

// The phases of a worker.
const (
	PhaseStarting Phase = "starting" // loading, compiling or restoring
	PhaseRunning  Phase = "running"  // the guest computes
	PhaseParked   Phase = "parked"   // the guest waits in a host call, or is a reactor without a call
	PhaseStopping Phase = "stopping" // it was asked to suspend, or has ended and is being saved
)

// Status is the answer to GET /v1/status.
type Status struct {
	Version int    `json:"version"` // of this protocol
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Program string `json:"program"` // SHA-256 in hexadecimal
	Phase   Phase  `json:"phase"`
	// Started is when the worker began; Generation the newest durable one, 0 if there is none.
	Started    time.Time `json:"started"`
	Generation uint64    `json:"generation"`
	// MemoryBytes is the size of the guest's linear memory.
	MemoryBytes uint64 `json:"memory_bytes"`
	// Reactor tells that the program has no _start and is called by POST /v1/call.
	Reactor bool `json:"reactor"`
	// RestoredFrom is the generation that this worker went on from, 0 after a fresh start.
	RestoredFrom uint64 `json:"restored_from"`
	// Progress is long work under way, such as "compiling: 5 of 99".
	Progress string `json:"progress,omitempty"`
	// Warnings are the newest things that the operator should know, oldest first.
	Warnings []string `json:"warnings,omitempty"`
	// LastFailure is why the last snapshot could not be made; empty if it could.
	LastFailure string `json:"last_failure,omitempty"`
	// Sockets counts those of the guest, as of its last cut.
	Sockets runtime.SocketCounts `json:"sockets"`
	// Journal is what would be played again if the worker were killed now.
	Journal runtime.JournalStatus `json:"journal"`
	// Last is the newest generation that this worker made.
	Last *memsnap.Info `json:"last,omitempty"`
	// NotApplied are limits and confinements that this system does not have.
	NotApplied []string `json:"not_applied,omitempty"`
}

// OutcomeKind is how a worker ended.
type OutcomeKind string

// The ways in which a worker ends by itself.
const (
	OutcomeEnded     OutcomeKind = "ended"     // the program ended, with ExitCode
	OutcomeSuspended OutcomeKind = "suspended" // as asked, in Generation
	OutcomeTrapped   OutcomeKind = "trapped"   // the program did what it must not
	OutcomeRefused   OutcomeKind = "refused"   // the program cannot be run persistently
	OutcomeError     OutcomeKind = "error"     // an error of Perdure or of the machine
)

// Outcome is how a worker ended.
type Outcome struct {
	Version    int         `json:"version"`
	PID        int         `json:"pid"`
	Kind       OutcomeKind `json:"kind"`
	ExitCode   uint32      `json:"exit_code"`
	Error      string      `json:"error,omitempty"`
	Stack      []string    `json:"stack,omitempty"` // of a trap, innermost first
	Generation uint64      `json:"generation"`
	Program    string      `json:"program"` // SHA-256 in hexadecimal, if known
	Time       time.Time   `json:"time"`
}
