package worker

import (
	"fmt"
	"testing"
)

// BenchmarkStart takes a worker from nothing to a running guest and kills it, with a warm cache.
func BenchmarkStart(b *testing.B) {
	for _, confine := range []bool{false, true} {
		b.Run(fmt.Sprintf("confine=%v", confine), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := newSpec(b, "counter", "1000")
				s.Settings.Limits.Confine = confine
				b.StartTimer()
				h, _ := beginRunning(b, s)
				b.StopTimer()
				if err := h.Signal(9); err != nil {
					b.Fatal(err)
				}
				ends(b, h)
				b.StartTimer()
			}
		})
	}
}
