package journal

import (
	"errors"
	"fmt"
)

// ErrDamaged says that a segment of the journal is not what was written.
var ErrDamaged = errors.New("journal is damaged")

// ErrVersion says that a segment was written in a format that this program does not know.
var ErrVersion = errors.New("journal has another version")

// DivergenceError says that the guest, run again, asked for something else than it had asked
// for. The methods of a [Journal] panic with it, since a Kernel has no other way to say so;
// the caller of the Host recovers it.
type DivergenceError struct {
	Segment uint64
	Offset  int    // of the record
	Have    string // what the record has
	Want    string // what the guest asks for
}

// liveError is what the methods of a Journal panic with when the guest cannot be brought to
// life.
type liveError struct{ err error }

// Recover is deferred around calls of a Host whose Kernel is a [Journal]: it turns the panics
// that say what a Kernel cannot say into *err.
func Recover(err *error) {
	switch r := recover().(type) {
	case nil:
	case *DivergenceError:
		*err = r
	case *liveError:
		*err = r.err
	default:
		panic(r)
	}
}

func (e *DivergenceError) Error() string {
	return fmt.Sprintf("the program does not repeat its past: it asks for %s where the journal has %s (segment %d, offset %d)",
		e.Want, e.Have, e.Segment, e.Offset)
}
