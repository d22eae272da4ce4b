package runtime

import (
	"errors"
	"fmt"

	"perdure/memsnap"
)

// ErrNoProgram says that there is neither a program file nor a saved process.
var ErrNoProgram = errors.New("program not found")

// ErrBadState says that a generation holds what this program does not understand or what
// does not fit the program.
var ErrBadState = errors.New("saved state cannot be used")

// LockedError says that another worker runs the process.
type LockedError struct {
	Name string
	PID  int // of that worker; 0 if not known
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("process %q is running already", e.Name)
	}
	return fmt.Sprintf("process %q is running already, as pid %d", e.Name, e.PID)
}

// RefusedError says that a program cannot be run persistently.
type RefusedError struct {
	Program string
	Err     error // says why
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%s: %v", e.Program, e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }

// TrapError is how a guest ends that did what it must not: divided by zero, left its
// memory, overflowed its stack.
type TrapError struct {
	Err error // the engine's message with the guest's backtrace
}

func (e *TrapError) Error() string { return e.Err.Error() }
func (e *TrapError) Unwrap() error { return e.Err }

// OtherProgramError says that the saved process runs another program than the one that
// was given.
type OtherProgramError struct {
	Name       string
	Have, Want string // SHA-256 of the saved and of the given one, in hexadecimal
}

func (e *OtherProgramError) Error() string {
	return fmt.Sprintf("process %q runs another program (saved %.12s…, given %.12s…)", e.Name, e.Have, e.Want)
}

// damaged tells whether an error says that a generation cannot be believed, so that an
// older one should be tried.
func damaged(err error) bool {
	return errors.Is(err, memsnap.ErrCorrupt) || errors.Is(err, ErrBadState)
}
