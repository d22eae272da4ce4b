package memsnap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"perdure/internal/durable"
)

// Options of a Store. The zero value is good for use.
type Options struct {
	// FS is the file system that holds the store; nil means that of the operating system.
	FS durable.FS
	// Policy says what is kept, and how often.
	Policy Policy
	// Key authenticates all files: their root hash is then an HMAC-SHA-256, and a file that was made without the key is
	// refused with ErrKey. It is at least 16 bytes; nil means none. A store has one from its beginning, or none.
	Key []byte
	// Now is the wall clock for Info.Time; nil means time.Now. Nothing depends on its order.
	Now func() time.Time
	// CommitWorkers is how many goroutines compress and checksum during a commit, beside the one that writes; 0 means 2, or 1
	// where GOMAXPROCS is 1.
	CommitWorkers int
	// RestoreWorkers is how many goroutines read, check and decompress during Restore and Verify; 0 means GOMAXPROCS.
	RestoreWorkers int
	// Progress, if not nil, is told how many of the pages Verify, Inspect, Repair, Export, Import and Diff have gone through,
	// and how many there are; 0 if that is not known. It is called from several goroutines, but not at once.
	Progress func(done, total uint64)
}

// minKey is the least length of a key, in bytes.
const minKey = 16

// Store is the generations of one process in one directory. Its methods may be called concurrently; a Session belongs
// to one goroutine.
type Store struct {
	fsys           durable.FS
	dir            string
	now            func() time.Time
	commitWorkers  int
	restoreWorkers int
	key            []byte                                 // nil: none
	buffers        *bufferPool                            // for chunks
	scratches      *bufferPool                            // for encoders
	budget         func(storedPages uint64) archiveBudget // budgetFor, but in tests
	tell           func(done, total uint64)               // Options.Progress

	mu      sync.Mutex
	policy  Policy
	session *Session
	highest uint64 // the highest number that a file may have borne
	newest  uint64 // the highest number that a file bears
	head    *baseline
	lines   map[uint64]uint64 // of the generations whose header was read, the line
	moves   map[uint64]bool   // purged generations of which too little is live to keep their files
	noHoles bool              // the file system cannot punch holes
}

// Open opens the store in a directory and makes the directory, with mode 0700, if it is missing. What an interrupted
// commit left behind is removed; nothing else is touched. The caller makes sure that no other Store writes to dir.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{
		fsys: o.FS, dir: dir, now: o.Now, commitWorkers: o.CommitWorkers, restoreWorkers: o.RestoreWorkers,
		budget: budgetFor, tell: o.Progress, policy: o.Policy, lines: map[uint64]uint64{}, moves: map[uint64]bool{},
	}
	if o.Key != nil {
		if len(o.Key) < minKey {
			return nil, fmt.Errorf("open store: a key of %d bytes: %w", len(o.Key), ErrRange)
		}
		s.key = slices.Clone(o.Key)
	}
	if s.fsys == nil {
		s.fsys = durable.OS
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.commitWorkers <= 0 {
		s.commitWorkers = min(2, runtime.GOMAXPROCS(0))
	}
	if s.restoreWorkers <= 0 {
		s.restoreWorkers = runtime.GOMAXPROCS(0)
	}
	s.buffers = newBufferPool(chunksUnderWay(s.commitWorkers), chunkSize)
	s.scratches = newBufferPool(s.commitWorkers, blockSize+blockSize/8)
	entries, err := s.fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, makeDir(s.fsys, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	for _, e := range entries {
		if number, ok := parseFileName(e.Name); ok {
			s.highest = max(s.highest, number)
		}
		if number, ok := parseRestName(e.Name); ok {
			s.highest = max(s.highest, number)
		}
		if number, ok := parseFileName(strings.TrimSuffix(e.Name, durable.TempSuffix)); ok && e.Regular &&
			e.Name == fileName(number)+durable.TempSuffix {
			if err := s.fsys.Remove(filepath.Join(dir, e.Name)); err != nil {
				return nil, fmt.Errorf("remove what an interrupted commit left: %w", err)
			}
		}
	}
	s.newest = s.highest
	return s, nil
}

// SetPolicy changes what the store keeps from now on. What is under way may still go by the policy before.
func (s *Store) SetPolicy(p Policy) {
	s.mu.Lock()
	s.policy = p
	s.mu.Unlock()
}

// rules returns the policy.
func (s *Store) rules() Policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policy
}

