package worker

import (
	"errors"
	"fmt"
	"net/http"

	"perdure/runtime"
)

// ErrNoWorker says that no worker runs the process in a directory.
var ErrNoWorker = errors.New("no worker runs it")

// Code is the word by which a client tells the errors of a worker apart. It is an error itself, so that
// errors.Is(err, CodeEnded) holds for the error of a Client.
type Code string

// The codes of errors.
const (
	CodeRequest    Code = "request"     // the request is not understood
	CodeStarting   Code = "starting"    // the guest does not run yet
	CodeEnded      Code = "ended"       // the guest has ended, or is being suspended
	CodeNotSaved   Code = "not-saved"   // a generation could not be made
	CodeSuspended  Code = "suspended"   // the call had begun, and goes on with the process
	CodeNotReactor Code = "not-reactor" // the program is not one to be called
	CodeNoExport   Code = "no-export"   // the program exports no such function
	CodeArguments  Code = "arguments"   // the arguments do not fit the function
	CodeTrap       Code = "trap"        // the call trapped; the error has a stack
	CodeBusy       Code = "busy"        // there are too many clients
	CodeInternal   Code = "internal"    // an error of Perdure or of the machine
)

func (c Code) Error() string { return string(c) }

// status is the HTTP status that goes with a code.
func (c Code) status() int {
	switch c {
	case CodeRequest, CodeArguments:
		return http.StatusBadRequest
	case CodeNoExport:
		return http.StatusNotFound
	case CodeStarting, CodeBusy:
		return http.StatusServiceUnavailable
	case CodeEnded, CodeSuspended, CodeNotReactor:
		return http.StatusConflict
	case CodeTrap:
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// Error is the error of a request, as it is on the wire.
type Error struct {
	Text  string   `json:"error"`
	Code  Code     `json:"code"`
	Stack []string `json:"stack,omitempty"` // of a trap, innermost first
	// Results are those of a call that was carried out and could not be saved.
	Results []runtime.Value `json:"results,omitempty"`
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Code }

func newError(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Text: fmt.Sprintf(format, args...)}
}

// CrashError says that a worker ended without saying how: it was killed, or Perdure has a bug.
type CrashError struct {
	PID    int
	Signal string // that killed it; empty if none did or it is not known
	Status int    // with which it exited; -1 if it did not or it is not known
	Log    string // the end of what it wrote to LogFile
}

func (e *CrashError) Error() string {
	s := fmt.Sprintf("worker %d ended without a word", e.PID)
	switch {
	case e.Signal != "":
		s = fmt.Sprintf("worker %d was ended by signal: %s", e.PID, e.Signal)
	case e.Status >= 0:
		s = fmt.Sprintf("worker %d failed with status %d", e.PID, e.Status)
	}
	if e.Log != "" {
		s += ": " + e.Log
	}
	return s
}
