package linmem

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkCollect copies the dirty pages away, as a snapshot does. The writes are not in the time.
func BenchmarkCollect(b *testing.B) {
	for _, kind := range []Tracker{Userfaultfd, Hash} {
		for _, size := range []uint64{64 * mib, 1 << 30, 4 << 30} {
			if size > 1<<30 && testing.Short() {
				continue
			}
			g := populated(b, kind, size)
			for _, dirty := range []int{0, 100, 1000, 10_000} {
				b.Run(fmt.Sprintf("%v/%dMiB/dirty=%d", kind, size/mib, dirty), func(b *testing.B) {
					copied := make([]byte, MaxRun*PageSize)
					pages := 0
					r := rand.New(rand.NewPCG(1, 2))
					for b.Loop() {
						b.StopTimer()
						g.writeRandom(r, dirty)
						b.StartTimer()
						if err := g.Collect(func(_ uint64, data []byte) { pages += copy(copied, data) / PageSize }); err != nil {
							b.Fatal(err)
						}
					}
					if pages != dirty*b.N {
						b.Fatalf("%d pages collected in %d rounds of %d", pages, b.N, dirty)
					}
				})
			}
			if err := g.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkFirstWrite is what the guest pays, per page, for its first write after a Collect; "again" is the second.
func BenchmarkFirstWrite(b *testing.B) {
	for _, kind := range []Tracker{Userfaultfd, Hash} {
		g := populated(b, kind, 64*mib)
		const dirty = 4096
		for _, first := range []bool{true, false} {
			b.Run(fmt.Sprintf("%v/first=%v", kind, first), func(b *testing.B) {
				r := rand.New(rand.NewPCG(1, 2))
				for b.Loop() {
					if first {
						b.StopTimer()
						if err := g.Track(); err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
					}
					g.writeRandom(r, dirty)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*dirty), "ns/page")
			})
		}
	}
}

// populated returns a guest of size bytes, all of them written and collected.
func populated(b *testing.B, kind Tracker, size uint64) *guest {
	g := newGuest(b, Options{Tracker: kind}, size)
	memory := g.Bytes()
	for i := uint64(0); i < size; i += 512 {
		memory[i] = byte(i>>9) | 1
	}
	if err := g.Track(); err != nil {
		b.Fatal(err)
	}
	return g
}

// writeRandom writes one byte in each of n different pages, which are spread over the memory.
func (g *guest) writeRandom(r *rand.Rand, n int) {
	memory := g.Bytes()
	if n == 0 {
		return
	}
	stride := uint64(len(memory)/PageSize) / uint64(n)
	for i := range uint64(n) {
		memory[(i*stride+r.Uint64N(stride))*PageSize+r.Uint64N(PageSize)]++
	}
}
