package memsnap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"perdure/internal/durable/faultfs"
)

// checkFreed compares what purges left with what the kept generations need, found by looking at all of them: no file
// is left that nobody needs, no range that nobody needs has storage, and nothing that is needed is gone.
func checkFreed(s *Store, fsys *faultfs.FS) error {
	ctx := context.Background()
	files, err := s.files()
	if err != nil {
		return err
	}
	targets := map[uint64]*target{}
	var list []*target
	for _, n := range files.rest {
		targets[n] = &target{number: n}
		list = append(list, targets[n])
	}
	for _, n := range files.live {
		g, err := s.load(ctx, n)
		if IsDamage(err) {
			return nil // what it needs is unknown, and much is kept for it
		}
		if err != nil {
			return err
		}
		g.mark(list, targets)
	}
	for n, t := range targets {
		if t.held {
			continue
		}
		if !t.needed {
			if n == files.highest() {
				continue
			}
			return fmt.Errorf("the rest of generation %d is not needed by %v", n, files.live)
		}
		b, err := fsys.ReadFile(s.dir + "/" + restName(n))
		if err != nil {
			return err
		}
		for _, e := range t.dead() {
			if !zero(b[e.from:e.to]) {
				return fmt.Errorf("bytes %d to %d of generation %d are not needed by %v, but are there", e.from, e.to, n, files.live)
			}
		}
	}
	return nil
}

// TestPurgeFreesExactlyWhatNobodyNeeds purges in all kinds of orders from histories with branches.
func TestPurgeFreesExactlyWhatNobodyNeeds(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		fsys := faultfs.New()
		s, err := Open("/s", Options{FS: fsys, RestoreWorkers: 1})
		if err != nil {
			t.Fatal(err)
		}
		s.budget = func(uint64) archiveBudget { return archiveBudget{uint64(r.IntN(60)), uint64(r.IntN(30))} }
		states := map[uint64]state{0: {}}
		for step := range 40 {
			files, err := s.files()
			if err != nil {
				t.Fatal(err)
			}
			var base uint64
			if n := len(files.live); n > 0 {
				base = files.live[n-1]
				if r.IntN(6) == 0 {
					base = files.live[r.IntN(n)]
				}
			}
			if len(files.live) < 3 || r.IntN(2) == 0 {
				if err := evolve(s, states, base, step%60); err != nil {
					t.Fatal(err)
				}
				continue
			}
			victims := map[uint64]bool{}
			for range 1 + r.IntN(2) {
				victims[files.live[r.IntN(len(files.live)-1)]] = true
			}
			var numbers []uint64
			for n := range victims {
				numbers = append(numbers, n)
			}
			before := storeBytes(t, fsys)
			report, err := s.Purge(ctx, numbers...)
			if err != nil {
				t.Fatal(err)
			}
			if got := before - storeBytes(t, fsys); got != int64(report.Freed) {
				t.Fatalf("seed %d, step %d: %d bytes were freed, reported are %d", seed, step, got, report.Freed)
			}
			for _, n := range numbers {
				delete(states, n)
				if _, err := s.OpenGeneration(ctx, n); !errors.Is(err, ErrNotFound) {
					t.Fatalf("a purged generation: %v", err)
				}
				if _, err := s.Begin(n); !errors.Is(err, ErrNotFound) {
					t.Fatalf("a session on a purged generation: %v", err)
				}
			}
			if err := checkFreed(s, fsys); err != nil {
				t.Fatalf("seed %d, step %d, purge of %v: %v", seed, step, numbers, err)
			}
			for n, want := range states {
				if n == 0 {
					continue
				}
				g, err := s.OpenGeneration(ctx, n)
				if err == nil {
					err = errors.Join(g.Verify(ctx), checkState(g, want, r))
				}
				if err != nil {
					t.Fatalf("seed %d, step %d, purge of %v: generation %d: %v", seed, step, numbers, n, err)
				}
			}
		}
	}
}

// storeBytes returns what the files in the store take.
func storeBytes(t *testing.T, fsys *faultfs.FS) int64 {
	t.Helper()
	fsys.SetLimit(1 << 40)
	free, err := fsys.Free("/s")
	fsys.SetLimit(-1)
	if err != nil {
		t.Fatal(err)
	}
	return 1<<40 - int64(free)
}

// purgeStore makes a store of which purging 2 and 4 takes every kind of step.
func purgeStore(t *testing.T) (*faultfs.FS, *Store, map[uint64]state) {
	t.Helper()
	fsys := faultfs.New()
	s, states := smallStore(t, fsys, "/s", 7)
	if _, err := s.Purge(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	delete(states, 1)
	return fsys, s, states
}

// afterPurge checks a store in which a purge of 2 and 4 was cut off.
func afterPurge(s *Store, fsys *faultfs.FS, states map[uint64]state, whole bool) error {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 1))
	check := func() error {
		list, err := s.Generations()
		if err != nil {
			return err
		}
		listed := map[uint64]bool{}
		for _, i := range list {
			listed[i.Number] = true
			g, err := s.OpenGeneration(ctx, i.Number)
			if err == nil {
				err = errors.Join(g.Verify(ctx), checkState(g, states[i.Number], r))
			}
			if err != nil {
				return fmt.Errorf("generation %d: %w", i.Number, err)
			}
		}
		for n := uint64(3); n <= 7; n++ {
			if !listed[n] && (n != 4 || whole) {
				return fmt.Errorf("generation %d is gone", n)
			}
		}
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	if _, err := s.Sweep(ctx); err != nil {
		return err
	}
	if err := errors.Join(check(), checkFreed(s, fsys)); err != nil {
		return fmt.Errorf("after a sweep: %w", err)
	}
	return nil
}

