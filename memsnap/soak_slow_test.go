//go:build slow

package memsnap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"perdure/internal/durable/faultfs"
)

// TestSoak makes 4,000 generations with 1,000 abrupt reopenings in between, and goes on as long as PERDURE_SOAK says.
// The store may not grow beyond what the policy keeps, and what is found is always the last that was committed.
func TestSoak(t *testing.T) {
	var enough time.Duration
	if v := os.Getenv("PERDURE_SOAK"); v != "" {
		var err error
		if enough, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	const pages, generations, crashes = 300, 4000, 1000
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	fsys := faultfs.New()
	policy := Policy{MaxSnapshots: 20, MinSnapshots: 2, Redundancy: 3}
	o := Options{FS: fsys, Policy: policy, RestoreWorkers: 2}
	s := must(Open("/s", o))
	current := state{pages: make([]uint32, pages), sections: map[string]string{}}
	var newest uint64
	made, crashed := 0, 0
	var early, late int64
	for start := time.Now(); made < generations || crashed < crashes || time.Since(start) < enough; {
		next := current.clone()
		w := begin(t, s, newest)
		w.SetPages(pages)
		for range r.IntN(20) {
			i := int(pages * r.Float64() * r.Float64())
			next.pages[i] = r.Uint32N(3000)
			_ = w.PutPages(uint64(i), pageOf(next.pages[i]))
		}
		next.sections["stack"] = fmt.Sprint(r.IntN(1000))
		_ = w.PutSection("stack", []byte(next.sections["stack"]))
		crash := r.IntN(4) == 0
		if crash {
			fsys.SetInjector(faultfs.CrashAt(r.IntN(60)))
		}
		info, err := w.Commit(ctx)
		committed := err == nil
		if committed {
			made++
			newest, current = info.Number, next
			_, err = s.PurgeExpired(ctx)
		}
		if err != nil && !errors.Is(err, faultfs.ErrCrashed) {
			t.Fatal(err)
		}
		if crash {
			crashed++
			fsys = fsys.Crash(r)
			o.FS = fsys
			s = must(Open("/s", o))
			g, skipped, err := s.OpenNewest(ctx)
			if newest == 0 && errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil || len(skipped) > 0 {
				t.Fatalf("after %d generations and %d crashes: %v, %v", made, crashed, skipped, err)
			}
			if number := g.Info().Number; number != newest {
				if committed || number < newest {
					t.Fatalf("found generation %d, committed was %d", number, newest)
				}
				newest, current = number, next // the crash came after it was durable
			}
			if err := checkState(g, current, r); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Sweep(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if made%50 == 0 {
			if list := must(s.Generations()); len(list) > 40 { // purges are cut off too
				t.Fatalf("%d generations are kept", len(list))
			}
			if size := storeBytes(t, fsys); made < generations/2 {
				early = max(early, size)
			} else {
				late = max(late, size)
			}
		}
	}
	for _, n := range must(s.files()).live {
		g := must(s.OpenGeneration(ctx, n))
		if err := g.Verify(ctx); err != nil {
			t.Fatal(err)
		}
	}
	files := must(s.files())
	t.Logf("%d generations, %d crashes; at most %d bytes in the first half and %d in the second; %d generations and %d rests at the end",
		made, crashed, early, late, len(files.live), len(files.rest))
	if late > early*5/4 {
		t.Errorf("the store grew from %d to %d bytes", early, late)
	}
}
