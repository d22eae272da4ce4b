package memsnap

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"time"
)

// Session makes one new generation: Begin, then puts in any order, then Commit or Abort. It belongs to one goroutine.
type Session struct {
	store  *Store
	base   *baseline
	number uint64
	line   uint64 // the first generation of its line
	over   bool   // committed or aborted

	pages    uint64
	requests []copyRequest // of a repair; then nothing else is stored again
	repair   bool
	cursor   uint64 // where the next commit goes on looking for pages that are due for a copy
	runs     []run
	layers   []int // indexes into runs where a new ascending layer begins
	sections map[string]sessionSection
	pause    time.Duration
	time     time.Time // of the report; zero: that of the commit
}

// sessionSection is a section that was put or, if data is nil, kept from the base.
type sessionSection struct {
	data []byte
	kept sectionEntry
}

// baseline is what a session builds on: the state of a generation, or of none. The newest one stays in memory, so
// that a commit costs what changed and reads nothing.
type baseline struct {
	number   uint64
	line     uint64
	root     hash256
	inChain  bool // its archive part says something
	previous uint64
	prevRoot hash256 // of previous
	cursor   uint64  // where the next complete stretch begins
	// Where to go on looking for pages that are due for a copy.
	copyCursor uint64
	pages      *pageMap
	sections   sectionTable
	sync       time.Duration
	runs       int // that the session put
}

// chainEnd returns the newest generation whose archive part has to be read.
func (b *baseline) chainEnd() (uint64, hash256) {
	if b.inChain {
		return b.number, b.root
	}
	return b.previous, b.prevRoot
}

// Begin starts the session that makes the next generation. It is based on the given one: pages that are not put are
// those of the base; 0 stands for an empty memory. Any generation may be the base. Its number is the highest that the
// store ever had plus 1. ErrBusy says that another session is under way, ErrNotFound that there is no such base,
// ErrCorrupt that the base is damaged.
func (s *Store) Begin(base uint64) (*Session, error) {
	w := &Session{store: s, sections: map[string]sessionSection{}}
	s.mu.Lock()
	busy, full := s.session != nil, s.highest >= maxNumber
	if !busy && !full {
		s.session = w
		w.number = s.highest + 1
	}
	head, newest := s.head, s.newest
	s.mu.Unlock()
	switch {
	case busy:
		return nil, fmt.Errorf("begin on generation %d: %w", base, ErrBusy)
	case full:
		return nil, fmt.Errorf("begin on generation %d: the numbers are used up: %w", base, ErrRange)
	}

	switch {
	case head != nil && head.number == base:
		w.base = head
	case base == 0:
		w.base = &baseline{pages: newPageMap()}
	default:
		g, err := s.OpenGeneration(context.Background(), base)
		if err != nil {
			s.release(w, nil)
			return nil, fmt.Errorf("begin: %w", err)
		}
		a := g.file.archive
		w.base = &baseline{
			number: base, line: g.file.header.Line, root: g.file.footer.Root, inChain: !a.idle(),
			previous: a.head.Previous, prevRoot: a.head.PreviousRoot, cursor: a.head.CompleteEnd,
			pages: g.pages, sections: g.file.sections,
		}
	}
	w.pages = uint64(len(w.base.pages.links))
	w.runs = make([]run, 0, w.base.runs) // as a rule there are about as many again
	if w.line = w.base.line; base == 0 || base != newest {
		w.line = w.number
	}
	return w, nil
}

// release ends the session in the store. head is the baseline that later sessions may start from without reading; nil
// keeps the old one.
func (s *Store) release(w *Session, head *baseline) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == w {
		s.session = nil
	}
	if head != nil {
		s.head = head
	}
}

// Number returns the number that the generation will have.
func (w *Session) Number() uint64 { return w.number }

// SetPages sets the size of the memory in pages. Without it the size is that of the base. Pages beyond the base's are
// zero unless they are put.
func (w *Session) SetPages(n uint64) { w.pages = n }

// SetPause records for the report how long the guest stood still.
func (w *Session) SetPause(d time.Duration) { w.pause = d }

