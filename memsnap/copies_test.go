package memsnap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"perdure/internal/durable/faultfs"
)

// linksOf returns the generations that hold a page, the preferred first.
func linksOf(t *testing.T, s *Store, number, page uint64) []uint64 {
	t.Helper()
	g, err := s.OpenGeneration(context.Background(), number)
	if err != nil {
		t.Fatal(err)
	}
	var list []uint64
	g.pages.all(page, func(l backlink) bool { list = append(list, l.generation()); return true })
	return list
}

// TestRedundancyStoresASecondCopy: when three generations lean on the only copy of a page, the fourth stores it again.
func TestRedundancyStoresASecondCopy(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, err := Open("/s", Options{FS: fsys, Policy: Policy{Redundancy: 3}})
	if err != nil {
		t.Fatal(err)
	}
	want := state{pages: []uint32{1, 2, 0, 3, 4, 0}, sections: map[string]string{}}
	for n := uint64(0); n < 12; n++ {
		w := begin(t, s, n)
		w.SetPages(6)
		if n == 0 {
			for i, seed := range want.pages {
				_ = w.PutPages(uint64(i), pageOf(seed))
			}
		}
		want.pages[0] = uint32(10 + n)
		_ = w.PutPages(0, pageOf(want.pages[0])) // changes each time
		info := commit(t, w)
		if copied := info.PagesCopied; n == 3 && copied != 3 || n != 3 && copied != 0 {
			t.Errorf("generation %d copied %d pages", info.Number, copied)
		}
		if n == 5 {
			if s, err = Open("/s", Options{FS: fsys, Policy: Policy{Redundancy: 3}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for page, links := range map[uint64][]uint64{0: {12}, 1: {4, 1}, 2: nil, 3: {4, 1}, 4: {4, 1}} {
		if got := linksOf(t, s, 12, page); !slices.Equal(got, links) {
			t.Errorf("page %d is in %v, want %v", page, got, links)
		}
	}
	// Either file may go without a loss, and the loss is reported.
	for _, n := range []uint64{1, 4} {
		for _, damaged := range [][]byte{nil, []byte("nonsense")} {
			fsys := fsys.Clone()
			if err := fsys.SetFile("/s/"+fileName(n), damaged); err != nil {
				t.Fatal(err)
			}
			s, err := Open("/s", Options{FS: fsys})
			if err != nil {
				t.Fatal(err)
			}
			g, skipped, err := s.OpenNewest(ctx)
			if err != nil || len(skipped) > 0 {
				t.Fatalf("without generation %d: %v, %v", n, skipped, err)
			}
			if err := checkState(g, want, rand.New(rand.NewPCG(1, 1))); err != nil {
				t.Fatalf("without generation %d: %v", n, err)
			}
			if err := g.Verify(ctx); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("without generation %d: verify: %v", n, err)
			}
		}
	}
}

// TestCopiesAreBounded: a large memory gets its second copies bit by bit.
func TestCopiesAreBounded(t *testing.T) {
	fsys := faultfs.New()
	s, err := Open("/s", Options{FS: fsys, Policy: Policy{Redundancy: 2}})
	if err != nil {
		t.Fatal(err)
	}
	const pages = 5000
	w := begin(t, s, 0)
	w.SetPages(pages)
	for i := range uint64(pages) {
		_ = w.PutPages(i, pageOf(uint32(1+i%900)))
	}
	commit(t, w)
	var copied uint64
	for n := uint64(1); n < 24; n++ {
		w := begin(t, s, n)
		_ = w.PutPages(7, pageOf(uint32(n)))
		info := commit(t, w)
		if info.PagesCopied > copyPages+1 {
			t.Fatalf("%d pages were copied at once", info.PagesCopied)
		}
		copied += info.PagesCopied
	}
	if copied != pages-1 {
		t.Errorf("%d pages were copied, want %d", copied, pages-1)
	}
	g, err := s.OpenGeneration(context.Background(), 24)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkRefs(g.pages); err != nil {
		t.Fatal(err)
	}
	if err := g.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsLeftOfPurgedGenerationsIsMoved: a program that changes a few pages each time leaves a page here and there in old
// files. With a policy the number of files stays bounded.
func TestWhatIsLeftOfPurgedGenerationsIsMoved(t *testing.T) {
	ctx := context.Background()
	for _, redundancy := range []uint64{0, 3} {
		fsys := faultfs.New()
		s, err := Open("/s", Options{FS: fsys, Policy: Policy{MaxSnapshots: 10, Redundancy: redundancy}})
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, redundancy))
		const pages, generations = 400, 600
		want := state{pages: make([]uint32, pages), sections: map[string]string{}}
		var most int
		var size, highest int64
		for n := range generations {
			w := begin(t, s, uint64(n))
			w.SetPages(pages)
			for range 12 {
				i := int(float64(pages) * r.Float64() * r.Float64() * r.Float64()) // some change often, some hardly ever
				want.pages[i] = 1 + r.Uint32N(2000)
				_ = w.PutPages(uint64(i), pageOf(want.pages[i]))
			}
			want.sections["n"] = fmt.Sprint(n / 50)
			_ = w.PutSection("n", []byte(want.sections["n"]))
			commit(t, w)
			if _, err := s.PurgeExpired(ctx); err != nil {
				t.Fatal(err)
			}
			files, err := s.files()
			if err != nil {
				t.Fatal(err)
			}
			if len(files.live) > 10 {
				t.Fatalf("%d generations", len(files.live))
			}
			if n > generations/2 {
				most = max(most, len(files.rest))
				highest = max(highest, storeBytes(t, fsys))
			} else {
				size = max(size, storeBytes(t, fsys))
			}
		}
		if err := checkFreed(s, fsys); err != nil {
			t.Fatal(err)
		}
		g, err := s.OpenGeneration(ctx, generations)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Verify(ctx), checkState(g, want, r)); err != nil {
			t.Fatal(err)
		}
		t.Logf("redundancy %d: at most %d files of purged generations; %d bytes in the first half, %d in the second, for %d pages",
			redundancy, most, size, highest, pages)
		if most > 100 || highest > size*3/2 {
			t.Errorf("redundancy %d: %d files of purged generations; %d bytes in the first half, %d in the second", redundancy, most, size, highest)
		}
	}
}

// movingStore makes a store whose next commit moves pages out of the rest of generation 1.
func movingStore(t *testing.T) (*faultfs.FS, *Store, state) {
	t.Helper()
	fsys := faultfs.New()
	s := must(Open("/s", Options{FS: fsys, RestoreWorkers: 1}))
	want := state{pages: make([]uint32, 40), sections: map[string]string{}}
	for n := range uint64(4) {
		w := begin(t, s, n)
		w.SetPages(40)
		for i := range 40 {
			if n == 0 || n == 2 && i >= 8 {
				want.pages[i] = uint32(1 + i + 50*int(n))
				_ = w.PutPages(uint64(i), pageOf(want.pages[i]))
			}
		}
		commit(t, w)
	}
	if _, err := s.Purge(context.Background(), 1, 2); err != nil {
		t.Fatal(err)
	}
	if !s.moving(1) {
		t.Fatal("generation 1 is not to be moved")
	}
	return fsys, s, want
}

func TestAMoveThatFailsOrCrashesAtAnyCall(t *testing.T) {
	ctx := context.Background()
	for _, inject := range []func(int) func(faultfs.Call) error{
		func(i int) func(faultfs.Call) error { return faultfs.FailAt(i, faultfs.ErrInjected) },
		faultfs.CrashAt,
	} {
		for i := 0; ; i++ {
			fsys, s, want := movingStore(t)
			fsys.SetInjector(inject(i))
			w := begin(t, s, 4)
			info, err := w.Commit(ctx)
			if err == nil {
				if info.PagesCopied != 8 {
					t.Fatalf("call %d: %d pages were moved", i, info.PagesCopied)
				}
				_, err = s.Purge(ctx, 3, 4)
			}
			calls := fsys.Calls()
			after := fsys.Clone()
			if errors.Is(inject(i)(faultfs.Call{Index: i}), faultfs.ErrCrashed) {
				after = fsys.Crash(rand.New(rand.NewPCG(uint64(i), 1)))
			}
			s = must(Open("/s", Options{FS: after}))
			g, skipped, openErr := s.OpenNewest(ctx)
			if openErr != nil || len(skipped) > 0 {
				t.Fatalf("call %d: %v, %v", i, skipped, openErr)
			}
			wantState(t, s, g.Info().Number, want)
			if _, err := s.Sweep(ctx); err != nil {
				t.Fatal(err)
			}
			for _, n := range must(s.files()).live {
				wantState(t, s, n, want)
			}
			if err := checkFreed(s, after); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
			if i >= calls {
				if err != nil {
					t.Fatal(err)
				}
				if files := must(s.files()); slices.Contains(files.rest, 1) {
					t.Errorf("the rest of generation 1 is there after the move: %+v", files)
				}
				break
			}
		}
	}
}
