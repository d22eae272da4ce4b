package memsnap

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"testing"

	"perdure/internal/durable"
	"perdure/internal/durable/faultfs"
)

// TestCost holds the promise on the size of a generation: nothing changed costs at most 2 KiB, n changed pages that do
// not compress at most 1.03 times their size and 4 KiB.
func TestCost(t *testing.T) {
	const total = 1 << 18 // 1 GiB
	page := make([]byte, PageSize)
	s, err := Open("/s", Options{FS: sinkFS{}})
	if err != nil {
		t.Fatal(err)
	}
	w := begin(t, s, 0)
	w.SetPages(total)
	base := commit(t, w).Number
	r := rand.New(rand.NewPCG(1, 1))
	buffer := make([]byte, 4096*PageSize)
	fillRandom(buffer, 7)
	law := func(what string, info Info) {
		t.Helper()
		n := info.PagesNew
		bound := 1.03*float64(n)*PageSize + 4096
		if n == 0 {
			bound = 2048
		}
		if float64(info.BytesStored) > bound {
			t.Errorf("%s, %d pages: %d bytes, at most %.0f", what, n, info.BytesStored, bound)
		}
	}
	put := func(w *Session, p uint64, i int) {
		t.Helper()
		if err := w.PutPages(p, buffer[i%4096*PageSize:][:PageSize]); err != nil {
			t.Fatal(err)
		}
	}
	counts := []int{1, 2, 3, 10, 15, 16, 17, 100, 1000, 1, 1, 5000, 20000, 1, 0, 1000, 1, 1}
	for range 60 {
		counts = append(counts, 1, 30)
	}
	for _, n := range counts {
		w := begin(t, s, base)
		for i := range n { // scattered
			put(w, r.Uint64N(total), r.IntN(4096)+i)
		}
		for _, name := range []string{"stack", "globals", "tables", "wasi", "meta"} {
			if err := w.PutSection(name, buffer[:100]); err != nil {
				t.Fatal(err)
			}
		}
		info := commit(t, w)
		if base > 1 {
			law("scattered", info)
		}
		base = info.Number
	}
	w = begin(t, s, base)
	for i := range 100_000 {
		put(w, uint64(i), i)
	}
	info := commit(t, w)
	law("in a row", info)
	w = begin(t, s, info.Number)
	copy(page, buffer)
	for i := 1; i < total; i += 3 { // every third: as many runs as there can be
		put(w, uint64(i), i)
	}
	law("every third", commit(t, w))
}

func TestChainStaysShort(t *testing.T) {
	// Hardly a page is in the same generation as its neighbours: the worst for an archive.
	const pages, generations = 4096, 400
	fsys := faultfs.New()
	s, err := Open("/s", Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	w := begin(t, s, 0)
	w.SetPages(pages)
	commit(t, w)
	r := rand.New(rand.NewPCG(1, 1))
	seeds := make([]uint32, pages)
	for n := range generations {
		w := begin(t, s, uint64(n+1))
		for range 10 {
			p := r.IntN(pages)
			seeds[p] = 1 + 3*r.Uint32N(300)
			if err := w.PutPages(uint64(p), pageOf(seeds[p])); err != nil {
				t.Fatal(err)
			}
		}
		commit(t, w)
	}
	number, length := uint64(generations+1), 0
	loader := newMapLoader(pages)
	for {
		f, err := s.loadGenFile(number, false)
		if err != nil {
			t.Fatal(err)
		}
		length++
		done, err := loader.add(f.path, number, f.footer.Root.tag(), f.archive)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			break
		}
		number = f.archive.head.Previous
	}
	t.Logf("%d archive parts for %d pages of %d generations", length, pages, len(loader.m.refs))
	if length > 60 {
		t.Errorf("%d archive parts have to be read", length)
	}
	g, err := s.OpenGeneration(context.Background(), generations+1)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkState(g, state{pages: seeds}, r); err != nil {
		t.Fatal(err)
	}
}

// sinkFS takes what is written and forgets it.
type sinkFS struct{ durable.FS }

func (sinkFS) ReadDir(string) ([]durable.Entry, error)          { return nil, nil }
func (sinkFS) Create(string, fs.FileMode) (durable.File, error) { return sinkFile{}, nil }
func (sinkFS) Remove(path string) error                         { return nil }
func (sinkFS) Rename(string, string) error                      { return nil }
func (sinkFS) SyncDir(string) error                             { return nil }

type sinkFile struct{ durable.File }

func (sinkFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (sinkFile) StartWriteback(int64, int64)            {}
func (sinkFile) Sync() error                            { return nil }
func (sinkFile) Close() error                           { return nil }
