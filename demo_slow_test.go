//go:build slow

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// demoRun is a perdure demo of a test, in a temporary directory of its own.
type demoRun struct {
	t   *testing.T
	cmd *exec.Cmd
	out buffer
	tmp string
}

func startDemo(t *testing.T, args ...string) *demoRun {
	t.Helper()
	r := &demoRun{t: t, tmp: t.TempDir()}
	r.cmd = exec.Command("perdure", append([]string{"demo", "--plain"}, args...)...)
	r.cmd.Env = append(os.Environ(), "TMPDIR="+r.tmp)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// end waits for the end, and wants this status and nothing left behind: no file, and no process that knows the directory.
func (r *demoRun) end(status int) {
	r.t.Helper()
	stuck := time.AfterFunc(10*time.Minute, func() { _ = r.cmd.Process.Kill() })
	defer stuck.Stop()
	_ = r.cmd.Wait() // the status says it
	if got := r.cmd.ProcessState.ExitCode(); got != status {
		r.t.Errorf("status %d, want %d:\n%s", got, status, r.out.String())
	}
	left, err := os.ReadDir(r.tmp)
	if err != nil || len(left) > 0 {
		r.t.Errorf("left behind: %v, %v", left, err)
	}
	// A worker has the directory of its process open and nothing of it among its arguments.
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil || len(links) == 0 {
		r.t.Errorf("no processes to look at: %v", err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, r.tmp) {
			r.t.Errorf("left behind: %s is %s", link, to)
		}
	}
}

// within waits for a file of the demonstration that matches a pattern.
func (r *demoRun) within(pattern string) string {
	r.t.Helper()
	for limit := time.Now().Add(2 * patience); ; <-time.After(5 * time.Millisecond) {
		found, err := filepath.Glob(filepath.Join(r.tmp, "perdure-demo-*", pattern))
		if err != nil {
			r.t.Fatal(err)
		}
		if len(found) > 0 {
			return found[0]
		}
		if time.Now().After(limit) {
			r.t.Fatalf("no %s:\n%s", pattern, r.out.String())
		}
	}
}

// TestDemo wants the demonstration to come to its end, with a program of the viewer's, and to leave nothing behind.
func TestDemo(t *testing.T) {
	r := startDemo(t, "--guest", guestPath(t, "spin")) // which does not end
	r.end(0)
	for _, want := range []string{
		`(?m)^ *[0-9.]+ s  kill -9 [0-9]+, the worker of counter, at [0-9]+ [0-9a-f]{16}$`,
		`(?m)^ *[0-9.]+ s    primes goes on [0-9.]+ m?s later, with [0-9]+ primes below `,
		`(?m)^ *[0-9.]+ s    keyvalue goes on [0-9.]+ m?s later, with answer [0-9]+ on one connection$`,
		`(?m)^ *[0-9.]+ s    counter runs on without it: `,
		`(?m)^ *[0-9.]+ s    a new daemon, process [0-9]+, has taken all of them over`,
		`(?m)^counter +2 × .* nothing: [0-9]+ lines, each right$`,
		`(?m)^primes +2 × .* nothing: [0-9]+ lines, each right$`,
		`(?m)^yours +[12] × .*`,
		`(?m)^keyvalue +2 × .* nothing: [0-9]+ answers in order, one connection$`,
		`(?m)^the daemon +2 × `,
		`Nothing was lost, nothing was done twice\.`,
		`(?m)^  perdure bench +`,
	} {
		if !regexp.MustCompile(want).MatchString(r.out.String()) {
			t.Errorf("no line like %s:\n%s", want, r.out.String())
		}
	}
}

// TestDemoInterrupted wants nothing to be left behind at Ctrl-C.
func TestDemoInterrupted(t *testing.T) {
	r := startDemo(t)
	r.within("files/counter.txt")
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	r.end(130)
}

// TestDemoTellsOfLosses wants status 1 when what a program has written is gone.
func TestDemoTellsOfLosses(t *testing.T) {
	r := startDemo(t)
	path := r.within("files/primes.txt")
	for limit := time.Now().Add(2 * patience); ; <-time.After(5 * time.Millisecond) {
		if st, err := os.Stat(path); err == nil && st.Size() > 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("nothing is written:\n%s", r.out.String())
		}
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // once could go unnoticed: the program writes on behind what is gone
		for {
			select {
			case <-quit:
				return
			case <-time.After(time.Millisecond):
				_ = os.Truncate(path, 0) // at the end it is not there
			}
		}
	})
	r.end(1)
	close(quit)
	wg.Wait()
	if !strings.Contains(r.out.String(), "perdure: lost: ") {
		t.Errorf("it does not tell:\n%s", r.out.String())
	}
}

// TestDemoRefuses wants a program that cannot be shown to be refused before anything is started.
func TestDemoRefuses(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.wasm")
	if err := os.WriteFile(bad, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	startDemo(t, "--guest", bad).end(126)
	startDemo(t, "--guest", bad+".none").end(127)
}
