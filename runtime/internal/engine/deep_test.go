package engine

import (
	"errors"
	"strings"
	"testing"
	"time"

	"perdure/runtime/internal/instrument"
)

// deepest returns how deep the recursion of "down" can be in a guest that is not stopped, to
// within a thousandth.
func deepest(t *testing.T, p *Program) int {
	t.Helper()
	in := instance(t, p, InstanceConfig{})
	fits, not := 100_000, 10_000_000
	for not-fits > fits/1000 {
		n := (fits + not) / 2
		if r, err := in.Run(exportedFunc(t, p.src, "down"), uint64(n), 1); err == nil && r[0] == uint64(n) {
			fits = n
		} else if err != nil && strings.Contains(err.Error(), "stack overflow") {
			not = n
		} else {
			t.Fatalf("depth %d: %v, %v", n, r, err)
		}
	}
	return fits
}

// runDeep runs "down" to a depth, whose loop asks what to do six times, and returns how often
// the guest was restored. last is whether the guest stops for good at the nth cut.
func runDeep(t *testing.T, p *Program, depth int, answers [6]PollAnswer, last func(nth int) bool) (restores int) {
	t.Helper()
	polls, cuts := 0, 0
	var b []byte
	cfg := InstanceConfig{Poll: func() PollAnswer {
		if polls++; polls <= len(answers) {
			return answers[polls-1]
		}
		return PollGo // a loop that was put back asks once more
	}, Cut: func(c *Capture) bool {
		if cuts++; !last(cuts) {
			return true
		}
		im, err := c.Image()
		if err != nil {
			t.Fatal(err)
		}
		b = EncodeImage(im)
		return false
	}}
	in := instance(t, p, cfg)
	r, err := in.Run(exportedFunc(t, p.src, "down"), uint64(depth), uint64(len(answers)))
	for ; err == ErrUnwound && restores < 10; restores++ {
		im, derr := DecodeImage(b)
		if derr != nil {
			t.Fatal(derr)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		in = instance(t, p, cfg)
		if err := in.Restore(im); err != nil {
			t.Fatal(err)
		}
		r, err = in.Resume(im)
	}
	if err != nil || r[0] != uint64(depth) || polls < len(answers) {
		t.Fatalf("depth %d: %v, %v after %d polls", depth, r, err, polls)
	}
	return restores
}

// testDeepStack holds that a stack which nearly fills what the engine allows is cut, by request
// and by force, taken out and put back, and that the guest then does what it does otherwise.
func testDeepStack(t *testing.T, share float64) {
	p := load(t, "recursion", instrument.Options{EveryLoop: true})
	depth := int(float64(deepest(t, p)) * share)
	tests := []struct {
		name    string
		answers [6]PollAnswer
		last    func(nth int) bool
		want    int
	}{
		// Cuts in hot code and in what was put back, before and after the frames came out.
		{"cut", [6]PollAnswer{1: PollCut, 3: PollCut, 4: PollCut}, func(nth int) bool { return nth == 2 }, 1},
		{"forced", [6]PollAnswer{5: PollForce}, func(int) bool { return false }, 0},
		{"forced for good", [6]PollAnswer{2: PollCut, 5: PollForce}, func(int) bool { return true }, 2},
	}
	for _, tt := range tests {
		start := time.Now()
		if n := runDeep(t, p, depth, tt.answers, tt.last); n != tt.want {
			t.Errorf("%s: %d restores, want %d", tt.name, n, tt.want)
		}
		t.Logf("%s: %d frames, %v", tt.name, depth+1, time.Since(start))
	}
}

func TestDeepStack(t *testing.T) { testDeepStack(t, 0.02) }

// TestFrameTooLarge holds that a frame for which there is no room at all is not taken for a
// trap of the guest.
func TestFrameTooLarge(t *testing.T) {
	p := load(t, "recursion", instrument.Options{EveryLoop: true})
	im := stopped(t, p, false, PollCut, 0)
	in := instance(t, p, InstanceConfig{})
	if err := in.Restore(im); err != nil {
		t.Fatal(err)
	}
	if err := in.begin(im.Frames); err != nil {
		t.Fatal(err)
	}
	// As if the engine had no room: the entry that the innermost frame asks for is not there.
	for f := range in.incoming.entry {
		in.incoming.entry[f] = 1 << 20
	}
	_, err := in.finish(in.putBack(nil))
	if !errors.Is(err, ErrRewind) || len(err.Error()) > 200 {
		t.Errorf("got %v", err)
	}
	if r, err := in.Run(exportedFunc(t, p.src, "fib"), 10); err != nil || r[0] != 55 {
		t.Errorf("after it: %v, %v", r, err)
	}
}
