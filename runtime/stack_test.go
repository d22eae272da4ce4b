package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"perdure/runtime/internal/guests"
	"perdure/runtime/internal/wasi"
)

// suspended runs a case for a moment and returns it as it lies on disk then.
func suspended(t *testing.T, name string, every time.Duration) (*bench, *Saved) {
	t.Helper()
	return suspendedSubject(t, named(t, name), every)
}

func suspendedSubject(t *testing.T, s subject, every time.Duration) (*bench, *Saved) {
	t.Helper()
	for range 5 {
		b := newBench(t, s, s.Long)
		b.opt.Every = every
		if runFor(t, b, 150*time.Millisecond).Suspended { // else it has ended before
			return b, onDisk(t, b)
		}
	}
	t.Fatalf("%s ends within a moment, each time", s.Name)
	return nil, nil
}

// aMoment runs a process for so long and returns it as it lies on disk then.
func aMoment(t *testing.T, b *bench, long time.Duration) *Saved {
	t.Helper()
	if r := runFor(t, b, long); !r.Suspended {
		t.Fatalf("run of %s: got %+v; want it suspended", b.opt.Name, r)
	}
	return onDisk(t, b)
}

// runFor opens a process, and suspends it when it has run for so long.
func runFor(t *testing.T, b *bench, long time.Duration) Result {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := b.life(ctx, func(*Process) { time.AfterFunc(long, cancel) })
	if err != nil {
		t.Fatalf("run of %s: %v", b.opt.Name, err)
	}
	return r
}

func onDisk(t *testing.T, b *bench) *Saved {
	t.Helper()
	saved, err := OpenSaved(b.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func frameNames(bt *Backtrace) []string {
	var names []string
	for _, f := range bt.Frames {
		names = append(names, f.Name)
	}
	return names
}

// TestBacktraceOfWaiting wants the functions by name, the call that waits and for how long it has yet to.
func TestBacktraceOfWaiting(t *testing.T) {
	b, saved := suspendedSubject(t, subject{Case: guests.Case{Name: "sleeper", Guest: "sleeper", Long: []string{"600000"}}}, 0)
	bt, err := saved.Backtrace(t.Context(), 0)
	for more := time.Second; err == nil && bt.Pending == nil && more < time.Minute; more *= 2 { // it has not come to that yet
		bt, err = aMoment(t, b, more).Backtrace(t.Context(), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	names := frameNames(bt)
	if bt.Pending == nil || bt.Pending.Function != "poll_oneoff" || len(bt.Pending.Args) != 4 || bt.Pending.Left < 0 || bt.Pending.Since < 0 {
		t.Errorf("pending: got %+v", bt.Pending)
	}
	if names[0] != "__wasi_poll_oneoff" || !slices.Contains(names, "main") || !slices.Contains(names, "_start") {
		t.Errorf("functions: got %q", names)
	}
	for i, f := range bt.Frames {
		if !f.InCall || f.Offset == 0 {
			t.Errorf("frame %d: got %+v, want it in a call", i, f)
		}
	}
	if bt.Unnamed != nil || bt.Ended || bt.Generation.Number == 0 {
		t.Errorf("got %+v", bt)
	}
}

// TestBacktraceOfComputing wants that of every generation of a program that computes: only its innermost
// function may be out of a call.
func TestBacktraceOfComputing(t *testing.T) {
	b, saved := suspendedSubject(t, subject{Case: guests.Case{Name: "ackermann", Guest: "ackermann", Long: []string{"1000000"}}}, 0)
	first, err := saved.Backtrace(t.Context(), 0)
	for more := time.Second; err == nil && !slices.Contains(frameNames(first), "main") && more < time.Minute; more *= 2 { // it does not compute yet
		first, err = aMoment(t, b, more).Backtrace(t.Context(), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.opt.Every = 10 * time.Millisecond
	infos, err := aMoment(t, b, 150*time.Millisecond).Generations()
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		if info.Number < first.Generation.Number {
			continue
		}
		bt, err := saved.Backtrace(t.Context(), info.Number)
		if err != nil {
			t.Fatal(err)
		}
		if bt.Generation.Number != info.Number || !slices.Contains(frameNames(bt), "main") {
			t.Errorf("generation %d: got %+v", info.Number, bt)
		}
		for i, f := range bt.Frames {
			if i > 0 && !f.InCall {
				t.Errorf("generation %d, frame %d: got %+v, want it in a call", info.Number, i, f)
			}
		}
	}

	// It may be read while a worker has the lock.
	p := b.open()
	defer p.Close()
	again, err := OpenSaved(b.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Backtrace(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

// TestBacktraceOfEnded wants how a program ended, and no frames.
func TestBacktraceOfEnded(t *testing.T) {
	s := named(t, "exitcode")
	b := newBench(t, s, s.Args)
	if _, err := b.life(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	saved, err := OpenSaved(b.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	bt, err := saved.Backtrace(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if !bt.Ended || bt.ExitCode != s.ExitCode || len(bt.Frames) != 0 || bt.Pending != nil {
		t.Errorf("got %+v", bt)
	}
}

// TestPendingCallOfDamagedState wants states that no host has saved to be refused.
func TestPendingCallOfDamagedState(t *testing.T) {
	for claim, state := range map[string]string{
		"nothing":             ``,
		"no JSON":             `{`,
		"no version":          `{}`,
		"a newer version":     fmt.Sprintf(`{"version":%d}`, wasi.StateVersion+1),
		"an unknown function": `{"version":1,"pending":{"function":"fd_fly","args":[1]}}`,
		"too few arguments":   `{"version":1,"pending":{"function":"poll_oneoff","args":[1]}}`,
		"arguments of text":   `{"version":1,"pending":{"function":"poll_oneoff","args":["a","b","c","d"]}}`,
	} {
		if c, err := pendingCall([]byte(state)); !errors.Is(err, ErrBadState) {
			t.Errorf("%s: got %+v, %v; want ErrBadState", claim, c, err)
		}
	}
	if c, err := pendingCall([]byte(`{"version":1}`)); c != nil || err != nil {
		t.Errorf("no call: got %+v, %v", c, err)
	}
	c, err := pendingCall([]byte(`{"version":1,"clocks":{"monotonic":50},"pending":{"function":"poll_oneoff","args":[4294967297,2,3,4],"issued":20,"deadline":-1}}`))
	if err != nil || c.Args[0] != 1 || c.Since != 30 || c.Left != -1 {
		t.Errorf("a call without a deadline: got %+v, %v", c, err)
	}
}
