package runtime

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"perdure/memsnap"
	"perdure/runtime/internal/guests"
)

// served is a reactor that runs in this operating-system process, life after life.
type served struct {
	t      testing.TB
	opt    Options
	rec    recorder
	before func(*Process) // called before each Run
	p      *Process       // of this life; nil between two
	cancel context.CancelFunc
	done   chan struct{}
	result Result
	err    error
}

// newServed prepares a reactor; a nil source stands for the guest ledger.
func newServed(t testing.TB, source []byte) *served {
	t.Helper()
	s := &served{t: t}
	s.opt = Options{Dir: processDir(t), Name: "ledger", CacheDir: cacheDir(), Source: source, Events: s.rec.event,
		Output: &slowOutput{}}
	if source == nil {
		s.opt.Program = guests.Path(t, "ledger")
	}
	t.Cleanup(func() {
		if s.p != nil {
			s.stop()
		}
	})
	return s
}

// start begins a life.
func (s *served) start() {
	s.t.Helper()
	p, err := Open(s.t.Context(), s.opt)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	s.p, s.cancel, s.done = p, cancel, make(chan struct{})
	if s.before != nil {
		s.before(p)
	}
	go func() {
		defer close(s.done)
		s.result, s.err = p.Run(ctx)
	}()
}

// wait waits for the end of a life.
func (s *served) wait() {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		s.t.Fatal("does not end")
	}
	s.cancel()
	if err := s.p.Close(); err != nil {
		s.t.Error(err)
	}
	s.p = nil
}

// stop suspends the process.
func (s *served) stop() {
	s.t.Helper()
	s.cancel()
	s.wait()
	if s.err != nil || !s.result.Suspended {
		s.t.Errorf("%+v, %v; want it suspended", s.result, s.err)
	}
}

// call calls a function, given with its arguments as one text, and returns the results as one.
func (s *served) call(text string) (string, error) { return callText(s.p, text) }

func callText(p *Process, text string) (string, error) {
	words := strings.Fields(text)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	vs, err := p.Call(ctx, words[0], words[1:])
	return joinValues(vs), err
}

func joinValues(vs []Value) string {
	texts := make([]string, len(vs))
	for i, v := range vs {
		texts[i] = v.Type + " " + v.Value
	}
	return strings.Join(texts, ", ")
}

// expect makes calls and compares the results.
func (s *served) expect(pairs ...string) {
	s.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got, err := s.call(pairs[i]); err != nil || got != pairs[i+1] {
			s.t.Errorf("%s: got %q, %v; want %q", pairs[i], got, err, pairs[i+1])
		}
	}
}

// State lasts from call to call and from life to life, and a reactor begins once.
func TestCall(t *testing.T) {
	s := newServed(t, nil)
	s.start()
	s.expect("begun", "i32 1", "add 5", "i64 5", "add -7", "i64 -2", "mean 0.5", "f64 -0.5", "half 3", "f32 1.5", "tell 2", "")
	if st := s.p.Status(); !st.Reactor || st.MemoryBytes == 0 {
		t.Errorf("%+v", st)
	}
	s.stop()
	s.start()
	s.expect("begun", "i32 1", "total", "i64 -2", "add 0x10", "i64 14", "nap 1", "i64 15")
	if out := s.opt.Output.(*slowOutput).text(1); out != "0: total -2\n1: total -2\n" {
		t.Errorf("output %q", out)
	}
	if st := s.p.Status(); st.Restarts != 1 {
		t.Errorf("%+v", st)
	}
	// It waits, and nothing changes: no more generations, but on request.
	for late := time.Now().Add(time.Minute); !s.p.Status().Waiting && time.Now().Before(late); time.Sleep(time.Millisecond) {
	}
	info, err := s.p.Snapshot(t.Context())
	if err != nil || info.Number == 0 {
		t.Errorf("%+v, %v", info, err)
	}
	if !s.p.Status().Waiting {
		t.Error("does not wait")
	}
	s.stop()
}

