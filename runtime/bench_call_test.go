package runtime

import (
	"testing"
)

// BenchmarkCall is one call after the other, from one caller.
func BenchmarkCall(b *testing.B) {
	for _, c := range []struct {
		name       string
		durable    bool
		durability Durability
	}{{"loose", false, ""}, {"generation", true, ""}, {"journal", true, DurabilityProcess}, {"disk", true, DurabilityDisk}} {
		b.Run(c.name, func(b *testing.B) {
			s := newServed(b, nil)
			s.opt.DurableCalls, s.opt.Durability = c.durable, c.durability
			s.start()
			for b.Loop() {
				if _, err := s.p.Call(b.Context(), "add", []string{"1"}); err != nil {
					b.Fatal(err)
				}
			}
			s.stop()
		})
	}
}
