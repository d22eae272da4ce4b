package linmem

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// counter returns a word of a page as something that can be written while Collect reads it.
func counter(memory []byte, page, word uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&memory[page*PageSize+word%(PageSize/8)*8]))
}

// TestConcurrentWriter lets a guest write and grow its memory while the consumer collects, and wants every write in
// what was gathered once the guest stands still.
func TestConcurrentWriter(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		duration := 2 * time.Second
		if testing.Short() {
			duration /= 5
		}
		for start := time.Now(); time.Since(start) < duration; {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			g := newGuest(t, Options{Tracker: kind, Limit: 2 * mib}, mib/2)
			var stop atomic.Bool
			var guest sync.WaitGroup
			guest.Go(func() {
				r := rand.New(rand.NewPCG(seed, 1))
				size := uint64(mib / 2)
				for n := uint64(1); !stop.Load(); n++ {
					counter(g.Bytes(), r.Uint64N(size/PageSize), r.Uint64()).Store(n)
					if n%100 == 0 && size < 2*mib {
						size += wasmPageSize
						if g.linear.Reallocate(size) == nil {
							t.Error("cannot grow")
							return
						}
					}
					// Bursts on few pages: those are written again while they are being collected.
					page, words := r.Uint64N(size/PageSize), r.Uint64N(64)
					for i := range words {
						counter(g.Bytes(), page, i*8).Add(1)
					}
				}
			})
			for range 10 {
				g.collect()
				// Torn by the guest, which does not stand still; but Settle may not take for the same what it is not.
				g.settle(g.peek())
				runtime.Gosched()
			}
			time.Sleep(time.Duration(seed % uint64(2*time.Millisecond)))
			g.collect()
			stop.Store(true)
			guest.Wait()
			g.collect()
			g.wantShadow()
		}
	})
}

// TestAnyOrderOfCalls does random things and compares with a model: what was gathered is the memory, and nothing
// is emitted without a reason.
func TestAnyOrderOfCalls(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		steps := 2000
		if testing.Short() {
			steps = 500
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 2))
		const limit = 2 * mib
		g := newGuest(t, Options{Tracker: kind, Limit: limit}, wasmPageSize)
		reason := map[uint64]bool{} // pages that may be emitted
		seen := map[uint64]bool{}   // pages emitted since the last Zero, or earlier
		zero := func() {
			for page := range seen {
				reason[page] = true
			}
		}
		for step := range steps {
			nPages := uint64(len(g.Bytes()) / PageSize)
			switch n := r.IntN(100); {
			case n < 50:
				first := r.Uint64N(nPages)
				for page := first; page < min(nPages, first+1+r.Uint64N(5)); page++ {
					counter(g.Bytes(), page, r.Uint64()).Add(1)
					reason[page] = true
				}
			case n < 60: // read
				_ = counter(g.Bytes(), r.Uint64N(nPages), 0).Load()
			case n < 64:
				if size := uint64(len(g.Bytes())) + wasmPageSize; size <= limit {
					g.grow(size)
				}
			case n < 66:
				if err := g.Zero(); err != nil {
					t.Fatal(err)
				}
				zero()
			case n < 68:
				first := r.Uint64N(limit / PageSize)
				count := min(r.Uint64N(10), limit/PageSize-first)
				if err := g.MarkDirty(first, count); err != nil {
					t.Fatal(err)
				}
				for page := first; page < first+count; page++ {
					reason[page] = true
				}
			case n < 69:
				g.linear.Free()
				g.linear = g.Allocate(0, limit)
				g.grow(wasmPageSize * (1 + r.Uint64N(limit/wasmPageSize)))
				zero()
			case n < 71:
				if err := g.Track(); err != nil {
					t.Fatal(err)
				}
				g.shadow = append(g.shadow[:0], g.Bytes()...)
				for page := range nPages {
					delete(reason, page)
					seen[page] = true
				}
			case n < 80:
				peeked := g.peek()
				for _, page := range peeked {
					if !reason[page] {
						t.Fatalf("step %d: page %d was peeked for no reason", step, page)
					}
					seen[page] = true
				}
				g.wantShadow()
				for page := range nPages {
					delete(reason, page)
				}
				for range r.IntN(3) {
					page := r.Uint64N(nPages)
					counter(g.Bytes(), page, r.Uint64()).Add(1)
					reason[page] = true
				}
				g.settle(peeked)
			default:
				for _, page := range g.collect() {
					if !reason[page] {
						t.Fatalf("step %d: page %d was emitted for no reason", step, page)
					}
					seen[page] = true
				}
				for page := range nPages {
					delete(reason, page)
				}
				g.wantShadow()
			}
		}
	})
}
