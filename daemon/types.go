package daemon

import (
	"time"

	"perdure/runtime"
)

// State is what a process is, for people.
type State string

// The states of a process.
const (
	StateRunning    State = "running"    // its guest computes, or its worker starts
	StateParked     State = "parked"     // its guest waits in a host call, or is a reactor without a call
	StateHibernated State = "hibernated" // it waits without a worker
	StateStopped    State = "stopped"    // it has no worker, and can go on
	StateEnded      State = "ended"      // its program has ended, or was replaced by another one
	StateFailed     State = "failed"     // something is wrong, and it is not started again by itself
)

// Process is what a listing says of a process.
type Process struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Detail says more about the state; often empty.
	Detail string `json:"detail"`
	// Program is the SHA-256 of the program, in hexadecimal; empty if not known.
	Program string `json:"program"`
	// Generation is the newest durable one; 0 if there is none.
	Generation uint64 `json:"generation"`
	// PID is that of the worker; 0 if there is none.
	PID int `json:"pid"`
	// MemoryBytes is the size of the guest's memory, as it was seen last.
	MemoryBytes uint64 `json:"memory_bytes"`
	// Restarts counts the starts that followed an end that nobody asked for.
	Restarts uint64 `json:"restarts"`
	// LastError is the newest thing that went wrong since the last start by a user; for a trap with the backtrace of
	// the guest, a function a line.
	LastError string `json:"last_error"`
	// ExitCode is the status of an ended program.
	ExitCode uint32 `json:"exit_code"`
	// Started is when the worker began; zero if there is none.
	Started time.Time `json:"started,omitzero"`
}

// Inspection is all that is known of a process.
type Inspection struct {
	Process
	// Dir is the directory of its state, Log the file with its output, File its program in the folder; File is empty if
	// it is not there.
	Dir  string `json:"dir"`
	Log  string `json:"log"`
	File string `json:"file"`
	// FileProgram is the SHA-256 of File.
	FileProgram string `json:"file_program"`
	// Desired is running or stopped, as users want it.
	Desired string `json:"desired"`
	// Reactor tells that the program is called by its exports.
	Reactor bool `json:"reactor"`
	// RestoredFrom is the generation that the worker went on from; 0 if it started anew.
	RestoredFrom uint64 `json:"restored_from"`
	// Progress is long work under way. Warnings are of the worker, oldest first. LastFailure is why the last snapshot
	// could not be made. NotApplied are limits that this system does not have.
	Progress    string   `json:"progress"`
	Warnings    []string `json:"warnings"`
	LastFailure string   `json:"last_failure"`
	NotApplied  []string `json:"not_applied"`
	// Sockets are those of the guest as of its last cut, the first of very many; SocketsGone are those that did not go on
	// when it was restored last. SocketCounts counts all.
	Sockets      []runtime.SavedSocket `json:"sockets"`
	SocketsGone  []runtime.GoneSocket  `json:"sockets_gone"`
	SocketCounts runtime.SocketCounts  `json:"socket_counts"`
	// Journal is what would be played again if the worker were killed now.
	Journal runtime.JournalStatus `json:"journal"`
	// Last is the newest generation that the worker made.
	Last *Generation `json:"last"`
	// Settings are those that apply to the process now, as config.Process.Table has them. PendingSettings are changes that
	// count when it is started again.
	Settings        map[string]any `json:"settings"`
	PendingSettings []string       `json:"pending_settings"`
	Stats           Stats          `json:"stats"`
}

// Stats are run statistics. They last as long as the process.
type Stats struct {
	// Starts counts workers that were started, Crashes those that died, Traps those whose guest trapped.
	Starts  uint64 `json:"starts"`
	Crashes uint64 `json:"crashes"`
	Traps   uint64 `json:"traps"`
	// RanNS is how long workers have run, in nanoseconds, the current one not counted.
	RanNS int64 `json:"ran_ns"`
	// LastEnd is when the last worker ended, in RFC 3339.
	LastEnd string `json:"last_end,omitempty"`
}

// Snapshot is the outcome of a snapshot that was asked for.
type Snapshot struct {
	Name       string `json:"name"`
	Generation uint64 `json:"generation"`
	Error      string `json:"error"`
}

// Info is about the daemon itself.
type Info struct {
	Version    string    `json:"version"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	StateDir   string    `json:"state_dir"`
	ModulesDir string    `json:"modules_dir"`
	LogsDir    string    `json:"logs_dir"`
	Processes  int       `json:"processes"`
}

// Reloaded is what came of a reload.
type Reloaded struct {
	// Changes are lines for people: what changed, and from when on it counts.
	Changes []string `json:"changes"`
	// Problems are what could not be applied.
	Problems []string `json:"problems"`
}

// EventKind says what happened.
type EventKind string

// The kinds of events of the daemon. Those of a worker's protocol are handed on as they are.
const (
	EventStarting  EventKind = "starting"  // a worker was started
	EventAdopted   EventKind = "adopted"   // a worker of an earlier daemon was found
	EventSuspended EventKind = "suspended" // a worker ended as asked
	EventEnded     EventKind = "ended"     // a program has ended
	EventTrapped   EventKind = "trapped"   // a guest did what it must not
	EventCrashed   EventKind = "crashed"   // a worker died
	EventFailed    EventKind = "failed"    // a process is not started again
	EventRefused   EventKind = "refused"   // a program cannot be run
	EventRemoved   EventKind = "removed"   // the state of a process was removed
	EventNotSaved  EventKind = "not-saved" // a generation could not be made
	EventWarning   EventKind = "warning"
)

// Event is something that happened to a process.
type Event struct {
	Time    time.Time `json:"time"`
	Process string    `json:"process"`
	Kind    EventKind `json:"kind"`
	Text    string    `json:"text"`
	// Generation is the one that the event is about; 0 if it is about none.
	Generation uint64 `json:"generation,omitempty"`
}
