package runtime

import (
	"math"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
type series []float64

func (s series) median() float64 {
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// sorted sorts the series and returns it.
func (s series) sorted() series {
	slices.Sort(s)
	return s
}

// quantile returns the smallest value that a part q of the series does not exceed.
func (s series) quantile(q float64) float64 {
	return s[min(len(s)-1, max(0, int(math.Ceil(q*float64(len(s))))-1))]
}

// turns does each of the ways in turns, at least so often, and returns their times in the
// order of the ways. Each turn begins with another one.
func turns(b *testing.B, atLeast int, ways ...way) []series {
	b.Helper()
	b.ReportMetric(0, "ns/op") // not shown
	out := make([]series, len(ways))
	n := max(b.N, atLeast)
	for turn := range n {
		for i := range ways {
			k := (turn + i) % len(ways)
			out[k] = append(out[k], ways[k].run().Seconds())
		}
	}
	for _, s := range out {
		s.sorted()
	}
	return out
}

// report reports the median of each way but the first as a multiple of the first one's.
func report(b *testing.B, ways []way, times []series) []float64 {
	b.Helper()
	var all []float64
	first := times[0].median()
	b.ReportMetric(first*1e3, ways[0].name+"-ms")
	for i := range ways[1:] {
		r := times[i+1].median() / first
		all = append(all, r)
		b.ReportMetric(r, ways[i+1].name+"-x/"+ways[0].name)
	}
	return all
}

// onThread returns the processor time that f takes on this thread. The garbage collector
// is off meanwhile: it would wait for the guest.
func onThread(f func()) time.Duration {
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	goruntime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	began := clock(unix.CLOCK_THREAD_CPUTIME_ID)
	f()
	return clock(unix.CLOCK_THREAD_CPUTIME_ID) - began
}

func clock(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		panic(err) // a clock that every Linux has
	}
	return time.Duration(t.Nano())
}

func geomean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += math.Log(x)
	}
	return math.Exp(sum / float64(len(xs)))
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
		b.ReportMetric(geomean(xs), unit)
		b.ReportMetric(slices.Max(xs), "worst-"+unit)
		b.ReportMetric(geomean(controls), "control-"+unit)
	})
}
