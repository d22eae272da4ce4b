package memsnap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
)

// Errors of this package, to be matched with errors.Is. Errors of the file system (a full disk, a failing device) are
// none of these and wrap the operating system's error.
var (
	// ErrCorrupt says that bytes on disk are not those that were written: a checksum, a length or a reference does
	// not hold, or a file that is needed is missing. Its type is *CorruptError.
	ErrCorrupt = errors.New("memsnap: corrupt")
	// ErrVersion says that a file was written in a format version that this package does not read. Its type is
	// *VersionError. Such a file is left alone.
	ErrVersion = errors.New("memsnap: unknown format version")
	// ErrNotFound says that there is no such generation, no generation at all, or no section of that name.
	ErrNotFound = errors.New("memsnap: not found")
	// ErrBusy says that the store already has a session under way.
	ErrBusy = errors.New("memsnap: a session is under way")
	// ErrState says that a call came in the wrong order: a put after Commit or Abort, a read after Close. Its type is
	// *StateError.
	ErrState = errors.New("memsnap: wrong order of calls")
	// ErrNoGeneration says that the store has no generation at all, and ErrNoSection that a generation has no section of
	// that name. Both match ErrNotFound too.
	ErrNoGeneration = fmt.Errorf("%w: no generation", ErrNotFound)
	ErrNoSection    = fmt.Errorf("%w: no such section", ErrNotFound)
	// ErrDenied says that a generation may not be purged, or replaced by a copy. Its type is *DeniedError, which says why.
	ErrDenied = errors.New("memsnap: purge denied")
	// ErrLowSpace says that less storage is free than the policy wants and that nothing may be purged: the caller goes
	// on and tries again later. Its type is *LowSpaceError.
	ErrLowSpace = errors.New("memsnap: low disk space")
	// ErrIntegrity says that the newest generation is damaged and that the policy forbids to go back to an older one. Its
	// type is *IntegrityError. It matches ErrCorrupt too.
	ErrIntegrity = errors.New("memsnap: damaged, and the policy forbids to go back")
	// ErrKey says that a file is not authentic: it has another key, none though the store has one, or was tampered
	// with. Its type is *KeyError. It is not damage: nothing is taken in its place.
	ErrKey = errors.New("memsnap: not authentic")
	// ErrRange says that an argument is out of its range: a page beyond the memory, data that is not whole pages, a
	// name that is too long.
	ErrRange = errors.New("memsnap: out of range")
)

// CorruptError names damage: which file, where in it, and what does not hold. It matches ErrCorrupt.
type CorruptError struct {
	Path   string
	Offset int64 // in bytes from the beginning of the file; -1 if it concerns the whole file
	What   string
}

func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s: corrupt: %s", e.Path, e.What)
	}
	return fmt.Sprintf("%s: corrupt at byte %d: %s", e.Path, e.Offset, e.What)
}

// Is makes errors.Is(err, ErrCorrupt) hold.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// VersionError names a file of an unknown format version. It matches ErrVersion.
type VersionError struct {
	Path    string
	Part    string // the part of the file whose version it is
	Version uint32
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s: unknown format version %d of the %s", e.Path, e.Version, e.Part)
}

// Is makes errors.Is(err, ErrVersion) hold.
func (e *VersionError) Is(target error) bool { return target == ErrVersion }

// StateError names a call that came in the wrong order. It matches ErrState.
type StateError struct {
	Op    string // what was called
	What  string // on what
	State string // that does not allow it
}

func (e *StateError) Error() string {
	return fmt.Sprintf("memsnap: wrong order of calls: %s: %s is %s", e.Op, e.What, e.State)
}

// Is makes errors.Is(err, ErrState) hold.
func (e *StateError) Is(target error) bool { return target == ErrState }

// Denial is the reason why a generation may not be purged or replaced.
type Denial string

// The reasons.
const (
	DeniedPinned Denial = "it is pinned"
	DeniedNewest Denial = "it is the newest good one"
	DeniedMin    Denial = "fewer good ones would be left than min_snapshots"
	DeniedOther  Denial = "it is well, and another one than the copy"
)

// DeniedError says why a generation may not be purged or replaced. It matches ErrDenied.
type DeniedError struct {
	Number uint64
	Why    Denial
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("memsnap: generation %d may not be purged or replaced: %s", e.Number, e.Why)
}

// Is makes errors.Is(err, ErrDenied) hold.
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }

// LowSpaceError says how much storage is free and how much should be, in bytes. It matches ErrLowSpace.
type LowSpaceError struct{ Free, Want uint64 }

func (e *LowSpaceError) Error() string {
	return fmt.Sprintf("memsnap: low disk space: %d bytes are free, %d have to be, and nothing may be purged", e.Free, e.Want)
}

// Is makes errors.Is(err, ErrLowSpace) hold.
func (e *LowSpaceError) Is(target error) bool { return target == ErrLowSpace }

// IntegrityError names the generation that is damaged while the policy forbids to go back. It matches ErrIntegrity, and
// by its cause ErrCorrupt.
type IntegrityError struct {
	Number uint64
	Err    error
}

func (e *IntegrityError) Error() string {
	return fmt.Sprintf("memsnap: generation %d is damaged, and the policy forbids to go back: %v", e.Number, e.Err)
}

// Is makes errors.Is(err, ErrIntegrity) hold.
func (e *IntegrityError) Is(target error) bool { return target == ErrIntegrity }

// Unwrap returns the damage.
func (e *IntegrityError) Unwrap() error { return e.Err }

// KeyError names a file that is not authentic. It matches ErrKey.
type KeyError struct {
	Path string
	What string
}

func (e *KeyError) Error() string { return fmt.Sprintf("%s: not authentic: %s", e.Path, e.What) }

// Is makes errors.Is(err, ErrKey) hold.
func (e *KeyError) Is(target error) bool { return target == ErrKey }

// readError turns an error of a read into one that says what was read. A file that ends too early is damage; so is
// one that is missing though a generation leans on it, which the caller says with needed.
func readError(path string, offset int64, what string, needed bool, err error) error {
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &CorruptError{path, offset, what + ": the file ends too early"}
	case needed && errors.Is(err, fs.ErrNotExist):
		return &CorruptError{path, -1, "the file is missing, but a newer generation needs it"}
	}
	return fmt.Errorf("read %s of %s: %w", what, path, err)
}

// IsDamage says whether an older generation may be taken in place of one that failed with err: only if the bytes
// themselves are bad, which is ErrCorrupt or a device that cannot read them (EIO). Out of descriptors or memory,
// cancelled, written by a newer program: there the newer generation may well be whole, and going back would lose it.
func IsDamage(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	return errors.Is(err, ErrCorrupt) || errors.Is(err, syscall.EIO)
}
