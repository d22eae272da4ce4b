package memsnap

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// PurgeReport says what a purge or a sweep did.
type PurgeReport struct {
	Purged  []uint64 // generations that are gone
	Removed int      // files that were removed
	Rest    int      // files of purged generations that kept ones still need, of those that were looked at
	Freed   uint64   // bytes of storage given back
	// Held are damaged generations that were not purged. What they need cannot be known, so files that they may need
	// were left as they are.
	Held []Skipped
}

// Purge removes generations. What kept ones need of them stays; everything else is given back to the file system. ErrNotFound
// says that there is no such generation, ErrDenied that it is pinned, the newest good one, or one of too few; ErrBusy
// that a session is under way. When all of them may go, they go; else none does. After an error in the middle, or a
// crash, a generation is either wholly there or not listed any more, and Sweep gives back what was left.
func (s *Store) Purge(ctx context.Context, numbers ...uint64) (PurgeReport, error) {
	done, err := s.occupy()
	if err != nil {
		return PurgeReport{}, fmt.Errorf("purge: %w", err)
	}
	defer done()
	files, err := s.files()
	if err != nil {
		return PurgeReport{}, err
	}
	numbers = slices.Clone(numbers)
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	for _, n := range numbers {
		if !files.isLive(n) {
			return PurgeReport{}, fmt.Errorf("purge generation %d: %w", n, ErrNotFound)
		}
		if files.pins[n] {
			return PurgeReport{}, &DeniedError{n, DeniedPinned}
		}
	}
	if err := s.mayGo(ctx, &files, numbers); err != nil {
		return PurgeReport{}, err
	}
	return s.purge(ctx, numbers)
}

// PurgeExpired removes what the store's policy says has to go. It is to be called after a commit.
func (s *Store) PurgeExpired(ctx context.Context) (PurgeReport, error) {
	done, err := s.occupy()
	if err != nil {
		return PurgeReport{}, fmt.Errorf("purge: %w", err)
	}
	defer done()
	return s.purgeExpired(ctx)
}

func (s *Store) purgeExpired(ctx context.Context) (PurgeReport, error) {
	p := s.rules()
	if p.MaxSnapshots == 0 && p.Expiration == 0 && p.KeepLast == 0 && p.KeepMinutely == 0 &&
		p.KeepHourly == 0 && p.KeepDaily == 0 {
		return PurgeReport{}, nil
	}
	if p.Expiration == 0 && p.KeepLast == 0 && p.KeepMinutely == 0 && p.KeepHourly == 0 && p.KeepDaily == 0 {
		// The usual case, and after each commit: only the number counts, so no file is read for it while there are few.
		files, err := s.files()
		if err != nil || uint64(len(files.live)) <= p.MaxSnapshots {
			return PurgeReport{}, err
		}
	}
	list, err := s.Generations()
	if err != nil {
		return PurgeReport{}, err
	}
	list = slices.DeleteFunc(list, func(i Info) bool { return errors.Is(i.Err, ErrVersion) }) // not ours to judge
	numbers := p.Expired(list, s.now())
	if len(numbers) == 0 {
		return PurgeReport{}, nil
	}
	// The policy went by what a listing shows. Whether the newest is whole in its metadata is known after opening it.
	newest, err := s.newestGood(ctx)
	if err != nil {
		return PurgeReport{}, err
	}
	numbers = slices.DeleteFunc(numbers, func(n uint64) bool { return n >= newest })
	return s.purge(ctx, numbers)
}

// newestGood returns the newest generation that can be opened, and 0 if there is none.
func (s *Store) newestGood(ctx context.Context) (uint64, error) {
	files, err := s.files()
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	head := s.head
	s.mu.Unlock()
	for _, number := range slices.Backward(files.live) {
		if head != nil && head.number == number {
			return number, nil // it was committed just now
		}
		_, err := s.load(ctx, number)
		if err == nil {
			return number, nil
		}
		if !IsDamage(err) {
			return 0, fmt.Errorf("open generation %d: %w", number, err)
		}
	}
	return 0, nil
}

