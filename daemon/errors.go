package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"perdure/daemon/worker"
	"perdure/memsnap"
	"perdure/runtime"
)

// Code is the word by which a client tells the errors of a daemon apart. It is an error itself, so that
// errors.Is(err, CodeNotFound) holds for the error of a Client. Codes of a worker are handed on as they are.
type Code string

// The codes of errors.
const (
	CodeRequest   Code = "request"   // the request is not understood
	CodeForbidden Code = "forbidden" // the client is another user
	CodeNotFound  Code = "not-found" // there is no such process, generation, or export
	CodeExists    Code = "exists"    // there is such a process already
	CodeState     Code = "state"     // the process is in a state in which this cannot be done
	CodeRefused   Code = "refused"   // the program cannot be run
	CodeFailed    Code = "failed"    // the process was started, and has failed
	CodeNotSaved  Code = "not-saved" // a generation could not be made
	CodeDamaged   Code = "damaged"   // what is saved is damaged
	CodeConfig    Code = "config"    // the configuration is wrong
	CodeTimeout   Code = "timeout"   // it takes too long, and goes on
	CodeClosing   Code = "closing"   // the daemon is stopping
	CodeInternal  Code = "internal"  // an error of Perdure or of the machine

	// Those that come from the worker.
	CodeStarting   Code = Code(worker.CodeStarting)
	CodeEnded      Code = Code(worker.CodeEnded)
	CodeBusy       Code = Code(worker.CodeBusy)
	CodeNoExport   Code = Code(worker.CodeNoExport)
	CodeArguments  Code = Code(worker.CodeArguments)
	CodeNotReactor Code = Code(worker.CodeNotReactor)
	CodeTrap       Code = Code(worker.CodeTrap)
)

func (c Code) Error() string { return string(c) }

// status is the HTTP status that goes with a code.
func (c Code) status() int {
	switch c {
	case CodeRequest, CodeArguments, CodeConfig:
		return http.StatusBadRequest
	case CodeForbidden:
		return http.StatusForbidden
	case CodeNotFound, CodeNoExport:
		return http.StatusNotFound
	case CodeExists, CodeState, CodeNotReactor, CodeEnded:
		return http.StatusConflict
	case CodeRefused, CodeFailed, CodeTrap, CodeDamaged:
		return http.StatusUnprocessableEntity
	case CodeTimeout:
		return http.StatusGatewayTimeout
	case CodeClosing, CodeStarting, CodeBusy:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Error is the error of a request, as it is on the wire.
type Error struct {
	Text  string   `json:"error"`
	Code  Code     `json:"code"`
	Stack []string `json:"stack,omitempty"` // of a trap, innermost first
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Code }

func newError(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Text: fmt.Sprintf(format, args...)}
}

// asError gives an error the form that it has on the wire.
func asError(err error) *Error {
	var e *Error
	var w *worker.Error
	var locked *runtime.LockedError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &w):
		return &Error{Text: w.Text, Code: Code(w.Code), Stack: w.Stack}
	case errors.Is(err, errClosed):
		return newError(CodeClosing, "%v", err)
	case errors.Is(err, context.DeadlineExceeded):
		return newError(CodeTimeout, "it takes too long, and goes on: %v", err)
	case errors.Is(err, worker.ErrNoWorker), errors.As(err, &locked):
		return newError(CodeState, "%v", err)
	case errors.Is(err, memsnap.ErrNotFound), errors.Is(err, runtime.ErrNoProcess):
		return newError(CodeNotFound, "%v", err)
	case runtime.IsDamage(err):
		return newError(CodeDamaged, "%v", err)
	}
	return newError(CodeInternal, "%v", err)
}
