package linmem

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkHugePages compares small pages, which is what a Memory asks for, with huge ones: filling a fresh memory,
// collecting it idle and with 1,000 dirty pages, and random reads and writes between collects that each follow 1,000
// of those.
func BenchmarkHugePages(b *testing.B) {
	const size = 1 << 30
	for _, huge := range []bool{false, true} {
		b.Run(fmt.Sprintf("huge=%v", huge), func(b *testing.B) {
			var fill, idle, dirty, write, reads, writes time.Duration
			const accesses = 2_000_000
			for b.Loop() {
				g := newGuest(b, Options{Tracker: Userfaultfd}, size)
				memory := g.Bytes()
				if huge {
					if err := unix.Madvise(memory, unix.MADV_HUGEPAGE); err != nil {
						b.Fatal(err)
					}
				}
				r := rand.New(rand.NewPCG(1, 2))
				timed := func(sum *time.Duration, f func()) {
					start := time.Now()
					f()
					*sum += time.Since(start)
				}
				collect := func() {
					if err := g.Track(); err != nil {
						b.Fatal(err)
					}
				}
				timed(&fill, func() {
					for i := 0; i < size; i += PageSize {
						memory[i] = 1
					}
				})
				collect()
				timed(&idle, collect)
				for range 5 {
					timed(&write, func() { g.writeRandom(r, 1000) })
					timed(&dirty, collect)
				}
				sum := byte(0)
				timed(&reads, func() {
					for range accesses {
						sum += memory[r.Uint64()%size]
					}
				})
				timed(&writes, func() {
					for range accesses {
						memory[r.Uint64()%size] = sum
					}
				})
				if err := g.Close(); err != nil {
					b.Fatal(err)
				}
			}
			n := float64(b.N)
			b.ReportMetric(fill.Seconds()*1e3/n, "fill-ms")
			b.ReportMetric(idle.Seconds()*1e6/n, "idle-us")
			b.ReportMetric(dirty.Seconds()*1e6/n/5, "collect1000-us")
			b.ReportMetric(float64(write.Nanoseconds())/n/5000, "firstwrite-ns")
			b.ReportMetric(float64(reads.Nanoseconds())/n/accesses, "read-ns")
			b.ReportMetric(float64(writes.Nanoseconds())/n/accesses, "write-ns")
		})
	}
}
