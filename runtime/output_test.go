package runtime

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"perdure/memsnap"
	"perdure/runtime/internal/guests"
)

// slowOutput is an Output that takes little at a time and then makes the guest wait.
type slowOutput struct {
	rnd     *rand.Rand
	wait    time.Duration
	refused func() (more bool) // called when the guest has to wait; returns whether it has room afterwards

	mu    sync.Mutex
	got   [3]bytes.Buffer
	room  int
	waits int
	err   error
}

func (o *slowOutput) Write(stream int, p []byte) (int, time.Duration, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, 0, o.err
	}
	if o.room == 0 && o.wait > 0 {
		o.waits++
		if o.refused() {
			o.room = 1 + o.rnd.IntN(40)
		}
		return 0, o.wait, nil
	}
	n := len(p)
	if o.wait > 0 {
		n = min(n, o.room)
	}
	o.room -= n
	o.got[stream].Write(p[:n])
	return n, 0, nil
}

// text returns what was written to a stream.
func (o *slowOutput) text(stream int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.got[stream].String()
}

// fail makes every Write fail from now on, nil none.
func (o *slowOutput) fail(err error) {
	o.mu.Lock()
	o.err = err
	o.mu.Unlock()
}

// A guest that writes faster than it may waits, can be cut and suspended meanwhile, and in the
// end each byte was written once.
func TestOutputRate(t *testing.T) {
	s := named(t, "tree")
	want := string(s.Golden(t))
	o := &slowOutput{rnd: seed(t), wait: time.Millisecond}
	b := newBench(t, s, s.Args)
	b.opt.Output, b.opt.Every = o, 3*time.Millisecond
	lives := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		left := 1 + o.rnd.IntN(6)
		o.refused = func() bool {
			if left--; left == 0 {
				cancel()
			}
			return left > 0
		}
		r, err := b.life(ctx, nil)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		lives++
		if !r.Suspended {
			break
		}
	}
	if got := o.text(1); got != want {
		t.Errorf("output: %s", firstDifference(got, want))
	}
	cuts := len(all[CommittedEvent](b.rec))
	t.Logf("%d lives, %d cuts, %d waits", lives, cuts, o.waits)
	if lives < 3 || cuts < lives {
		t.Error("too few")
	}
}

// An output that is full is an error to the guest, as that of a file, and not to the process.
func TestOutputFull(t *testing.T) {
	c := newPiped(t)
	c.say("tell 9")
	c.out.fail(unix.ENOSPC)
	if _, err := c.input.WriteString("fill 1\n"); err != nil {
		t.Fatal(err)
	}
	c.waits("tell 9") // it has read that, failed to answer, and reads again
	c.out.fail(nil)
	// The C library keeps what it could not write, or drops it.
	if got := c.say("clock"); !strings.Contains(got, "clock: ") {
		t.Errorf("answer %q", got)
	}
	c.end()
}

// piped is a process of the guest commands in this operating-system process, with an Output,
// and the other end of its standard input.
type piped struct {
	t      testing.TB
	p      *Process
	out    *slowOutput
	input  *os.File
	rec    recorder
	said   int
	cancel context.CancelFunc
	done   chan struct{}
	result Result
	err    error
}

func newPiped(t testing.TB) *piped {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &piped{t: t, out: &slowOutput{}, input: w, done: make(chan struct{})}
	c.p, err = Open(t.Context(), Options{Dir: processDir(t), Name: "commands", CacheDir: cacheDir(), Program: guests.Path(t, "commands"),
		Args: []string{"commands"}, Preopens: []Preopen{{Host: t.TempDir(), Guest: "/"}}, Output: c.out, Stdin: r, OpenFiles: 6, Events: c.rec.event})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // of the whole test
	c.cancel = cancel
	go func() {
		defer close(c.done)
		c.result, c.err = c.p.Run(ctx)
	}()
	t.Cleanup(func() {
		c.end()
		r.Close()
		w.Close()
	})
	return c
}

