package memsnap

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// backlink is a place where a page's bytes are: a generation and the page's position among those that this
// generation's file holds. The zero value stands for a page that is all zero.
type backlink uint64

const positionBits = 24

func makeBacklink(generation, position uint64) backlink {
	return backlink(generation<<positionBits | position)
}

func (l backlink) generation() uint64 { return uint64(l) >> positionBits }
func (l backlink) position() uint64   { return uint64(l) & (1<<positionBits - 1) }

// pageMap is what the archives of a generation come to: for each page its backlinks.
type pageMap struct {
	links []backlink // of each page, the first choice
	// The second choice of each page, 0 if there is none; nil as long as no page has one. Most pages come to have two,
	// hardly any has more: those are in extra.
	second []backlink
	extra  map[uint64][]backlink
	refs   map[uint64]*mapRef // the generations that links and extra point to
	zero   uint64             // how many of links are zero
}

// mapRef is what a map knows of a generation that it points to.
type mapRef struct {
	tag   tag
	links uint64 // how many backlinks point there
	last  uint64 // the highest position pointed to, at the time of loading
}

func newPageMap() *pageMap {
	return &pageMap{extra: map[uint64][]backlink{}, refs: map[uint64]*mapRef{}}
}

func (m *pageMap) at(page uint64) backlink {
	if page < uint64(len(m.links)) {
		return m.links[page]
	}
	return 0
}

// runAt returns how many pages from page up to end, at most, are alike: zero, or with backlinks that count up.
func (m *pageMap) runAt(page, end uint64) uint64 {
	links := m.links[page:min(end, uint64(len(m.links)))]
	step := backlink(1)
	if links[0] == 0 {
		step = 0
	}
	var second []backlink
	if m.second != nil {
		second = m.second[page:]
	}
	for i := 1; i < len(links); i++ {
		if links[i] != links[i-1]+step {
			return uint64(i)
		}
		if second == nil || step == 0 {
			continue
		}
		if (second[i] == 0) != (second[i-1] == 0) || second[i] != 0 && second[i] != second[i-1]+1 ||
			len(m.extra) > 0 && (m.extra[page] != nil || m.extra[page+uint64(i)] != nil) {
			return uint64(i)
		}
	}
	return uint64(len(links))
}

// all calls visit for each backlink of a page, the first choice first.
func (m *pageMap) all(page uint64, visit func(backlink) bool) {
	if l := m.at(page); l == 0 || !visit(l) {
		return
	}
	if m.second == nil || m.second[page] == 0 || !visit(m.second[page]) || len(m.extra) == 0 {
		return
	}
	for _, l := range m.extra[page] {
		if !visit(l) {
			return
		}
	}
}

// further appends the backlinks of a page behind the first choice to buf.
func (m *pageMap) further(page uint64, buf []backlink) []backlink {
	if m.second == nil || m.second[page] == 0 {
		return buf
	}
	if buf = append(buf, m.second[page]); len(m.extra) > 0 {
		buf = append(buf, m.extra[page]...)
	}
	return buf
}

// setFurther replaces them. It does not count.
func (m *pageMap) setFurther(page uint64, links []backlink) {
	if len(links) == 0 {
		if m.second != nil {
			m.second[page] = 0
		}
		delete(m.extra, page)
		return
	}
	if m.second == nil {
		m.second = make([]backlink, len(m.links))
	}
	m.second[page] = links[0]
	if delete(m.extra, page); len(links) > 1 {
		m.extra[page] = slices.Clone(links[1:])
	}
}

// resize cuts the map or fills it up with zero pages.
func (m *pageMap) resize(pages uint64) {
	for page := pages; page < uint64(len(m.links)); page++ {
		m.set(page, 0)
		m.zero--
	}
	if grow := pages - min(pages, uint64(len(m.links))); grow > 0 {
		m.links = append(m.links, make([]backlink, grow)...)
		if m.second != nil {
			m.second = append(m.second, make([]backlink, grow)...)
		}
		m.zero += grow
	}
	m.links = m.links[:pages]
	if m.second != nil {
		m.second = m.second[:pages]
	}
}

// set gives a page one backlink, or none if link is 0. The generation must be known to refs.
func (m *pageMap) set(page uint64, link backlink) {
	if old := m.links[page]; old != 0 {
		m.release(old)
		var buf [maxBacklinks]backlink
		if further := m.further(page, buf[:0]); len(further) > 0 {
			for _, l := range further {
				m.release(l)
			}
			m.setFurther(page, nil)
		}
		m.zero++
	}
	m.links[page] = link
	if link != 0 {
		m.refs[link.generation()].links++
		m.zero--
	}
}

// release forgets a generation with its last backlink, so that refs stays as small as what it is needed for.
func (m *pageMap) release(l backlink) {
	number := l.generation()
	ref := m.refs[number]
	if ref.links--; ref.links == 0 {
		delete(m.refs, number)
	}
}

// copies says whether any page has more than one backlink.
func (m *pageMap) copies() bool { return m.second != nil }

