// Package compare measures ways to do the same work against each other, for benchmarks: above all a guest as it is, on stock
// wazero, against the same guest instrumented, both in the same memory and on the same host functions.
//
// Both ways are measured in turns within one run, so that a busy machine hits them alike. One goroutine calls it.
package compare

import (
	"fmt"
	"math"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Series is times of one way, or other measurements of one thing.
type Series []float64

// Sorted sorts the series, ascending, and returns it.
func (s Series) Sorted() Series {
	slices.Sort(s)
	return s
}

// Median returns the median of a sorted series that is not empty.
func (s Series) Median() float64 {
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// Quantile returns the smallest value that a part q of a sorted series does not exceed.
func (s Series) Quantile(q float64) float64 {
	return s[min(len(s)-1, max(0, int(math.Ceil(q*float64(len(s))))-1))]
}

// Geomean returns the geometric mean of numbers above 0.
func Geomean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += math.Log(x)
	}
	return math.Exp(sum / float64(len(xs)))
}

// Way is one of the ways to do the same work. Run does it once and returns the time it took.
type Way struct {
	Name string
	Run  func() (time.Duration, error)
}

// Turns does each of the ways in turns, so often, and returns their times in seconds, sorted, in the order of the ways. Each
// turn begins with another one. The first error ends it.
func Turns(times int, ways ...Way) ([]Series, error) {
	out := make([]Series, len(ways))
	for turn := range times {
		for i := range ways {
			k := (turn + i) % len(ways)
			took, err := ways[k].Run()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", ways[k].Name, err)
			}
			out[k] = append(out[k], took.Seconds())
		}
	}
	for _, s := range out {
		s.Sorted()
	}
	return out, nil
}

// OnThread returns the processor time that f takes on this thread. The garbage collector is off meanwhile: it would wait
// for the guest.
func OnThread(f func()) time.Duration {
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	goruntime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	began := Clock(unix.CLOCK_THREAD_CPUTIME_ID)
	f()
	return Clock(unix.CLOCK_THREAD_CPUTIME_ID) - began
}

// Clock reads a clock of the system, one that every Linux has.
func Clock(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}
