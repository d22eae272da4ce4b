package memsnap

import (
	"encoding/binary"
	"fmt"
	"math"
)

// archiveBudget bounds what a generation's archive spends on the mapping of pages that it did not change.
type archiveBudget struct {
	bytes uint64
	pages uint64 // looked at
}

// budgetFor returns the budget for a generation with n stored pages. The archive costs what changed: a fixed part that
// keeps the whole within the 4 KiB that a generation may cost beside its pages, and a part of the 3 % per page.
func budgetFor(n uint64) archiveBudget {
	return archiveBudget{bytes: 1024 + 48*n, pages: 1<<17 + 64*n}
}

// encodeArchive encodes the archive part of generation own: the changes, and for a stretch of pages from cursor on,
// as long as the budget lets it be, the mapping of every page. A reader that goes back along the chain of archives
// has all pages when the stretches have come round once.
func encodeArchive(own uint64, head archiveHead, m *pageMap, changes []change, cursor uint64, budget archiveBudget) []byte {
	w := archiveWriter{known: map[uint64]uint64{own: 0}, next: make([]uint64, 1)}
	w.runs = make([]byte, 0, min(budget.bytes, 8*head.Pages)+8*uint64(len(changes)))
	if cursor >= min(head.Pages, uint64(len(m.links))) {
		cursor = 0 // once more from the beginning
	}
	emit := func(c change, end uint64) change { // up to page end; returns what is left
		n := min(c.count, end-c.first)
		w.addRun(c.first, n, c.link, c.keep, m.refs)
		return c.tail(c.first + n)
	}
	for len(changes) > 0 && changes[0].first < cursor {
		if rest := emit(changes[0], cursor); rest.count > 0 {
			changes = append([]change{rest}, changes[1:]...)
			break
		}
		changes = changes[1:]
	}
	var further []backlink
	page, limit := cursor, w.size()+budget.bytes
	for page < head.Pages && w.size() < limit {
		if len(changes) > 0 && changes[0].first == page {
			if changes[0].link != 0 { // a zero page is one that a complete stretch does not mention
				w.addRun(page, changes[0].count, changes[0].link, changes[0].keep, m.refs)
			}
			page = changes[0].end()
			changes = changes[1:]
			continue
		}
		end := head.Pages
		if len(changes) > 0 {
			end = changes[0].first
		}
		if page >= uint64(len(m.links)) {
			page = end
			continue
		}
		if budget.pages == 0 {
			break
		}
		n := m.runAt(page, min(end, page+budget.pages))
		if link := m.links[page]; link != 0 {
			further = m.further(page, further[:0])
			w.add(page, n, link, further, m.refs)
		}
		budget.pages -= n
		page += n
	}
	for _, c := range changes {
		emit(c, math.MaxUint64)
	}
	w.flush()

	head.Version = archiveVersion
	head.Generations = uint32(len(w.refs))
	head.CompleteFirst, head.CompleteEnd = cursor, page
	head.Runs = w.count
	b := appendFixed(make([]byte, 0, w.size()), head)
	for _, ref := range w.refs {
		b = appendFixed(b, ref)
	}
	return append(b, w.runs...)
}

// encodeIdleArchive encodes the archive part of a generation in which no page changed. It takes no part in the chain.
func encodeIdleArchive(head archiveHead, cursor uint64) []byte {
	head.Version = archiveVersion
	head.CompleteFirst, head.CompleteEnd = cursor, cursor
	return appendFixed(nil, head)
}

// archiveWriter collects pages in ascending order into runs.
type archiveWriter struct {
	refs  []archiveRef
	known map[uint64]uint64 // generation → its index: 0 is the own one, i+1 is refs[i]
	next  []uint64          // for each index the position after the last run's
	runs  []byte
	count uint32

	end   uint64 // of the last flushed run
	first uint64 // of the run that is being collected
	n     uint64
	links []backlink
}

func (w *archiveWriter) size() uint64 {
	return uint64(archiveHeadSize + len(w.refs)*archiveRefSize + len(w.runs))
}

// addRun adds a run of changed pages.
func (w *archiveWriter) addRun(first, count uint64, link backlink, keep []backlink, refs map[uint64]*mapRef) {
	w.flush()
	w.first, w.n, w.links = first, count, w.links[:0]
	if link != 0 {
		w.links = append(append(w.links, link), keep...)
		w.know(refs)
	}
	w.flush()
}

// know gives each generation that the run points to its index.
func (w *archiveWriter) know(refs map[uint64]*mapRef) {
	for _, l := range w.links {
		number := l.generation()
		if _, ok := w.known[number]; !ok {
			w.refs = append(w.refs, archiveRef{number, refs[number].tag})
			w.known[number] = uint64(len(w.refs))
			w.next = append(w.next, 0)
		}
	}
}

// add adds n pages of the base.
func (w *archiveWriter) add(page, n uint64, link backlink, extra []backlink, refs map[uint64]*mapRef) {
	if w.n > 0 && page == w.first+w.n && w.follows(link, extra) {
		w.n += n
		return
	}
	w.flush()
	w.first, w.n = page, n
	w.links = append(append(w.links[:0], link), extra...)
	w.know(refs)
}

