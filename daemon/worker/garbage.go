package worker

import (
	"runtime/metrics"
	"sync/atomic"
)

// garbageLimit is how much a worker may allocate for its clients between two snapshots, in bytes.
const garbageLimit = 256 << 20

// garbage follows what is allocated. While the guest runs nothing is collected but at a cut (see package runtime); where
// no cuts are wanted, answering questions would fill the memory in time.
type garbage struct {
	collected atomic.Uint64 // bytes allocated until the last cut that was asked for here
	busy      atomic.Bool
}

// look calls cut, in another goroutine, if it is time for one.
func (g *garbage) look(cut func()) {
	// Reading this does not stop the world.
	heap := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(heap)
	n := heap[0].Value.Uint64()
	if n-g.collected.Load() < garbageLimit || !g.busy.CompareAndSwap(false, true) {
		return
	}
	g.collected.Store(n)
	go func() {
		defer g.busy.Store(false)
		cut()
	}()
}
