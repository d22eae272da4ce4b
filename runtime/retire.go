package runtime

import (
	"errors"
	"io/fs"
)

// Retire makes room for a fresh start of the process in dir: what was saved of it goes to
// the directory dir.ended-N beside it, whose path is returned; empty if nothing was saved.
// The error is a *LockedError, with that name, while a worker runs the process.
func Retire(dir, name string) (string, error) {
	held, err := lock(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer held.Close() // nothing was written that could be lost
	if had, err := hasState(dir); err != nil || !had {
		return "", err
	}
	return retire(dir)
}

// ProgramFile is the name of the copy of its program in the directory of a process.
const ProgramFile = programFile
