package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// life is one life of a worker.
type life struct {
	t      testing.TB
	cmd    *exec.Cmd
	began  time.Time
	stderr bytes.Buffer
	read   chan struct{} // closed when the output has ended

	mu  sync.Mutex
	raw bytes.Buffer // output and events
}

// told is an event of a worker.
type told struct {
	kind   string // the type's name
	number uint64 // of the generation, if it is about one
	text   string
	at     int // bytes of output before it
}

// launch starts a worker. The file, if not nil, is its standard input.
func launch(t testing.TB, spec workerSpec, stdin *os.File) *life {
	t.Helper()
	spec.Options.Events = nil
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	l := &life{t: t, cmd: exec.Command(os.Args[0]), read: make(chan struct{}), began: time.Now()}
	l.cmd.Env = append(os.Environ(), workerEnv+"="+string(text))
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l.cmd.Stdout, l.cmd.Stderr = pw, &l.stderr
	if stdin != nil {
		l.cmd.Stdin = stdin
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	go func() {
		defer close(l.read)
		defer pr.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := pr.Read(b)
			l.mu.Lock()
			l.raw.Write(b[:n])
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return l
}

// signal sends a signal; a worker that has ended gets none.
func (l *life) signal(s syscall.Signal) { _ = l.cmd.Process.Signal(s) }

// wait waits for the end of a worker, at most for limit, and returns its exit status, -1
// when it was killed.
func (l *life) wait(limit time.Duration) int {
	l.t.Helper()
	timer := time.AfterFunc(limit, func() { l.signal(syscall.SIGKILL) })
	err := l.cmd.Wait()
	<-l.read
	if !timer.Stop() {
		l.t.Fatalf("worker did not end within %v\n%s", limit, l.describe())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.t.Fatal(err)
	}
	return l.cmd.ProcessState.ExitCode()
}

// describe tells what the worker did.
func (l *life) describe() string {
	_, events := l.parse()
	var b strings.Builder
	b.Write(l.stderr.Bytes())
	if len(events) > 30 {
		events = append(events[:10:10], events[len(events)-20:]...)
	}
	for _, e := range events {
		b.WriteString(e.kind + " " + strconv.FormatUint(e.number, 10) + " " + e.text + "\n")
	}
	return b.String()
}

// parse separates what the guest printed from the events. What the kill has cut off is
// left out.
func (l *life) parse() (stdout string, events []told) {
	l.mu.Lock()
	raw := l.raw.String()
	l.mu.Unlock()
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(raw, eventBegin)
		out.WriteString(before)
		if !ok {
			return out.String(), events
		}
		text, after, ok := strings.Cut(rest, eventEnd)
		if !ok {
			return out.String(), events
		}
		kind, text, _ := strings.Cut(strings.TrimPrefix(text, "runtime."), " ")
		number, text, _ := strings.Cut(text, " ")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			l.t.Errorf("event %q: %v", kind, err)
		}
		events = append(events, told{kind, n, text, out.Len()})
		raw = after
	}
}

// events returns those of one kind.
func (l *life) events(kind string) []told {
	_, events := l.parse()
	var es []told
	for _, e := range events {
		if e.kind == kind {
			es = append(es, e)
		}
	}
	return es
}

// await waits until the worker has told n events of one of the kinds, and returns
// whether it has; not when it ends or takes too long.
func (l *life) await(limit time.Duration, n int, kinds ...string) bool {
	return l.until(limit, func() bool {
		have := 0
		for _, k := range kinds {
			have += len(l.events(k))
		}
		return have >= n
	})
}

// awaitOutput waits until the guest has printed something.
func (l *life) awaitOutput(limit time.Duration, text string) bool {
	return l.until(limit, func() bool {
		out, _ := l.parse()
		return strings.Contains(out, text)
	})
}

func (l *life) until(limit time.Duration, done func() bool) bool {
	late := time.After(limit)
	for !done() {
		select {
		case <-l.read:
			return done()
		case <-late:
			return false
		case <-time.After(500 * time.Microsecond):
		}
	}
	return true
}

// has waits for an event and fails when it does not come.
func (l *life) has(kind string) {
	l.t.Helper()
	if !l.await(time.Minute, 1, kind) {
		l.t.Fatalf("no %s\n%s", kind, l.describe())
	}
}

// prints waits for output and fails when it does not come.
func (l *life) prints(text string) {
	l.t.Helper()
	if !l.awaitOutput(time.Minute, text) {
		out, _ := l.parse()
		l.t.Fatalf("no %q in the output %q\n%s", text, out, l.describe())
	}
}

// ends waits for the worker and fails when it has not the exit status; -1 is a kill.
func (l *life) ends(status int) (stdout string) {
	l.t.Helper()
	if got := l.wait(time.Minute); got != status {
		l.t.Fatalf("status %d, want %d\n%s", got, status, l.describe())
	}
	stdout, _ = l.parse()
	return stdout
}
