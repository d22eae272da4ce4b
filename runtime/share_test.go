package runtime

import (
	"strings"
	"testing"
	"time"
)

// Snapshots of a guest that writes as fast as it can take no more than their share of
// the time, however short the interval.
func TestShare(t *testing.T) {
	s := named(t, "commands")
	rounds := 500
	if underRace {
		rounds = 400
	}
	for tries := 0; !shared(t, s, rounds); tries++ {
		if tries == 4 {
			t.Fatal("too few generations")
		}
		rounds *= 2 // on a slow machine
	}
}

// shared tells whether there were enough generations to say something.
func shared(t *testing.T, s subject, rounds int) bool {
	s.Stdin = strings.Repeat("fill 4\n", rounds)
	total := 0
	for _, share := range []float64{0.3, 0.5, 0} {
		b := newBench(t, s, nil)
		b.opt.Every, b.opt.MaxShare = time.Millisecond, share
		if share == 0 {
			share = defaultShare
		}
		type commit struct {
			took        time.Duration
			saved, told time.Time // told may be late
		}
		var commits []commit
		began := time.Now()
		b.opt.Events = func(e Event) {
			if e, ok := e.(CommittedEvent); ok {
				g := e.Generation
				commits = append(commits, commit{g.Total(), g.Time.Add(g.Sync), time.Now()})
			}
		}
		r, err := b.life(t.Context(), nil)
		if err != nil || r.ExitCode != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		commits = commits[:len(commits)-1] // the last is that of the end, which waits for nothing
		var sum time.Duration
		for i, c := range commits {
			sum += c.took
			if i == 0 {
				continue
			}
			// After a snapshot that took so long, the next waits so much longer.
			last := commits[i-1]
			if gap, want := c.told.Sub(last.saved)-c.took, time.Duration(float64(last.took)*(1/share-1)*0.95); gap < want {
				t.Errorf("share %.2f: %v between snapshots after one that took %v, want %v", share, gap, last.took, want)
			}
		}
		t.Logf("share %.2f: %d generations took %v of %v", share, len(commits), sum, time.Since(began))
		total += len(commits)
		out := b.outcome(r, err).stdout
		if want := "fill: " + fillDigest(4, rounds) + "\n"; !strings.HasSuffix(out, want) {
			t.Errorf("the last answer is not %q", want)
		}
	}
	return total >= 5
}