// PutPages gives new bytes to consecutive pages. data is whole pages and is not copied: it has to stay as it is until
// Commit or Abort returns. A later put of the same page wins.
func (w *Session) PutPages(first uint64, data []byte) error {
	if w.over {
		return w.overError("put pages")
	}
	n := uint64(len(data) / PageSize)
	if len(data)%PageSize != 0 || first > maxPages || n > maxPages-first {
		return fmt.Errorf("put %d bytes at page %d: %w", len(data), first, ErrRange)
	}
	if n == 0 {
		return nil
	}
	switch last := len(w.runs) - 1; {
	case last < 0:
		w.layers = append(w.layers, 0)
	case first < w.runs[last].end():
		w.layers = append(w.layers, len(w.runs))
	}
	w.runs = append(w.runs, run{first: first, data: data})
	return nil
}

// PutSection gives the new generation a section. The sections of a generation are those that were put or kept in its
// session; bytes that the base has under the same name are not stored again. data has to stay as it is until Commit
// or Abort returns. A later put of the same name wins.
func (w *Session) PutSection(name string, data []byte) error {
	if w.over {
		return w.overError("put section")
	}
	if name == "" || len(name) > maxSectionName || len(data) > maxSectionSize {
		return fmt.Errorf("put section %q of %d bytes: %w", name, len(data), ErrRange)
	}
	if data == nil {
		data = []byte{}
	}
	w.sections[name] = sessionSection{data: data}
	return nil
}

// KeepSection gives the new generation the base's section of that name as it is, without reading it. ErrNotFound says
// that the base has none.
func (w *Session) KeepSection(name string) error {
	if w.over {
		return w.overError("keep section")
	}
	s, ok := w.base.sections.find(name)
	if !ok {
		return fmt.Errorf("keep section %q of generation %d: %w", name, w.base.number, ErrNoSection)
	}
	w.sections[name] = sessionSection{kept: s.sectionEntry}
	return nil
}

// KeepSections gives the new generation all sections of the base that were not put, as KeepSection does.
func (w *Session) KeepSections() error {
	if w.over {
		return w.overError("keep sections")
	}
	for _, s := range w.base.sections {
		if _, ok := w.sections[s.name]; !ok {
			w.sections[s.name] = sessionSection{kept: s.sectionEntry}
		}
	}
	return nil
}

// DeleteSection takes a section that was put or kept out of the new generation again. Older generations keep theirs.
// ErrNoSection says that the new generation has none of that name.
func (w *Session) DeleteSection(name string) error {
	if w.over {
		return w.overError("delete section")
	}
	if _, ok := w.sections[name]; !ok {
		return fmt.Errorf("delete section %q: %w", name, ErrNoSection)
	}
	delete(w.sections, name)
	return nil
}

func (w *Session) overError(op string) error {
	return &StateError{Op: op, What: "the session", State: "over"}
}

// Abort ends the session without a generation. After Commit it does nothing, so that it can be deferred.
func (w *Session) Abort() error {
	if !w.over {
		w.end(nil)
	}
	return nil
}

func (w *Session) end(head *baseline) {
	w.over = true
	w.runs, w.sections = nil, nil // the caller's memory
	w.store.release(w, head)
}

// run is consecutive pages and their bytes.
type run struct {
	first uint64
	data  []byte
	again bool       // stored again, not put
	keep  []backlink // of the first page, those that stay if again; they count up
}

func (r run) end() uint64 { return r.first + uint64(len(r.data)/PageSize) }

// cut returns the pages of the run from first up to end.
func (r run) cut(first, end uint64) run {
	return run{first: first, data: r.data[(first-r.first)*PageSize : (end-r.first)*PageSize]}
}

