package memsnap

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// What a commit stores beside what was put is bounded, so that it costs about what changed: at most so many pages that
// others lean on, and for that it looks at so many pages of the map; the next commit goes on where this one stopped.
const (
	copyPages = 256
	copyLooks = 1 << 14
)

// copyRequest is a page that is stored again: for another copy, or because its file is to be given up.
type copyRequest struct {
	page uint64
	keep []backlink // that stay beside the new one, the preferred first
}

// due returns the pages that are due for another copy, and those whose bytes are moved because little else of their
// file is needed. runs is what was put.
func (w *Session) due(runs []run) []copyRequest {
	s, m := w.store, w.base.pages
	s.mu.Lock()
	redundancy := s.policy.Redundancy
	moves := make(map[uint64]bool, len(s.moves))
	for n := range s.moves {
		moves[n] = true
	}
	s.mu.Unlock()
	pages := min(w.pages, uint64(len(m.links)))
	if redundancy == 0 && len(moves) == 0 || pages == 0 {
		return nil
	}
	var put uint64
	for _, r := range runs {
		put += r.end() - r.first
	}
	most, looks := copyPages+put, min(pages, copyLooks+64*put)
	var list []copyRequest
	page := w.base.copyCursor
	if page >= pages {
		page = 0
	}
	at := 0
	seek := func() {
		at, _ = slices.BinarySearchFunc(runs, page, func(r run, p uint64) int { return cmp.Compare(r.end(), p+1) })
	}
	seek()
	for ; looks > 0 && uint64(len(list)) < most; looks-- {
		if page == pages {
			page = 0
			seek()
		}
		for at < len(runs) && runs[at].end() <= page {
			at++
		}
		l := m.links[page]
		if l != 0 && (at == len(runs) || page < runs[at].first) {
			if keep, due := w.keep(page, l, redundancy, moves); due {
				list = append(list, copyRequest{page, keep})
			}
		}
		page++
	}
	w.cursor = page
	slices.SortFunc(list, func(a, b copyRequest) int { return cmp.Compare(a.page, b.page) })
	return list
}

// moving says whether what is needed of a purged generation is to be moved into newer ones.
func (s *Store) moving(number uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moves[number]
}

// keep decides about one page, whose first backlink is l.
func (w *Session) keep(page uint64, l backlink, redundancy uint64, moves map[uint64]bool) ([]backlink, bool) {
	m := w.base.pages
	old := redundancy > 0 && w.number-l.generation() >= redundancy
	if !old && len(moves) == 0 {
		return nil, false
	}
	var buf [maxBacklinks]backlink
	extra := m.further(page, buf[:0])
	due := old && len(extra) == 0
	keep := make([]backlink, 0, maxBacklinks-1)
	for i := -1; i < len(extra); i++ {
		e := l
		if i >= 0 {
			e = extra[i]
		}
		if moves[e.generation()] {
			due = true
		} else if len(keep) < maxBacklinks-1 {
			keep = append(keep, e)
		}
	}
	return keep, due
}

// withCopies adds the pages that are stored again to the runs that were put. A page that cannot be read because it is
// damaged is left as it is: a repair is not this commit's business, and it must not fail for it.
func (w *Session) withCopies(ctx context.Context, runs []run, requests []copyRequest) ([]run, uint64, error) {
	if len(requests) == 0 {
		return runs, 0, nil
	}
	source := &Generation{store: w.store, file: &genFile{number: w.base.number}, files: map[uint64]*genFile{}}
	type request struct {
		copyRequest
		from backlink
		data []byte
	}
	list := make([]request, len(requests))
	for i, r := range requests {
		list[i] = request{copyRequest: r, from: w.base.pages.at(r.page)}
	}
	// In the order of the files, so that each is opened and each block is read once.
	order := make([]*request, len(list))
	for i := range list {
		order[i] = &list[i]
	}
	slices.SortFunc(order, func(a, b *request) int { return cmp.Compare(a.from, b.from) })
	for _, r := range order {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		data := make([]byte, PageSize)
		var err error
		w.base.pages.all(r.page, func(l backlink) bool {
			if err = source.fetchFile(l.generation(), w.base.pages.refs[l.generation()]); err == nil {
				err = source.readLink(l, data)
			}
			return err != nil && (IsDamage(err) || errors.Is(err, ErrKey))
		})
		switch {
		case err == nil:
			r.data = data
		case !IsDamage(err) && !errors.Is(err, ErrKey) && !errors.Is(err, ErrVersion):
			return nil, 0, err
		}
	}
	var copied uint64
	var out []run
	i := 0
	for _, r := range list {
		if r.data == nil {
			continue
		}
		copied++
		for i < len(runs) && runs[i].first < r.page {
			out = append(out, runs[i])
			i++
		}
		if n := len(out); n > 0 && out[n-1].again && out[n-1].end() == r.page && countsUp(out[n-1], r.keep) {
			out[n-1].data = append(out[n-1].data, r.data...)
		} else {
			out = append(out, run{first: r.page, data: r.data, again: true, keep: r.keep})
		}
	}
	return append(out, runs[i:]...), copied, nil
}

// countsUp says whether a page with these backlinks goes on with the run.
func countsUp(r run, keep []backlink) bool {
	n := backlink(len(r.data) / PageSize)
	if len(r.keep) != len(keep) {
		return false
	}
	for i, l := range keep {
		if r.keep[i]+n != l {
			return false
		}
	}
	return true
}

// fetchFile loads the metadata of a file that readLink is about to need.
func (g *Generation) fetchFile(number uint64, ref *mapRef) error {
	if g.files[number] != nil {
		return nil
	}
	f, err := g.loadBlocksOf(number)
	if err != nil {
		return err
	}
	if err := g.checkFile(f, ref); err != nil {
		return err
	}
	f.archive, f.sections = nil, nil
	g.files[number] = f
	return nil
}
