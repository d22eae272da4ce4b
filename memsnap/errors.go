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
	// ErrState says that a call came in the wrong order: a put after Commit or Abort, a read after Close.
	ErrState = errors.New("memsnap: wrong order of calls")
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
