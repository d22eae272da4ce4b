package runtime

import (
	"slices"
	"testing"
	"time"

	"perdure/runtime/internal/compare"
	"perdure/runtime/internal/guests"
)

// BenchmarkSpeed compares instrumented guests, of which no cut is wanted, with the same
// guests on stock wazero, both in the same memory and on the same host functions.
//
//	C kernels: geometric mean ≤ 1.10 (aim 1.05), worst ≤ 1.4
//	SQLite, Go: geometric mean ≤ 1.12 (aim 1.05)
func BenchmarkSpeed(b *testing.B) {
	b.Run("C", benchmarkKernels)
	b.Run("SQLite", func(b *testing.B) {
		src := guests.Bytes(b, "sqlite")
		found := ratios{}
		for _, args := range [][]string{{"idx", "7"}, {"sort", "4"}, {"agg", "6"}} {
			benchmarkCommand(b, args[0], src, args, found)
		}
		found.summary(b, "x/plain")
	})
	b.Run("Go", func(b *testing.B) {
		found := ratios{}
		for _, g := range [][]string{{"sort", "8"}, {"flate", "6"}, {"jsonwork", "8"}, {"maps", "6"}, {"goroutines", "20"}} {
			benchmarkCommand(b, g[0], readFile(b, guests.BuildGo(b, g[0])), g[1:], found)
		}
		found.summary(b, "x/plain")
	})
}

// benchmarkKernels measures every kernel with its code at several places, of which it
// reports the geometric means. The spread says how much the place alone does to the plain
// code: slowest by fastest.
func benchmarkKernels(b *testing.B) {
	const places = 12
	src := guests.Bytes(b, "kernels")
	type code struct {
		plain, again *plainCode
		hot          *hotCode
	}
	var codes []code
	for i := range places {
		s := shifted(b, src, i)
		codes = append(codes, code{compilePlain(b, s), compilePlain(b, s), compileHot(b, s)})
	}
	found := ratios{}
	for _, k := range guests.Kernels() {
		if k.Guest != "kernels" {
			continue
		}
		reps := uint64(max(1, k.Reps/2))
		must := func(err error) {
			if err != nil {
				b.Fatal(err)
			}
		}
		b.Run(k.Name, func(b *testing.B) {
			var plain, hot, control []float64
			for _, c := range codes {
				callPlain, end := c.plain.instantiate(b)
				callAgain, endAgain := c.again.instantiate(b)
				in, s := c.hot.instantiate(b, nil)
				f := c.hot.export(b, k.Export())
				t := turns(b, 3,
					way{"plain", func() time.Duration { return compare.OnThread(func() { must(callPlain(k.Export(), reps)) }) }},
					way{"hot", func() time.Duration { return compare.OnThread(func() { _, err := in.Run(f, reps); must(err) }) }},
					way{"control", func() time.Duration { return compare.OnThread(func() { must(callAgain(k.Export(), reps)) }) }})
				plain, hot, control = append(plain, t[0].Median()), append(hot, t[1].Median()), append(control, t[2].Median())
				closeInstance(b, in, s)
				endAgain()
				end()
			}
			p := compare.Geomean(plain)
			found[k.Name] = [2]float64{compare.Geomean(hot) / p, compare.Geomean(control) / p}
			b.ReportMetric(p*1e3, "plain-ms")
			b.ReportMetric(compare.Geomean(hot)/p, "x/plain")
			b.ReportMetric(compare.Geomean(control)/p, "control-x/plain")
			b.ReportMetric(slices.Max(plain)/slices.Min(plain), "plain-spread")
		})
	}
	found.summary(b, "x/plain")
}

// benchmarkCommand compares whole runs of a command, in a fresh instance each.
func benchmarkCommand(b *testing.B, name string, src []byte, args []string, found ratios) {
	b.Run(name, func(b *testing.B) {
		args := append([]string{name}, args...)
		plain, again, hot := compilePlain(b, src), compilePlain(b, src), compileHot(b, src)
		must := func(err error) {
			if !compare.Exited(err) {
				b.Fatal(err)
			}
		}
		runPlain := func(p *plainCode) time.Duration {
			call, end := p.instantiate(b, args...)
			defer end()
			return compare.OnThread(func() { must(call("_start")) })
		}
		start := hot.export(b, "_start")
		ways := []way{
			{"plain", func() time.Duration { return runPlain(plain) }},
			{"hot", func() time.Duration {
				in, s := hot.instantiate(b, nil, args...)
				defer closeInstance(b, in, s)
				return compare.OnThread(func() { _, err := in.Run(start); must(err) })
			}},
			{"control", func() time.Duration { return runPlain(again) }},
		}
		r := report(b, ways, turns(b, 7, ways...))
		found[name] = [2]float64{r[0], r[1]}
	})
}