// end suspends the process and closes it.
func (c *piped) end() {
	c.t.Helper()
	if c.p == nil {
		return
	}
	c.cancel()
	<-c.done
	if c.err != nil || !c.result.Suspended {
		c.t.Errorf("%+v, %v", c.result, c.err)
	}
	if err := c.p.Close(); err != nil {
		c.t.Error(err)
	}
	c.p = nil
}

func (c *piped) until(what string, done func() bool) {
	c.t.Helper()
	for late := time.Now().Add(time.Minute); !done(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(late) {
			c.t.Fatalf("%s: not within a minute", what)
		}
	}
}

// waits waits until the guest has read its input and waits for more.
func (c *piped) waits(after string) {
	c.t.Helper()
	c.until("after "+after+", to wait for input", func() bool {
		n, err := unix.IoctlGetInt(int(c.input.Fd()), unix.TIOCINQ)
		return err == nil && n == 0 && c.p.Status().Waiting
	})
}

func (c *piped) say(command string) (answer string) {
	c.t.Helper()
	if _, err := c.input.WriteString(command + "\n"); err != nil {
		c.t.Fatal(err)
	}
	c.until("an answer to "+command, func() bool {
		line, _, ok := strings.Cut(c.out.text(1)[c.said:], "\n")
		if ok {
			answer = line
			c.said += len(line) + 1
		}
		return ok
	})
	return answer
}

func TestStatus(t *testing.T) {
	c := newPiped(t)
	if got, want := c.say("fill 3"), "fill: "+fillDigest(3, 1); got != want {
		t.Errorf("answer %q, want %q", got, want)
	}
	c.waits("fill 3")
	before := c.p.Status()
	if before.MemoryBytes < 3<<20 || before.Generation != 0 || before.Restarts != 0 || before.Reactor || len(before.Program) != 64 {
		t.Errorf("%+v", before)
	}
	info, err := c.p.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.say("fill 20")
	if s := c.p.Status(); s.Generation != info.Number || s.MemoryBytes < 20<<20 || s.Program != before.Program {
		t.Errorf("%+v, generation %d", s, info.Number)
	}
	c.end()
}

// Six descriptors: the standard streams, the directory, and two more.
func TestOpenFiles(t *testing.T) {
	c := newPiped(t)
	for command, want := range map[string]string{"open 1 rwc /a": "open: 0", "open 2 rwc /b": "open: 0"} {
		if got := c.say(command); got != want {
			t.Errorf("%s: %q", command, got)
		}
	}
	if got := c.say("open 3 rwc /c"); !strings.HasPrefix(got, "open: ") || got == "open: 0" {
		t.Errorf("one too many: %q", got)
	}
}

func TestReconfigure(t *testing.T) {
	c := newPiped(t)
	committed := func() int { return len(all[CommittedEvent](&c.rec)) }
	c.say("fill 1")
	for _, bad := range []Live{{Every: -1}, {MaxShare: -0.1}, {MaxShare: 1.1}} {
		if err := c.p.Reconfigure(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	if n := committed(); n != 0 {
		t.Errorf("%d generations that nobody asked for", n)
	}
	if err := c.p.Reconfigure(Live{Every: time.Millisecond, MaxShare: 1}); err != nil {
		t.Fatal(err)
	}
	for committed() < 5 {
		c.say("fill 1") // or nothing changes
	}
	if err := c.p.Reconfigure(Live{Every: time.Millisecond, MaxShare: 1, Keep: memsnap.Policy{MaxSnapshots: 2}}); err != nil {
		t.Fatal(err)
	}
	saved, err := OpenSaved(c.p.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	c.until("old generations are removed", func() bool {
		list, err := saved.Generations()
		if err != nil && !errors.Is(err, os.ErrNotExist) { // one that is being removed
			t.Fatal(err)
		}
		return err == nil && len(list) <= 2
	})
	if err := c.p.Reconfigure(Live{}); err != nil {
		t.Fatal(err)
	}
	// One that is under way may still come; then no more.
	if _, err := c.p.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := committed()
	for range 50 {
		c.say("fill 1")
	}
	if got := committed(); got > n+1 {
		t.Errorf("%d generations after none were wanted", got-n)
	}
}
