package memsnap

import (
	"iter"
	"math"
)

// Backlink says where the bytes of a page are: in the file of which generation, and as its how manieth stored page.
type Backlink struct{ Generation, Position uint64 }

// PageRun is consecutive pages whose backlinks count up together.
type PageRun struct {
	First, Count uint64
	// Backlinks are those of the first page, the preferred one first. Without any the pages are zero.
	Backlinks []Backlink
}

// Runs goes through the archive of the generation: all pages of the memory in order. It reads nothing.
func (g *Generation) Runs() iter.Seq[PageRun] {
	return func(yield func(PageRun) bool) {
		for page := uint64(0); page < g.Pages(); {
			r := PageRun{First: page, Count: g.pages.runAt(page, math.MaxUint64)}
			g.pages.all(page, func(l backlink) bool {
				r.Backlinks = append(r.Backlinks, Backlink{l.generation(), l.position()})
				return true
			})
			if !yield(r) {
				return
			}
			page += r.Count
		}
	}
}

// Stored goes through the pages that Restore will write, in runs as long as they get: the first page and how many.
// All others are zero. It reads nothing.
func (g *Generation) Stored() iter.Seq2[uint64, uint64] {
	return func(yield func(first, count uint64) bool) {
		links := g.pages.links
		for page := 0; page < len(links); {
			first := page
			for page < len(links) && (links[page] != 0) == (links[first] != 0) {
				page++
			}
			if links[first] != 0 && !yield(uint64(first), uint64(page-first)) {
				return
			}
		}
	}
}

// SectionInfo says what a section is and where its bytes are.
type SectionInfo struct {
	Name       string
	Generation uint64 // in whose file the bytes are
	RawSize    uint64 // of the content, in bytes
	StoredSize uint64 // in the file
	SHA256     [32]byte
}

// SectionInfos describes the sections, sorted by their names. It reads nothing.
func (g *Generation) SectionInfos() []SectionInfo {
	list := make([]SectionInfo, len(g.file.sections))
	for i, s := range g.file.sections {
		list[i] = SectionInfo{Name: s.name, Generation: s.Generation, RawSize: s.RawSize, StoredSize: s.StoredSize, SHA256: s.SHA256}
	}
	return list
}
