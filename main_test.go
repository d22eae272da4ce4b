package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"perdure/daemon/worker"
	"perdure/runtime"
)

// TestMain lets the test binary be perdure itself when a script calls it so.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"perdure": main})
}

// TestScript runs every case of testdata/script against the real binary, in processes of its own. The
// commands that cases have beside those of testscript are described at their functions.
func TestScript(t *testing.T) {
	guests, err := filepath.Abs("testdata/guests")
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir() // of compiled programs, for all cases
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GUESTS", guests)
			e.Setenv("PERDURE_STATE", filepath.Join(e.WorkDir, "state"))
			e.Setenv("PERDURE_SOCKET", filepath.Join(e.WorkDir, "s"))
			e.Setenv("XDG_CACHE_HOME", cache)
			e.Values[workersKey{}] = map[string]*beside{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status":      cmdStatus,
			"start":       cmdStart,
			"printed":     cmdPrinted,
			"generations": cmdGenerations,
			"signal":      cmdSignal,
			"ended":       cmdEnded,
			"damage":      cmdDamage,
			"hexfile":     cmdHexfile,
			"until":       cmdUntil,
			"later":       cmdLater,
			"repeat":      cmdRepeat,
			"killworker":  cmdKillworker,
		},
	})
}

// patience is how long a script waits for anything.
const patience = 2 * time.Minute

// workersKey is where a script's workers are among its values, by name.
type workersKey struct{}

// beside is a perdure that runs beside the script.
type beside struct {
	cmd            *exec.Cmd
	stdout, stderr buffer
	done           chan struct{} // closed when it has ended
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// command returns a perdure in the directory and with the environment of the script.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	cmd := exec.Command("perdure", args...)
	cmd.Dir = ts.Getenv("PWD")
	if cmd.Dir == "" {
		cmd.Dir = ts.MkAbs(".")
	}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "PERDURE_STATE", "PERDURE_SOCKET", "XDG_CACHE_HOME", "XDG_STATE_HOME"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

// cmdStatus is "status N ARG...": perdure ARG... ends with status N. What it printed is then there
// for stdout and stderr.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	want := number(ts, neg, args, 1)
	cmd := command(ts, args[1:])
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	ts.Check(cmd.Start())
	stuck := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	_ = cmd.Wait() // the status says it all
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("perdure %s: status %v, want %d", strings.Join(args[1:], " "), cmd.ProcessState, want)
	}
}

// cmdStart is "start NAME ARG...": perdure ARG... runs beside the script, and is called NAME.
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME ARG...")
	}
	w := &beside{cmd: command(ts, args[1:]), done: make(chan struct{})}
	w.cmd.Stdout, w.cmd.Stderr = &w.stdout, &w.stderr
	ts.Check(w.cmd.Start())
	go func() {
		defer close(w.done)
		_ = w.cmd.Wait() // ended looks at the status
	}()
	ts.Defer(func() {
		_ = w.cmd.Process.Kill() // it may have ended
		<-w.done
		if args[1] == "serve" {
			endWorkers(ts)
		}
	})
	ts.Value(workersKey{}).(map[string]*beside)[args[0]] = w
}

func workerOf(ts *testscript.TestScript, neg bool, args []string, n int) *beside {
	if neg || len(args) != n {
		ts.Fatalf("usage: a worker and %d more arguments", n-1)
	}
	w := ts.Value(workersKey{}).(map[string]*beside)[args[0]]
	if w == nil {
		ts.Fatalf("there is no worker %s", args[0])
	}
	return w
}

// until waits for what only shows from outside.
func until(ts *testscript.TestScript, what string, w *beside, ok func() bool) {
	for limit := time.Now().Add(patience); !ok(); {
		over := false
		select {
		case <-time.After(5 * time.Millisecond):
		case <-w.done:
			over = !ok()
		}
		if over || time.Now().After(limit) {
			ts.Fatalf("waited for %s; stdout ends:\n%s\nstderr ends:\n%s", what, end(w.stdout.String()), end(w.stderr.String()))
		}
	}
}

// end returns the last lines of a text.
func end(s string) string {
	lines := strings.SplitAfter(s, "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "")
}

// cmdPrinted is "printed NAME REGEXP": waits until worker NAME has printed it, to stdout or stderr.
func cmdPrinted(ts *testscript.TestScript, neg bool, args []string) {
	w := workerOf(ts, neg, args, 2)
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	until(ts, args[1], w, func() bool { return re.MatchString(w.stdout.String()) || re.MatchString(w.stderr.String()) })
}

// cmdGenerations is "generations NAME PROCESS N": waits until the process that worker NAME runs has N
// generations more than now.
func cmdGenerations(ts *testscript.TestScript, neg bool, args []string) {
	n := 0
	if len(args) == 3 {
		n = number(ts, neg, args[2:], 1)
		args = args[:2]
	}
	w := workerOf(ts, neg, args, 2)
	newest := func() int { // old ones are purged
		s, err := runtime.OpenSaved(filepath.Join(ts.Getenv("PERDURE_STATE"), args[1]))
		if err != nil {
			return 0
		}
		infos, err := s.Generations()
		ts.Check(err)
		if len(infos) == 0 {
			return 0
		}
		return int(infos[len(infos)-1].Number)
	}
	before := newest()
	until(ts, fmt.Sprintf("%d generations", n), w, func() bool { return newest() >= before+n })
}

// cmdLater is "later NAME VARIABLE": waits until worker NAME has printed some more lines to stdout, and gives the variable
// the last of them: what was printed after all that the script has waited for.
func cmdLater(ts *testscript.TestScript, neg bool, args []string) {
	w := workerOf(ts, neg, args, 2)
	whole := func() []string { // what is behind the last line feed is no line yet
		lines := strings.Split(w.stdout.String(), "\n")
		return lines[:len(lines)-1]
	}
	last := len(whole()) + 10
	until(ts, "more lines", w, func() bool { return len(whole()) > last })
	ts.Setenv(args[1], whole()[last])
}

// cmdRepeat is "repeat NAME REGEXP COMMAND ARG...": gives the command again and again until worker NAME has printed the
// expression, to stdout or stderr.
func cmdRepeat(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: repeat NAME REGEXP COMMAND ARG...")
	}
	w := workerOf(ts, neg, args[:1], 1)
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	until(ts, args[1], w, func() bool {
		if re.MatchString(w.stdout.String()) || re.MatchString(w.stderr.String()) {
			return true
		}
		ts.Check(ts.Exec(args[2], args[3:]...))
		return false
	})
}

