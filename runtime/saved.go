package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"perdure/internal/durable"
	"perdure/memsnap"
)

// ErrNoProcess says that a directory holds no process.
var ErrNoProcess = errors.New("no such process")

// Saved is a process as it lies on disk. It is read without the process's lock, also while
// a worker runs it, because generations never change; and nothing is written. Its methods
// may be called concurrently.
type Saved struct {
	dir   string
	store *memsnap.Store
}

// OpenSaved opens the process in a directory for reading. ErrNoProcess says that there is
// none.
func OpenSaved(dir string) (*Saved, error) {
	generations := filepath.Join(dir, generationsDir)
	st, err := os.Stat(generations)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return nil, fmt.Errorf("%w in %s", ErrNoProcess, dir)
	}
	if err != nil {
		return nil, err
	}
	store, err := memsnap.Open(generations, memsnap.Options{FS: readOnly{durable.OS}})
	if err != nil {
		return nil, err
	}
	return &Saved{dir: dir, store: store}, nil
}

// readOnly is a file system in which nothing is cleared up: the unfinished file that a
// store finds may be one that a worker is writing.
type readOnly struct{ durable.FS }

func (readOnly) Remove(string) error { return nil }

// SavedProcesses lists the directories below dir that hold a process, sorted. There are
// none in a directory that does not exist.
func SavedProcesses(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if st, err := os.Stat(filepath.Join(dir, e.Name(), generationsDir)); err == nil && st.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// SavedState is what a generation says of its process, beside memory and stack.
type SavedState struct {
	Generation memsnap.Info
	Program    string // SHA-256 in hexadecimal
	Ended      bool   // with ExitCode
	ExitCode   uint32
	Restarts   uint64 // how often it was restored since it began
	Idle       bool   // it is a reactor that nobody calls
	Call       string // the function of a reactor that is being called
}

// Generations lists all generations, oldest first, as memsnap.Store does.
func (s *Saved) Generations() ([]memsnap.Info, error) { return s.store.Generations() }

// State reads the newest generation that is well.
func (s *Saved) State(ctx context.Context) (SavedState, error) {
	g, _, err := s.store.OpenNewest(ctx)
	if err != nil {
		return SavedState{}, err
	}
	defer g.Close() // it holds nothing
	saved, err := readGeneration(g)
	if err != nil {
		return SavedState{}, err
	}
	return saved.summary(), nil
}

func (s *savedProcess) summary() SavedState {
	return SavedState{
		Generation: s.generation.Info(), Program: s.state.Program, Restarts: s.state.Restarts,
		Ended: s.state.Phase == phaseEnded, ExitCode: s.state.ExitCode,
		Idle: s.state.Phase == phaseIdle, Call: s.state.Call,
	}
}

// Verify reads every byte that a generation needs and checks it, and that what it says of
// the process can be understood. Damage is a *memsnap.CorruptError or ErrBadState.
func (s *Saved) Verify(ctx context.Context, generation uint64) error {
	g, err := s.store.OpenGeneration(ctx, generation)
	if err != nil {
		return err
	}
	defer g.Close() // it holds nothing
	if err := g.Verify(ctx); err != nil {
		return err
	}
	_, err = readGeneration(g)
	return err
}

// VerifyProgram checks that the process keeps the program that its newest generation runs.
func (s *Saved) VerifyProgram(ctx context.Context) error {
	state, err := s.State(ctx)
	if errors.Is(err, memsnap.ErrNotFound) {
		return nil // nothing saved yet, nothing needed
	}
	if err != nil {
		return err
	}
	if state.Ended {
		return nil
	}
	_, err = s.program(state.Program)
	return err
}

// program reads the copy of a program that the process keeps: the one that it runs, or one
// that it ran before.
func (s *Saved) program(sum string) ([]byte, error) {
	path := filepath.Join(s.dir, programFile)
	b, err := os.ReadFile(path)
	if err == nil && sumOf(b) == sum {
		return b, nil
	}
	if old, oerr := os.ReadFile(filepath.Join(s.dir, oldProgram(sum))); oerr == nil && sumOf(old) == sum {
		return old, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: its program: %w", ErrBadState, err)
	}
	return nil, fmt.Errorf("%w: %s is another program (SHA-256 %.12s…, saved with %.12s…)", ErrBadState, path, sumOf(b), sum)
}

// IsDamage tells whether an error of Verify or VerifyProgram says that the process is
// damaged; else it could not be read for another reason.
func IsDamage(err error) bool { return damaged(err) }

// retire gives the directory of a process another name, to make room for a new one: the old
// name with ".ended-N" added, which it returns. The caller holds the lock.
func retire(dir string) (string, error) {
	for n := 1; ; n++ {
		to := fmt.Sprintf("%s.ended-%d", dir, n)
		if _, err := os.Lstat(to); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err := durable.OS.Rename(dir, to); err != nil {
			return "", err
		}
		return to, durable.OS.SyncDir(filepath.Dir(dir))
	}
}

// hasGenerations tells whether anything was saved of the process in a directory.
func hasGenerations(dir string) (bool, error) {
	entries, err := os.ReadDir(filepath.Join(dir, generationsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}