// drop takes all backlinks to the lost generations out. If that leaves a page without one, it returns a generation that
// held its only copy, and the map is useless; else 0.
func (m *pageMap) drop(lost map[uint64]error) uint64 {
	for page, l := range m.links {
		if l == 0 {
			continue
		}
		var buf [maxBacklinks]backlink
		extra := m.further(uint64(page), buf[:0])
		bad := lost[l.generation()] != nil
		for _, e := range extra {
			bad = bad || lost[e.generation()] != nil
		}
		if !bad {
			continue
		}
		var good []backlink
		for _, e := range append([]backlink{l}, extra...) {
			if lost[e.generation()] != nil {
				m.release(e)
			} else {
				good = append(good, e)
			}
		}
		if len(good) == 0 {
			return l.generation()
		}
		m.links[page] = good[0]
		m.setFurther(uint64(page), good[1:])
	}
	return 0
}

// change is a run of consecutive pages that a session changed.
type change struct {
	first, count uint64
	link         backlink   // of the first page, the others follow; 0 if the pages are all zero
	keep         []backlink // of the first page, its further ones, that the base has and that stay; they follow too
}

func (c change) end() uint64 { return c.first + c.count }

// tail returns the change without the pages before page.
func (c change) tail(page uint64) change {
	skip := page - c.first
	c.first, c.count = page, c.count-skip
	if c.link != 0 {
		c.link += backlink(skip)
	}
	if skip > 0 && len(c.keep) > 0 {
		c.keep = after(c.keep, skip)
	}
	return c
}

// after returns the backlinks of the page that comes n pages after one with these.
func after(links []backlink, n uint64) []backlink {
	moved := make([]backlink, len(links))
	for i, l := range links {
		moved[i] = l + backlink(n)
	}
	return moved
}

// apply brings a map to a new generation.
func (m *pageMap) apply(own uint64, ownTag tag, pages uint64, changes []change) {
	m.resize(pages)
	m.refs[own] = &mapRef{tag: ownTag, links: 1} // held until the end, lest it be released in between
	for _, c := range changes {
		for i := range c.count {
			link := c.link
			if link != 0 {
				link += backlink(i)
			}
			if len(c.keep) == 0 {
				m.set(c.first+i, link)
				continue
			}
			keep := after(c.keep, i)
			for _, l := range keep {
				m.refs[l.generation()].links++ // before set gives up those of the base
			}
			m.set(c.first+i, link)
			m.setFurther(c.first+i, keep)
		}
	}
	m.release(makeBacklink(own, 0))
}

// mapLoader puts a page map together from archive parts, newest first: what a newer part says of a page counts.
type mapLoader struct {
	m     *pageMap
	known []uint64 // bit per page
	limit uint64   // pages from here on are known: the memory was smaller at the time of an older part
	low   uint64   // all pages below are known
}

func newMapLoader(pages uint64) *mapLoader {
	m := newPageMap()
	m.resize(pages)
	return &mapLoader{m: m, known: make([]uint64, (pages+63)/64), limit: pages}
}

// add takes the next older part. It reports whether all pages are known now.
func (l *mapLoader) add(path string, own uint64, ownTag tag, p *archivePart) (bool, error) {
	l.limit = min(l.limit, p.head.Pages)
	tags := make(map[uint64]tag, len(p.refs)+1)
	tags[own] = ownTag
	for _, r := range p.refs {
		tags[r.Generation] = r.Tag
	}
	more := p.more
	for _, r := range p.runs {
		further := more[:r.further]
		more = more[r.further:]
		for i := range min(r.count, l.limit-min(l.limit, r.first)) {
			page := r.first + i
			if l.known[page/64]&(1<<(page%64)) != 0 {
				continue
			}
			l.known[page/64] |= 1 << (page % 64)
			if r.link == 0 {
				continue
			}
			if err := l.link(path, page, r.link+backlink(i), tags); err != nil {
				return false, err
			}
			for _, f := range further {
				if err := l.link(path, page, f+backlink(i), tags); err != nil {
					return false, err
				}
			}
		}
	}
	for page := p.head.CompleteFirst; page < min(p.head.CompleteEnd, l.limit); page++ {
		if page%64 == 0 && page+64 <= min(p.head.CompleteEnd, l.limit) {
			l.known[page/64] = math.MaxUint64
			page += 63
			continue
		}
		l.known[page/64] |= 1 << (page % 64)
	}
	for l.low < l.limit {
		free := bits.TrailingZeros64(^l.known[l.low/64] >> (l.low % 64))
		l.low = min(l.low+uint64(free), (l.low/64+1)*64)
		if l.low%64 != 0 || free == 0 {
			break
		}
	}
	return l.low >= l.limit || p.head.Previous == 0, nil
}

// link adds a backlink to a page.
func (l *mapLoader) link(path string, page uint64, link backlink, tags map[uint64]tag) error {
	number := link.generation()
	ref := l.m.refs[number]
	if ref == nil {
		ref = &mapRef{tag: tags[number]}
		l.m.refs[number] = ref
	}
	if ref.tag != tags[number] {
		return &CorruptError{path, -1, fmt.Sprintf("archive: another generation %d is meant than a newer archive means", number)}
	}
	ref.links++
	ref.last = max(ref.last, link.position())
	if l.m.links[page] == 0 {
		l.m.links[page] = link
		l.m.zero--
	} else {
		var buf [maxBacklinks]backlink
		l.m.setFurther(page, append(l.m.further(page, buf[:0]), link))
	}
	return nil
}
