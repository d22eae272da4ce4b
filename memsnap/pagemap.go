package memsnap

import (
	"fmt"
	"math"
	"math/bits"
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
	links []backlink            // of each page, the first choice
	extra map[uint64][]backlink // further choices of the pages that have any
	refs  map[uint64]*mapRef    // the generations that links and extra point to
	zero  uint64                // how many of links are zero
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

// runAt returns how many pages from page up to end, at most, are alike: zero, or with a single backlink that counts up.
func (m *pageMap) runAt(page, end uint64) uint64 {
	links := m.links[page:min(end, uint64(len(m.links)))]
	step := backlink(1)
	if links[0] == 0 {
		step = 0
	}
	several := len(m.extra) > 0
	for i := 1; i < len(links); i++ {
		if links[i] != links[i-1]+step || several && (m.extra[page] != nil || m.extra[page+uint64(i)] != nil) {
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
	for _, l := range m.extra[page] {
		if !visit(l) {
			return
		}
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
		m.zero += grow
	}
	m.links = m.links[:pages]
}

// set gives a page one backlink, or none if link is 0. The generation must be known to refs.
func (m *pageMap) set(page uint64, link backlink) {
	if old := m.links[page]; old != 0 {
		m.release(old)
		for _, l := range m.extra[page] {
			m.release(l)
		}
		delete(m.extra, page)
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

// change is a run of consecutive pages that a session changed.
type change struct {
	first, count uint64
	link         backlink // of the first page, the others follow; 0 if the pages are all zero
}

func (c change) end() uint64 { return c.first + c.count }

// tail returns the change without the pages before page.
func (c change) tail(page uint64) change {
	skip := page - c.first
	c.first, c.count = page, c.count-skip
	if c.link != 0 {
		c.link += backlink(skip)
	}
	return c
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
			m.set(c.first+i, link)
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
		l.m.extra[page] = append(l.m.extra[page], link)
	}
	return nil
}
