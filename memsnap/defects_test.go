package memsnap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"perdure/internal/durable"
	"perdure/internal/durable/faultfs"
)

// The tests of this file are named for the defects that were found in an older snapshot component. Each shows that this
// one does not have it.

func wantState(t *testing.T, s *Store, number uint64, want state) {
	t.Helper()
	g, err := s.OpenGeneration(context.Background(), number)
	if err == nil {
		err = errors.Join(g.Verify(context.Background()), checkState(g, want, rand.New(rand.NewPCG(1, 1))))
	}
	if err != nil {
		t.Fatalf("generation %d: %v", number, err)
	}
}

// The first good copy is the result; a later one that is bad does not overwrite it.
func TestDefectD1FirstGoodCopyWins(t *testing.T) {
	fsys, s, want := twoCopies(t)
	flip(t, fsys, fileName(1), 70) // the second choice
	g := must(s.OpenGeneration(context.Background(), 4))
	if err := checkState(g, want, rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Fatal(err)
	}
	if len(g.Bad()) > 0 {
		t.Errorf("copies that were not needed were read: %v", g.Bad())
	}
}

// A mismatch is an error, never zeros and success.
func TestDefectD2MismatchIsAnError(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, _ := smallStore(t, fsys, "/s", 1)
	flip(t, fsys, fileName(1), 70)
	g := must(s.OpenGeneration(ctx, 1))
	if err := g.Restore(ctx, make([]byte, g.Pages()*PageSize)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("restore: %v", err)
	}
	if err := g.ReadPage(0, make([]byte, PageSize)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("read page: %v", err)
	}
	if err := g.Export(ctx, &bytes.Buffer{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("export: %v", err)
	}
}

// What is checked is what was stored, however long the caller's buffer.
func TestDefectD3LengthIsThatOfTheData(t *testing.T) {
	s := must(Open("/s", Options{FS: faultfs.New()}))
	w := begin(t, s, 0)
	for n := range 40 {
		_ = w.PutSection(fmt.Sprint("n", n), bytes.Repeat([]byte{7}, n*n))
	}
	w.SetPages(1)
	_ = w.PutPages(0, pageOf(3))
	commit(t, w)
	g := must(s.OpenGeneration(context.Background(), 1))
	for n := range 40 {
		if b, err := g.Section(fmt.Sprint("n", n)); err != nil || len(b) != n*n {
			t.Errorf("section of %d bytes: %d, %v", n*n, len(b), err)
		}
	}
	for _, size := range []int{0, PageSize - 1, 2 * PageSize} {
		if err := g.ReadPage(0, make([]byte, size)); !errors.Is(err, ErrRange) {
			t.Errorf("a buffer of %d bytes: %v", size, err)
		}
	}
}

// Damage stays what it is: nothing writes zeros, or anything, over it or copies it.
func TestDefectD4DamageIsNotMadePermanent(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, states := smallStore(t, fsys, "/s", 4)
	s.policy = Policy{Redundancy: 1}
	good := must(fsys.ReadFile("/s/" + fileName(1)))
	flip(t, fsys, fileName(1), 70)
	bad := must(fsys.ReadFile("/s/" + fileName(1)))
	for i := range 4 {
		if err := evolve(s, states, uint64(4+i), 10+i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Purge(ctx, 2, 3); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(must(fsys.ReadFile("/s/"+fileName(1))), bad) {
		t.Fatal("a file was changed")
	}
	if _, err := s.Purge(ctx, 1); err != nil {
		t.Fatal(err)
	}
	// Put back, it is as good as ever.
	mended := must(fsys.ReadFile("/s/" + restName(1)))
	copy(mended[64:128], good[64:128])
	if err := fsys.SetFile("/s/"+restName(1), mended); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{4, 5, 6, 7, 8} {
		wantState(t, s, n, states[n])
	}
}

// Content that a 32-bit checksum cannot tell apart is told apart.
func TestDefectD5EqualChecksumsAreNotEqualContent(t *testing.T) {
	seen := map[uint32]string{}
	var a, b string
	for i := 0; a == ""; i++ {
		text := fmt.Sprintf("%016x", uint64(i)*0x9e3779b97f4a7c15)
		sum := crc32.Checksum([]byte(text), castagnoli)
		if other, ok := seen[sum]; ok {
			a, b = other, text
		}
		seen[sum] = text
	}
	s := must(Open("/s", Options{FS: faultfs.New()}))
	for n, text := range []string{a, b} {
		w := begin(t, s, uint64(n))
		w.SetPages(1)
		_ = w.PutSection("section", []byte(text))
		page := make([]byte, PageSize)
		copy(page, text)
		_ = w.PutPages(0, page)
		commit(t, w)
	}
	g := must(s.OpenGeneration(context.Background(), 2))
	page := make([]byte, PageSize)
	if err := g.ReadPage(0, page); err != nil || string(page[:16]) != b || string(must(g.Section("section"))) != b {
		t.Errorf("stale content: %q, %v", page[:16], err)
	}
}

// Nothing is removed because it is not understood: rests that are needed, damaged generations, other versions, strangers.
func TestDefectD6NothingIsWipedAtTheStart(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, states := smallStore(t, fsys, "/s", 5)
	if _, err := s.Purge(ctx, 1, 3); err != nil {
		t.Fatal(err)
	}
	flip(t, fsys, fileName(2), 500)
	future := must(fsys.ReadFile("/s/" + fileName(4)))
	future[8] = 99
	sealCRC(future[:headerSize])
	if err := errors.Join(fsys.SetFile("/s/"+fileName(9), future), fsys.SetFile("/s/notes.txt", []byte("mine")),
		fsys.MkdirAll("/s/lost+found", 0o700)); err != nil {
		t.Fatal(err)
	}
	before := must(fsys.ReadDir("/s"))
	for range 3 {
		s := must(Open("/s", Options{FS: fsys, Policy: Policy{MaxSnapshots: 3}}))
		g, _, err := s.OpenNewestBelow(ctx, 9)
		if err != nil || g.Info().Number != 5 {
			t.Fatal(err)
		}
		if err := begin(t, s, 5).Abort(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if after := must(fsys.ReadDir("/s")); !slices.Equal(after, before) {
			t.Fatalf("before %v, after %v", before, after)
		}
	}
	wantState(t, s, 5, states[5])
	wantState(t, s, 4, states[4])
}

// A machine that was off for longer than the expiration still has its process.
func TestDefectD7ExpirationSparesTheNewest(t *testing.T) {
	ctx := context.Background()
	for _, minimum := range []uint64{0, 1, 2} {
		fsys := faultfs.New()
		now := time.Unix(1e9, 0)
		o := Options{FS: fsys, Now: func() time.Time { return now }, Policy: Policy{Expiration: time.Hour, MinSnapshots: minimum}}
		s := must(Open("/s", o))
		states := map[uint64]state{0: {}}
		for i := range 4 {
			if err := evolve(s, states, uint64(i), i); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(1000 * time.Hour)
		s = must(Open("/s", o))
		for range 2 {
			if _, err := s.PurgeExpired(ctx); err != nil {
				t.Fatal(err)
			}
		}
		wantState(t, s, 4, states[4])
		if list := must(s.Generations()); uint64(len(list)) != max(1, minimum) {
			t.Errorf("%d are left of at least %d", len(list), minimum)
		}
		now = time.Unix(5, 0) // before everything
		if _, err := s.PurgeExpired(ctx); err != nil {
			t.Fatal(err)
		}
		wantState(t, s, 4, states[4])
	}
}

// Purging takes no copy that a kept generation lists, and no page that a generation took over without being told.
func TestDefectD8CopiesSurviveAPurge(t *testing.T) {
	_, s, want := twoCopies(t)
	w := begin(t, s, 4) // puts nothing
	if err := w.KeepSections(); err != nil {
		t.Fatal(err)
	}
	commit(t, w)
	if _, err := s.Purge(context.Background(), 1, 2, 3, 4); err != nil {
		t.Fatal(err)
	}
	wantState(t, s, 5, want)
	for page := range uint64(50) {
		if got := linksOf(t, s, 5, page); !slices.Equal(got, []uint64{4, 1}) {
			t.Fatalf("page %d is in %v", page, got)
		}
	}
}

// A purge that fails at some call removes nothing that is needed.
func TestDefectD9AFailedPurgeTakesNothingThatIsNeeded(t *testing.T) {
	for i := 0; ; i++ {
		fsys, s, states := purgeStore(t)
		fsys.SetInjector(faultfs.FailAt(i, faultfs.ErrInjected))
		_, _ = s.Purge(context.Background(), 2, 3, 4, 5, 6)
		done := i >= fsys.Calls()
		fsys.SetInjector(nil)
		wantState(t, s, 7, states[7])
		if done {
			return
		}
	}
}

// Making a generation touches no older file.
func TestDefectD10ACommitTouchesNoOlderFile(t *testing.T) {
	for i := 0; ; i++ {
		fsys := faultfs.New()
		s, states := smallStore(t, fsys, "/s", 4)
		s.policy.Redundancy = 1
		var before [5][]byte
		for n := uint64(1); n <= 4; n++ {
			before[n] = must(fsys.ReadFile("/s/" + fileName(n)))
		}
		fsys.SetInjector(faultfs.CrashAt(i))
		_ = evolve(s, states, 4, 4)
		done := i >= fsys.Calls()
		after := fsys.Crash(rand.New(rand.NewPCG(uint64(i), 3)))
		for n := uint64(1); n <= 4; n++ {
			if !bytes.Equal(must(after.ReadFile("/s/"+fileName(n))), before[n]) {
				t.Fatalf("crash at call %d: generation %d is another one", i, n)
			}
		}
		if done {
			return
		}
	}
}

// No count and no header is outside the checksums.
func TestDefectD11CountsAndHeadersAreCovered(t *testing.T) {
	fsys := faultfs.New()
	s, _ := smallStore(t, fsys, "/s", 2)
	good := must(fsys.ReadFile("/s/" + fileName(2)))
	var f footer
	decodeFixed(good[len(good)-footerSize:], &f)
	check := func(from, to int) {
		for i := from; i < to; i++ {
			bad := slices.Clone(good)
			bad[i] ^= 1
			_ = fsys.SetFile("/s/"+fileName(2), bad)
			if _, err := s.OpenGeneration(context.Background(), 2); !named(err) {
				t.Errorf("byte %d: %v", i, err)
			}
		}
	}
	check(0, headerSize)
	check(int(f.blockTableAt()), len(good))
}

// A session that cannot begin or commit leaves the store ready for the next one.
func TestDefectD12AnErrorLeavesNoStateBehind(t *testing.T) {
	fsys := faultfs.New()
	s, states := smallStore(t, fsys, "/s", 2)
	for range 3 {
		if _, err := s.Begin(99); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		if err := begin(t, s, 2).Abort(); err != nil {
			t.Fatal(err)
		}
		w := begin(t, s, 2)
		fsys.SetInjector(faultfs.FailAt(1, faultfs.ErrInjected))
		_, err := w.Commit(context.Background())
		fsys.SetInjector(nil)
		if !errors.Is(err, faultfs.ErrInjected) {
			t.Fatal(err)
		}
		if _, err := s.OpenGeneration(context.Background(), 50); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	if err := evolve(s, states, 2, 2); err != nil {
		t.Fatal(err)
	}
}

// A sweep with the zero options frees what a crash in a purge left.
func TestDefectD13ASweepFreesZombies(t *testing.T) {
	fsys, s, _ := purgeStore(t)
	fsys.SetInjector(func(c faultfs.Call) error {
		if c.Op == "remove" || c.Op == "punch" {
			return faultfs.ErrCrashed
		}
		return nil
	})
	if _, err := s.Purge(context.Background(), 2, 3, 4); err == nil {
		t.Fatal("no crash")
	}
	after := fsys.Crash(nil)
	s = must(Open("/s", Options{FS: after}))
	report, err := s.Sweep(context.Background())
	if err != nil || report.Freed == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := checkFreed(s, after); err != nil {
		t.Error(err)
	}
}

// A purge of many takes each of them.
func TestDefectD14APurgeOfManySkipsNone(t *testing.T) {
	fsys := faultfs.New()
	s, states := smallStore(t, fsys, "/s", 30)
	var numbers []uint64
	for n := range uint64(29) {
		numbers = append(numbers, n+1)
	}
	report, err := s.Purge(context.Background(), numbers...)
	if err != nil || !slices.Equal(report.Purged, numbers) {
		t.Fatalf("%+v, %v", report, err)
	}
	if files := must(s.files()); !slices.Equal(files.live, []uint64{30}) {
		t.Errorf("left are %v", files.live)
	}
	wantState(t, s, 30, states[30])
}

// The clock may step back or stand still: the newest is the one that was made last.
func TestDefectD15TheClockOrdersNothing(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := must(Open("/s", Options{FS: faultfs.New(), Now: func() time.Time { return now }}))
	states := map[uint64]state{0: {}}
	for i, step := range []time.Duration{0, 0, -1000 * time.Hour, time.Nanosecond, 0, 1e6 * time.Hour} {
		now = now.Add(step)
		if err := evolve(s, states, uint64(i), i); err != nil {
			t.Fatal(err)
		}
		g, _, err := s.OpenNewest(context.Background())
		if err != nil || g.Info().Number != uint64(i+1) {
			t.Fatalf("after a step of %v the newest is %d, %v", step, g.Info().Number, err)
		}
	}
}

// A section can be taken away, lengths are bounded, and a length of zero is a length.
func TestDefectD16SectionsCanBeDeletedAndAreBounded(t *testing.T) {
	s := must(Open("/s", Options{FS: faultfs.New()}))
	w := begin(t, s, 0)
	_ = w.PutSection("gone", []byte("x"))
	_ = w.PutSection("empty", nil)
	if err := w.DeleteSection("gone"); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteSection("gone"); !errors.Is(err, ErrNoSection) || !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := w.PutSection(string(make([]byte, 300)), nil); !errors.Is(err, ErrRange) {
		t.Errorf("a long name: %v", err)
	}
	if err := w.PutPages(0, make([]byte, 17)); !errors.Is(err, ErrRange) {
		t.Errorf("a part of a page: %v", err)
	}
	commit(t, w)
	g := must(s.OpenGeneration(context.Background(), 1))
	if b, err := g.Section("empty"); err != nil || len(b) != 0 || len(g.Sections()) != 1 {
		t.Errorf("%v, %q, %v", g.Sections(), b, err)
	}
	w = begin(t, s, 1)
	if err := errors.Join(w.KeepSections(), w.DeleteSection("empty")); err != nil {
		t.Fatal(err)
	}
	commit(t, w)
	if g := must(s.OpenGeneration(context.Background(), 2)); len(g.Sections()) != 0 {
		t.Errorf("%v", g.Sections())
	}
}

// No count wraps: hundreds of generations lean on a page, and redundancy may be any number.
func TestDefectD17NothingWraps(t *testing.T) {
	for _, redundancy := range []uint64{0, 1, 300, 1 << 50} {
		fsys := faultfs.New()
		s := must(Open("/s", Options{FS: fsys, Policy: Policy{Redundancy: redundancy}}))
		want := state{pages: []uint32{3, 6}, sections: map[string]string{}}
		var copied uint64
		for n := range uint64(310) {
			w := begin(t, s, n)
			w.SetPages(2)
			if n == 0 {
				_ = w.PutPages(0, append(pageOf(3), pageOf(6)...))
			}
			copied += commit(t, w).PagesCopied
		}
		due := uint64(2)
		if redundancy == 0 || redundancy > 309 {
			due = 0
		}
		if copied != due {
			t.Errorf("redundancy %d: %d pages were copied, want %d", redundancy, copied, due)
		}
		for n := uint64(309); n > 0; n-- {
			if n%40 == 0 {
				if _, err := s.Purge(context.Background(), n); err != nil {
					t.Fatal(err)
				}
			}
		}
		wantState(t, s, 310, want)
	}
}

// Errors are values with types, and a sync that fails fails the commit.
func TestDefectD18ASyncErrorIsAnError(t *testing.T) {
	for _, op := range []string{"sync", "syncdir", "close", "rename"} {
		fsys := faultfs.New()
		s, states := smallStore(t, fsys, "/s", 2)
		fsys.SetInjector(func(c faultfs.Call) error {
			if c.Op == op {
				return faultfs.ErrInjected
			}
			return nil
		})
		err := evolve(s, states, 2, 2)
		fsys.SetInjector(nil)
		if !errors.Is(err, faultfs.ErrInjected) {
			t.Errorf("%s: %v", op, err)
		}
		if g, _, err := s.OpenNewest(context.Background()); err != nil || g.Info().Number != 2 {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// What did not change is neither read nor written.
func TestDefectD19UnchangedCostsNothing(t *testing.T) {
	fsys := faultfs.New()
	s := must(Open("/s", Options{FS: fsys}))
	w := begin(t, s, 0)
	w.SetPages(2000)
	for i := range uint64(2000) {
		_ = w.PutPages(i, pageOf(uint32(3*i+3)))
	}
	commit(t, w)
	w = begin(t, s, 1)
	fsys.SetInjector(func(faultfs.Call) error { return nil })
	info := commit(t, w)
	if calls := fsys.Calls(); info.BytesStored > 2048 || calls > 12 {
		t.Errorf("%d bytes and %d calls for a generation in which nothing changed", info.BytesStored, calls)
	}
}

// A listing reads the ends of each file only, and the archive costs what changed.
func TestDefectD20AListingIsCheap(t *testing.T) {
	fsys := faultfs.New()
	s, _ := smallStore(t, fsys, "/s", 20)
	fsys.SetInjector(func(faultfs.Call) error { return nil })
	if list, err := s.Generations(); err != nil || len(list) != 20 {
		t.Fatal(err)
	}
	if calls := fsys.Calls(); calls > 1+5*20 {
		t.Errorf("%d calls to list 20 generations", calls)
	}
}

// A generation is one file, however much it holds.
func TestDefectD21OneFileForEachGeneration(t *testing.T) {
	fsys := faultfs.New()
	s, _ := smallStore(t, fsys, "/s", 8)
	if entries := must(fsys.ReadDir("/s")); len(entries) != 8 {
		t.Errorf("%v", entries)
	}
	_ = s
}

// What else was missing is there: checking, listing, comparing, authentication.
func TestDefectD23Tools(t *testing.T) {
	ctx := context.Background()
	s, _ := smallStore(t, faultfs.New(), "/s", 3)
	g := must(s.OpenGeneration(ctx, 3))
	if d, err := g.Inspect(ctx); err != nil || !d.Whole() {
		t.Errorf("inspect: %+v, %v", d, err)
	}
	if d, err := s.Diff(ctx, 2, 3); err != nil || d.Pages() == 0 {
		t.Errorf("diff: %+v, %v", d, err)
	}
}

var _ durable.File = stream{}