// mayGo says why one of the numbers may not be purged.
func (s *Store) mayGo(ctx context.Context, files *fileSet, numbers []uint64) error {
	newest, err := s.newestGood(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(numbers, newest) {
		return &DeniedError{newest, DeniedNewest}
	}
	least := s.rules().MinSnapshots
	if least == 0 {
		return nil
	}
	list, err := s.Generations()
	if err != nil {
		return err
	}
	good, denied := uint64(0), uint64(0)
	for _, i := range list {
		switch {
		case i.Err != nil:
		case slices.Contains(numbers, i.Number):
			denied = i.Number
		default:
			good++
		}
	}
	if good < least && denied != 0 {
		return &DeniedError{denied, DeniedMin}
	}
	return nil
}

// purge removes generations that may go. The steps are those of FORMAT.md, "Purging".
func (s *Store) purge(ctx context.Context, numbers []uint64) (PurgeReport, error) {
	var report PurgeReport
	if len(numbers) == 0 {
		return report, nil
	}
	// Who leaned on what, before: to know which files may be affected.
	files, err := s.files()
	if err != nil {
		return report, err
	}
	before, err := s.lineage(&files)
	if err != nil {
		return report, err
	}
	s.mu.Lock()
	if s.head != nil && slices.Contains(numbers, s.head.number) {
		s.head = nil
	}
	s.mu.Unlock()
	for _, n := range numbers {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
		if err = s.fsys.Rename(filepath.Join(s.dir, fileName(n)), filepath.Join(s.dir, restName(n))); err != nil {
			err = fmt.Errorf("purge generation %d: %w", n, err)
			break
		}
		report.Purged = append(report.Purged, n)
	}
	if len(report.Purged) == 0 {
		return report, err
	}
	// Nothing is taken from a file before it is certain that it is no generation any more.
	if syncErr := s.fsys.SyncDir(s.dir); syncErr != nil {
		return report, errors.Join(err, fmt.Errorf("purge: sync directory: %w", syncErr))
	}
	if err != nil {
		return report, err
	}
	var affected []uint64
	for _, o := range files.rest {
		for _, j := range before.successors(o) {
			if slices.Contains(numbers, j) {
				affected = append(affected, o)
				break
			}
		}
	}
	affected = append(affected, numbers...)
	slices.Sort(affected)
	err = s.settle(ctx, affected, &report)
	return report, err
}

// Sweep looks at all that purged generations left and gives back what no kept generation needs: what an interrupted
// purge did not get to. It reads the archives of many generations.
func (s *Store) Sweep(ctx context.Context) (PurgeReport, error) {
	var report PurgeReport
	done, err := s.occupy()
	if err != nil {
		return report, fmt.Errorf("sweep: %w", err)
	}
	defer done()
	files, err := s.files()
	if err != nil {
		return report, err
	}
	for number := range files.pins {
		if !files.isLive(number) {
			if err := s.fsys.Remove(filepath.Join(s.dir, pinName(number))); err != nil {
				return report, fmt.Errorf("sweep: %w", err)
			}
		}
	}
	err = s.settle(ctx, files.rest, &report)
	return report, err
}

// lineage is how the files of a store descend from each other.
type lineage struct {
	lines map[uint64]uint64 // of each file; 0: unknown
	live  []uint64
	first []uint64 // the oldest live generation of each line, and all live ones whose line is unknown; ascending
}

func (s *Store) lineage(files *fileSet) (*lineage, error) {
	l := &lineage{lines: make(map[uint64]uint64, len(files.live)+len(files.rest)), live: files.live}
	for _, n := range files.rest {
		line, err := s.lineOf(n)
		if err != nil {
			return nil, err
		}
		l.lines[n] = line
	}
	var last uint64
	for _, n := range files.live {
		line, err := s.lineOf(n)
		if err != nil {
			return nil, err
		}
		l.lines[n] = line
		if line == 0 || line != last {
			l.first = append(l.first, n)
		}
		if line != 0 {
			last = line
		}
	}
	return l, nil
}

// successors returns the live generations that, between them, lean on all that any live generation needs of the file
// of generation o. A generation has a backlink only from its base, so those that lean on a place form a tree that grows from
// the generation that made it; a path from there into a line goes through the oldest live generation on it.
func (l *lineage) successors(o uint64) []uint64 {
	i, _ := slices.BinarySearch(l.live, o)
	after := l.live[i:]
	line := l.lines[o]
	if line == 0 {
		return after
	}
	var list []uint64
	for _, n := range after {
		if l.lines[n] == line {
			list = append(list, n)
			break
		}
	}
	for _, n := range l.first {
		if n > o && l.lines[n] != line {
			list = append(list, n)
		}
	}
	return list
}
