package memsnap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"perdure/internal/durable"
	"perdure/internal/durable/faultfs"
)

// smallStore makes a store of a few generations, by a fixed history, and returns what each holds.
func smallStore(t *testing.T, fsys durable.FS, dir string, generations int) (*Store, map[uint64]state) {
	t.Helper()
	s, err := Open(dir, Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	s.budget = func(uint64) archiveBudget { return archiveBudget{bytes: 1, pages: 8} } // so that chains come about
	states := map[uint64]state{0: {}}
	for i := range generations {
		base := uint64(i)
		if i == 3 {
			base = 1 // a branch
		}
		if err := evolve(s, states, base, i); err != nil {
			t.Fatal(err)
		}
	}
	return s, states
}

// evolve commits the next generation of a fixed history.
func evolve(s *Store, states map[uint64]state, base uint64, i int) error {
	w, err := s.Begin(base)
	if err != nil {
		return err
	}
	next := states[base].clone()
	for len(next.pages) < 20+i {
		next.pages = append(next.pages, 0)
	}
	w.SetPages(uint64(len(next.pages)))
	put := func(page int, seed uint32) {
		next.pages[page] = seed
		_ = w.PutPages(uint64(page), pageOf(seed))
	}
	if base == 0 {
		for page := range 18 {
			put(page, uint32(3*page+1))
		}
	}
	put(19, uint32(100+i)*3+1)
	put((7*i)%19, uint32(200+i)*3+2)
	put((5*i+1)%19, 0)
	put((11*i)%19, uint32(300+i)*3+2)
	next.sections["stack"] = fmt.Sprint("frames of ", i)
	next.sections["same"] = strings.Repeat("same ", 30)
	for _, name := range []string{"stack", "same"} {
		_ = w.PutSection(name, []byte(next.sections[name]))
	}
	info, err := w.Commit(context.Background())
	if err == nil {
		states[info.Number] = next
	}
	return err
}

// recover opens the newest generation that can be restored, as a worker does, and returns its number.
func recoverNewest(s *Store, states map[uint64]state, r *rand.Rand) (uint64, error) {
	limit := uint64(maxNumber)
	var first error
	for {
		g, _, err := s.OpenNewestBelow(context.Background(), limit)
		if err != nil {
			return 0, errors.Join(err, first)
		}
		limit = g.Info().Number
		want, ok := states[limit]
		if !ok {
			return 0, fmt.Errorf("generation %d appeared from nowhere", limit)
		}
		if err = checkState(g, want, r); err == nil {
			return limit, nil
		}
		if !errors.Is(err, ErrCorrupt) {
			return 0, err
		}
		first = errors.Join(first, err)
	}
}

func TestACommitThatFailsAtAnyCallLeavesTheStoreAsItWas(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 1))
	for _, fault := range []error{faultfs.ErrInjected, syscall.ENOSPC, syscall.EIO} {
		for i := 0; ; i++ {
			fsys := faultfs.New()
			s, states := smallStore(t, fsys, "/s", 3)
			fsys.SetInjector(faultfs.FailAt(i, fault))
			err := evolve(s, states, 3, 5)
			calls := fsys.Calls()
			fsys.SetInjector(nil)
			if err != nil && !errors.Is(err, fault) {
				t.Fatalf("call %d: %v", i, err)
			}
			want := []uint64{1, 2, 3}
			if err == nil {
				want = append(want, 4)
			}
			files, listErr := s.files()
			numbers := files.live
			if listErr != nil || !slices.Equal(numbers, want) {
				t.Fatalf("call %d, commit %v: generations %v, %v", i, err, numbers, listErr)
			}
			entries, _ := fsys.ReadDir("/s")
			if i < calls && len(entries) > len(want) && !removeFailed(err) {
				t.Fatalf("call %d: something is left behind: %v", i, entries)
			}
			// The same store, and one opened anew, go on.
			again, openErr := Open("/s", Options{FS: fsys})
			if openErr != nil {
				t.Fatal(openErr)
			}
			for _, store := range []*Store{s, again} {
				newest := slices.Max(numbers)
				if err := evolve(store, states, newest, 6); err != nil {
					t.Fatalf("call %d: the next commit: %v", i, err)
				}
				number, err := recoverNewest(store, states, r)
				if err != nil || number <= newest {
					t.Fatalf("call %d: after the next commit: generation %d, %v", i, number, err)
				}
				g, err := store.OpenGeneration(ctx, number)
				if err != nil || g.Verify(ctx) != nil {
					t.Fatalf("call %d: %v, %v", i, err, g.Verify(ctx))
				}
				if err := fsys.SetFile("/s/"+fileName(number), nil); err != nil {
					t.Fatal(err)
				}
				delete(states, number)
			}
			if i >= calls {
				break
			}
		}
	}
}

func removeFailed(err error) bool {
	return err != nil && strings.Contains(err.Error(), "remove")
}

