package memsnap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Damage is what is wrong with the bytes that a generation needs.
type Damage struct {
	Files []Skipped    // generations whose files are damaged as a whole, or missing
	Pages []PageDamage // pages of which at least one copy is bad, ascending
	// Sections are those that cannot be read.
	Sections []string
}

// PageDamage is a page with bad copies.
type PageDamage struct {
	Page uint64
	Bad  []uint64 // generations whose copy is bad
	Good []uint64 // generations whose copy is well; empty: the page is lost
}

// Whole says that nothing is damaged, Lost how many pages and sections cannot be had any more.
func (d *Damage) Whole() bool { return len(d.Files)+len(d.Pages)+len(d.Sections) == 0 }

// Lost returns how many pages and sections cannot be had any more.
func (d *Damage) Lost() int {
	n := len(d.Sections)
	for _, p := range d.Pages {
		if len(p.Good) == 0 {
			n++
		}
	}
	return n
}

// Inspect reads every byte that the generation needs, all copies of its pages included, as Verify does, and tells all that
// is damaged instead of the first. The error is something that is not damage.
func (g *Generation) Inspect(ctx context.Context) (*Damage, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	d, _, err := g.inspect(ctx)
	if err != nil {
		return nil, fmt.Errorf("inspect generation %d: %w", g.file.number, err)
	}
	return d, nil
}

// blockOf names a block of a file.
type blockOf struct {
	generation uint64
	block      uint64
}

