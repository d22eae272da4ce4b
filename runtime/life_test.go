package runtime

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"perdure/memsnap"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/guests"
)

// verify checks every generation of a process, and returns the newest.
func verify(t testing.TB, dir string) uint64 {
	t.Helper()
	store, err := memsnap.Open(filepath.Join(dir, generationsDir), memsnap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := store.Generations()
	if err != nil {
		t.Fatal(err)
	}
	newest := uint64(0)
	for _, info := range list {
		g, err := store.OpenGeneration(t.Context(), info.Number)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Verify(t.Context()), g.Close()); err != nil {
			t.Errorf("generation %d: %v", info.Number, err)
		}
		newest = info.Number
	}
	return newest
}

func TestLocked(t *testing.T) {
	c := newTalk(t, nil)
	l := launch(t, c.spec, nil)
	l.ends(statusError)
	pid := c.cmd.Process.Pid
	var locked *LockedError
	_, err := Open(t.Context(), c.spec.Options)
	if !errors.As(err, &locked) || locked.PID != pid || locked.Name != "commands" {
		t.Errorf("error %v, want one about pid %d", err, pid)
	}
	if !strings.Contains(l.stderr.String(), locked.Error()) {
		t.Errorf("the second worker says %q", l.stderr.String())
	}
	c.expect("open 5 r /none", "open: No such file or directory") // nothing has disturbed the first
	c.signal(syscall.SIGKILL)
	c.ends(-1)
	p, err := Open(t.Context(), c.spec.Options) // the kernel has released the lock
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestOtherProgram(t *testing.T) {
	c := newTalk(t, nil)
	c.expect("fill 1", "fill: "+fillDigest(1, 1))
	c.signal(syscall.SIGTERM)
	c.ends(statusSuspended)
	o := c.spec.Options
	o.Program = guests.Path(t, "sleeper")
	var other *OtherProgramError
	if _, err := Open(t.Context(), o); !errors.As(err, &other) || other.Have == other.Want {
		t.Fatalf("error %v", err)
	}
	c.start() // as if nothing had been
	c.has("RestoredEvent")
	c.calm()
}

// A program that has ended starts anew, and its generations are numbered on.
func TestEndedStartsAnew(t *testing.T) {
	b := newBench(t, named(t, "exitcode"), []string{"7"})
	last := uint64(0)
	for range 3 {
		r, err := b.life(t.Context(), func(p *Process) {
			if _, ok := p.Restored(); ok {
				t.Error("goes on")
			}
		})
		if err != nil || r.ExitCode != 7 || r.Suspended || r.Generation <= last {
			t.Fatalf("result %+v, error %v, generation %d before", r, err, last)
		}
		last = r.Generation
	}
	if n := len(all[StartedEvent](b.rec)); n != 3 {
		t.Errorf("started %d times", n)
	}
	// Another program may have the name then.
	b.opt.Program, b.opt.Args = guests.Path(t, "environment"), []string{"environment"}
	if r, err := b.life(t.Context(), nil); err != nil || r.ExitCode != 0 {
		t.Errorf("another program: %+v, %v", r, err)
	}
	verify(t, b.opt.Dir)
}

// Without an interval generations are made on request, and at the end.
func TestOnRequest(t *testing.T) {
	c := newTalk(t, nil)
	c.expect("fill 1", "fill: "+fillDigest(1, 1))
	time.Sleep(100 * time.Millisecond)
	if n := c.events("CommittedEvent"); len(n) != 0 {
		t.Errorf("nobody asked for %v", n)
	}
	c.snapshot()
	c.snapshot() // though nothing has changed
	c.expect("fill 1", "fill: "+fillDigest(1, 2))
	c.signal(syscall.SIGTERM)
	c.ends(statusSuspended)
	if n := len(c.events("CommittedEvent")); n != 3 {
		t.Errorf("%d generations, want two on request and one at the end", n)
	}
	newest := verify(t, c.spec.Options.Dir)
	c.start()
	c.has("RestoredEvent")
	if got := c.events("RestoredEvent")[0].number; got != newest {
		t.Errorf("restored %d, want %d", got, newest)
	}
}

// Requests that come while the program starts and ends get an answer.
func TestSnapshotWhileEnding(t *testing.T) {
	s := named(t, "primes")
	made, ended := 0, 0
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		b := newBench(t, s, []string{"1", "/copy"})
		done := make(chan error)
		r, err := b.life(ctx, func(p *Process) {
			go func() {
				for {
					info, err := p.Snapshot(ctx)
					if err != nil {
						done <- err
						return
					}
					made++
					if info.Number == 0 {
						t.Error("a generation without a number")
					}
				}
			}()
		})
		if err != nil || r.ExitCode != 0 {
			t.Fatalf("run %d: %+v, %v", i, r, err)
		}
		if err := <-done; !errors.Is(err, ErrEnded) {
			t.Fatalf("run %d: %v", i, err)
		}
		cancel()
		ended++
		if newest := verify(t, b.opt.Dir); newest != r.Generation {
			t.Errorf("newest generation is %d, not %d", newest, r.Generation)
		}
	}
	t.Logf("%d generations, %d refused", made, ended)
}

