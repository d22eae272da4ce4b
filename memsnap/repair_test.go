package memsnap

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"perdure/internal/durable/faultfs"
)

// twoCopies makes a store whose newest generation, 4, has most pages twice: in 1 and in 4.
func twoCopies(t *testing.T) (*faultfs.FS, *Store, state) {
	t.Helper()
	fsys := faultfs.New()
	s, err := Open("/s", Options{FS: fsys, RestoreWorkers: 1, Policy: Policy{Redundancy: 3}})
	if err != nil {
		t.Fatal(err)
	}
	want := state{pages: make([]uint32, 60), sections: map[string]string{"a": "section"}}
	for n := uint64(0); n < 4; n++ {
		w := begin(t, s, n)
		w.SetPages(60)
		if n == 0 {
			for i := range 50 {
				want.pages[i] = uint32(i + 1)
				_ = w.PutPages(uint64(i), pageOf(want.pages[i]))
			}
		}
		want.pages[55] = uint32(100 + n)
		_ = w.PutPages(55, pageOf(want.pages[55]))
		_ = w.PutSection("a", []byte("section"))
		commit(t, w)
	}
	return fsys, s, want
}

func flip(t *testing.T, fsys *faultfs.FS, name string, at int) {
	t.Helper()
	b, err := fsys.ReadFile("/s/" + name)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 4
	if err := fsys.SetFile("/s/"+name, b); err != nil {
		t.Fatal(err)
	}
}

func TestRepairRecreatesLostCopies(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		name   string
		damage func(fsys *faultfs.FS)
		least  uint64
	}{
		{"a bit in the old copy", func(fsys *faultfs.FS) { flip(t, fsys, fileName(1), 70) }, 15},
		{"a bit in the new copy", func(fsys *faultfs.FS) { flip(t, fsys, fileName(4), 70) }, 15},
		{"the old file is nonsense", func(fsys *faultfs.FS) { _ = fsys.SetFile("/s/"+fileName(1), []byte("x")) }, 0},
	} {
		fsys, _, want := twoCopies(t)
		c.damage(fsys)
		s, err := Open("/s", Options{FS: fsys, RestoreWorkers: 1, Policy: Policy{Redundancy: 3}})
		if err != nil {
			t.Fatal(err)
		}
		report, err := s.Repair(ctx)
		if c.least == 0 {
			// The section is in that file, and there is one copy of it: no newer generation can be opened.
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || report.Repaired < c.least || report.Generation.Number != 5 || report.Damage.Lost() != 0 || report.Damage.Whole() {
			t.Fatalf("%s: %+v, %v", c.name, report, err)
		}
		g, err := s.OpenGeneration(ctx, 5)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Verify(ctx), checkState(g, want, r), checkRefs(g.pages)); err != nil {
			t.Fatalf("%s: after the repair: %v", c.name, err)
		}
		for page := range uint64(50) {
			if n := len(linksOf(t, s, 5, page)); n != 2 {
				t.Errorf("%s: page %d has %d copies", c.name, page, n)
			}
		}
		report, err = s.Repair(ctx)
		if err != nil || !report.Damage.Whole() || report.Generation.Number != 0 {
			t.Errorf("%s: the second repair: %+v, %v", c.name, report, err)
		}
	}
}

