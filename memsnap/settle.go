package memsnap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"perdure/internal/durable"
)

// holeUnit is the unit in which holes are made: what file systems allocate.
const holeUnit = 4096

// target is a file of a purged generation about which has to be decided.
type target struct {
	number uint64
	needed bool     // some kept generation needs its metadata at least
	held   bool     // a generation whose needs are unknown may need it
	file   *genFile // once a kept generation has loaded it
	pages  []uint64 // bit per position that is needed
	parts  []extent // the sections that are needed
}

// extent is a range of bytes of a file.
type extent struct{ from, to int64 }

// settle decides about files of purged generations: each is removed, or what nobody needs of it becomes a hole.
func (s *Store) settle(ctx context.Context, numbers []uint64, report *PurgeReport) error {
	if len(numbers) == 0 {
		return nil
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	after, err := s.lineage(&files)
	if err != nil {
		return err
	}
	targets := make(map[uint64]*target, len(numbers))
	leaning := map[uint64][]*target{} // by successor
	for _, n := range numbers {
		t := &target{number: n}
		targets[n] = t
		for _, j := range after.successors(n) {
			leaning[j] = append(leaning[j], t)
		}
	}
	successors := make([]uint64, 0, len(leaning))
	for j := range leaning {
		successors = append(successors, j)
	}
	slices.Sort(successors)
	for _, j := range successors {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		g, err := s.load(ctx, j)
		switch {
		case err == nil:
			g.mark(leaning[j], targets)
		case IsDamage(err) || errors.Is(err, ErrVersion) || errors.Is(err, ErrKey):
			report.Held = append(report.Held, Skipped{j, err})
			for _, t := range leaning[j] {
				t.held = true
			}
		default:
			return fmt.Errorf("open generation %d: %w", j, err)
		}
	}
	highest := files.highest()
	removed := false
	for _, n := range numbers {
		t := targets[n]
		switch {
		case t.held:
			report.Rest++
		case !t.needed && n != highest: // the highest number must not be given out again
			freed, err := s.unlink(n)
			if err != nil {
				return err
			}
			removed = true
			report.Removed++
			report.Freed += freed
		default:
			report.Rest++
			freed, err := s.punch(t)
			if err != nil {
				return err
			}
			report.Freed += freed
		}
	}
	if removed {
		if err := s.fsys.SyncDir(s.dir); err != nil {
			return fmt.Errorf("purge: sync directory: %w", err)
		}
	}
	return nil
}

// mark notes what the generation needs of the targets that it is a successor of.
func (g *Generation) mark(leaning []*target, all map[uint64]*target) {
	mine := make(map[uint64]bool, len(leaning))
	for _, t := range leaning {
		mine[t.number] = true
		if f := g.files[t.number]; f != nil {
			t.needed, t.file = true, f
			if t.pages == nil {
				t.pages = make([]uint64, (f.blocks.pages()+63)/64)
			}
		} else if g.lost[t.number] != nil {
			t.held = true // damaged or missing: if it is put back, the generation is better off
		}
	}
	var last *target // of the generation that the last backlink pointed to
	lastNumber := uint64(0)
	note := func(l backlink) {
		number := l.generation()
		if number != lastNumber {
			last, lastNumber = nil, number
			if mine[number] {
				last = all[number]
			}
		}
		if last != nil {
			p := l.position()
			last.pages[p/64] |= 1 << (p % 64)
		}
	}
	for _, l := range g.pages.links {
		if l != 0 {
			note(l)
		}
	}
	for _, l := range g.pages.second {
		if l != 0 {
			note(l)
		}
	}
	for _, links := range g.pages.extra {
		for _, l := range links {
			note(l)
		}
	}
	for _, sec := range g.file.sections {
		if mine[sec.Generation] {
			t := all[sec.Generation]
			t.parts = append(t.parts, extent{int64(sec.Offset), int64(sec.Offset + sec.StoredSize)})
		}
	}
}

// unlink removes the file of a purged generation.
func (s *Store) unlink(number uint64) (uint64, error) {
	path := filepath.Join(s.dir, restName(number))
	var size int64
	if f, err := s.fsys.Open(path); err == nil {
		size, _ = f.Allocated() // for the report alone
		_ = f.Close()           // read only
	}
	if err := s.fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("purge generation %d: %w", number, err)
	}
	s.mu.Lock()
	delete(s.lines, number)
	delete(s.moves, number)
	s.mu.Unlock()
	return uint64(max(0, size)), nil
}

