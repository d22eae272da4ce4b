package memsnap

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"testing"

	"perdure/internal/durable/faultfs"
)

// named says whether an error is one that damaged bytes may lead to.
func named(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion) }

// fileParts are the parts of a file between header and footer.
type fileParts struct{ blocks, sections, blockTable, archive, sectionTable, info []byte }

// split takes a good file apart.
func split(b []byte) fileParts {
	var f footer
	decodeFixed(b[len(b)-footerSize:], &f)
	return fileParts{
		b[headerSize:f.sectionsAt()], b[f.sectionsAt():f.blockTableAt()], b[f.blockTableAt():f.archiveAt()],
		b[f.archiveAt():f.sectionTableAt()], b[f.sectionTableAt():f.infoAt()], b[f.infoAt():f.footerAt()],
	}
}

// join makes a file of any parts, with all sizes, checksums and the root hash as they have to be.
func (p fileParts) join(number, base uint64) []byte {
	b := appendFixed(nil, header{
		Magic: headerMagic, Version: formatVersion, HeaderSize: headerSize, Generation: number, Base: base,
		PageSize: PageSize, PagesPerBlock: pagesPerBlock, Line: 1,
	})
	sealCRC(b)
	sum := func(part []byte) (uint64, uint32) { return uint64(len(part)), crc32.Checksum(part, castagnoli) }
	f := footer{Magic: footerMagic, Generation: number, BlocksSize: uint64(len(p.blocks)), SectionsSize: uint64(len(p.sections))}
	f.BlockTableSize, f.BlockTableCRC = sum(p.blockTable)
	f.ArchiveSize, f.ArchiveCRC = sum(p.archive)
	f.SectionTableSize, f.SectionTableCRC = sum(p.sectionTable)
	f.InfoSize, f.InfoCRC = sum(p.info)
	for _, part := range [][]byte{p.blocks, p.sections, p.blockTable, p.archive, p.sectionTable, p.info} {
		b = append(b, part...)
	}
	f.FileSize = uint64(len(b) + footerSize)
	b = appendFixed(b, f)
	at := len(b) - footerSize + rootOffset
	root := rootHash(nil, b[:headerSize], b[f.blockTableAt():at])
	copy(b[at:], root[:])
	sealCRC(b[len(b)-footerSize:])
	return b
}

// fuzzStore makes a store of three generations and returns their files.
func fuzzStore(f testing.TB) (*faultfs.FS, [4][]byte) {
	f.Helper()
	fsys := faultfs.New()
	s, err := Open("/s", Options{FS: fsys})
	if err != nil {
		f.Fatal(err)
	}
	s.budget = func(uint64) archiveBudget { return archiveBudget{1, 8} }
	states := map[uint64]state{0: {}}
	var files [4][]byte
	for n := uint64(1); n <= 3; n++ {
		if err := evolve(s, states, n-1, int(n)); err != nil {
			f.Fatal(err)
		}
		if files[n], err = fsys.ReadFile("/s/" + fileName(n)); err != nil {
			f.Fatal(err)
		}
	}
	return fsys, files
}

