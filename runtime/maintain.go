package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"perdure/internal/durable"
	"perdure/memsnap"
)

// Maintain holds the lock of a process that nobody runs, opens its generations for writing,
// and lets do work on them. Name is what messages call the process. The error is
// ErrNoProcess when there is none, a *LockedError when a worker runs it, and else that of
// do. Nothing in do may run the process.
func Maintain(dir, name string, o memsnap.Options, do func(*memsnap.Store) error) (err error) {
	if err := mustBeProcess(dir); err != nil {
		return err
	}
	held, err := lock(dir, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	store, err := memsnap.Open(filepath.Join(dir, generationsDir), o)
	if err != nil {
		return err
	}
	return do(store)
}

// Pin keeps a generation of a process from being purged, also while a worker runs it. The
// note is for people. memsnap.ErrNotFound says that there is no such generation.
func Pin(dir string, o memsnap.Options, generation uint64, note string) error {
	store, err := openBeside(dir, o)
	if err != nil {
		return err
	}
	if err := store.Pin(generation, note); err != nil {
		return err
	}
	// The worker may have purged it while the pin was made; from now on it will not.
	infos, err := store.Generations()
	if err != nil {
		return err
	}
	for _, info := range infos {
		if info.Number == generation {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("pin generation %d: %w", generation, memsnap.ErrNotFound), store.Unpin(generation))
}

// Unpin ends a pin, also while a worker runs the process. It is no error if there is none.
func Unpin(dir string, o memsnap.Options, generation uint64) error {
	store, err := openBeside(dir, o)
	if err != nil {
		return err
	}
	return store.Unpin(generation)
}

// Rollback makes a process that nobody runs go on from one of its generations at the next
// start: it adds a generation that equals it. What came in between stays, so that the same
// way leads forward again, until it is purged; but not what the journal has of the time after
// the newest of them. The outside world, such as the files that the
// program has written, stays as it is. Errors are those of Maintain and of damage;
// memsnap.ErrNotFound says that there is no such generation.
func Rollback(ctx context.Context, dir, name string, generation uint64, o memsnap.Options) (info memsnap.Info, err error) {
	err = Maintain(dir, name, o, func(store *memsnap.Store) error {
		saved := &Saved{dir: dir, store: store}
		to, _, err := saved.open(ctx, generation)
		if err != nil {
			return err
		}
		// All of it, before anything is built on it.
		if err := to.generation.Verify(ctx); err != nil {
			return err
		}
		if err := saved.keepAsProgram(to.state.Program); err != nil {
			return err
		}
		info, err = to.again(ctx, store)
		return err
	})
	return info, err
}

// again makes a generation that equals this one the newest, so that the process goes on from
// it. What the journal has of the time after is not played again.
func (s *savedProcess) again(ctx context.Context, store *memsnap.Store) (memsnap.Info, error) {
	process, err := s.state.alone()
	if err != nil {
		return memsnap.Info{}, err
	}
	w, err := store.Begin(s.generation.Info().Number)
	if err != nil {
		return memsnap.Info{}, err
	}
	if err := errors.Join(w.KeepSections(), w.PutSection(sectionProcess, process)); err != nil {
		return memsnap.Info{}, errors.Join(err, w.Abort())
	}
	return w.Commit(ctx)
}

// keepAsProgram makes a program that the process keeps the one that it runs, should its file
// be gone. The present one stays under its other name. The caller holds the lock.
func (s *Saved) keepAsProgram(sum string) error {
	src, err := s.program(sum)
	if damaged(err) {
		return nil // its own file may be there still: the next start will see
	}
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, programFile)
	now, err := os.ReadFile(path)
	if err == nil && sumOf(now) == sum {
		return nil
	}
	if err == nil {
		if err := durable.WriteFile(durable.OS, filepath.Join(s.dir, oldProgram(sumOf(now))), now, 0o600); err != nil {
			return err
		}
	}
	return durable.WriteFile(durable.OS, path, src, 0o600)
}
