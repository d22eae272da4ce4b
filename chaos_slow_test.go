//go:build slow

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"perdure/daemon"
	"perdure/daemon/worker"
)

// chaosRounds is how often something is killed.
const chaosRounds = 200

// chaosPrograms are the processes of the test: counters, whose every line is looked at; programs that compute for a
// while and write a file, which must be that of an undisturbed run; and some that just must be there.
var chaosPrograms = map[string][]string{
	"counter-1": {"counter", "7"}, "counter-2": {"counter", "11"}, "counter-3": {"counter", "23"}, "counter-4": {"counter", "50"},
	"counter-5": {"counter", "3"}, "counter-6": {"counter", "1"},
	"primes": {"primes", "500", "/primes"}, "queens": {"queens", "300", "/queens"}, "tree": {"tree", "300", "/tree"},
	"sort": {"sort", "30", "/sort"}, "hash": {"hash", "100", "/hash"}, "interp": {"interp", "100", "/interp"},
	"grow": {"grow", "24", "/grow"}, "list": {"list", "100", "/list"},
	"spin": {"spin"}, "echo": {"echo"}, "sleeper": {"sleeper", "1000000", "9"},
	"zero": {"exitcode", "0"}, "trap": {"trap", "divide"}, "sqlite": {"sqlite", "idx", "20"},
}

// chaos is the state of the test.
type chaos struct {
	t      *testing.T
	dir    string
	rng    *rand.Rand
	client *daemon.Client
	serve  *exec.Cmd
	said   bytes.Buffer

	kills map[string]int // of workers
	// floors are what counters have to stay above: of lines behind an offset in the log.
	floors map[string][]chaosFloor
}

type chaosFloor struct{ offset, least int }

// TestChaos kills the daemon, workers, and both, at random moments. The programs must notice nothing but lost time: no
// counter goes back beyond a generation that was durable, or goes back at all unless its worker was killed; what
// computes has the result of an undisturbed run; and nothing is ever damaged.
func TestChaos(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PERDURE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("PERDURE_SEED=%d", seed)
	c := &chaos{
		t: t, dir: t.TempDir(), rng: rand.New(rand.NewPCG(seed, 0)), kills: map[string]int{}, floors: map[string][]chaosFloor{},
	}
	c.prepare()
	defer c.end()
	c.start()
	for round := range chaosRounds {
		c.pause(time.Duration(c.rng.IntN(200)) * time.Millisecond)
		switch name := c.any(); c.rng.IntN(10) {
		case 0, 1:
			c.killDaemon()
			c.start()
		case 2, 3, 4:
			c.killWorker(name)
		case 5, 6:
			c.killWorker(name)
			c.killDaemon()
			c.killWorker(c.any())
			c.start()
		case 7:
			c.mark(name)
		case 8:
			c.ask(name, "restart")
		case 9:
			c.ask(name, "stop")
			c.ask(name, "start")
		}
		if round%50 == 49 {
			t.Logf("%d rounds", round+1)
		}
	}
	c.settle()
	for name, args := range chaosPrograms {
		switch {
		case args[0] == "counter":
			c.checkCounter(name)
		case len(args) == 3 && strings.HasPrefix(args[2], "/"):
			c.checkFile(name, args)
		}
	}
	if out, err := exec.Command("perdure", "verify", "--state", filepath.Join(c.dir, "state")).CombinedOutput(); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
}

// prepare makes the folder and the configuration.
func (c *chaos) prepare() {
	var conf strings.Builder
	fmt.Fprintf(&conf, "[daemon]\nparallel_starts = 4\n[snapshot]\nevery = \"40ms\"\n[limits]\nconfine = false\n[restart]\nbackoff = \"5ms\"\nbackoff_max = \"20ms\"\n")
	for _, d := range []string{"modules", "files", "state"} {
		c.must(os.Mkdir(filepath.Join(c.dir, d), 0o700))
	}
	for name, args := range chaosPrograms {
		src, err := os.ReadFile(filepath.Join("testdata/guests", args[0]+".wasm"))
		c.must(err)
		c.must(os.WriteFile(filepath.Join(c.dir, "modules", name+".wasm"), src, 0o600))
		quoted := make([]string, len(args)-1)
		for i, a := range args[1:] {
			quoted[i] = strconv.Quote(a)
		}
		fmt.Fprintf(&conf, "[process.%s]\nargs = [%s]\ndirs = [%q]\n", name, strings.Join(quoted, ", "), filepath.Join(c.dir, "files")+":/")
	}
	c.must(os.WriteFile(filepath.Join(c.dir, "perdure.toml"), []byte(conf.String()), 0o600))
	c.client = daemon.NewClient(filepath.Join(c.dir, "s"))
}

func (c *chaos) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// pause lets time pass, in which anything may happen.
func (c *chaos) pause(d time.Duration) { <-time.After(d) }

func (c *chaos) any() string {
	n := c.rng.IntN(len(chaosPrograms))
	names := make([]string, 0, len(chaosPrograms))
	for name := range chaosPrograms {
		names = append(names, name)
	}
	// The order of a map is not that of the seed.
	slices.Sort(names)
	return names[n]
}

// start starts a daemon and waits until it answers.
func (c *chaos) start() {
	c.serve = exec.Command("perdure", "serve", "--config", filepath.Join(c.dir, "perdure.toml"), "--state", filepath.Join(c.dir, "state"),
		"--modules", filepath.Join(c.dir, "modules"), "--cache", filepath.Join(c.dir, "cache"), "--socket", filepath.Join(c.dir, "s"))
	c.said.Reset()
	c.serve.Stdout, c.serve.Stderr = &c.said, &c.said
	c.must(c.serve.Start())
	c.until("the daemon answers", func(ctx context.Context) bool {
		_, err := c.client.Info(ctx)
		return err == nil
	})
}

