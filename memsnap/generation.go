package memsnap

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"sync"
)

// Generation is an open generation. Its methods may be called concurrently. It holds no file open between calls.
type Generation struct {
	store *Store
	file  *genFile
	files map[uint64]*genFile // all that it needs, its own included
	lost  map[uint64]error    // files that it could do without, since all pages there have other copies, and their damage
	pages *pageMap

	mu     sync.Mutex
	closed bool
	recent recentBlock
	bad    []error // copies that were passed over
}

// maxBad bounds how many bad copies are remembered: one damaged file may hold a million.
const maxBad = 100

// Bad returns the damage that was found since the generation was opened and did no harm because there was another copy:
// one error for each file that is lost or hurt and for each bad copy, at most 100. It is empty as long as all is well.
func (g *Generation) Bad() []error {
	var list []error
	for _, err := range g.damagedFiles() {
		list = append(list, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return append(list, g.bad...)
}

// damagedFiles returns the damage of files that did no harm: those that are lost, and those of which the pages are well.
func (g *Generation) damagedFiles() map[uint64]error {
	list := maps.Clone(g.lost)
	for number, f := range g.files {
		if f.hurt != nil {
			list[number] = f.hurt
		}
	}
	return list
}

func (g *Generation) passedOver(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.bad) < maxBad {
		g.bad = append(g.bad, err)
	}
}

// recentBlock keeps the block that was read last, for pages that are read one after the other.
type recentBlock struct {
	file  *genFile
	index int
	data  []byte
}

// Info describes the generation. Sync is not known to it and 0.
func (g *Generation) Info() Info { return g.file.info.info(g.file.number, g.file.header.Base) }

// Pages returns the size of the memory, in pages of PageSize bytes.
func (g *Generation) Pages() uint64 { return uint64(len(g.pages.links)) }

// Sections returns the names of the sections, sorted.
func (g *Generation) Sections() []string {
	names := make([]string, len(g.file.sections))
	for i, s := range g.file.sections {
		names[i] = s.name
	}
	return names
}

// Section reads and checks a section. ErrNotFound says that the generation has none of that name.
func (g *Generation) Section(name string) ([]byte, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	s, ok := g.file.sections.find(name)
	if !ok {
		return nil, fmt.Errorf("section %q of generation %d: %w", name, g.file.number, ErrNoSection)
	}
	data, err := g.readSection(&s)
	if err != nil {
		return nil, fmt.Errorf("section %q of generation %d: %w", name, g.file.number, err)
	}
	return data, nil
}

func (g *Generation) readSection(s *section) ([]byte, error) {
	path := g.files[s.Generation].path
	f, err := g.store.open(s.Generation)
	if err != nil {
		return nil, readError(path, -1, "file", true, err)
	}
	defer f.Close() // read only
	stored := make([]byte, s.StoredSize)
	if _, err := f.ReadAt(stored, int64(s.Offset)); err != nil {
		return nil, readError(path, int64(s.Offset), "section", true, err)
	}
	return decodeSection(path, stored, &s.sectionEntry)
}

// ReadPage reads and checks one page into dst, which is PageSize bytes. If the page's first copy is damaged, the next
// one is taken. After an error dst is undefined.
func (g *Generation) ReadPage(index uint64, dst []byte) error {
	if err := g.usable(); err != nil {
		return err
	}
	if index >= g.Pages() || len(dst) != PageSize {
		return fmt.Errorf("read page %d of %d into %d bytes: %w", index, g.Pages(), len(dst), ErrRange)
	}
	if g.pages.at(index) == 0 {
		clear(dst)
		return nil
	}
	var first error
	done := false
	g.pages.all(index, func(l backlink) bool {
		err := g.readLink(l, dst)
		done = err == nil
		if first == nil {
			first = err
		}
		return !done && IsDamage(err)
	})
	if !done {
		return fmt.Errorf("read page %d of generation %d: %w", index, g.file.number, first)
	}
	if first != nil {
		g.passedOver(fmt.Errorf("page %d: %w", index, first))
	}
	return nil
}

// readLink reads the page that a backlink points to.
func (g *Generation) readLink(l backlink, dst []byte) error {
	file := g.files[l.generation()]
	block, slot := int(l.position()/pagesPerBlock), l.position()%pagesPerBlock
	g.mu.Lock()
	recent := g.recent
	g.mu.Unlock()
	if recent.file != file || recent.index != block {
		f, err := g.store.open(file.number)
		if err != nil {
			return readError(file.path, -1, "file", true, err)
		}
		defer f.Close() // read only
		at := file.blocks.offsets[block]
		stored := make([]byte, file.blocks.offsets[block+1]-at)
		if _, err := f.ReadAt(stored, at); err != nil {
			return readError(file.path, at, "block", true, err)
		}
		e := &file.blocks.entries[block]
		if g.store.key != nil && sha256.Sum256(stored) != e.SHA256 {
			return g.store.forged(file, block, stored)
		}
		recent = recentBlock{file, block, make([]byte, int(e.Pages)*PageSize)}
		if err := decodeBlock(recent.data, stored, e); err != nil {
			return &CorruptError{file.path, at, "block: " + err.Error()}
		}
		g.mu.Lock()
		g.recent = recent
		g.mu.Unlock()
	}
	copy(dst, recent.data[slot*PageSize:][:PageSize])
	return nil
}

// Close ends the use of the generation.
func (g *Generation) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.recent = recentBlock{}
	return nil
}

func (g *Generation) usable() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return &StateError{Op: "read", What: fmt.Sprintf("generation %d", g.file.number), State: "closed"}
	}
	return nil
}

// Restore fills dst, which is the whole memory and all zero before, with the generation's pages. Everything that is
// read is checked; zero pages are not touched. If a page's first copy is damaged, the next one is taken. After an error
// the content of dst is undefined; IsDamage says whether it is worth to go on with OpenNewestBelow.
func (g *Generation) Restore(ctx context.Context, dst []byte) error {
	if err := g.usable(); err != nil {
		return err
	}
	if uint64(len(dst)) != g.Pages()*PageSize {
		return fmt.Errorf("restore %d pages into %d bytes: %w", g.Pages(), len(dst), ErrRange)
	}
	if err := g.readAll(ctx, dst, 0, g.Pages(), false); err != nil {
		return fmt.Errorf("restore generation %d: %w", g.file.number, err)
	}
	return nil
}

// Verify reads every byte that the generation needs, all copies of its pages included, and checks it against CRC and
// SHA-256.
func (g *Generation) Verify(ctx context.Context) error {
	if err := g.usable(); err != nil {
		return err
	}
	if err := g.store.unlessPurged(g.file.number, g.verify(ctx)); err != nil {
		return fmt.Errorf("verify generation %d: %w", g.file.number, err)
	}
	return nil
}