func (w *archiveWriter) follows(link backlink, extra []backlink) bool {
	if len(w.links) != 1+len(extra) || w.links[0]+backlink(w.n) != link {
		return false
	}
	for i, l := range extra {
		if w.links[1+i]+backlink(w.n) != l {
			return false
		}
	}
	return true
}

func (w *archiveWriter) flush() {
	if w.n == 0 {
		return
	}
	w.runs = binary.AppendUvarint(w.runs, w.first-w.end)
	w.runs = binary.AppendUvarint(w.runs, (w.n-1)<<3|uint64(len(w.links)))
	for _, l := range w.links {
		index := w.known[l.generation()]
		w.runs = binary.AppendUvarint(w.runs, index)
		w.runs = binary.AppendVarint(w.runs, int64(l.position())-int64(w.next[index]))
		w.next[index] = l.position() + w.n
	}
	w.end = w.first + w.n
	w.n = 0
	w.count++
}

// archivePart is a decoded archive part.
type archivePart struct {
	head archiveHead
	refs []archiveRef
	runs []archiveRun
	more []backlink // of the runs that have several backlinks, all but their first, in order
}

type archiveRun struct {
	first, count uint64
	link         backlink // 0: zero pages
	further      uint8    // how many of more belong to this run
}

// idle says whether the part adds nothing, so that the chain passes it by.
func (p *archivePart) idle() bool {
	return p.head.Runs == 0 && p.head.CompleteFirst == p.head.CompleteEnd && p.head.Flags&archiveResized == 0
}

// decodeArchive decodes the archive part b of generation own, found at offset at of the file, whose blocks hold
// ownPages pages.
func decodeArchive(path string, at int64, b []byte, own, ownPages uint64) (*archivePart, error) {
	corrupt := func(offset int, what string) (*archivePart, error) {
		return nil, &CorruptError{path, at + int64(offset), "archive: " + what}
	}
	p := &archivePart{}
	h := &p.head
	decodeFixed(b, h) // its length was checked with the footer
	switch {
	case h.Version != archiveVersion:
		return nil, &VersionError{path, "archive", h.Version}
	case h.Pages > maxPages || h.CompleteFirst > h.CompleteEnd || h.CompleteEnd > maxPages:
		return corrupt(0, "too many pages")
	case h.CompleteFirst != h.CompleteEnd && h.CompleteEnd > h.Pages:
		return corrupt(0, "the complete stretch goes beyond the memory")
	case h.Previous >= own || (h.Previous == 0) != (h.PreviousRoot == hash256{}):
		return corrupt(0, "wrong previous generation")
	case h.Flags&^archiveResized != 0:
		return corrupt(0, "unknown flags")
	case uint64(h.Generations) > uint64(len(b)-archiveHeadSize)/archiveRefSize:
		return corrupt(0, "too many generations")
	}
	offset := archiveHeadSize
	p.refs = make([]archiveRef, h.Generations)
	for i := range p.refs {
		r := &p.refs[i]
		r.Generation = binary.LittleEndian.Uint64(b[offset:])
		r.Tag = tag(b[offset+8 : offset+archiveRefSize])
		if r.Generation == 0 || r.Generation >= own {
			return corrupt(offset, fmt.Sprintf("points to generation %d", r.Generation))
		}
		offset += archiveRefSize
	}
	if uint64(h.Runs) > uint64(len(b)-offset)/2 { // the shortest run takes two bytes
		return corrupt(offset, "too many runs")
	}
	p.runs = make([]archiveRun, 0, h.Runs)
	next := make([]uint64, len(p.refs)+1)
	bad := false
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b[offset:])
		if n <= 0 {
			bad = true
			return 0
		}
		offset += n
		return v
	}
	var end uint64
	for range h.Runs {
		start := offset
		gap, shape := uvarint(), uvarint()
		r := archiveRun{count: shape>>3 + 1}
		links := shape & maxBacklinks
		if bad || gap > h.Pages || r.count > h.Pages || end+gap+r.count > h.Pages {
			return corrupt(start, "a run goes beyond the memory")
		}
		r.first = end + gap
		end = r.first + r.count
		for i := range links {
			index := uvarint()
			v, n := binary.Varint(b[offset:])
			if bad || n <= 0 || index > uint64(len(p.refs)) {
				return corrupt(offset, "a run is cut off or points nowhere")
			}
			offset += n
			number, bound := own, ownPages
			if index > 0 {
				number, bound = p.refs[index-1].Generation, 1<<positionBits
			}
			position := next[index] + uint64(v) // wraps as the writer's difference did
			if position >= bound || r.count > bound-position {
				return corrupt(start, fmt.Sprintf("a run points beyond generation %d", number))
			}
			next[index] = position + r.count
			if link := makeBacklink(number, position); i == 0 {
				r.link = link
			} else {
				p.more = append(p.more, link)
				r.further++
			}
		}
		p.runs = append(p.runs, r)
	}
	if offset != len(b) {
		return corrupt(offset, "bytes are left over")
	}
	return p, nil
}