// inspect also returns what to store again.
func (g *Generation) inspect(ctx context.Context) (*Damage, []copyRequest, error) {
	d := &Damage{}
	for n, err := range g.damagedFiles() {
		d.Files = append(d.Files, Skipped{n, err})
	}
	slices.SortFunc(d.Files, func(a, b Skipped) int { return cmp.Compare(a.Number, b.Number) })
	for i := range g.file.sections {
		if _, err := g.readSection(&g.file.sections[i]); IsDamage(err) {
			d.Sections = append(d.Sections, g.file.sections[i].name)
		} else if err != nil {
			return nil, nil, err
		}
	}
	var mu sync.Mutex
	bad := map[blockOf]bool{}
	work := tasks(g.gather(0, g.Pages(), true))
	progress := g.store.progress(pagesOf(work))
	err := inParallel(ctx, g.store.restoreWorkers, len(work), func(next func() (int, bool)) error {
		r := blockReader{generation: g, strong: true, bad: func(file, block uint64) {
			mu.Lock()
			bad[blockOf{file, block}] = true
			mu.Unlock()
		}}
		defer r.close()
		for i, ok := next(); ok; i, ok = next() {
			if err := r.read(&work[i]); err != nil {
				return err
			}
			progress.add(work[i].pages())
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var requests []copyRequest
	if len(bad) == 0 && len(g.damagedFiles()) == len(g.lost) {
		return d, nil, nil
	}
	for page := range g.pages.links {
		var p PageDamage
		var keep []backlink
		hurt := false
		g.pages.all(uint64(page), func(l backlink) bool {
			if g.files[l.generation()].hurt != nil && !bad[blockOf{l.generation(), l.position() / pagesPerBlock}] {
				hurt = true // it is well, but its file is not: it is stored again instead
				p.Good = append(p.Good, l.generation())
				return true
			}
			if bad[blockOf{l.generation(), l.position() / pagesPerBlock}] {
				p.Bad = append(p.Bad, l.generation())
			} else {
				p.Good = append(p.Good, l.generation())
				keep = append(keep, l)
			}
			return true
		})
		if hurt {
			requests = append(requests, copyRequest{uint64(page), keep[:min(len(keep), maxBacklinks-1)]})
		}
		if len(p.Bad) == 0 {
			continue
		}
		p.Page = uint64(page)
		d.Pages = append(d.Pages, p)
		if len(keep) > 0 && !hurt {
			requests = append(requests, copyRequest{uint64(page), keep[:min(len(keep), maxBacklinks-1)]})
		}
	}
	return d, requests, nil
}

// RepairReport says what a repair found and did.
type RepairReport struct {
	Checked    uint64    // the generation that was looked at: the newest that can be opened
	Skipped    []Skipped // newer ones that cannot
	Damage     *Damage
	Repaired   uint64 // pages that have all their copies again
	Generation Info   // the one that the repair made; Number is 0 if there was nothing to do
}

// repairPages bounds how many pages are read into memory and stored again at once.
const repairPages = 1 << 14

// Repair looks at every copy of every page of the newest generation that can be opened, and stores the pages of which a
// copy is bad once more, from a good copy, in a new generation that equals the one it looked at. Pages of which one copy
// is left because a whole file is lost get a second one too. Older generations stay as they are. What is lost for good is
// told in the report and is no error.
func (s *Store) Repair(ctx context.Context) (RepairReport, error) {
	var report RepairReport
	g, skipped, err := s.openNewest(ctx, maxNumber+1, false)
	report.Skipped = skipped
	if err != nil {
		return report, fmt.Errorf("repair: %w", err)
	}
	report.Checked = g.file.number
	damage, requests, err := g.inspect(ctx)
	if err != nil {
		return report, fmt.Errorf("repair generation %d: %w", g.file.number, err)
	}
	report.Damage = damage
	if len(g.lost) > 0 {
		again, err := g.bereft(requests)
		if err != nil {
			return report, fmt.Errorf("repair generation %d: %w", g.file.number, err)
		}
		requests = again
	}
	if len(damage.Sections) > 0 {
		return report, nil // a generation without them would not equal this one
	}
	base := g.file.number
	for hurt := len(g.damagedFiles()) > len(g.lost); hurt || len(requests) > 0; hurt = false {
		n := min(len(requests), repairPages)
		info, err := s.repair(ctx, base, requests[:n])
		if err != nil {
			return report, fmt.Errorf("repair generation %d: %w", base, err)
		}
		report.Generation, base = info, info.Number
		report.Repaired += info.PagesCopied
		requests = requests[n:]
	}
	return report, nil
}

// bereft adds the pages that lost a copy with a whole file to those that are to be stored again.
func (g *Generation) bereft(requests []copyRequest) ([]copyRequest, error) {
	full := newMapLoader(g.Pages())
	for part := g.file; ; {
		if part.archive == nil {
			f, err := g.loadOther(part.number)
			if err != nil {
				return nil, err
			}
			part = f
		}
		done, err := full.add(part.path, part.number, part.footer.Root.tag(), part.archive)
		if err != nil {
			return nil, err
		}
		if done {
			break
		}
		part = g.files[part.archive.head.Previous]
	}
	known := map[uint64]bool{}
	for _, r := range requests {
		known[r.page] = true
	}
	for page, l := range g.pages.links {
		p := uint64(page)
		if l == 0 || known[p] {
			continue
		}
		if keep := g.pages.further(p, []backlink{l}); 1+len(full.m.further(p, nil)) > len(keep) {
			requests = append(requests, copyRequest{p, keep[:min(len(keep), maxBacklinks-1)]})
		}
	}
	slices.SortFunc(requests, func(a, b copyRequest) int { return cmp.Compare(a.page, b.page) })
	return requests, nil
}

func (s *Store) repair(ctx context.Context, base uint64, requests []copyRequest) (Info, error) {
	w, err := s.Begin(base)
	if err != nil {
		return Info{}, err
	}
	w.repair, w.requests = true, requests
	if err := w.keepSectionsWell(ctx); err != nil {
		return Info{}, errors.Join(err, w.Abort())
	}
	return w.Commit(ctx)
}

// keepSectionsWell is KeepSections, but a section in a file that is to be given up is stored again.
func (w *Session) keepSectionsWell(ctx context.Context) error {
	var g *Generation
	for _, sec := range w.base.sections {
		if !w.store.moving(sec.Generation) {
			continue
		}
		if g == nil {
			var err error
			if g, err = w.store.OpenGeneration(ctx, w.base.number); err != nil {
				return err
			}
		}
		data, err := g.Section(sec.name)
		if err != nil {
			return err
		}
		if err := w.PutSection(sec.name, data); err != nil {
			return err
		}
	}
	return w.KeepSections()
}

// Rollback makes a new generation that equals the given one and is based on it, so that the process goes on from there. What
// came in between stays until the policy or a purge takes it.
func (s *Store) Rollback(ctx context.Context, number uint64) (Info, error) {
	if number == 0 {
		return Info{}, fmt.Errorf("roll back to generation 0: %w", ErrNotFound)
	}
	info, err := s.repair(ctx, number, nil)
	if err != nil {
		return Info{}, fmt.Errorf("roll back to generation %d: %w", number, err)
	}
	return info, nil
}