// TestRepairAfterTheLossOfAFile: without sections in it, a whole file may be lost.
func TestRepairAfterTheLossOfAFile(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	policy := Policy{Redundancy: 2}
	s, err := Open("/s", Options{FS: fsys, Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	want := state{pages: []uint32{1, 2, 3, 4}, sections: map[string]string{}}
	for n := uint64(0); n < 3; n++ {
		w := begin(t, s, n)
		w.SetPages(4)
		if n == 0 {
			for i, seed := range want.pages {
				_ = w.PutPages(uint64(i), pageOf(seed))
			}
		}
		commit(t, w)
	}
	if err := fsys.SetFile("/s/"+fileName(1), nil); err != nil {
		t.Fatal(err)
	}
	if s, err = Open("/s", Options{FS: fsys, Policy: policy}); err != nil {
		t.Fatal(err)
	}
	report, err := s.Repair(ctx)
	if err != nil || report.Repaired != 4 || len(report.Damage.Files) != 1 || report.Damage.Files[0].Number != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	if got := linksOf(t, s, 4, 2); !slices.Equal(got, []uint64{4, 3}) {
		t.Errorf("page 2 is in %v", got)
	}
	g, err := s.OpenGeneration(ctx, 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Verify(ctx), checkState(g, want, rand.New(rand.NewPCG(1, 1)))); err != nil {
		t.Fatal(err)
	}
}

func TestRestoreTellsWhichCopiesWereBad(t *testing.T) {
	fsys, s, want := twoCopies(t)
	flip(t, fsys, fileName(4), 70)
	g, err := s.OpenGeneration(context.Background(), 4)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Bad()) != 0 {
		t.Errorf("before: %v", g.Bad())
	}
	if err := g.Restore(context.Background(), make([]byte, 60*PageSize)); err != nil {
		t.Fatal(err)
	}
	bad := g.Bad()
	if len(bad) == 0 || !errors.Is(bad[0], ErrCorrupt) {
		t.Errorf("after: %v", bad)
	}
	if err := checkState(g, want, rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Error(err)
	}
}

func TestARepairThatFailsOrCrashesAtAnyCall(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 1))
	good, _, want := twoCopies(t)
	flip(t, good, fileName(4), 70)
	for _, inject := range []func(int) func(faultfs.Call) error{
		func(i int) func(faultfs.Call) error { return faultfs.FailAt(i, faultfs.ErrInjected) },
		faultfs.CrashAt,
	} {
		for i := 0; ; i++ {
			fsys := good.Clone()
			s, err := Open("/s", Options{FS: fsys, RestoreWorkers: 1})
			if err != nil {
				t.Fatal(err)
			}
			fsys.SetInjector(inject(i))
			report, err := s.Repair(ctx)
			calls := fsys.Calls()
			after := fsys.Clone()
			if errors.Is(inject(0)(faultfs.Call{}), faultfs.ErrCrashed) {
				after = fsys.Crash(rand.New(rand.NewPCG(uint64(i), 1)))
			}
			if err == nil && i < calls && report.Generation.Number != 5 {
				t.Fatalf("call %d: %+v", i, report)
			}
			if s, err = Open("/s", Options{FS: after, RestoreWorkers: 1}); err != nil {
				t.Fatal(err)
			}
			g, skipped, err := s.OpenNewest(ctx)
			if err != nil || len(skipped) > 0 {
				t.Fatalf("call %d: %v, %v", i, skipped, err)
			}
			if err := checkState(g, want, r); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
			if _, err := s.Repair(ctx); err != nil {
				t.Fatalf("call %d: again: %v", i, err)
			}
			if g, _, err = s.OpenNewest(ctx); err != nil || g.Verify(ctx) != nil {
				t.Fatalf("call %d: %v, %v", i, err, g.Verify(ctx))
			}
			if i >= calls {
				break
			}
		}
	}
}

func TestRollback(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, states := smallStore(t, fsys, "/s", 5)
	for _, number := range []uint64{2, 5, 4} {
		info, err := s.Rollback(ctx, number)
		if err != nil || info.Base != number {
			t.Fatalf("%+v, %v", info, err)
		}
		g, _, err := s.OpenNewest(ctx)
		if err != nil || g.Info().Number != info.Number {
			t.Fatal(err)
		}
		if err := errors.Join(g.Verify(ctx), checkState(g, states[number], rand.New(rand.NewPCG(1, 1)))); err != nil {
			t.Fatal(err)
		}
		states[info.Number] = states[number]
	}
	if _, err := s.Rollback(ctx, 77); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	// The old line can go, and the new one stays.
	if _, err := s.Purge(ctx, 1, 2, 3, 4, 5, 6, 7); err != nil {
		t.Fatal(err)
	}
	g, _, err := s.OpenNewest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Verify(ctx), checkState(g, states[8], rand.New(rand.NewPCG(1, 1))), checkFreed(s, fsys)); err != nil {
		t.Fatal(err)
	}
}