func TestCallErrors(t *testing.T) {
	s := newServed(t, nil)
	s.start()
	var no *NoExportError
	var bad *ArgumentError
	for _, c := range []struct {
		call   string
		target any
		text   string
	}{
		{"ad 1", &no, `no function "ad" to call; there is add`},
		{"totl", &no, "there is total"},
		{"unlike-all-others", &no, `no function "unlike-all-others" to call`},
		{"memory", &no, `"memory" cannot be called: it is a memory`},
		{"_initialize", &no, "it is called once, at the beginning"},
		{"add", &bad, "add: it takes 1 argument, not 0: add(i32) -> i64"},
		{"add 1 2", &bad, "not 2"},
		{"work 1", &bad, "work: it takes 2 arguments, not 1: work(i32, i64) -> i64"},
		{"add one", &bad, `add: argument 1: "one" is not an i32`},
		{"work 1 1.5", &bad, `argument 2: "1.5" is not an i64`},
		{"add 4294967296", &bad, "out of the range of an i32"},
		{"mean x", &bad, `"x" is not an f32`},
	} {
		_, err := s.call(c.call)
		if !errors.As(err, c.target) || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s: got %v, want %T with %q", c.call, err, c.target, c.text)
		}
	}
	s.expect("total", "i64 0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Whether it has begun or not: it may, and does not end.
	if _, err := s.p.Call(ctx, "nap", []string{"600000"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	p := s.p
	s.stop()
	if _, err := p.Call(t.Context(), "total", nil); !errors.Is(err, ErrSuspended) {
		t.Errorf("error %v", err)
	}

	command := newPiped(t)
	if _, err := command.p.Call(t.Context(), "_start", nil); !errors.Is(err, ErrNotReactor) {
		t.Errorf("error %v", err)
	}
}

// A call that traps leaves what it did until then, and others go on.
func TestCallTraps(t *testing.T) {
	s := newServed(t, nil)
	s.opt.DurableCalls = true
	s.start()
	var trap *TrapError
	if _, err := s.call("fail"); !errors.As(err, &trap) || trap.What != "unreachable" ||
		!slices.ContainsFunc(trap.Stack, func(f string) bool { return strings.Contains(f, "fail") }) {
		t.Errorf("error %v, stack %q", err, trap.Stack)
	}
	if _, err := s.call("overflow 0"); !errors.As(err, &trap) || trap.What != "stack overflow" {
		t.Errorf("error %v", err)
	}
	s.expect("total", "i64 7", "add 1", "i64 8")
	s.stop()
	s.start()
	s.expect("total", "i64 8")
}

// A call may end the program: that is saved, and the next life starts anew.
func TestCallExits(t *testing.T) {
	s := newServed(t, nil)
	s.start()
	s.expect("add 1", "i64 1")
	var exit *CallExitError
	if _, err := s.call("leave 5"); !errors.As(err, &exit) || exit.ExitCode != 5 || exit.Export != "leave" || !errors.Is(err, ErrEnded) {
		t.Errorf("error %v", err)
	}
	if _, err := s.call("total"); !errors.Is(err, ErrEnded) {
		t.Errorf("error %v", err)
	}
	s.wait()
	if s.err != nil || s.result.Suspended || s.result.ExitCode != 5 {
		t.Errorf("%+v, %v", s.result, s.err)
	}
	saved, err := OpenSaved(s.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := saved.State(t.Context()); err != nil || !st.Ended || st.ExitCode != 5 || st.Call != "" {
		t.Errorf("%+v, %v", st, err)
	}
	s.start()
	s.expect("total", "i64 0", "begun", "i32 1")
}

// A long call is cut like any program; a suspension finds it too, and the next life finishes it.
func TestCallSuspended(t *testing.T) {
	s := newServed(t, nil)
	s.start()
	s.expect("add 1", "i64 1")
	late := make(chan error, 2)
	later := func(p *Process, text string) {
		go func() {
			_, err := callText(p, text)
			late <- err
		}()
	}
	later(s.p, "nap 600000")
	await := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	saved, err := OpenSaved(s.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var st SavedState
	await("it is not in the call", func() bool {
		if _, err := s.p.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st, err = saved.State(t.Context()); err != nil {
			t.Fatal(err)
		}
		return st.Call != ""
	})
	if st.Call != "nap" || st.Idle {
		t.Errorf("%+v", st)
	}
	later(s.p, "total") // has to wait for its turn, which does not come
	s.stop()
	for range 2 {
		if err := <-late; !errors.Is(err, ErrCallSuspended) && !errors.Is(err, ErrSuspended) {
			t.Errorf("error %v", err)
		}
	}
	bt, err := saved.Backtrace(t.Context(), 0)
	if err != nil || bt.Call != "nap" || bt.Pending == nil || bt.Pending.Function != "poll_oneoff" || bt.Pending.Left < 500e9 {
		t.Errorf("%+v, %v", bt, err)
	}
	if names := frameNames(bt); !slices.Contains(names, "nap") {
		t.Errorf("functions %q", names)
	}

	s.start() // it sleeps on
	if _, err := s.p.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if bt, err = saved.Backtrace(t.Context(), 0); err != nil || bt.Call != "nap" || len(all[CallFinishedEvent](&s.rec)) > 0 {
		t.Errorf("%+v, %v", bt, err)
	}
	s.stop()

	// One that ends in the next life tells its result there, and comes before all others. It has to
	// be under way still when it is suspended: else again, with a longer one.
	for nap := 300; ; nap *= 2 {
		s = newServed(t, nil)
		s.start()
		s.expect("add 1", "i64 1")
		later(s.p, fmt.Sprint("nap ", nap))
		await("it is not in the call", func() bool {
			if _, err := s.p.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			st, err := s.saved().State(t.Context())
			return len(late) > 0 || err == nil && st.Call != ""
		})
		s.stop()
		err := <-late
		if errors.Is(err, ErrCallSuspended) {
			break
		}
		if err != nil || nap > 30000 {
			t.Fatalf("a nap of %d ms: error %v", nap, err)
		}
	}
	s.start()
	s.expect("add 10", "i64 12")
	if l := all[CallFinishedEvent](&s.rec); len(l) != 1 || l[0].Export != "nap" || joinValues(l[0].Results) != "i64 2" || l[0].Err != nil {
		t.Errorf("events %v", l)
	}
	s.stop()
	if bt, err = s.saved().Backtrace(t.Context(), 0); err != nil || !bt.Idle || bt.Call != "" || bt.Pending != nil || len(bt.Frames) > 0 {
		t.Errorf("%+v, %v", bt, err)
	}
}

func (s *served) saved() *Saved {
	s.t.Helper()
	saved, err := OpenSaved(s.opt.Dir)
	if err != nil {
		s.t.Fatal(err)
	}
	return saved
}

// Calls from many goroutines are carried out one at a time, and with DurableCalls each answer
// comes when a generation has it; one generation serves many.
func TestCallsAtOnce(t *testing.T) {
	s := newServed(t, nil)
	s.opt.DurableCalls = true
	s.start()
	const callers, each = 8, 20
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if _, err := s.call("add 1"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	generation := s.p.Status().Generation
	s.expect("total", fmt.Sprintf("i64 %d", callers*each))
	t.Logf("%d calls, %d generations", callers*each, generation)
	if generation == 0 || generation > callers*each {
		t.Error("that many")
	}
	s.stop()
}

// When a call cannot be saved its caller is told, with the result.
func TestCallNotSaved(t *testing.T) {
	s := newServed(t, nil)
	s.opt.DurableCalls = true
	p, err := Open(t.Context(), s.opt)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	p.cutter.broken = broken
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if r, err := p.Run(ctx); !r.Suspended || !errors.Is(err, broken) {
			t.Errorf("%+v, %v", r, err)
		}
	}()
	var not *NotSavedError
	if _, err := p.Call(t.Context(), "add", []string{"3"}); !errors.As(err, &not) || joinValues(not.Results) != "i64 3" || !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if _, err := p.Call(t.Context(), "fail", nil); !errors.As(err, &not) || not.Trap == nil {
		t.Errorf("error %v", err)
	}
	cancel()
	<-done
	if _, err := p.Call(t.Context(), "total", nil); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// Periodic generations are made between calls and in them, and none while nothing changes.
func TestCallsWithInterval(t *testing.T) {
	s := newServed(t, nil)
	s.opt.Every, s.opt.MaxShare = time.Millisecond, 1
	s.opt.Keep = memsnap.Policy{MaxSnapshots: 5}
	s.start()
	calls := 0
	for len(all[CommittedEvent](&s.rec)) < 3 && !t.Failed() {
		calls++
		s.expect("add 1", fmt.Sprintf("i64 %d", calls))
	}
	// Rests at last, and a call ends that soon: at least once, since the machine may be busy.
	for tries := 1; ; tries++ {
		last, since := s.p.Status().Generation, time.Now()
		for time.Since(since) < 100*time.Millisecond {
			if g := s.p.Status().Generation; g != last {
				last, since = g, time.Now()
			}
			time.Sleep(time.Millisecond)
		}
		calls++
		s.expect("add 1", fmt.Sprintf("i64 %d", calls))
		for late := time.Now().Add(time.Minute); s.p.Status().Generation == last; time.Sleep(time.Millisecond) {
			if time.Now().After(late) {
				t.Fatal("no generation after a call")
			}
		}
		took := time.Since(since)
		if took <= 5*time.Second {
			break
		}
		if tries == 10 {
			t.Errorf("a generation %v after a call", took)
			break
		}
	}
	s.stop()
}

// reactorModule is a module of sections, each an id and what is in it, in hexadecimal.
func reactorModule(t testing.TB, sections ...string) []byte {
	t.Helper()
	m := []byte("\x00asm\x01\x00\x00\x00")
	for _, text := range sections {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil || len(b) > 127 {
			t.Fatalf("section %s: %v", text, err)
		}
		m = append(append(m, b[0], byte(len(b)-1)), b[1:]...)
	}
	return m
}

// A reactor whose state is one global and no memory, with functions of many types.
func TestCallTypes(t *testing.T) {
	source := reactorModule(t,
		// types: ()->(), (i32)->(i32,i32), (v128)->(), ()->(funcref), (f32,f64)->(f64,f32)
		"01 05 600000 60017f027f7f 60017b00 60000170 60027d7c027c7d",
		"03 06 00 01 02 03 04 00",
		"06 01 7f01 4100 0b", // (global (mut i32) 0)
		// exports: both = 1, vector = 2, ref = 3, swap = 4, count = 5, g = global 0, "" = 0
		"07 07 04626f7468 0001 06766563746f72 0002 03726566 0003 0473776170 0004 05636f756e74 0005 0167 0300 00 0000",
		"0a 06 0200 0b 0600 2000 2300 0b 0200 0b 0400 d070 0b 0600 2001 2000 0b 0900 2300 4101 6a 2400 0b",
	)
	s := newServed(t, source)
	s.start()
	s.expect("both 7", "i32 7, i32 0", "count", "", "count", "", "both -1", "i32 -1, i32 2", "swap 1.5 nan", "f64 nan, f32 1.5")
	var bad *ArgumentError
	for call, text := range map[string]string{"vector 1": "vector: it takes a v128", "ref": "ref: it returns a funcref"} {
		if _, err := s.call(call); !errors.As(err, &bad) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", call, err)
		}
	}
	var no *NoExportError
	if _, err := s.call("g"); !errors.As(err, &no) || !strings.Contains(err.Error(), "it is a global") {
		t.Errorf("error %v", err)
	}
	if vs, err := s.p.Call(t.Context(), "", nil); err != nil || len(vs) != 0 {
		t.Errorf("%v, %v", vs, err)
	}
	// A call that changes nothing but a global makes a difference.
	s.stop()
	s.opt.Every = time.Millisecond
	s.start()
	s.expect("both 0", "i32 0, i32 2")
	first := s.p.Status().Generation
	s.expect("count", "")
	for late := time.Now().Add(time.Minute); s.p.Status().Generation < first+1; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("no generation after a call")
		}
	}
	s.expect("both 0", "i32 0, i32 3")
	s.stop()
	s.start()
	s.expect("both 0", "i32 0, i32 3")
	s.stop()
}

// What no reactor can be is refused, by name and reason; a command line that calls nothing
// refuses all of them.
func TestReactorRefused(t *testing.T) {
	for _, c := range []struct {
		source []byte
		text   string
	}{
		// (func (export "_initialize") (param i32))
		{reactorModule(t, "01 01 60017f00", "03 01 00", "07 01 0b5f696e697469616c697a65 0000", "0a 01 0200 0b"), "its _initialize is not a function without parameters"},
		// nothing but (func (export "_initialize"))
		{reactorModule(t, "01 01 600000", "03 01 00", "07 01 0b5f696e697469616c697a65 0000", "0a 01 0200 0b"), "it has no _start function and none to be called"},
		{reactorModule(t), "none to be called"},
	} {
		o := Options{Dir: processDir(t), Name: "x", Source: c.source}
		var refused *RefusedError
		if _, err := Open(t.Context(), o); !errors.As(err, &refused) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("got %v, want %q", err, c.text)
		}
		if r := check(c.source, nil); r.Kind != KindReactor || len(r.Refused) != 1 || !strings.Contains(r.Refused[0], c.text) {
			t.Errorf("check: %+v", r)
		}
	}
	s := newServed(t, nil)
	s.opt.CommandOnly = true
	var refused *RefusedError
	if _, err := Open(t.Context(), s.opt); !errors.As(err, &refused) || !strings.Contains(err.Error(), "perdure call NAME begun") {
		t.Errorf("error %v", err)
	}
	r, err := Check(s.opt.Program, nil)
	if err != nil || r.Kind != KindReactor || len(r.Refused) != 0 || !slices.Contains(r.Calls, "work(i32, i64) -> i64") || slices.Contains(r.Calls, "_initialize()") {
		t.Errorf("%+v, %v", r, err)
	}
}
