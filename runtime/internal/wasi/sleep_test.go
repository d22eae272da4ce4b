package wasi

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestSleepers: what is left of a sleep is slept, not counting the time in which
// no host ran.
func TestSleepers(t *testing.T) {
	for _, c := range []struct {
		name string
		sub  func(g *guest) clockSub
	}{
		{"relative monotonic", func(*guest) clockSub { return clockSub{id: ClockMonotonic, timeout: 900 * time.Millisecond} }},
		{"relative wall clock", func(*guest) clockSub { return clockSub{id: ClockRealtime, timeout: 900 * time.Millisecond} }},
		{"absolute monotonic", func(g *guest) clockSub {
			return clockSub{id: ClockMonotonic, at: uint64(g.h.monotonic()) + 900e6, flags: subclockAbstime}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t)
			events := make(out, sizeEvent)
			var n uint32
			raws, fetch := g.marshal([]any{encodeSubs([]any{c.sub(g)}), events, 1, &n})
			const sleep, down = 900e6, 100 * time.Millisecond
			begin, real := g.h.monotonic(), time.Now()
			deadline := int64(-1)
			for range 3 {
				g.interruptSoon(t)
				call := func() (uint32, error) { return g.h.Resume(g.mem) }
				if _, ok := g.h.Pending(); !ok {
					call = func() (uint32, error) { return g.h.Call(index(t, "poll_oneoff"), g.mem, raws) }
				}
				if e, err := call(); !errors.Is(err, ErrInterrupted) {
					t.Fatalf("%d, %v", e, err)
				}
				p, _ := g.h.Pending()
				if deadline < 0 {
					deadline = p.Deadline
				}
				if d := p.Deadline - begin; p.Deadline != deadline || d <= 0 || d > sleep+10e9 {
					t.Errorf("deadline is %d, was %d, is %d after the beginning", p.Deadline, deadline, d)
				}
				state, err := g.h.Save()
				if err != nil {
					t.Fatal(err)
				}
				g.h.Close()
				time.Sleep(down)
				g.noWarnings(g.restore(state))
			}
			if e, err := g.h.Resume(g.mem); e != 0 || err != nil {
				t.Fatal(e, err)
			}
			fetch()
			slept := g.h.monotonic()
			if slept < deadline {
				t.Errorf("woke up %d before the deadline", deadline-slept)
			}
			if total := time.Since(real); int64(total-3*down) < slept-begin-1e6 {
				t.Errorf("in %v, of which no host ran for %v, the guest's time went on by %d", total, 3*down, slept-begin)
			}
			if got := fmt.Sprint(decodeEvents(events, n)); got != "[{0 ESUCCESS 0 0 0}]" {
				t.Error(got)
			}
		})
	}
}

// TestWallClockSleeper: a sleep until a wall-clock time ends then, however long
// no host ran.
func TestWallClockSleeper(t *testing.T) {
	g := newGuest(t)
	var n uint32
	until := time.Now().Add(200 * time.Millisecond)
	raws, _ := g.marshal([]any{encodeSubs([]any{clockSub{id: ClockRealtime, at: uint64(until.UnixNano()), flags: subclockAbstime}}), make(out, sizeEvent), 1, &n})
	g.h.Interrupt()
	if _, err := g.h.Call(index(t, "poll_oneoff"), g.mem, raws); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	if p, _ := g.h.Pending(); p.Deadline-g.h.monotonic() > 200e6 || p.Deadline < 0 {
		t.Errorf("deadline %d", p.Deadline)
	}
	state, err := g.h.Save()
	if err != nil {
		t.Fatal(err)
	}
	g.h.Close()
	time.Sleep(250 * time.Millisecond)
	g.noWarnings(g.restore(state))
	g.h.Interrupt() // it need not block any more
	if e, err := g.h.Resume(g.mem); e != 0 || err != nil {
		t.Fatal(e, err)
	}
}
