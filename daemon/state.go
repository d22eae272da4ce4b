package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"perdure/daemon/worker"
	"perdure/memsnap"
	"perdure/runtime"
)

// programOfState returns the SHA-256 of the program that a saved process runs; empty if nothing is saved.
func programOfState(ctx context.Context, dir string, o memsnap.Options) (string, error) {
	s, err := runtime.OpenSavedWith(dir, o)
	if errors.Is(err, runtime.ErrNoProcess) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	st, err := s.State(ctx)
	if errors.Is(err, memsnap.ErrNotFound) {
		return "", nil
	}
	return st.Program, err
}

// newestGeneration returns the number of the newest generation that seems well; 0 if there is none.
func newestGeneration(dir string, o memsnap.Options) uint64 {
	s, err := runtime.OpenSavedWith(dir, o)
	if err != nil {
		return 0
	}
	infos, err := s.Generations()
	if err != nil {
		return 0
	}
	for i := len(infos) - 1; i >= 0; i-- {
		if infos[i].Err == nil {
			return infos[i].Number
		}
	}
	return 0
}

// clearEmpty removes the directory of a process of which nothing was saved. One that holds more is left alone.
func clearEmpty(dir string) error {
	if _, err := runtime.OpenSaved(dir); !errors.Is(err, runtime.ErrNoProcess) {
		return err
	}
	for _, name := range []string{RecordFile, worker.OutcomeFile, worker.LogFile, "worker.lock"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}
