package runtime

import (
	"slices"
	"testing"
	"time"

	"perdure/runtime/internal/compare"
)

// The benchmarks of this package compare: what matters is how many times longer one way
// takes than another. Both are measured in turns within one run, as processor time of the
// thread that the guest is on, so that a busy machine hits both alike; the results are
// ratios of medians ("x/plain": so many times the time of plain), with the ratio of one
// way to itself as a control. The comment of each names what the ratio has to reach.
//
// The time per operation that package testing would report means nothing here and is left
// out. -benchtime=21x takes 21 turns.

// way is one of the ways to do the same work that turns compares. Its function does it
// once and returns the time it took.
type way struct {
	name string
	run  func() time.Duration
}

// series is the times of one way, ascending, in seconds.
type series = compare.Series

// turns does each of the ways in turns, at least so often, and returns their times in the
// order of the ways. Each turn begins with another one.
func turns(b *testing.B, atLeast int, ways ...way) []series {
	b.Helper()
	b.ReportMetric(0, "ns/op") // not shown
	measured := make([]compare.Way, len(ways))
	for i, w := range ways {
		measured[i] = compare.Way{Name: w.name, Run: func() (time.Duration, error) { return w.run(), nil }}
	}
	out, err := compare.Turns(max(b.N, atLeast), measured...)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// report reports the median of each way but the first as a multiple of the first one's.
func report(b *testing.B, ways []way, times []series) []float64 {
	b.Helper()
	var all []float64
	first := times[0].Median()
	b.ReportMetric(first*1e3, ways[0].name+"-ms")
	for i := range ways[1:] {
		r := times[i+1].Median() / first
		all = append(all, r)
		b.ReportMetric(r, ways[i+1].name+"-x/"+ways[0].name)
	}
	return all
}

// ratios collects what sub-benchmarks found, by name: a sub-benchmark may run more than
// once, and the last time counts.
type ratios map[string][2]float64 // ratio, control

// summary reports the geometric mean and the worst, as one more sub-benchmark.
func (r ratios) summary(b *testing.B, unit string) {
	if len(r) == 0 {
		return // they were not selected
	}
	var xs, controls []float64
	for _, v := range r {
		xs, controls = append(xs, v[0]), append(controls, v[1])
	}
	b.Run("geomean", func(b *testing.B) {
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(compare.Geomean(xs), unit)
		b.ReportMetric(slices.Max(xs), "worst-"+unit)
		b.ReportMetric(compare.Geomean(controls), "control-"+unit)
	})
}
