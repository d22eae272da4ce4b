package compare

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestSeries(t *testing.T) {
	s := Series{4, 1, 3, 2}.Sorted()
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"median of four", s.Median(), 2.5}, {"median of three", s[:3].Median(), 2}, {"median of one", s[:1].Median(), 1},
		{"p99", s.Quantile(0.99), 4}, {"p50", s.Quantile(0.5), 2}, {"p0", s.Quantile(0), 1}, {"mean", Geomean([]float64{1, 4, 16}), 4},
	} {
		if math.Abs(c.got-c.want) > 1e-12 {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

// TestTurns wants each way to be done as often as the others, each to be the first in its turn, and an error to end it.
func TestTurns(t *testing.T) {
	var order strings.Builder
	n := 0
	way := func(name string) Way {
		return Way{name, func() (time.Duration, error) {
			order.WriteString(name)
			n++
			return time.Duration(10-n) * time.Second, nil
		}}
	}
	times, err := Turns(3, way("a"), way("b"), way("c"))
	if err != nil || order.String() != "abcbcacab" {
		t.Errorf("got %q, %v", order.String(), err)
	}
	if len(times) != 3 || len(times[0]) != 3 || times[0][0] > times[0][1] {
		t.Errorf("got %v, want three sorted series of three", times)
	}
	broken := errors.New("broken")
	_, err = Turns(3, way("a"), Way{"bad", func() (time.Duration, error) { return 0, broken }})
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "bad: ") {
		t.Errorf("got %v", err)
	}
}