// A guest that fails leaves its newest generation as it was.
func TestTrapKeepsState(t *testing.T) {
	for _, name := range []string{"trap-unreachable", "trap-divide", "trap-bounds", "trap-null", "stackoverflow"} {
		s := named(t, name)
		t.Run(name, func(t *testing.T) {
			b := newBench(t, s, s.Args)
			d := &director{t: t}
			stop := &suspender{director: d, left: 3}
			b.opt.hooks.poll = stop.poll
			r, err := b.life(t.Context(), func(p *Process) { d.p = p })
			if err != nil || !r.Suspended {
				t.Fatalf("%+v, %v", r, err)
			}
			newest := r.Generation
			for range 2 {
				b.opt.hooks.poll = nil
				r, err = b.life(t.Context(), func(p *Process) {
					if g, _ := p.Restored(); g != newest {
						t.Errorf("restored %d, want %d", g, newest)
					}
				})
				var trap *TrapError
				if !errors.As(err, &trap) || !strings.Contains(err.Error(), s.Trap) || r.Generation != newest {
					t.Errorf("%+v, %v", r, err)
				}
			}
			if got := verify(t, b.opt.Dir); got != newest {
				t.Errorf("newest generation is %d, want %d", got, newest)
			}
		})
	}
}

// The limit of memory refuses what cannot begin, fails the guest's growing, and never
// throws away a generation that is larger.
func TestMemoryLimit(t *testing.T) {
	s := subject{Case: guests.Case{Name: "oom", Guest: "oom"}}
	b := newBench(t, s, []string{"1"})
	b.opt.MemoryLimit = 16 << 20
	r, err := b.life(t.Context(), nil)
	if o := b.outcome(r, err); o.status != 3 || !strings.HasPrefix(o.stdout, "no memory after 1") {
		t.Errorf("status %d, output %q", o.status, o.stdout)
	}
	var refused *RefusedError
	b.opt.MemoryLimit = 65536
	if _, err := Open(t.Context(), b.opt); !errors.As(err, &refused) {
		t.Errorf("error %v", err)
	}

	c := newTalk(t, nil)
	c.snapshot()
	c.expect("fill 8", "fill: "+fillDigest(8, 1))
	c.signal(syscall.SIGTERM)
	c.ends(statusSuspended)
	o := c.spec.Options
	var rec recorder
	o.MemoryLimit, o.Events = 4<<20, rec.event
	if _, err := Open(t.Context(), o); !errors.As(err, &refused) {
		t.Errorf("error %v", err)
	}
	if s := all[SkippedEvent](&rec); len(s) > 0 {
		t.Errorf("gave up %v", s)
	}
	c.start()
	c.has("RestoredEvent")
	c.expect("fill 8", "fill: "+fillDigest(8, 2))
}

