package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"perdure/runtime/internal/guests"
)

// talk is a worker that runs the guest commands, life after life, and the test's end of
// its standard input.
type talk struct {
	*life
	t     testing.TB
	spec  workerSpec
	dir   string // the guest's
	input *os.File
	said  int // bytes of this life's output that were read
}

// newTalk makes a process of the guest commands with one directory, and starts it.
func newTalk(t testing.TB, change func(*workerSpec)) *talk {
	t.Helper()
	c := &talk{t: t, dir: t.TempDir()}
	c.spec = workerSpec{SnapshotOnUSR1: true, Options: Options{Dir: processDir(t), Name: "commands", CacheDir: cacheDir(),
		Program: guests.Path(t, "commands"), Args: []string{"commands"}, Preopens: []Preopen{{Host: c.dir, Guest: "/"}}}}
	if change != nil {
		change(&c.spec)
	}
	t.Cleanup(func() {
		if c.life != nil && c.cmd.ProcessState == nil {
			c.signal(syscall.SIGKILL)
			c.wait(time.Minute)
		}
		if c.input != nil {
			c.input.Close()
		}
	})
	c.start()
	c.has("StartedEvent")
	return c
}

// start starts the next life.
func (c *talk) start() {
	c.t.Helper()
	if c.input != nil {
		c.input.Close()
	}
	r, w, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.input, c.said = w, 0
	c.life = launch(c.t, c.spec, r)
	r.Close()
}

// say gives the guest a command and returns its answer.
func (c *talk) say(command string) string {
	c.t.Helper()
	if _, err := c.input.WriteString(command + "\n"); err != nil {
		c.t.Fatal(err)
	}
	var answer string
	if !c.until(time.Minute, func() bool {
		out, _ := c.parse()
		line, _, ok := strings.Cut(out[c.said:], "\n")
		if ok {
			answer = line
			c.said += len(line) + 1
		}
		return ok
	}) {
		c.t.Fatalf("no answer to %q\n%s", command, c.describe())
	}
	return answer
}

// expect gives the guest commands and compares the answers.
func (c *talk) expect(pairs ...string) {
	c.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := c.say(pairs[i]); got != pairs[i+1] {
			c.t.Errorf("%s: answer %q, want %q", pairs[i], got, pairs[i+1])
		}
	}
}

// snapshot makes a generation of this moment.
func (c *talk) snapshot() {
	c.t.Helper()
	n := len(c.events("CommittedEvent"))
	c.signal(syscall.SIGUSR1)
	if !c.await(time.Minute, n+1, "CommittedEvent") {
		c.t.Fatalf("no generation\n%s", c.describe())
	}
}

// pends waits until the guest waits in a function of WASI.
func (c *talk) pends(function string) {
	c.t.Helper()
	for late := time.Now().Add(time.Minute); ; {
		c.snapshot()
		saved, err := OpenSaved(c.spec.Options.Dir)
		if err != nil {
			c.t.Fatal(err)
		}
		bt, err := saved.Backtrace(c.t.Context(), 0)
		if err != nil {
			c.t.Fatal(err)
		}
		if bt.Pending != nil && bt.Pending.Function == function {
			return
		}
		if time.Now().After(late) {
			c.t.Fatalf("it does not wait in %s but in %+v\n%s", function, bt.Pending, c.describe())
		}
	}
}

// again ends this life and begins the next one, which goes on from this moment. Between
// the two it calls meanwhile.
func (c *talk) again(s syscall.Signal, meanwhile func()) {
	c.t.Helper()
	if s == syscall.SIGKILL {
		c.snapshot()
		c.signal(s)
		c.ends(-1)
	} else {
		c.signal(s)
		c.ends(statusSuspended)
	}
	if meanwhile != nil {
		meanwhile()
	}
	c.start()
	c.has("RestoredEvent")
}

// warned tells whether this life warned of something.
func (c *talk) warned(about ...string) bool {
	for _, e := range c.events("WarningEvent") {
		for _, a := range about {
			if strings.Contains(e.text, a) {
				return true
			}
		}
	}
	return false
}

// calm fails if this life warned of anything.
func (c *talk) calm() {
	c.t.Helper()
	if w := c.events("WarningEvent"); len(w) > 0 {
		c.t.Errorf("warned: %s", w[0].text)
	}
}

func (c *talk) write(name, content string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *talk) content(name, want string) {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil || string(b) != want {
		c.t.Errorf("%s holds %q (%v), want %q", name, b, err, want)
	}
}

// bothWays runs a test with an orderly suspension and with kill -9.
func bothWays(t *testing.T, test func(t *testing.T, s syscall.Signal)) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}
