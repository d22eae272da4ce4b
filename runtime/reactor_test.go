package runtime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"perdure/runtime/internal/guests"
	"perdure/runtime/internal/journal"
)

// answerText is what came of a call, as one text.
func answerText(vs []Value, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return joinValues(vs)
}

// randomCalls returns calls of the guest ledger; work goes less deep than depth, and a nap takes
// less than so many milliseconds.
func randomCalls(rnd *rand.Rand, n, depth, nap int) []string {
	calls := make([]string, n)
	for i := range calls {
		switch rnd.IntN(10) {
		case 0:
			calls[i] = "fail"
		case 1:
			calls[i] = fmt.Sprintf("nap %d", rnd.IntN(nap))
		case 2:
			calls[i] = fmt.Sprintf("tell %d", rnd.IntN(5))
		case 3:
			calls[i] = fmt.Sprintf("mean %g", rnd.Float32())
		case 4, 5, 6:
			calls[i] = fmt.Sprintf("work %d %d", rnd.IntN(depth), rnd.Uint64())
		default:
			calls[i] = fmt.Sprintf("add %d", int32(rnd.Uint32()))
		}
	}
	return calls
}

// undisturbedCalls makes calls in one life and returns the answers, the state after each call,
// with that at the beginning, and what was printed.
func undisturbedCalls(t *testing.T, calls []string) (answers, states []string, output string) {
	t.Helper()
	s := newServed(t, nil)
	s.start()
	state := func() {
		vs, err := s.p.Call(t.Context(), "state", nil)
		states = append(states, answerText(vs, err))
	}
	state()
	for _, c := range calls {
		words := strings.Fields(c)
		vs, err := s.p.Call(t.Context(), words[0], words[1:])
		answers = append(answers, answerText(vs, err))
		state()
	}
	s.stop()
	return answers, states, s.opt.Output.(*slowOutput).text(1)
}

// A reactor that is cut and suspended at random places, between calls and in them, gives the
// answers and prints what it does undisturbed.
func TestReactorSuspend(t *testing.T) {
	rnd := seed(t)
	inside, between := 0, 0
	for round := 0; inside == 0 || between == 0; round++ {
		if round == 20 {
			t.Fatalf("suspended %d times in a call, %d between two", inside, between)
		}
		in, out := suspendCalls(t, rnd)
		inside, between = inside+in, between+out
	}
}

// suspendCalls makes random calls of a reactor that is cut and suspended at random places, and returns how often it was
// suspended in a call and between two.
func suspendCalls(t *testing.T, rnd *rand.Rand) (inside, between int) {
	calls := randomCalls(rnd, 40, 13, 3)
	want, states, output := undisturbedCalls(t, calls)

	s := newServed(t, nil)
	d := &director{t: t, rnd: rnd, mean: 40}
	d.next()
	s.opt.hooks.poll = d.poll
	s.before = func(p *Process) { d.p = p }
	s.start()
	lives := 1
	again := func() {
		t.Helper()
		s.wait()
		if s.err != nil || !s.result.Suspended {
			t.Fatalf("%+v, %v", s.result, s.err)
		}
		s.start()
		lives++
	}
	// finished waits for the end of a call that was under way when its life ended.
	finished := func(before int) string {
		t.Helper()
		for {
			if l := all[CallFinishedEvent](&s.rec); len(l) > before {
				return answerText(l[before].Results, l[before].Err)
			}
			select {
			case <-s.done:
				if len(all[CallFinishedEvent](&s.rec)) == before {
					again()
				}
			case <-time.After(100 * time.Microsecond):
			}
		}
	}
	for i := 0; i < len(calls) && !t.Failed(); {
		if rnd.IntN(6) == 0 {
			s.stop()
			s.start()
			lives++
			between++
		}
		words := strings.Fields(calls[i])
		before := len(all[CallFinishedEvent](&s.rec))
		vs, err := s.p.Call(t.Context(), words[0], words[1:])
		got := answerText(vs, err)
		switch {
		case errors.Is(err, ErrSuspended):
			again()
			continue
		case errors.Is(err, ErrCallSuspended):
			inside++
			again()
			got = finished(before)
		}
		if got != want[i] {
			t.Errorf("call %d, %s: got %q, want %q", i, calls[i], got, want[i])
		}
		i++
	}
	polls := d.polls
	d.mean = 0
	s.expect("state", states[len(calls)])
	s.stop()
	if got := s.opt.Output.(*slowOutput).text(1); got != output {
		t.Errorf("output: %s", firstDifference(got, output))
	}
	for _, e := range s.rec.events {
		switch e.(type) {
		case SkippedEvent, CommitFailedEvent, WarningEvent:
			t.Error(e)
		}
	}
	t.Logf("%d lives, suspended %d times in a call, %d between two; %d cuts, %d forced; %d polls", lives, inside, between, d.cuts, d.forces, polls)
	return inside, between
}

