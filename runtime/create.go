package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"perdure/internal/durable"
)

// create makes the directory of a new process in one step: build fills one under another
// name, which then is given its own, so that after a crash the process is wholly there or
// not at all. ErrProcessExists says that the name is taken, a *LockedError that somebody else
// is making it.
func create(dir string, build func(dir string) error) (err error) {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%w: %s", ErrProcessExists, dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	name := filepath.Base(dir)
	unfinished := filepath.Join(filepath.Dir(dir), "."+name+".new")
	if err := os.MkdirAll(unfinished, 0o700); err != nil {
		return err
	}
	held, err := lock(unfinished, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	// What a crash has left, but not the lock, which is ours.
	if err := clearBut(unfinished, lockFile); err != nil {
		return err
	}
	err = build(unfinished)
	if err == nil {
		err = durable.OS.SyncDir(unfinished)
	}
	if err == nil {
		err = renameToNew(unfinished, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(unfinished))
	}
	if err := durable.OS.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	// Its own name may be new as well.
	return durable.OS.SyncDir(filepath.Dir(filepath.Dir(dir)))
}

// clearBut removes all that is in a directory, but one name.
func clearBut(dir, but string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == but {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// renameToNew gives a directory a name that must be free.
func renameToNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		// This file system cannot promise it. A directory that holds anything is not replaced anyway.
		err = os.Rename(from, to)
	case err != nil:
		err = &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrProcessExists, to)
	}
	return err
}