// until waits for something, but not for ever.
func (c *chaos) until(what string, ok func(context.Context) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	for !ok(ctx) {
		select {
		case <-ctx.Done():
			list, err := c.client.List(context.Background())
			for _, p := range list {
				c.t.Logf("%+v", p)
			}
			c.t.Fatalf("waited for: %s (%v)", what, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *chaos) killDaemon() {
	c.must(c.serve.Process.Kill())
	_ = c.serve.Wait() // killed
}

func (c *chaos) killWorker(name string) {
	h, err := worker.Find(filepath.Join(c.dir, "state", name))
	if errors.Is(err, worker.ErrNoWorker) {
		return
	}
	c.must(err)
	c.kills[name]++
	c.must(h.Signal(syscall.SIGKILL))
	<-h.Done()
}

// ask asks the daemon for something that can fail only because of the state that the process is in.
func (c *chaos) ask(name, what string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var err error
	switch what {
	case "restart":
		err = c.client.Restart(ctx, name, false)
	case "start":
		err = c.client.Start(ctx, name, false)
	case "stop":
		err = c.client.Stop(ctx, name)
	}
	if err != nil && !isState(err) {
		c.t.Errorf("%s %s: %v", what, name, err)
	}
}

// mark takes a generation of a counter: from then on it must not go back to what it has written before.
func (c *chaos) mark(name string) {
	if chaosPrograms[name][0] != "counter" {
		name = "counter-1"
	}
	log := c.log(name)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	if _, err := c.client.Snapshot(ctx, name); err != nil {
		if !isState(err) {
			c.t.Errorf("snapshot %s: %v", name, err)
		}
		return
	}
	if lines := strings.Fields(log); len(lines) > 0 && strings.HasSuffix(log, "\n") {
		last, err := strconv.Atoi(lines[len(lines)-1])
		c.must(err)
		c.floors[name] = append(c.floors[name], chaosFloor{len(log), last})
	}
}

func (c *chaos) log(name string) string {
	b, err := os.ReadFile(filepath.Join(c.dir, "state", "logs", name+".log"))
	if !errors.Is(err, os.ErrNotExist) {
		c.must(err)
	}
	return string(b)
}

// settle lets everything go on undisturbed until it is done.
func (c *chaos) settle() {
	for name := range chaosPrograms {
		c.ask(name, "start")
	}
	c.until("all have come to what they should be", func(ctx context.Context) bool {
		list, err := c.client.List(ctx)
		if err != nil || len(list) != len(chaosPrograms) {
			return false
		}
		for _, p := range list {
			args := chaosPrograms[p.Name]
			want := []daemon.State{daemon.StateRunning, daemon.StateParked}
			switch {
			case args[0] == "trap":
				want = []daemon.State{daemon.StateFailed}
			case args[0] == "exitcode" || args[0] == "sqlite" || len(args) == 3 && strings.HasPrefix(args[2], "/"):
				want = []daemon.State{daemon.StateEnded}
			}
			if p.State != want[0] && p.State != want[len(want)-1] || p.Detail == "starting" {
				return false
			}
		}
		return true
	})
}

// checkCounter looks at every line of a counter.
func (c *chaos) checkCounter(name string) {
	log := c.log(name)
	log = log[:strings.LastIndexByte(log, '\n')+1]
	offset, last, backs := 0, 0, 0
	for _, line := range strings.SplitAfter(log, "\n") {
		if line == "" {
			break
		}
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			c.t.Errorf("%s: the line %q at %d is torn", name, line, offset)
			return
		}
		for _, f := range c.floors[name] {
			if offset >= f.offset && n <= f.least {
				c.t.Errorf("%s: %d at %d is before the durable generation, which had %d at %d", name, n, offset, f.least, f.offset)
				return
			}
		}
		switch {
		case n > last+1:
			c.t.Errorf("%s: %d follows %d: something is lost", name, n, last)
			return
		case n <= last:
			backs++
		}
		last = n
		offset += len(line)
	}
	if backs > c.kills[name] {
		c.t.Errorf("%s went back %d times, and was killed %d times", name, backs, c.kills[name])
	}
	c.t.Logf("%s: counted to %d, went back %d times, killed %d times, %d marks", name, last, backs, c.kills[name], len(c.floors[name]))
}

// checkFile holds what a program has written against what it writes undisturbed.
func (c *chaos) checkFile(name string, args []string) {
	peace := c.t.TempDir()
	run := append([]string{"run", "--quiet", "--every", "0", "--state", filepath.Join(peace, "state"), "--cache", filepath.Join(c.dir, "cache"),
		"--dir", peace + ":/", "testdata/guests/" + args[0] + ".wasm"}, args[1:]...)
	cmd := exec.Command("perdure", run...)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	want, err := os.ReadFile(filepath.Join(peace, args[2]))
	c.must(err)
	got, err := os.ReadFile(filepath.Join(c.dir, "files", args[2]))
	c.must(err)
	if !bytes.Equal(got, want) {
		c.t.Errorf("%s: killed %d times, it wrote another result: %d bytes, %d undisturbed", name, c.kills[name], len(got), len(want))
	}
}

// end leaves nothing behind.
func (c *chaos) end() {
	_ = c.serve.Process.Kill() // it may have ended
	_ = c.serve.Wait()
	for name := range chaosPrograms {
		if h, err := worker.Find(filepath.Join(c.dir, "state", name)); err == nil {
			_ = h.Signal(syscall.SIGKILL) // it may have ended
			<-h.Done()
		}
	}
	if c.t.Failed() {
		c.t.Logf("the daemon said at last:\n%s", end(c.said.String()))
	}
}