// killedCalls kills the worker of a reactor at random moments, so many times, and looks after
// each whether the state is one that calls have left. Where there is a journal it goes on until
// one was replayed: a generation may have come after the last call each time.
func killedCalls(t *testing.T, change func(*Options), kills int) {
	const more = 8
	rnd := seed(t)
	calls := randomCalls(rnd, 15*(kills+more), 14, 40)
	for i, c := range calls {
		if strings.HasPrefix(c, "tell") || strings.HasPrefix(c, "mean") {
			calls[i] = fmt.Sprintf("add %d", i) // each call changes the state
		}
	}
	want, states, _ := undisturbedCalls(t, calls)
	spec := workerSpec{Calls: true, Options: Options{Dir: processDir(t), Name: "ledger", CacheDir: cacheDir(),
		Program: guests.Path(t, "ledger"), Every: 5 * time.Millisecond, MaxShare: 0.5, DurableCalls: true}}
	change(&spec.Options)
	durable := spec.Options.DurableCalls
	at, most := 0, 0 // how many calls were certainly made, and at most
	made, inside, generations, played := 0, 0, 0, 0
	for k := 0; k < kills || spec.Options.Durability != "" && played == 0 && k < kills+more; k++ {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		l := launch(t, spec, r)
		r.Close()
		say := func(text string) {
			if _, err := w.WriteString(text + "\n"); err != nil {
				t.Fatal(err)
			}
		}
		say("state")
		if !l.await(time.Minute, 1, "Answer") {
			t.Fatalf("no answer\n%s", l.describe())
		}
		inside += len(l.events("CallFinishedEvent"))
		played += len(l.events("ReplayedEvent"))
		state := l.events("Answer")[0].text
		first := slices.Index(states, state)
		if first < at || first > most {
			t.Fatalf("state after a restore is that of %d calls, want %d to %d\n%s", first, at, most, l.describe())
		}
		if !durable {
			at = first
		}
		// Some calls, of which the last is under way when it dies.
		n := min(1+rnd.IntN(12), len(calls)-first-1)
		for k := range 12 { // preferably one that takes its time
			if i := first + k; i+1 < len(calls) && strings.HasPrefix(calls[i], "nap") {
				n = k + 1
			}
		}
		for _, c := range calls[first : first+n] {
			say(c)
		}
		if !l.await(time.Minute, n, "Answer") { // with that of state, all but the last
			t.Fatalf("no answers\n%s", l.describe())
		}
		time.Sleep(time.Duration(rnd.IntN(20000)) * time.Microsecond) // a moment of the last one, at random
		l.signal(syscall.SIGKILL)
		l.ends(-1)
		w.Close()
		answers := l.events("Answer")[1:]
		for i, a := range answers {
			if a.text != want[first+i] {
				t.Errorf("call %d, %s: got %q, want %q", first+i, calls[first+i], a.text, want[first+i])
			}
		}
		made += len(answers)
		generations += len(l.events("CommittedEvent"))
		most = first + n
		if durable {
			at = first + len(answers)
		}
		for _, kind := range []string{"SkippedEvent", "CommitFailedEvent", "WarningEvent"} {
			for _, e := range l.events(kind) {
				t.Errorf("%s: %s", kind, e.text)
			}
		}
	}
	t.Logf("%d kills, %d answers, %d calls finished after a restore; %d to %d calls last; %d generations, %d replays",
		kills, made, inside, at, most, generations, played)
	if generations > 0 {
		verify(t, spec.Options.Dir)
	}
	if spec.Options.Durability != "" && played == 0 {
		t.Error("nothing was replayed")
	}
}

