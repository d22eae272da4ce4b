package journal

import (
	"errors"
	"fmt"
)

// ErrDamaged says that a segment of the journal is not what was written.
var ErrDamaged = errors.New("journal is damaged")

// ErrVersion says that a segment was written in a format that this program does not know.
var ErrVersion = errors.New("journal has another version")

// ErrGap says that answers are missing, since they could not be recorded.
var ErrGap = errors.New("answers are missing in the journal, which could not be recorded")

// ErrRebooted says that the machine was started anew since, which a journal survives only if
// it was synced.
var ErrRebooted = errors.New("the machine was started anew since, which the journal does not survive at this level of durability")

// DivergenceError says that the guest, run again, asked for something else than it had asked
// for. The methods of a [Journal] panic with it, since a Kernel has no other way to say so;
// the caller of the Host recovers it.
type DivergenceError struct {
	Segment uint64
	Offset  int    // of the record
	Record  int    // its number, as they are played
	Have    string // what the record has
	Want    string // what the guest asks for
}

// LiveError says that the guest cannot go on for real behind its past. Like a
// [DivergenceError] it comes as a panic.
type LiveError struct{ Err error }

// StoppedError says that an offline replay is where it was to go.
type StoppedError struct {
	Record int  // how many were played
	End    bool // there are no more
}

// Recover is deferred around calls of a Host whose Kernel is a [Journal]: it turns the panics
// that say what a Kernel cannot say into *err.
func Recover(err *error) {
	switch r := recover().(type) {
	case nil:
	case *DivergenceError:
		*err = r
	case *LiveError:
		*err = r
	case *StoppedError:
		*err = r
	default:
		panic(r)
	}
}

func (e *DivergenceError) Error() string {
	return fmt.Sprintf("the program does not repeat its past: it asks for %s where the journal has %s (record %d, segment %d, offset %d)",
		e.Want, e.Have, e.Record, e.Segment, e.Offset)
}

func (e *LiveError) Error() string { return "cannot go on behind the journal: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *LiveError) Unwrap() error { return e.Err }

func (e *StoppedError) Error() string {
	return fmt.Sprintf("stopped behind record %d of the journal", e.Record)
}
