package memsnap

import (
	"bytes"
	"context"
	"fmt"
)

// PageRange is consecutive pages.
type PageRange struct{ First, Count uint64 }

// Difference is what differs between two generations, seen from the first.
type Difference struct {
	PagesBefore, PagesAfter uint64      // sizes of the memories
	Changed                 []PageRange // pages whose content differs; what is beyond a memory counts as zero
	Added, Removed, Altered []string    // sections, sorted
}

// Pages returns how many pages differ.
func (d *Difference) Pages() uint64 {
	var n uint64
	for _, r := range d.Changed {
		n += r.Count
	}
	return n
}

// PageDigest is how much of a stretch of the memory differs.
type PageDigest struct {
	First, Count uint64 // the stretch, in pages
	Changed      uint64 // of them
}

// Regions sums up which pages differ by stretches of so many pages, and leaves out those where none does.
func (d *Difference) Regions(pages uint64) []PageDigest {
	if pages == 0 {
		pages = 1
	}
	end := max(d.PagesBefore, d.PagesAfter)
	var list []PageDigest
	for _, r := range d.Changed {
		for first := r.First; first < r.First+r.Count; {
			start := first / pages * pages
			stop := min(start+pages, r.First+r.Count)
			if n := len(list); n == 0 || list[n-1].First != start {
				list = append(list, PageDigest{First: start, Count: min(pages, end-start)})
			}
			list[len(list)-1].Changed += stop - first
			first = stop
		}
	}
	return list
}

// Diff compares two generations. Pages that both take from the same place are equal without being read; the content of all others is
// compared.
func (s *Store) Diff(ctx context.Context, before, after uint64) (*Difference, error) {
	a, err := s.OpenGeneration(ctx, before)
	if err != nil {
		return nil, fmt.Errorf("diff: %w", err)
	}
	defer a.Close() // it holds nothing
	b, err := s.OpenGeneration(ctx, after)
	if err != nil {
		return nil, fmt.Errorf("diff: %w", err)
	}
	defer b.Close() // it holds nothing
	d := &Difference{PagesBefore: a.Pages(), PagesAfter: b.Pages()}
	d.sections(a.file.sections, b.file.sections)
	var pageA, pageB [PageSize]byte
	pages := max(a.Pages(), b.Pages())
	progress := s.progress(pages)
	const step = 1024 // pages
	for page := range pages {
		if page%step == 0 {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			progress.add(min(step, pages-page))
		}
		if samePlace(a.pages, b.pages, page) {
			continue
		}
		if err := a.pageOrZero(page, pageA[:]); err != nil {
			return nil, fmt.Errorf("diff: %w", err)
		}
		if err := b.pageOrZero(page, pageB[:]); err != nil {
			return nil, fmt.Errorf("diff: %w", err)
		}
		if bytes.Equal(pageA[:], pageB[:]) {
			continue
		}
		if n := len(d.Changed); n > 0 && d.Changed[n-1].First+d.Changed[n-1].Count == page {
			d.Changed[n-1].Count++
		} else {
			d.Changed = append(d.Changed, PageRange{page, 1})
		}
	}
	return d, nil
}

func (g *Generation) pageOrZero(page uint64, dst []byte) error {
	if page >= g.Pages() {
		clear(dst)
		return nil
	}
	return g.ReadPage(page, dst)
}

// samePlace says whether two maps have a backlink of the page in common, or no bytes at all.
func samePlace(a, b *pageMap, page uint64) bool {
	if a.at(page) == 0 && b.at(page) == 0 {
		return true
	}
	same := false
	a.all(page, func(l backlink) bool {
		b.all(page, func(m backlink) bool {
			same = l == m
			return !same
		})
		return !same
	})
	return same
}

func (d *Difference) sections(a, b sectionTable) {
	for _, s := range a {
		switch t, ok := b.find(s.name); {
		case !ok:
			d.Removed = append(d.Removed, s.name)
		case s.SHA256 != t.SHA256 || s.RawSize != t.RawSize:
			d.Altered = append(d.Altered, s.name)
		}
	}
	for _, s := range b {
		if _, ok := a.find(s.name); !ok {
			d.Added = append(d.Added, s.name)
		}
	}
}