// What was answered has been done for good, over kill -9 too, and done once.
func TestReactorKill(t *testing.T) { reactorKillTest(t, 4) }

func reactorKillTest(t *testing.T, kills int) {
	for name, change := range map[string]func(*Options){
		"durable":  func(*Options) {},
		"periodic": func(o *Options) { o.DurableCalls = false },
		"journal":  func(o *Options) { o.Durability, o.Every = DurabilityProcess, 100*time.Millisecond },
		"disk":     func(o *Options) { o.Durability, o.Every = DurabilityDisk, 0 },
	} {
		t.Run(name, func(t *testing.T) { killedCalls(t, change, kills) })
	}
}

// A process that is damaged or of another program is not taken for one that fits.
func TestReactorDamage(t *testing.T) {
	s := newServed(t, nil)
	s.start()
	s.expect("add 4", "i64 4")
	s.stop()
	for _, c := range []struct{ from, to, text string }{
		{`"phase":"idle"`, `"phase":"main"`, `no phase "main"`},
		{`"phase":"idle"`, `"phase":"start"`, `no phase "start"`},
		{`"phase":"idle"`, `"phase":"init"`, "the stack is of function 0"},
		{`"phase":"idle"`, `"phase":"call","call":"add"`, "the stack is of function 0"},
		{`"phase":"idle"`, `"phase":"call","call":"none"`, `no function "none"`},
		{`"phase":"idle"`, `"phase":"other"`, `unknown phase "other"`},
		{`"version":2`, `"version":1`, `unknown phase "idle"`},
	} {
		rewrite(t, s.opt.Dir, sectionProcess, func(old []byte) []byte {
			b := strings.Replace(string(old), c.from, c.to, 1)
			if b == string(old) {
				t.Fatalf("%s has no %s", old, c.from)
			}
			return []byte(b)
		})
		var rec recorder
		s.opt.Events = rec.event
		p, err := Open(t.Context(), s.opt)
		if err != nil {
			t.Fatalf("%s: %v", c.to, err)
		}
		if l := all[SkippedEvent](&rec); len(l) != 1 || !errors.Is(l[0].Err, ErrBadState) || !strings.Contains(l[0].Err.Error(), c.text) {
			t.Errorf("%s: skipped %v, want %q", c.to, l, c.text)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if r, err := p.Run(ctx); err != nil || !r.Suspended { // makes a good generation again
			t.Errorf("%+v, %v", r, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A journal that has other calls than the program can make, or other results, is told of: the
// state is not that of what was recorded.
func TestReactorDiverges(t *testing.T) {
	for _, c := range []struct {
		name   string
		record func(*Process)
		is     func(error) bool
	}{
		{"no such function", func(p *Process) { p.journal.Called("none", nil) }, func(err error) bool { return errors.Is(err, journal.ErrDamaged) }},
		{"too few arguments", func(p *Process) { p.journal.Called("work", []uint64{1}) }, func(err error) bool { return errors.Is(err, journal.ErrDamaged) }},
		{"another result", func(p *Process) {
			p.journal.Called("add", []uint64{5})
			if known, saved, err := p.journal.Returned([]uint64{6}, false); known || !saved || err != nil {
				t.Errorf("known %v, saved %v, %v", known, saved, err)
			}
		}, func(err error) bool { return errors.As(err, new(*DivergenceError)) }},
		{"no trap", func(p *Process) {
			p.journal.Called("add", []uint64{5})
			if _, _, err := p.journal.Returned(nil, true); err != nil {
				t.Error(err)
			}
		}, func(err error) bool { return errors.As(err, new(*DivergenceError)) }},
		{"no call", func(p *Process) {
			if _, _, err := p.journal.Returned([]uint64{5}, false); err != nil {
				t.Error(err)
			}
		}, func(err error) bool { return errors.As(err, new(*DivergenceError)) }},
	} {
		s := newServed(t, nil)
		s.opt.Durability = DurabilityProcess
		p, err := Open(t.Context(), s.opt)
		if err != nil {
			t.Fatal(err)
		}
		c.record(p) // as a life would that is killed
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		s.start()
		s.wait()
		if !c.is(s.err) {
			t.Errorf("%s: %v", c.name, s.err)
		}
		s.start() // that journal is put aside
		s.expect("total", "i64 0")
		s.stop()
	}
}