// tryFile puts b in the place of a generation's file and reads what there is.
func tryFile(t *testing.T, fsys *faultfs.FS, number uint64, b []byte) {
	fsys = fsys.Clone()
	if err := fsys.SetFile("/s/"+fileName(number), b); err != nil {
		t.Fatal(err)
	}
	s, err := Open("/s", Options{FS: fsys, RestoreWorkers: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{number, 3} {
		exercise(t, s, n)
	}
	if _, err := s.Generations(); err != nil {
		t.Fatal(err)
	}
}

// FuzzFile opens a file of any bytes, as the newest generation of a store and as one that another leans on. Whatever is
// in it, there is a named error or something that can be read to its end.
func FuzzFile(f *testing.F) {
	fsys, files := fuzzStore(f)
	for n := uint64(1); n <= 3; n++ {
		f.Add(files[n], uint8(n))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint8) {
		if b == nil {
			b = []byte{}
		}
		tryFile(t, fsys, 2+uint64(at%2), b)
	})
}

// FuzzParts does the same with a file of any parts, all of whose checksums hold.
func FuzzParts(f *testing.F) {
	fsys, files := fuzzStore(f)
	for n := uint64(1); n <= 3; n++ {
		p := split(files[n])
		if !bytes.Equal(p.join(n, n-1), files[n]) {
			f.Fatal("a good file, taken apart and joined, is another one")
		}
		f.Add(p.blocks, p.sections, p.blockTable, p.archive, p.sectionTable, p.info, uint8(n))
	}
	f.Fuzz(func(t *testing.T, blocks, sections, blockTable, archive, sectionTable, info []byte, at uint8) {
		number := 2 + uint64(at%2)
		tryFile(t, fsys, number, fileParts{blocks, sections, blockTable, archive, sectionTable, info}.join(number, 1))
	})
}

// exercise reads all that a generation gives and goes on from it.
func exercise(t *testing.T, s *Store, number uint64) {
	ctx := context.Background()
	g, err := s.OpenGeneration(ctx, number)
	if err != nil {
		if !named(err) {
			t.Fatalf("open: %v", err)
		}
		return
	}
	if err := checkRefs(g.pages); err != nil {
		t.Fatal(err)
	}
	if g.Pages() > 1<<12 {
		return // a good file may be about a large memory; it is not made here
	}
	if err := g.Verify(ctx); err != nil && !named(err) {
		t.Fatalf("verify: %v", err)
	}
	memory := make([]byte, g.Pages()*PageSize)
	err = g.Restore(ctx, memory)
	if err != nil && !named(err) {
		t.Fatalf("restore: %v", err)
	}
	for _, name := range g.Sections() {
		if _, err := g.Section(name); err != nil && !named(err) {
			t.Fatalf("section: %v", err)
		}
	}
	w, beginErr := s.Begin(number)
	if beginErr != nil {
		t.Fatalf("begin on what can be opened: %v", beginErr)
	}
	page := pageOf(3)
	w.SetPages(g.Pages() + 1)
	_ = w.PutPages(g.Pages(), page)
	info, commitErr := w.Commit(ctx)
	if commitErr != nil {
		t.Fatalf("commit: %v", commitErr)
	}
	if err != nil {
		return
	}
	next, err := s.OpenGeneration(ctx, info.Number)
	if err != nil {
		t.Fatalf("open the next: %v", err)
	}
	got := make([]byte, next.Pages()*PageSize)
	if err := next.Restore(ctx, got); err != nil {
		t.Fatalf("restore the next: %v", err)
	}
	if !bytes.Equal(got, append(memory, page...)) {
		t.Fatal("the next generation is not its base and what was put")
	}
}

// FuzzArchive decodes any bytes as an archive part, and what comes out is put together and encoded again.
func FuzzArchive(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 10 {
		m, changes := randomMap(r, 60)
		f.Add(encodeArchive(9, archiveHead{Pages: 60}, m, changes, r.Uint64N(60), archiveBudget{uint64(r.IntN(300)), 60}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < archiveHeadSize {
			return
		}
		p, err := decodeArchive("f", 0, b, 9, 1<<positionBits)
		if err != nil {
			if !named(err) {
				t.Fatal(err)
			}
			return
		}
		if p.head.Pages > 1<<16 {
			return
		}
		l := newMapLoader(p.head.Pages)
		if _, err := l.add("f", 9, tag{}, p); err != nil {
			if !named(err) {
				t.Fatal(err)
			}
			return
		}
		if err := checkRefs(l.m); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzBlock decodes any bytes as a block.
func FuzzBlock(f *testing.F) {
	for _, seed := range []uint32{1, 3} {
		out, e := encodeBlock(bytes.Repeat(pageOf(seed), 3), 0, nil)
		f.Add(out, e.Method, e.Pages)
	}
	f.Fuzz(func(t *testing.T, stored []byte, method, pages uint8) {
		pages = pages%pagesPerBlock + 1
		dst := make([]byte, int(pages)*PageSize)
		crc := crc32.Checksum(stored, castagnoli)
		e := &blockEntry{StoredSize: uint32(len(stored)), Method: method % 2, Pages: pages, StoredCRC: crc, ContentCRC: crc}
		if e.Method == methodRaw && len(stored) != len(dst) {
			return // the block table refuses it
		}
		_ = decodeBlock(dst, stored, e)
	})
}

// randomMap makes a map over generations 1 to 8 and changes of generation 9 to it.
func randomMap(r *rand.Rand, pages int) (*pageMap, []change) {
	m := newPageMap()
	m.resize(uint64(pages))
	next := [9]uint64{}
	for n := uint64(1); n <= 8; n++ {
		m.refs[n] = &mapRef{tag: tag{byte(n)}}
	}
	for page := 0; page < pages; {
		count := 1 + r.IntN(5)
		n := r.Uint64N(9) // 0: zero pages
		several := r.IntN(4) == 0
		for range min(count, pages-page) {
			if n > 0 {
				m.set(uint64(page), makeBacklink(n, next[n]))
				next[n] += 1 + r.Uint64N(2)
				if other := n%8 + 1; several {
					m.setFurther(uint64(page), []backlink{makeBacklink(other, r.Uint64N(1000))})
					m.refs[other].links++
				}
			}
			page++
		}
	}
	for n, ref := range m.refs {
		if ref.links == 0 {
			delete(m.refs, n)
		}
	}
	var changes []change
	position := uint64(0)
	for page := r.IntN(10); page < pages; page += 1 + r.IntN(10) {
		c := change{first: uint64(page), count: uint64(1 + r.IntN(min(4, pages-page)))}
		if r.IntN(3) > 0 {
			c.link = makeBacklink(9, position)
			position += c.count
		}
		changes = append(changes, c)
		page += int(c.count)
	}
	return m, changes
}

// TestArchiveRoundTrip encodes a map and changes, and has the part and a part with all of the base decoded to the same.
func TestArchiveRoundTrip(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		pages := 1 + r.IntN(150)
		m, changes := randomMap(r, pages)
		root := hash256{8}
		head := archiveHead{Pages: uint64(1 + r.IntN(150)), Previous: 8, PreviousRoot: root}
		for len(changes) > 0 && changes[len(changes)-1].end() > head.Pages {
			changes = changes[:len(changes)-1]
		}
		budget := archiveBudget{bytes: uint64(r.IntN(500)), pages: uint64(r.IntN(200))}
		b := encodeArchive(9, head, m, changes, r.Uint64N(200), budget)
		base := encodeArchive(8, archiveHead{Pages: uint64(pages)}, m, nil, 0, archiveBudget{math.MaxInt64, math.MaxInt64})

		loader := newMapLoader(head.Pages)
		for _, part := range []struct {
			number uint64
			b      []byte
		}{{9, b}, {8, base}} {
			p, err := decodeArchive("f", 0, part.b, part.number, 1<<positionBits)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			own := tag{byte(part.number)}
			if done, err := loader.add("f", part.number, own, p); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			} else if done {
				break
			}
		}
		m.apply(9, tag{9}, head.Pages, changes)
		if len(loader.m.links) != len(m.links) || loader.m.zero != m.zero || len(loader.m.refs) != len(m.refs) {
			t.Fatalf("seed %d: sizes differ: got %+v, want %+v", seed, loader.m, m)
		}
		for page := range m.links {
			var got, want []backlink
			loader.m.all(uint64(page), func(l backlink) bool { got = append(got, l); return true })
			m.all(uint64(page), func(l backlink) bool { want = append(want, l); return true })
			if len(got) != len(want) || len(got) > 0 && got[0] != want[0] || len(got) > 1 && got[1] != want[1] {
				t.Fatalf("seed %d: page %d has %x, want %x", seed, page, got, want)
			}
		}
		for number, ref := range m.refs {
			if got := loader.m.refs[number]; got == nil || got.tag != ref.tag || got.links != ref.links {
				t.Fatalf("seed %d: generation %d: %+v, want %+v", seed, number, got, ref)
			}
		}
	}
}