func TestAPurgeThatFailsAtAnyCall(t *testing.T) {
	for _, fault := range []error{faultfs.ErrInjected, syscall.EIO} {
		for i := 0; ; i++ {
			fsys, s, states := purgeStore(t)
			fsys.SetInjector(faultfs.FailAt(i, fault))
			_, err := s.Purge(context.Background(), 2, 4)
			calls := fsys.Calls()
			fsys.SetInjector(nil)
			if err != nil && !errors.Is(err, fault) {
				t.Fatalf("call %d: %v", i, err)
			}
			again, openErr := Open("/s", Options{FS: fsys})
			if openErr != nil {
				t.Fatal(openErr)
			}
			for _, s := range []*Store{s, again} {
				if err := afterPurge(s, fsys, states, false); err != nil {
					t.Fatalf("call %d, %v: %v", i, fault, err)
				}
			}
			if i >= calls {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
}

func TestACrashAtAnyCallOfAPurge(t *testing.T) {
	for i := 0; ; i++ {
		fsys, s, states := purgeStore(t)
		fsys.SetInjector(faultfs.CrashAt(i))
		_, err := s.Purge(context.Background(), 2, 4)
		calls := fsys.Calls()
		for seed := range uint64(10) {
			var leftover *rand.Rand
			if seed > 0 {
				leftover = rand.New(rand.NewPCG(seed, uint64(i)))
			}
			after := fsys.Crash(leftover)
			reopened, openErr := Open("/s", Options{FS: after})
			if openErr != nil {
				t.Fatal(openErr)
			}
			if err := afterPurge(reopened, after, states, false); err != nil {
				t.Fatalf("crash at call %d, seed %d: %v", i, seed, err)
			}
		}
		if i >= calls {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

func TestPurgeDenied(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, _ := smallStore(t, fsys, "/s", 4)
	s.policy.MinSnapshots = 2
	if err := s.Pin(2, "before the upgrade"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		numbers []uint64
		number  uint64
		why     Denial
	}{
		{[]uint64{4}, 4, DeniedNewest},
		{[]uint64{1, 4}, 4, DeniedNewest},
		{[]uint64{1, 2}, 2, DeniedPinned},
	} {
		_, err := s.Purge(ctx, c.numbers...)
		var denied *DeniedError
		if !errors.Is(err, ErrDenied) || !errors.As(err, &denied) || denied.Number != c.number || denied.Why != c.why {
			t.Errorf("purge of %v: %v", c.numbers, err)
		}
	}
	s.policy.MinSnapshots = 3
	if _, err := s.Purge(ctx, 1, 3); !errors.Is(err, ErrDenied) {
		t.Errorf("below the minimum: %v", err)
	}
	if _, err := s.Purge(ctx, 9); !errors.Is(err, ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	w := begin(t, s, 4)
	if _, err := s.Purge(ctx, 1); !errors.Is(err, ErrBusy) {
		t.Errorf("beside a session: %v", err)
	}
	_ = w.Abort()
	if list, err := s.Generations(); err != nil || len(list) != 4 || !list[1].Pinned || list[0].Pinned {
		t.Errorf("%+v, %v", list, err)
	}
	if note, err := s.PinNote(2); err != nil || note != "before the upgrade" {
		t.Errorf("note %q, %v", note, err)
	}
	if err := errors.Join(s.Unpin(2), s.Unpin(2), s.Unpin(3)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PinNote(2); !errors.Is(err, ErrNotFound) {
		t.Errorf("no pin: %v", err)
	}
	if err := s.Pin(9, ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("pin of nothing: %v", err)
	}
	if err := s.Pin(1, "two\nlines"); !errors.Is(err, ErrRange) {
		t.Errorf("pin with two lines: %v", err)
	}
	if report, err := s.Purge(ctx, 2); err != nil || !slices.Equal(report.Purged, []uint64{2}) {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestANumberIsNotGivenOutAgain purges a damaged newest generation.
func TestANumberIsNotGivenOutAgain(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	_, states := smallStore(t, fsys, "/s", 3)
	if err := fsys.SetFile("/s/"+fileName(3), []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	s := must(Open("/s", Options{FS: fsys}))
	if _, err := s.Purge(ctx, 3); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s = must(Open("/s", Options{FS: fsys}))
		if _, err := s.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := evolve(s, states, 2, 9); err != nil || states[4].pages == nil {
		t.Fatalf("%v: %v", err, states)
	}
	if _, err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if err := checkFreed(s, fsys); err != nil {
		t.Error(err)
	}
}

func TestPinFileIsChecked(t *testing.T) {
	good := encodePin("note")
	if note, err := decodePin("p", good); err != nil || note != "note" {
		t.Fatal(note, err)
	}
	for i := range good {
		if _, err := decodePin("p", good[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d: %v", i, err)
		}
		bad := slices.Clone(good)
		bad[i] ^= 1
		if _, err := decodePin("p", bad); !named(err) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
}
