package runtime

import (
	"bytes"
	"errors"
	"os"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"perdure/runtime/internal/engine"
)

// resources are what a process must give back.
type resources struct{ goroutines, descriptors, mappings int }

func count(t testing.TB) resources {
	t.Helper()
	for range 3 {
		goruntime.GC() // code is unmapped by finalizers
		time.Sleep(5 * time.Millisecond)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return resources{goruntime.NumGoroutine(), len(fds), bytes.Count(maps, []byte("\n"))}
}

// leakTest does something again and again and looks for what grows.
func leakTest(t *testing.T, cycles int, cycle func()) {
	t.Helper()
	for range 5 {
		cycle()
	}
	after := count(t)
	for tries := 1; ; tries++ {
		before := after
		for range cycles {
			cycle()
		}
		after = count(t)
		kept := func() bool { return after.goroutines > before.goroutines || after.descriptors > before.descriptors }
		mapped := func() bool { return after.mappings > before.mappings+cycles/2 }
		for late := time.Now().Add(20 * time.Second); (kept() || mapped()) && time.Now().Before(late); { // finalizers take their time
			after = count(t)
		}
		t.Logf("before %+v, after %d cycles %+v", before, cycles, after)
		// The Go runtime maps and unmaps as it pleases, but not in step with the cycles: not every time.
		if kept() || mapped() && tries == 3 {
			t.Errorf("before %+v, after %d cycles %+v", before, cycles, after)
		}
		if !mapped() || t.Failed() {
			return
		}
	}
}

// Lives of every kind give back what they took.
func TestLeaks(t *testing.T) {
	const cycles = 30
	t.Run("suspend", func(t *testing.T) {
		s := named(t, "files") // open files
		b := newBench(t, s, []string{"2000"})
		d := &director{t: t}
		stop := &suspender{director: d}
		b.opt.hooks.poll = stop.poll
		lives := 0
		leakTest(t, cycles, func() {
			lives++
			r, err := b.life(t.Context(), func(p *Process) { d.p, stop.left = p, 300 })
			if err != nil || !r.Suspended {
				t.Fatalf("life %d: %+v, %v", lives, r, err)
			}
		})
	})
	t.Run("end", func(t *testing.T) {
		b := newBench(t, named(t, "exitcode"), []string{"1"})
		leakTest(t, cycles, func() {
			if r, err := b.life(t.Context(), nil); err != nil || r.ExitCode != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
		})
	})
	t.Run("trap", func(t *testing.T) {
		b := newBench(t, named(t, "trap-bounds"), []string{"bounds"})
		leakTest(t, cycles, func() {
			var trap *TrapError
			if _, err := b.life(t.Context(), nil); !errors.As(err, &trap) {
				t.Fatal(err)
			}
		})
	})
	t.Run("refused", func(t *testing.T) {
		b := newBench(t, named(t, "exitcode"), nil)
		p := b.open()
		defer p.Close()
		leakTest(t, cycles, func() {
			var locked *LockedError
			if _, err := Open(t.Context(), b.opt); !errors.As(err, &locked) {
				t.Fatal(err)
			}
		})
	})
	t.Run("damaged", func(t *testing.T) {
		p := newPatient(t, 2)
		for _, name := range p.files {
			if strings.HasPrefix(name, "/"+generationsDir) {
				if err := os.Truncate(p.dir+name, 1000); err != nil {
					t.Fatal(err)
				}
			}
		}
		p.b.opt.Dir = p.dir
		leakTest(t, cycles, func() {
			if _, err := Open(t.Context(), p.b.opt); err == nil {
				t.Fatal("opened")
			}
		})
	})
}

// A process that was opened and not run gives everything back too.
func TestCloseUnrun(t *testing.T) {
	b := newBench(t, named(t, "primes"), []string{"40"})
	b.opt.hooks.poll = func() engine.PollAnswer { return engine.PollGo }
	leakTest(t, 20, func() {
		if err := b.open().Close(); err != nil {
			t.Fatal(err)
		}
	})
}
