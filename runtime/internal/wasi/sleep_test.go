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
		sub  func(g *guest, sleep time.Duration) clockSub
	}{
		{"relative monotonic", func(_ *guest, sleep time.Duration) clockSub { return clockSub{id: ClockMonotonic, timeout: sleep} }},
		{"relative wall clock", func(_ *guest, sleep time.Duration) clockSub { return clockSub{id: ClockRealtime, timeout: sleep} }},
		{"absolute monotonic", func(g *guest, sleep time.Duration) clockSub {
			return clockSub{id: ClockMonotonic, at: uint64(g.h.monotonic() + sleep.Nanoseconds()), flags: subclockAbstime}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sleep := 900 * time.Millisecond
			for !sleepThrough(t, sleep, func(g *guest) clockSub { return c.sub(g, sleep) }) {
				if sleep *= 4; sleep > patience {
					t.Fatal("a sleep is never long enough to be interrupted three times")
				}
			}
		})
	}
}

// sleepThrough lets a guest sleep that long, interrupted and restored three times. It returns false if the sleep was over
// before that.
func sleepThrough(t *testing.T, sleep time.Duration, sub func(g *guest) clockSub) bool {
	g := newGuest(t)
	events := make(out, sizeEvent)
	var n uint32
	const down = 100 * time.Millisecond
	real, begin := time.Now(), g.h.monotonic()
	raws, fetch := g.marshal([]any{encodeSubs([]any{sub(g)}), events, 1, &n})
	deadline := int64(-1)
	for range 3 {
		g.interruptSoon(t)
		call := func() (uint32, error) { return g.h.Resume(g.mem) }
		if _, ok := g.h.Pending(); !ok {
			call = func() (uint32, error) { return g.h.Call(index(t, "poll_oneoff"), g.mem, raws) }
		}
		e, err := call()
		if e == 0 && err == nil && g.h.monotonic()-begin >= sleep.Nanoseconds() {
			return false
		}
		if !errors.Is(err, ErrInterrupted) {
			t.Fatalf("%d, %v", e, err)
		}
		p, _ := g.h.Pending()
		if deadline < 0 {
			deadline = p.Deadline
		}
		if d := p.Deadline - begin; p.Deadline != deadline || d <= 0 || d > sleep.Nanoseconds()+g.h.monotonic()-begin {
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
	return true
}

// laterKernel is a Kernel whose wall clock is ahead.
type laterKernel struct {
	Kernel
	by time.Duration
}

func (k laterKernel) Now(c Clock) (int64, Errno) {
	now, errno := k.Kernel.Now(c)
	if c == ClockRealtime {
		now += k.by.Nanoseconds()
	}
	return now, errno
}

// TestWallClockSleeper: a sleep until a wall-clock time ends then, however long
// no host ran.
func TestWallClockSleeper(t *testing.T) {
	g := newGuest(t)
	var n uint32
	until := time.Now().Add(time.Hour)
	raws, _ := g.marshal([]any{encodeSubs([]any{clockSub{id: ClockRealtime, at: uint64(until.UnixNano()), flags: subclockAbstime}}), make(out, sizeEvent), 1, &n})
	g.h.Interrupt()
	if _, err := g.h.Call(index(t, "poll_oneoff"), g.mem, raws); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	if p, _ := g.h.Pending(); p.Deadline-g.h.monotonic() > time.Hour.Nanoseconds() || p.Deadline < 0 {
		t.Errorf("deadline %d", p.Deadline)
	}
	state, err := g.h.Save()
	if err != nil {
		t.Fatal(err)
	}
	g.h.Close()
	h, warnings, err := Restore(state, g.cfg, laterKernel{newSystem(t), time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	g.noWarnings(warnings)
	g.h = h
	g.h.Interrupt() // it need not block any more
	if e, err := g.h.Resume(g.mem); e != 0 || err != nil {
		t.Fatal(e, err)
	}
}