// makeDir makes a directory and its missing parents, durably.
func makeDir(fsys durable.FS, dir string) error {
	var made []string // innermost first
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := fsys.ReadDir(d); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(d) == d {
			break
		}
		made = append(made, d)
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	for _, d := range made {
		if err := fsys.SyncDir(filepath.Dir(d)); err != nil {
			return fmt.Errorf("make store: %w", err)
		}
	}
	return nil
}

// Generations lists all generations in ascending order. It reads a few kilobytes of each; a generation whose ends or
// report are damaged is listed with Err set. That Err is nil does not mean that every page is well: see Verify.
func (s *Store) Generations() ([]Info, error) {
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	list := make([]Info, 0, len(files.live))
	for _, number := range files.live {
		record, base, err := readInfo(s.fsys, s.dir, number)
		switch {
		case errors.Is(err, fs.ErrNotExist): // purged in between
		case err != nil:
			list = append(list, Info{Number: number, Pinned: files.pins[number], Err: err})
		default:
			info := record.info(number, base)
			info.Pinned = files.pins[number]
			list = append(list, info)
			if i, ok := slices.BinarySearchFunc(list, record.PreviousSyncOf, func(i Info, n uint64) int {
				return int(int64(i.Number) - int64(n))
			}); ok {
				list[i].Sync = time.Duration(record.PreviousSync)
			}
		}
	}
	return list, nil
}

// OpenGeneration opens a generation for reading. Its archives and the metadata of every file that it needs are read
// and checked, its pages are not: Restore, ReadPage and Verify do that. ErrNotFound says that there is no such
// generation.
func (s *Store) OpenGeneration(ctx context.Context, number uint64) (*Generation, error) {
	if number == 0 || number > maxNumber {
		return nil, fmt.Errorf("open generation %d: %w", number, ErrNotFound)
	}
	g, err := s.load(ctx, number)
	if err = s.unlessPurged(number, err); err != nil {
		return nil, fmt.Errorf("open generation %d: %w", number, err)
	}
	return g, nil
}

// OpenNewest opens the newest generation that OpenGeneration finds well, and says which newer ones were passed over
// because they are damaged. An empty store is ErrNoGeneration; a store in which no generation is well is ErrCorrupt. An
// error that is not damage ends the search, lest a generation be given up that is well: ErrVersion among them. If the
// policy asks for integrity, none is passed over: ErrIntegrity.
func (s *Store) OpenNewest(ctx context.Context) (*Generation, []Skipped, error) {
	return s.OpenNewestBelow(ctx, math.MaxUint64)
}

// OpenNewestBelow is OpenNewest among the generations with a lower number. It serves to go on to the next older one when
// damage shows up only in the pages of the newest.
func (s *Store) OpenNewestBelow(ctx context.Context, limit uint64) (*Generation, []Skipped, error) {
	return s.openNewest(ctx, limit, s.rules().Integrity)
}

func (s *Store) openNewest(ctx context.Context, limit uint64, integrity bool) (*Generation, []Skipped, error) {
	files, err := s.files()
	if err != nil {
		return nil, nil, err
	}
	var skipped []Skipped
	for _, number := range slices.Backward(files.live) {
		if number >= limit {
			if integrity {
				return nil, nil, &IntegrityError{number, fmt.Errorf("given up for one below %d: %w", limit, ErrCorrupt)}
			}
			continue
		}
		g, err := s.OpenGeneration(ctx, number)
		switch {
		case err == nil:
			return g, skipped, nil
		case errors.Is(err, ErrNotFound): // purged in between
		case IsDamage(err) && integrity:
			return nil, []Skipped{{number, err}}, &IntegrityError{number, err}
		case IsDamage(err):
			skipped = append(skipped, Skipped{number, err})
		default:
			return nil, skipped, err
		}
	}
	if len(skipped) > 0 {
		return nil, skipped, fmt.Errorf("none of %d generations is well: %w", len(skipped), skipped[0].Err)
	}
	return nil, nil, ErrNoGeneration
}
