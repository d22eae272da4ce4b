package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"perdure/daemon/worker"
	"perdure/internal/keeper"
	"perdure/memsnap"
	"perdure/runtime"
)

// stateOf returns what the newest generation of a saved process that is well says of it; the zero state if nothing is saved.
func stateOf(ctx context.Context, dir string, o memsnap.Options) (runtime.SavedState, error) {
	s, err := runtime.OpenSavedWith(dir, o)
	if errors.Is(err, runtime.ErrNoProcess) {
		return runtime.SavedState{}, nil
	}
	if err != nil {
		return runtime.SavedState{}, err
	}
	st, err := s.State(ctx)
	if errors.Is(err, memsnap.ErrNotFound) {
		return runtime.SavedState{}, nil
	}
	return st, err
}

// clearEmpty removes the directory of a process of which nothing was saved. One that holds more is left alone.
func clearEmpty(dir string) error {
	if _, err := runtime.OpenSaved(dir); !errors.Is(err, runtime.ErrNoProcess) {
		return err
	}
	for _, name := range []string{RecordFile, worker.OutcomeFile, worker.LogFile, "worker.lock", keeper.SecretFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}
