package memsnap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"perdure/internal/durable"
)

func TestWrongOrderOfCalls(t *testing.T) {
	ctx := context.Background()
	s := openStore(t, Options{})
	w := begin(t, s, 0)
	if _, err := s.Begin(0); !errors.Is(err, ErrBusy) {
		t.Errorf("second session: %v", err)
	}
	w.SetPages(1)
	commit(t, w)
	_, err := w.Commit(ctx)
	for what, err := range map[string]error{
		"commit": err, "put pages": w.PutPages(0, pageOf(1)), "put section": w.PutSection("a", nil), "keep section": w.KeepSection("a"),
	} {
		if !errors.Is(err, ErrState) {
			t.Errorf("%s after commit: %v", what, err)
		}
	}
	if err := w.Abort(); err != nil {
		t.Errorf("abort after commit: %v", err)
	}
	g, err := s.OpenGeneration(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Close(), g.Close()); err != nil {
		t.Error(err)
	}
	_, err = g.Section("a")
	for what, err := range map[string]error{
		"section": err, "read page": g.ReadPage(0, make([]byte, PageSize)),
		"restore": g.Restore(ctx, make([]byte, PageSize)), "verify": g.Verify(ctx),
	} {
		if !errors.Is(err, ErrState) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
}

func TestArgumentsOutOfRange(t *testing.T) {
	ctx := context.Background()
	s := openStore(t, Options{})
	for what, put := range map[string]func(w *Session) error{
		"half a page":        func(w *Session) error { return w.PutPages(0, make([]byte, 100)) },
		"far away":           func(w *Session) error { return w.PutPages(1<<60, make([]byte, PageSize)) },
		"over the end":       func(w *Session) error { return w.PutPages(maxPages, make([]byte, PageSize)) },
		"no name":            func(w *Session) error { return w.PutSection("", nil) },
		"long name":          func(w *Session) error { return w.PutSection(strings.Repeat("x", 256), nil) },
		"beyond the memory":  func(w *Session) error { w.SetPages(3); return w.PutPages(2, make([]byte, 2*PageSize)) },
		"zeros beyond":       func(w *Session) error { return w.PutPages(0, make([]byte, PageSize)) },
		"a memory too large": func(w *Session) error { w.SetPages(maxPages + 1); return nil },
	} {
		w := begin(t, s, 0)
		err := put(w)
		if err == nil {
			_, err = w.Commit(ctx)
		}
		if !errors.Is(err, ErrRange) {
			t.Errorf("%s: %v", what, err)
		}
		if err := w.Abort(); err != nil {
			t.Error(err)
		}
	}
	w := begin(t, s, 0)
	w.SetPages(2)
	commit(t, w)
	g, err := s.OpenGeneration(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"page beyond the end": g.ReadPage(2, make([]byte, PageSize)),
		"short buffer":        g.ReadPage(0, make([]byte, 10)),
		"restore into less":   g.Restore(ctx, make([]byte, PageSize)),
		"restore into more":   g.Restore(ctx, make([]byte, 3*PageSize)),
	} {
		if !errors.Is(err, ErrRange) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestNotFound(t *testing.T) {
	ctx := context.Background()
	s := openStore(t, Options{})
	_, _, newest := s.OpenNewest(ctx)
	_, zero := s.OpenGeneration(ctx, 0)
	_, huge := s.OpenGeneration(ctx, 1<<63)
	_, missing := s.OpenGeneration(ctx, 7)
	_, base := s.Begin(7)
	w := begin(t, s, 0)
	keep := w.KeepSection("a")
	commit(t, w)
	g, err := s.OpenGeneration(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, section := g.Section("a")
	for what, err := range map[string]error{
		"newest of none": newest, "generation 0": zero, "a huge number": huge, "missing generation": missing,
		"missing base": base, "keep a missing section": keep, "missing section": section,
	} {
		if !errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSections(t *testing.T) {
	ctx := context.Background()
	s := openStore(t, Options{})
	large := make([]byte, 3<<20)
	fillCompressible(large, 1)
	random := make([]byte, 100_000)
	fillRandom(random, 1)
	contents := map[string][]byte{
		"empty": {}, "tiny": []byte("x"), "text": bytes.Repeat([]byte("text "), 500), "large": large, "random": random,
		strings.Repeat("n", 255): []byte("long name"), "ümläut\n": []byte("any bytes"),
	}
	w := begin(t, s, 0)
	for name, c := range contents {
		if err := w.PutSection(name, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.PutSection("tiny", []byte("y")); err != nil { // the later put wins
		t.Fatal(err)
	}
	contents["tiny"] = []byte("y")
	first := commit(t, w)

	check := func(number uint64) {
		t.Helper()
		g, err := s.OpenGeneration(ctx, number)
		if err != nil {
			t.Fatal(err)
		}
		if len(g.Sections()) != len(contents) {
			t.Errorf("sections %q", g.Sections())
		}
		for name, want := range contents {
			if got, err := g.Section(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("section %q: %d bytes, want %d, %v", name, len(got), len(want), err)
			}
		}
		if err := g.Verify(ctx); err != nil {
			t.Error(err)
		}
	}
	check(1)

	w = begin(t, s, 1)
	for name, c := range contents {
		if name == "large" {
			if err := w.KeepSection(name); err != nil {
				t.Fatal(err)
			}
		} else if err := w.PutSection(name, c); err != nil {
			t.Fatal(err)
		}
	}
	if second := commit(t, w); second.BytesStored > 2048 {
		t.Errorf("unchanged sections take %d bytes again, after %d", second.BytesStored, first.BytesStored)
	}
	check(2)

	w = begin(t, s, 2) // of one length, but another content
	for name := range contents {
		if err := w.KeepSection(name); err != nil {
			t.Fatal(err)
		}
	}
	contents["tiny"] = []byte("z")
	if err := w.PutSection("tiny", contents["tiny"]); err != nil {
		t.Fatal(err)
	}
	commit(t, w)
	check(3)

	w = begin(t, s, 3) // a section that is neither put nor kept is gone
	commit(t, w)
	contents = nil
	check(4)
}

func TestLaterPutsWin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		const pages = 40
		w := &Session{sections: map[string]sessionSection{}}
		want := make([]byte, pages)
		for i := range 1 + r.IntN(30) {
			first := r.IntN(pages)
			n := 1 + r.IntN(pages-first)
			data := make([]byte, n*PageSize)
			for j := range n {
				data[j*PageSize] = byte(i + 1)
				want[first+j] = byte(i + 1)
			}
			if err := w.PutPages(uint64(first), data); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, pages)
		end := uint64(0)
		for _, run := range w.merged() {
			if run.first < end {
				t.Fatalf("round %d: the runs overlap or are out of order", round)
			}
			end = run.end()
			for p := run.first; p < end; p++ {
				got[p] = run.data[(p-run.first)*PageSize]
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("round %d:\ngot  %v\nwant %v", round, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	cut := time.Unix(1_800_000_000, 5)
	s := openStore(t, Options{Now: func() time.Time { return cut }})
	w := begin(t, s, 0)
	w.SetPages(10)
	w.SetPause(3 * time.Millisecond)
	_ = w.PutPages(1, pageOf(3))
	_ = w.PutPages(2, pageOf(1))
	_ = w.PutPages(3, pageOf(0))
	_ = w.PutPages(2, pageOf(4))
	_ = w.PutSection("a", make([]byte, 1000))
	got := commit(t, w)
	want := Info{
		Number: 1, Time: cut, Pages: 10, PagesPut: 3, PagesNew: 2, PagesZero: 8, BytesRaw: 2*PageSize + 1000,
		Pause: 3 * time.Millisecond,
	}
	stat, err := os.Stat(filepath.Join(s.dir, fileName(1)))
	if err != nil {
		t.Fatal(err)
	}
	want.BytesStored = uint64(stat.Size())
	want.Encode, want.Sync = got.Encode, got.Sync
	if got != want || got.Encode <= 0 || got.Sync <= 0 {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	second := begin(t, s, 1)
	_ = second.PutPages(1, pageOf(0))
	gotSecond := commit(t, second)
	if gotSecond.PagesLinked != 1 || gotSecond.PagesZero != 9 || gotSecond.Base != 1 {
		t.Errorf("second: %+v", gotSecond)
	}
	list, err := s.Generations()
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	gotSecond.Sync = 0 // nobody knows it yet
	if !list[0].Time.Equal(cut) || list[0].Sync != got.Sync {
		t.Errorf("listed %+v\nwant %+v", list[0], got)
	}
	for i, want := range []Info{got, gotSecond} {
		want.Time, list[i].Time = time.Time{}, time.Time{}
		if list[i] != want {
			t.Errorf("listed %+v\nwant %+v", list[i], want)
		}
	}
}

func TestACancelledCommitPublishesNothing(t *testing.T) {
	s := openStore(t, Options{})
	cause := fmt.Errorf("shutting down")
	ctx, cancel := context.WithCancelCause(context.Background())
	w := begin(t, s, 0)
	w.SetPages(3000)
	m := make([]byte, 3000*PageSize)
	fillRandom(m, 1)
	_ = w.PutPages(0, m)
	cancel(cause)
	if _, err := w.Commit(ctx); !errors.Is(err, cause) {
		t.Errorf("commit: %v", err)
	}
	if entries, _ := os.ReadDir(s.dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	w = begin(t, s, 0)
	w.SetPages(3000)
	_ = w.PutPages(0, m)
	commit(t, w)
	g, err := s.OpenGeneration(context.Background(), w.Number())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Restore(ctx, make([]byte, len(m))); !errors.Is(err, cause) {
		t.Errorf("restore: %v", err)
	}
	if _, _, err := s.OpenNewest(ctx); err != nil && !errors.Is(err, cause) {
		t.Errorf("open: %v", err)
	}
}

// TestReadersBesideASession has readers at work while generations are made.
func TestReadersBesideASession(t *testing.T) {
	ctx := context.Background()
	s := openStore(t, Options{CommitWorkers: 2})
	states := map[uint64]state{0: {}}
	if err := evolve(s, states, 0, 0); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for i := range 3 {
		running.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 0))
			for {
				select {
				case <-stop:
					return
				default:
				}
				g, skipped, err := s.OpenNewest(ctx)
				if err != nil || len(skipped) > 0 {
					t.Errorf("newest: %v, %v", skipped, err)
					return
				}
				page := make([]byte, PageSize)
				var both sync.WaitGroup
				for range 2 {
					both.Go(func() {
						if err := g.Restore(ctx, make([]byte, g.Pages()*PageSize)); err != nil {
							t.Errorf("restore: %v", err)
						}
					})
				}
				if err := g.ReadPage(r.Uint64N(g.Pages()), page); err != nil {
					t.Errorf("read: %v", err)
				}
				both.Wait()
				if _, err := s.Generations(); err != nil {
					t.Errorf("list: %v", err)
				}
				_ = g.Close()
			}
		})
	}
	for i := 1; i < 40; i++ {
		if err := evolve(s, states, uint64(i), i); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	running.Wait()
	g, err := s.OpenGeneration(ctx, 40)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkState(g, states[40], rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Error(err)
	}
}

func TestStoreOnTheRealFileSystem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, states := smallStore(t, durable.OS, dir, 5)
	if stat, err := os.Stat(dir); err != nil || stat.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", stat.Mode(), err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for n := uint64(1); n <= 5; n++ {
		g, err := s.OpenGeneration(context.Background(), n)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Verify(context.Background()), checkState(g, states[n], r)); err != nil {
			t.Errorf("generation %d: %v", n, err)
		}
	}
	stat, err := os.Stat(filepath.Join(dir, fileName(1)))
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v", stat.Mode(), err)
	}
}