// dead returns the parts of the target's blocks and sections that nobody needs, in whole hole units.
func (t *target) dead() []extent {
	end := t.file.footer.blockTableAt()
	needed := t.parts
	for i := range t.file.blocks.entries {
		if word := t.pages[i*pagesPerBlock/64] >> (i * pagesPerBlock % 64); word&(1<<pagesPerBlock-1) != 0 {
			from, to := t.file.blocks.offsets[i], t.file.blocks.offsets[i+1]
			if n := len(needed); n > len(t.parts) && needed[n-1].to == from {
				needed[n-1].to = to
			} else {
				needed = append(needed, extent{from, to})
			}
		}
	}
	slices.SortFunc(needed, func(a, b extent) int { return int(a.from - b.from) })
	var list []extent
	at := int64(headerSize)
	gap := func(to int64) {
		from := (at + holeUnit - 1) / holeUnit * holeUnit
		if to = to / holeUnit * holeUnit; from < to {
			list = append(list, extent{from, to})
		}
	}
	for _, e := range needed {
		gap(e.from)
		at = max(at, e.to)
	}
	gap(end)
	return list
}

// live returns how many of the file's pages are needed, and how many it has.
func (t *target) live() (needed, all uint64) {
	all = t.file.blocks.pages()
	for p := range all {
		needed += t.pages[p/64] >> (p % 64) & 1
	}
	return needed, all
}

// punch gives back what nobody needs of the file, if that was not done yet.
func (s *Store) punch(t *target) (freed uint64, err error) {
	if t.file == nil { // not needed, but it bears the highest number
		if t.file, err = s.loadGenFile(t.number, true); err != nil {
			if IsDamage(err) || errors.Is(err, ErrVersion) || errors.Is(err, ErrKey) {
				return 0, nil // nothing can be said about it
			}
			return 0, fmt.Errorf("purge generation %d: %w", t.number, err)
		}
		t.pages = make([]uint64, (t.file.blocks.pages()+63)/64)
	}
	needed, all := t.live()
	s.mu.Lock()
	if t.needed && 3*needed < all {
		s.moves[t.number] = true
	} else {
		delete(s.moves, t.number)
	}
	noHoles := s.noHoles
	s.mu.Unlock()
	list := t.dead()
	if len(list) == 0 || noHoles {
		return 0, nil
	}
	var total int64
	for _, e := range list {
		total += e.to - e.from
	}
	f, err := s.fsys.OpenWrite(filepath.Join(s.dir, restName(t.number)))
	if err != nil {
		return 0, fmt.Errorf("purge generation %d: %w", t.number, err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("purge generation %d: close: %w", t.number, closeErr)
		}
	}()
	before, err := f.Allocated()
	if err != nil {
		return 0, fmt.Errorf("purge generation %d: %w", t.number, err)
	}
	size := (int64(t.file.footer.FileSize) + holeUnit - 1) / holeUnit * holeUnit
	slack := int64(0)
	if total > 1<<18 {
		slack = 1 << 14 // what a file system needs to know of the holes
	}
	if before <= size-total+slack {
		return 0, nil // by an earlier purge
	}
	for _, e := range list {
		if err := f.PunchHole(e.from, e.to-e.from); errors.Is(err, durable.ErrUnsupported) {
			s.mu.Lock()
			s.noHoles = true
			s.mu.Unlock()
			return 0, nil
		} else if err != nil {
			return 0, fmt.Errorf("purge generation %d: %w", t.number, err)
		}
	}
	after, err := f.Allocated()
	if err != nil {
		return 0, fmt.Errorf("purge generation %d: %w", t.number, err)
	}
	return uint64(max(0, before-after)), nil
}