// merged returns what was put as ascending runs that do not overlap; of several puts of a page the last counts.
func (w *Session) merged() []run {
	layers := make([][]run, len(w.layers))
	for i, from := range w.layers {
		to := len(w.runs)
		if i+1 < len(w.layers) {
			to = w.layers[i+1]
		}
		layers[i] = w.runs[from:to]
	}
	for len(layers) > 1 { // pairs of neighbours, so that many layers cost no more than sorting
		for i := 0; i+1 < len(layers); i += 2 {
			layers[i/2] = overlay(layers[i], layers[i+1])
		}
		if len(layers)%2 == 1 {
			layers[len(layers)/2] = layers[len(layers)-1]
		}
		layers = layers[:(len(layers)+1)/2]
	}
	if len(layers) == 0 {
		return nil
	}
	return layers[0]
}

// overlay lays upper over lower.
func overlay(lower, upper []run) []run {
	out := make([]run, 0, len(lower)+len(upper))
	for _, u := range upper {
		for len(lower) > 0 && lower[0].first < u.first {
			l := lower[0]
			out = append(out, l.cut(l.first, min(l.end(), u.first)))
			if l.end() > u.first {
				lower[0] = l.cut(u.first, l.end())
				break
			}
			lower = lower[1:]
		}
		for len(lower) > 0 && lower[0].first < u.end() {
			l := lower[0]
			if l.end() > u.end() {
				lower[0] = l.cut(u.end(), l.end())
				break
			}
			lower = lower[1:]
		}
		out = append(out, u)
	}
	return append(out, lower...)
}

// split separates the pages that have to be stored from those that are zero. It returns the runs to store in
// ascending order and all changes of the map, whose backlinks count up through the stored pages.
func (w *Session) split(runs []run) (stored []run, changes []change, put uint64) {
	stored, changes = make([]run, 0, len(runs)), make([]change, 0, len(runs))
	var position uint64
	for _, r := range runs {
		if r.again {
			stored = append(stored, r)
			changes = append(changes, change{r.first, r.end() - r.first, makeBacklink(w.number, position), r.keep})
			position += r.end() - r.first
			continue
		}
		put += r.end() - r.first
		for page := r.first; page < r.end(); {
			zero := isZero(r.cut(page, page+1).data)
			end := page + 1
			for end < r.end() && isZero(r.cut(end, end+1).data) == zero {
				end++
			}
			if zero {
				changes = w.appendZero(changes, page, end)
			} else {
				stored = append(stored, r.cut(page, end))
				changes = append(changes, change{page, end - page, makeBacklink(w.number, position), nil})
				position += end - page
			}
			page = end
		}
	}
	return stored, changes, put
}

// appendZero adds the pages from first up to end that are not zero in the base.
func (w *Session) appendZero(changes []change, first, end uint64) []change {
	for page := first; page < end; page++ {
		if w.base.pages.at(page) == 0 {
			continue
		}
		if last := len(changes) - 1; last >= 0 && changes[last].link == 0 && changes[last].end() == page {
			changes[last].count++
		} else {
			changes = append(changes, change{page, 1, 0, nil})
		}
	}
	return changes
}

var zeroPage [PageSize]byte

func isZero(page []byte) bool { return bytes.Equal(page, zeroPage[:]) }

// tableOfSections encodes the sections: those that the base has with the same content are linked. at is where the
// stored bytes begin in the file; they are handed to write in order.
func (w *Session) tableOfSections(at uint64, write func([]byte) error) (t sectionTable, raw uint64, err error) {
	if len(w.sections) > maxSections {
		return nil, 0, fmt.Errorf("%d sections: %w", len(w.sections), ErrRange)
	}
	for name, put := range w.sections {
		t = append(t, section{name, put.kept})
	}
	sort.Slice(t, func(i, j int) bool { return t[i].name < t[j].name })
	for i := range t {
		data := w.sections[t[i].name].data
		if data == nil {
			continue
		}
		stored, entry := encodeSection(data)
		if old, ok := w.base.sections.find(t[i].name); ok && old.SHA256 == entry.SHA256 &&
			old.RawSize == entry.RawSize && !w.store.moving(old.Generation) {
			t[i].sectionEntry = old.sectionEntry
			continue
		}
		raw += entry.RawSize
		entry.Generation, entry.Offset = w.number, at
		t[i].sectionEntry = entry
		if err := write(stored); err != nil {
			return nil, 0, err
		}
		at += entry.StoredSize
	}
	return t, raw, nil
}
