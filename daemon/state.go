package daemon

import (
	"context"
	"errors"

	"perdure/memsnap"
	"perdure/runtime"
)

// programOfState returns the SHA-256 of the program that a saved process runs; empty if nothing is saved.
func programOfState(ctx context.Context, dir string) (string, error) {
	s, err := runtime.OpenSaved(dir)
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
func newestGeneration(dir string) uint64 {
	s, err := runtime.OpenSaved(dir)
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
