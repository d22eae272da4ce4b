package memsnap

import (
	"context"
	"math/rand/v2"
	"testing"
)

// BenchmarkPurgeOneOfAThousand purges one generation after the other out of a thousand of a process of 64 MiB.
func BenchmarkPurgeOneOfAThousand(b *testing.B) {
	for _, c := range []struct {
		name   string
		choose func(live []uint64, r *rand.Rand) uint64
	}{
		{"oldest", func(live []uint64, _ *rand.Rand) uint64 { return live[0] }},
		{"any", func(live []uint64, r *rand.Rand) uint64 { return live[r.IntN(len(live)-1)] }},
	} {
		b.Run(c.name, func(b *testing.B) {
			const pages, generations = 1 << 14, 1000
			s := openStore(b, Options{})
			r := rand.New(rand.NewPCG(1, 1))
			buffer := make([]byte, 64*PageSize)
			fillCompressible(buffer, 1)
			commitOne := func(base uint64) uint64 {
				w := begin(b, s, base)
				w.SetPages(pages)
				if base == 0 {
					for p := uint64(0); p < pages; p += 64 {
						_ = w.PutPages(p, buffer)
					}
				}
				for range 20 {
					_ = w.PutPages(r.Uint64N(pages), buffer[r.IntN(64)*PageSize:][:PageSize])
				}
				return commit(b, w).Number
			}
			newest := uint64(0)
			for range generations {
				newest = commitOne(newest)
			}
			if again, err := Open(s.dir, Options{}); err == nil { // as a command does it
				s = again
			}
			b.ResetTimer()
			for range b.N {
				files, err := s.files()
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Purge(context.Background(), c.choose(files.live, r)); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				newest = commitOne(newest)
				b.StartTimer()
			}
		})
	}
}