// cmdSignal is "signal NAME SIGNAL": sends it to worker NAME.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	w := workerOf(ts, neg, args, 2)
	sig, ok := map[string]syscall.Signal{
		"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1, "QUIT": syscall.SIGQUIT,
	}[args[1]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[1])
	}
	if err := w.cmd.Process.Signal(sig); !errors.Is(err, os.ErrProcessDone) { // how it has ended is for ended
		ts.Check(err)
	}
}

// cmdEnded is "ended NAME STATUS": worker NAME ends, with this status, or when it was killed with
// "killed". What it printed is then there for stdout and stderr.
func cmdEnded(ts *testscript.TestScript, neg bool, args []string) {
	w := workerOf(ts, neg, args, 2)
	select {
	case <-w.done:
	case <-time.After(patience):
		ts.Fatalf("%s does not end; stderr:\n%s", args[0], w.stderr.String())
	}
	fmt.Fprint(ts.Stdout(), w.stdout.String())
	fmt.Fprint(ts.Stderr(), w.stderr.String())
	got := strconv.Itoa(w.cmd.ProcessState.ExitCode())
	if got == "-1" {
		got = "killed"
	}
	if got != args[1] {
		ts.Fatalf("%s ended with %v, want %s", args[0], w.cmd.ProcessState, args[1])
	}
}

// cmdDamage is "damage PROCESS N [end|block]": flips a bit in the middle of generation N of the process, or of its
// newest if N is "newest", or of all if it is "all"; with "end", the last bit, with "block" one of its first page.
func cmdDamage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) == 3 && args[2] != "end" && args[2] != "block" || len(args) > 3 {
		ts.Fatalf("usage: damage PROCESS N [end|block]")
	}
	files, err := filepath.Glob(filepath.Join(ts.Getenv("PERDURE_STATE"), args[0], "generations", "*.gen"))
	ts.Check(err)
	switch args[1] {
	case "all":
	case "newest":
		files = files[max(0, len(files)-1):]
	default:
		n := number(ts, neg, args[1:], 1)
		files = files[n-1 : n]
	}
	if len(files) == 0 {
		ts.Fatalf("%s has no generations", args[0])
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		ts.Check(err)
		at := len(b) / 2
		switch args[len(args)-1] {
		case "end":
			at = len(b) - 1
		case "block":
			at = 70 // behind the head of the file
		}
		b[at] ^= 0x80
		ts.Check(os.WriteFile(f, b, 0o600))
	}
}

// cmdUntil is "until REGEXP ARG...": gives the command perdure ARG... again and again until what it prints matches; with !
// until it does not. What it printed at last is then there for stdout and stderr.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until REGEXP ARG...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for limit := time.Now().Add(patience); ; {
		cmd := command(ts, args[1:])
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		ts.Check(cmd.Start())
		stuck := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // what it prints says it all
		stuck.Stop()
		matches := re.Match(stdout.Bytes()) || re.Match(stderr.Bytes())
		if matches != neg {
			_, _ = ts.Stdout().Write(stdout.Bytes())
			_, _ = ts.Stderr().Write(stderr.Bytes())
			return
		}
		if time.Now().After(limit) {
			ts.Fatalf("waited for %q; perdure %s prints at last:\n%s%s", args[0], strings.Join(args[1:], " "), stdout.Bytes(), stderr.Bytes())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// cmdKillworker is "killworker PROCESS": kills the worker of a process of the daemon.
func cmdKillworker(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: killworker PROCESS")
	}
	h, err := worker.Find(filepath.Join(ts.Getenv("PERDURE_STATE"), args[0]))
	ts.Check(err)
	ts.Check(h.Signal(syscall.SIGKILL))
	<-h.Done()
}

// endWorkers kills the workers that a daemon has left.
func endWorkers(ts *testscript.TestScript) { endWorkersIn(ts.Getenv("PERDURE_STATE")) }

// endWorkersIn kills the workers of the processes in a directory.
func endWorkersIn(state string) {
	entries, _ := os.ReadDir(state) // there may be none
	for _, e := range entries {
		if h, err := worker.Find(filepath.Join(state, e.Name())); err == nil {
			_ = h.Signal(syscall.SIGKILL) // it may have ended
			<-h.Done()
		}
	}
}

// cmdHexfile is "hexfile FILE HEX...": writes a file of these bytes, which scripts cannot hold.
func cmdHexfile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: hexfile FILE HEX...")
	}
	b, err := hex.DecodeString(strings.Join(args[1:], ""))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// number parses the first of at least n arguments.
func number(ts *testscript.TestScript, neg bool, args []string, n int) int {
	if neg || len(args) < n {
		ts.Fatalf("a number is missing, or ! makes no sense here")
	}
	i, err := strconv.Atoi(args[0])
	ts.Check(err)
	return i
}