func TestACrashAtAnyCallLeavesTheOldOrTheNewGeneration(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 1))
	for i := 0; ; i++ {
		fsys := faultfs.New()
		s, states := smallStore(t, fsys, "/s", 4)
		fsys.SetInjector(faultfs.CrashAt(i))
		before := states[5]
		err := evolve(s, states, 4, 4)
		calls := fsys.Calls()
		if err != nil { // what may be found though the commit did not return: see what it would have been
			probe := faultfs.New()
			_, all := smallStore(t, probe, "/s", 5)
			states[5] = all[5]
		}
		for seed := range uint64(25) {
			var leftover *rand.Rand
			if seed > 0 {
				leftover = rand.New(rand.NewPCG(seed, uint64(i)))
			}
			after := fsys.Crash(leftover)
			reopened, openErr := Open("/s", Options{FS: after})
			if openErr != nil {
				t.Fatalf("crash at call %d, seed %d: %v", i, seed, openErr)
			}
			g, skipped, openErr := reopened.OpenNewest(ctx)
			if openErr != nil || len(skipped) > 0 {
				t.Fatalf("crash at call %d, seed %d: %v, skipped %v", i, seed, openErr, skipped)
			}
			number := g.Info().Number
			if number != 5 && (err == nil || number != 4) {
				t.Fatalf("crash at call %d, seed %d, commit %v: found generation %d", i, seed, err, number)
			}
			if err := errors.Join(g.Verify(ctx), checkState(g, states[number], r)); err != nil {
				t.Fatalf("crash at call %d, seed %d: generation %d: %v", i, seed, number, err)
			}
			entries, _ := after.ReadDir("/s")
			if len(entries) != int(number) {
				t.Fatalf("crash at call %d, seed %d: left behind: %v", i, seed, entries)
			}
			// It goes on from there.
			more := map[uint64]state{number: states[number]}
			if err := evolve(reopened, more, number, 7); err != nil {
				t.Fatalf("crash at call %d, seed %d: the next commit: %v", i, seed, err)
			}
			if got, err := recoverNewest(reopened, more, r); err != nil || got != number+1 {
				t.Fatalf("crash at call %d, seed %d: generation %d, %v", i, seed, got, err)
			}
		}
		states[5] = before
		if i >= calls {
			return
		}
	}
}

func TestACrashAtTheMakingOfTheStore(t *testing.T) {
	for i := 0; ; i++ {
		fsys := faultfs.New()
		fsys.SetInjector(faultfs.CrashAt(i))
		states := map[uint64]state{0: {}}
		s, err := Open("/a/b/store", Options{FS: fsys})
		if err == nil {
			err = evolve(s, states, 0, 0)
		}
		after := fsys.Crash(nil)
		reopened, openErr := Open("/a/b/store", Options{FS: after})
		if openErr != nil {
			t.Fatalf("crash at call %d: %v", i, openErr)
		}
		g, _, newestErr := reopened.OpenNewest(context.Background())
		switch {
		case err == nil && newestErr != nil:
			t.Fatalf("crash at call %d, after the commit: %v", i, newestErr)
		case newestErr == nil:
			if err := g.Verify(context.Background()); err != nil {
				t.Fatalf("crash at call %d: %v", i, err)
			}
		case !errors.Is(newestErr, ErrNotFound):
			t.Fatalf("crash at call %d: %v", i, newestErr)
		}
		if err == nil {
			return
		}
	}
}

func TestReadsThatFailAtAnyCall(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 1))
	for _, fault := range []error{faultfs.ErrInjected, syscall.EIO, syscall.EMFILE} {
		for i := 0; ; i++ {
			fsys := faultfs.New()
			s, states := smallStore(t, fsys, "/s", 4)
			fsys.SetInjector(faultfs.FailAt(i, fault))
			g, skipped, err := s.OpenNewest(ctx)
			number := uint64(4)
			if err == nil {
				if number = g.Info().Number; number != 4 && (fault != syscall.EIO || len(skipped) == 0) {
					t.Fatalf("call %d, %v: generation %d, skipped %v", i, fault, number, skipped)
				}
				err = checkState(g, states[number], r)
			}
			if err == nil {
				err = g.Verify(ctx)
			}
			calls := fsys.Calls()
			if err != nil && !errors.Is(err, fault) {
				t.Fatalf("call %d: %v", i, err)
			}
			fsys.SetInjector(nil)
			if got, err := recoverNewest(s, states, r); err != nil || got != 4 {
				t.Fatalf("call %d: afterwards: generation %d, %v", i, got, err)
			}
			if i >= calls {
				break
			}
		}
	}
}

func TestAFullDiskLosesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	fsys := faultfs.New()
	s, states := smallStore(t, fsys, "/s", 3)
	newest := uint64(3)
	for room := int64(0); ; room += 97 {
		size := storeSize(t, fsys)
		fsys.SetLimit(size + room)
		err := evolve(s, states, newest, 9)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if got := storeSize(t, fsys); got != size {
			t.Fatalf("with room for %d bytes the commit left %d bytes behind", room, got-size)
		}
		if got, err := recoverNewest(s, states, r); err != nil || got != newest {
			t.Fatalf("with room for %d bytes: generation %d, %v", room, got, err)
		}
	}
	fsys.SetLimit(-1)
	if got, err := recoverNewest(s, states, r); err != nil || got <= newest {
		t.Fatalf("when space was back: generation %d, %v", got, err)
	}
}

func storeSize(t *testing.T, fsys *faultfs.FS) int64 {
	t.Helper()
	entries, err := fsys.ReadDir("/s")
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, e := range entries {
		b, err := fsys.ReadFile("/s/" + e.Name)
		if err != nil {
			t.Fatal(err)
		}
		total += int64(len(b))
	}
	return total
}
