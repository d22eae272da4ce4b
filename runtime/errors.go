package runtime

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"perdure/memsnap"
)

// ErrNoProgram says that there is neither a program file nor a saved process.
var ErrNoProgram = errors.New("program not found")

// ErrBadState says that a generation holds what this program does not understand or what
// does not fit the program.
var ErrBadState = errors.New("saved state cannot be used")

// ErrProcessExists says that there is a process already where a new one should be made.
var ErrProcessExists = errors.New("process exists already")

// ErrBadExport says that what should be imported is not an export of a process, or is
// damaged.
var ErrBadExport = errors.New("not a whole export of a process")

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
	What  string   // what it did
	Stack []string // the guest's functions, innermost first, as the engine names them
	Err   error    // of the engine
}

func (e *TrapError) Error() string { return e.What }
func (e *TrapError) Unwrap() error { return e.Err }

// newTrapError reads the engine's message: what happened, then one line for each function.
// Functions without a name are numbered as in the instrumented module there; rename gives
// them their numbers in the original, and says whether it is a function of the original at
// all.
func newTrapError(err error, rename func(hot uint32) (uint32, bool)) *TrapError {
	first, trace, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	e := &TrapError{What: strings.TrimPrefix(strings.TrimSuffix(first, " (recovered by wazero)"), "wasm error: "), Err: err}
	for _, line := range strings.Split(trace, "\n") {
		line, ok := strings.CutPrefix(line, "\t.")
		if !ok {
			continue
		}
		if m := unnamed.FindStringSubmatch(line); m != nil {
			hot, perr := strconv.ParseUint(m[1], 10, 32)
			index, ours := rename(uint32(hot))
			if perr != nil || !ours {
				continue
			}
			line = fmt.Sprintf("$%d%s", index, m[2])
		}
		e.Stack = append(e.Stack, line)
	}
	return e
}

// unnamed matches the engine's name for a function that has none.
var unnamed = regexp.MustCompile(`^\$(\d+)(\(.*)$`)

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
	return !errors.Is(err, memsnap.ErrIntegrity) && (memsnap.IsDamage(err) || errors.Is(err, ErrBadState))
}
