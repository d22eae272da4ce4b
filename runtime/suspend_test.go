package runtime

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"perdure/runtime/internal/engine"
)

// director decides at each loop header what happens to the guest.
type director struct {
	t     testing.TB
	rnd   *rand.Rand
	p     *Process
	mean  int64 // polls between two acts; 0 for none
	gap   int64 // until the next
	polls int64

	cuts, suspensions, forces, detours int
}

// poll is asked on the guest's goroutine.
func (d *director) poll() engine.PollAnswer {
	d.polls++
	if d.mean == 0 {
		return engine.PollGo
	}
	if d.gap--; d.gap > 0 {
		return engine.PollGo
	}
	if d.p.cutter.wants() {
		return engine.PollGo // the last act still waits for its cut, and the cutter with it
	}
	d.next()
	switch n := d.rnd.IntN(10); {
	case n < 4:
		d.suspensions++
		d.ask(cutRequest{suspend: true})
	case n < 7:
		d.cuts++
		d.ask(cutRequest{})
		if n == 6 {
			d.forces++
			return engine.PollForce // where a call returns before the next loop header
		}
	case n < 9:
		d.forces++
		return engine.PollForce // out and in again through cold code
	default:
		d.detours++ // out and in again through the native stack, with no generation
	}
	return engine.PollCut
}

// wants tells whether a cut was asked of the guest and has not begun.
func (c *cutter) wants() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wanted != nil
}

func (d *director) next() { d.gap = 1 + d.rnd.Int64N(2*d.mean) }

// ask gives the cutter a request and waits until it wants the cut, so that the guest is
// cut here.
func (d *director) ask(r cutRequest) {
	c := &d.p.cutter
	late := time.After(time.Minute)
	select {
	case c.requests <- r:
	case <-late:
		d.t.Error("the cutter takes no request")
		return
	}
	for !c.wants() {
		select {
		case <-late:
			d.t.Error("the cutter does not want a cut")
			return
		case <-time.After(20 * time.Microsecond):
		}
	}
}

// undisturbed runs a subject in one go, and counts polls.
func undisturbed(t *testing.T, s subject) (*outcome, int64) {
	t.Helper()
	b := newBench(t, s, s.Args)
	d := &director{t: t}
	b.opt.hooks.poll = d.poll
	o := b.outcome(b.life(t.Context(), nil))
	if s.HasGolden() && s.program == "" && o.stdout != string(s.Golden(t)) {
		t.Fatalf("undisturbed: %s", firstDifference(o.stdout, string(s.Golden(t))))
	}
	if o.status != s.ExitCode || !strings.Contains(o.trap, s.Trap) {
		t.Fatalf("undisturbed: status %d, trap %q; want %d, %q", o.status, o.trap, s.ExitCode, s.Trap)
	}
	return o, d.polls
}

// disturbed runs a subject with acts at random polls, and returns what it leaves.
func disturbed(t *testing.T, s subject, d *director) (*outcome, int) {
	t.Helper()
	b := newBench(t, s, s.Args)
	b.opt.hooks.poll = d.poll
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	d.next()
	var last uint64
	for lives := 1; ; lives++ {
		r, err := b.life(ctx, func(p *Process) {
			d.p = p
			if g, ok := p.Restored(); ok != (lives > 1) || g != last {
				t.Fatalf("life %d begins at generation %d, want %d", lives, g, last)
			}
		})
		if ctx.Err() != nil {
			t.Fatal("takes too long")
		}
		if err != nil || !r.Suspended {
			if failed := all[CommitFailedEvent](b.rec); len(failed) > 0 {
				t.Error(failed[0])
			}
			if skipped := all[SkippedEvent](b.rec); len(skipped) > 0 {
				t.Error(skipped[0])
			}
			return b.outcome(r, err), lives
		}
		last = r.Generation
	}
}

// suspendTest suspends each of the subjects at random polls, so many times over.
func suspendTest(t *testing.T, ss []subject, runs int, acts int64) {
	rnd := seed(t)
	var sum director
	lives := 0
	for _, s := range ss {
		t.Run(s.Name, func(t *testing.T) {
			began := time.Now()
			want, polls := undisturbed(t, s)
			alone := time.Since(began)
			for range runs {
				d := &director{t: t, rnd: rnd, mean: max(1, polls/acts)}
				got, n := disturbed(t, s, d)
				got.compare(t, want)
				if t.Failed() {
					t.Fatalf("after %d cuts, %d suspensions, %d forces", d.cuts, d.suspensions, d.forces)
				}
				lives += n
				sum.cuts += d.cuts
				sum.suspensions += d.suspensions
				sum.forces += d.forces
				sum.detours += d.detours
			}
			t.Logf("%d polls, undisturbed %v, all %v", polls, alone.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		})
	}
	t.Logf("%d lives, %d suspensions, %d cuts, %d forced, %d detours", lives, sum.suspensions, sum.cuts, sum.forces, sum.detours)
}

// A program that is suspended at random places and goes on in a fresh instance leaves
// what it leaves undisturbed.
func TestSuspend(t *testing.T) {
	ss := slices.DeleteFunc(subjects(t), func(s subject) bool {
		switch s.Name {
		case "kernels", "zigcc-strings", "sieve": // tens of millions of polls
			return true
		case "sqlite-sort", "sqlite-agg":
			return true
		}
		if underRace {
			return s.Go || !slices.Contains([]string{"tree", "grow", "simd", "files", "rust-files", "zig-generic", "counter", "commands", "echo",
				"environment", "trap-bounds", "tinygo-cat"}, s.Name)
		}
		return s.Go && s.Name != "go-goroutines"
	})
	suspendTest(t, ss, 1, 6)
}
