package linmem

import (
	"math/rand/v2"
	"testing"
)

func TestPageSetAgreesWithAMap(t *testing.T) {
	const n = 300
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	set, model := newPageSet(n), [n]bool{}
	for range 2000 {
		first := r.Uint64N(n + 1)
		end := first + r.Uint64N(n+1-first)
		add := r.IntN(2) == 0
		if add {
			set.add(first, end)
		} else {
			set.remove(first, end)
		}
		for p := first; p < end; p++ {
			model[p] = add
		}
		got := [n]bool{}
		from, to := r.Uint64N(n+1), uint64(n)
		for next := from; ; {
			runFirst, runEnd, ok := set.nextRun(next, to)
			if !ok {
				break
			}
			for p := runFirst; p < runEnd; p++ {
				got[p] = true
			}
			if runEnd < to && model[runEnd] {
				t.Fatalf("run [%d, %d) is not maximal", runFirst, runEnd)
			}
			next = runEnd
		}
		for p := from; p < to; p++ {
			if got[p] != model[p] || set.has(p) != model[p] {
				t.Fatalf("page %d: run says %v, has says %v, want %v", p, got[p], set.has(p), model[p])
			}
		}
	}
}
