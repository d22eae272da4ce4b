package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
func OpenSaved(dir string) (*Saved, error) { return OpenSavedWith(dir, memsnap.Options{}) }

// OpenSavedWith is OpenSaved with options for the store: a key, somebody who is told of
// progress.
func OpenSavedWith(dir string, o memsnap.Options) (*Saved, error) {
	store, err := openBeside(dir, o)
	if err != nil {
		return nil, err
	}
	return &Saved{dir: dir, store: store}, nil
}

// openBeside opens the generations of a process that a worker may be running.
func openBeside(dir string, o memsnap.Options) (*memsnap.Store, error) {
	if err := mustBeProcess(dir); err != nil {
		return nil, err
	}
	if o.FS == nil {
		o.FS = durable.OS
	}
	o.FS = beside{o.FS}
	return memsnap.Open(filepath.Join(dir, generationsDir), o)
}

// mustBeProcess returns ErrNoProcess if there is no process in a directory.
func mustBeProcess(dir string) error {
	st, err := os.Stat(filepath.Join(dir, generationsDir))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return fmt.Errorf("%w in %s", ErrNoProcess, dir)
	}
	return err
}

// beside is a file system in which unfinished generations are not cleared up: the file that
// a store finds may be one that a worker is writing.
type beside struct{ durable.FS }

func (b beside) Remove(path string) error {
	if strings.HasSuffix(path, unfinishedSuffix) {
		return nil
	}
	return b.FS.Remove(path)
}

// unfinishedSuffix ends the name of a generation that is being written.
const unfinishedSuffix = ".gen" + durable.TempSuffix

// SavedProcesses lists the directories below dir that hold a process, sorted. There are
// none in a directory that does not exist, and none whose name begins with a dot: such are
// not finished yet.
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
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
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
	saved, _, err := s.open(ctx, 0)
	if err != nil {
		return SavedState{}, err
	}
	return saved.summary(), nil
}

// open reads what a generation says of the process; 0 stands for the newest that is well,
// with those that were passed over.
func (s *Saved) open(ctx context.Context, generation uint64) (*savedProcess, []memsnap.Skipped, error) {
	return s.openIf(ctx, generation, func(*memsnap.Generation) error { return nil })
}

// openIf is open where the newest also has to pass a check.
func (s *Saved) openIf(ctx context.Context, generation uint64, check func(*memsnap.Generation) error) (*savedProcess, []memsnap.Skipped, error) {
	limit := uint64(math.MaxUint64)
	var skipped []memsnap.Skipped
	for {
		g, passed, err := s.openBelow(ctx, generation, limit)
		skipped = append(skipped, passed...)
		if errors.Is(err, memsnap.ErrNotFound) && len(skipped) > 0 {
			return nil, skipped, fmt.Errorf("no generation can be used: %w", skipped[0].Err)
		}
		if err != nil {
			return nil, skipped, err
		}
		saved, err := readGeneration(g)
		if err == nil && generation == 0 {
			err = check(g)
		}
		if generation != 0 || !damaged(err) {
			return saved, skipped, err
		}
		limit = g.Info().Number
		skipped = append(skipped, memsnap.Skipped{Number: limit, Err: err})
	}
}

// openGeneration opens a generation, as open does. It needs no closing: it holds nothing.
func (s *Saved) openGeneration(ctx context.Context, generation uint64) (*memsnap.Generation, []memsnap.Skipped, error) {
	return s.openBelow(ctx, generation, math.MaxUint64)
}

// openBelow is openGeneration where the newest has to be one with a number below limit.
func (s *Saved) openBelow(ctx context.Context, generation, limit uint64) (*memsnap.Generation, []memsnap.Skipped, error) {
	if generation == 0 {
		return s.store.OpenNewestBelow(ctx, limit)
	}
	g, err := s.store.OpenGeneration(ctx, generation)
	return g, nil, err
}

func (s *savedProcess) summary() SavedState {
	return SavedState{
		Generation: s.generation.Info(), Program: s.state.Program, Restarts: s.state.Restarts,
		Ended: s.state.Phase == phaseEnded, ExitCode: s.state.ExitCode,
		Idle: s.state.Phase == phaseIdle, Call: s.state.Call,
	}
}

// Verify reads every byte that a generation needs and checks it, and that what it says of
// the process can be understood. Damage is a *memsnap.CorruptError or ErrBadState;
// memsnap.ErrNotFound says that there is no such generation, perhaps not any more: a worker
// may purge it at the same time.
func (s *Saved) Verify(ctx context.Context, generation uint64) error {
	err := s.verify(ctx, generation)
	if err == nil || !damaged(err) && !errors.Is(err, memsnap.ErrNotFound) {
		return err
	}
	// Files that only it needed go before it does, or while it is read.
	infos, lerr := s.store.Generations()
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	if !slices.ContainsFunc(infos, func(i memsnap.Info) bool { return i.Number == generation }) {
		return fmt.Errorf("generation %d: %w any more", generation, memsnap.ErrNotFound)
	}
	return s.verify(ctx, generation)
}

func (s *Saved) verify(ctx context.Context, generation uint64) error {
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

// hasState tells whether anything was saved of the process in a directory: a generation, or
// the journal of a life that has none yet.
func hasState(dir string) (bool, error) {
	for _, sub := range []string{generationsDir, journalDir} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if len(entries) > 0 {
			return true, nil
		}
	}
	return false, nil
}