// startModule is a module that counts in its start function how often that ran, loops
// there and in _start, and exits with 40 and that number.
func startModule() []byte {
	vector := func(items ...[]byte) []byte {
		return append([]byte{byte(len(items))}, bytes.Join(items, nil)...)
	}
	sized := func(b ...byte) []byte { return append([]byte{byte(len(b))}, b...) }
	name := func(s string) []byte { return sized([]byte(s)...) }
	// local 0 counts to 1000
	loop := []byte{0x03, 0x40, 0x20, 0, 0x41, 1, 0x6a, 0x22, 0, 0x41, 0xe8, 0x07, 0x49, 0x0d, 0, 0x0b}
	body := func(before, after []byte) []byte {
		return sized(slices.Concat([]byte{1, 1, 0x7f}, before, loop, after, []byte{0x0b})...)
	}
	m := []byte{0, 'a', 's', 'm', 1, 0, 0, 0}
	section := func(id byte, content []byte) { m = append(append(m, id), sized(content...)...) }
	section(1, vector([]byte{0x60, 1, 0x7f, 0}, []byte{0x60, 0, 0}))
	section(2, vector(slices.Concat(name("wasi_snapshot_preview1"), name("proc_exit"), []byte{0, 0})))
	section(3, vector([]byte{1}, []byte{1}))
	section(5, vector([]byte{0, 1}))
	section(6, vector([]byte{0x7f, 1, 0x41, 0, 0x0b}))
	section(7, vector(append(name("memory"), 2, 0), append(name("_start"), 0, 2)))
	section(8, []byte{1})
	section(10, vector(
		body([]byte{0x23, 0, 0x41, 1, 0x6a, 0x24, 0}, nil), // global 0 += 1
		body(nil, []byte{0x23, 0, 0x41, 40, 0x6a, 0x10, 0})))
	return m
}

// The start function runs once in a process's life, and can be suspended like the rest.
func TestStartFunction(t *testing.T) {
	rnd := seed(t)
	for range 10 {
		b := newBench(t, named(t, "exitcode"), nil)
		b.opt.Program, b.opt.Source, b.opt.Name = "", startModule(), "start"
		d := &director{t: t, rnd: rnd, mean: 250}
		b.opt.hooks.poll = d.poll
		d.next()
		phases := map[phase]int{}
		for {
			r, err := b.life(t.Context(), func(p *Process) {
				d.p = p
				phases[p.state.Phase]++
			})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Suspended {
				if r.ExitCode != 41 {
					t.Fatalf("status %d after lives %v", r.ExitCode, phases)
				}
				break
			}
		}
	}
}

// Restarts counts how often the process was restored.
func TestRestarts(t *testing.T) {
	s := named(t, "tree")
	b := newBench(t, s, s.Args)
	d := &director{t: t, rnd: rand.New(rand.NewPCG(1, 1))}
	for i := range uint64(5) {
		stop := &suspender{director: d, left: 1000}
		b.opt.hooks.poll = stop.poll
		if r, err := b.life(t.Context(), func(p *Process) {
			d.p = p
			if p.state.Restarts != i {
				t.Errorf("life %d: %d restarts", i, p.state.Restarts)
			}
		}); err != nil || !r.Suspended {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	b.opt.hooks.poll = func() engine.PollAnswer { return engine.PollGo }
	o := b.outcome(b.life(t.Context(), nil))
	if o.stdout != string(s.Golden(t)) {
		t.Error(firstDifference(o.stdout, string(s.Golden(t))))
	}
	if r, err := b.life(t.Context(), func(p *Process) {
		if p.state.Restarts != 0 {
			t.Errorf("%d restarts of a new beginning", p.state.Restarts)
		}
	}); err != nil || r.ExitCode != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
