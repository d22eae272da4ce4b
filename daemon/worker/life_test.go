package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"perdure/config"
	"perdure/runtime"
)

func asError[T error](err error, target *T) bool { return errors.As(err, target) }

// TestLife takes a worker through its life: start, status, snapshot, suspend, resume.
func TestLife(t *testing.T) {
	ctx := context.Background()
	s := newSpec(t, "counter", "10")
	h, c := beginRunning(t, s)
	st, err := c.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if st.Name != "counter" || st.PID != h.PID() || st.Program != s.SHA256 || st.RestoredFrom != 0 {
		t.Errorf("status is %+v", st)
	}
	info, err := c.Snapshot(ctx)
	if err != nil || info.Number == 0 || info.Pages == 0 {
		t.Fatalf("snapshot: %+v, %v", info, err)
	}
	found, err := Find(s.Dir)
	if err != nil || found.PID() != h.PID() {
		t.Fatalf("found %+v, %v; want worker %d", found, err, h.PID())
	}
	out, err := c.Suspend(ctx)
	if err != nil || out.Kind != OutcomeSuspended || out.Generation <= info.Number {
		t.Fatalf("suspend: %+v, %v", out, err)
	}
	for _, h := range []*Handle{h, found} {
		if got, err := ends(t, h); err != nil || got.Generation != out.Generation {
			t.Errorf("outcome %+v, %v; want %+v", got, err, out)
		}
	}
	if _, err := Find(s.Dir); !errors.Is(err, ErrNoWorker) {
		t.Errorf("found after the end: %v", err)
	}
	if _, err := c.Status(ctx); !errors.Is(err, ErrNoWorker) {
		t.Errorf("status after the end: %v", err)
	}

	_, c = beginRunning(t, s)
	await(t, "the restored generation", func() bool {
		st, err = c.Status(ctx)
		return err == nil && st.RestoredFrom == out.Generation
	})
}

// TestSecondWorker wants a second worker to fail with a clear error and to leave the first alone.
func TestSecondWorker(t *testing.T) {
	s := newSpec(t, "counter", "10")
	h, c := beginRunning(t, s)
	second := begin(t, s)
	_, err := ends(t, second)
	var locked *runtime.LockedError
	if !errors.As(err, &locked) || locked.PID != h.PID() {
		t.Errorf("the second ended with %v, want LockedError of %d", err, h.PID())
	}
	if st, err := c.Status(context.Background()); err != nil || st.PID != h.PID() {
		t.Errorf("the first answers %+v, %v", st, err)
	}
	if f, err := Find(s.Dir); err != nil || f.PID() != h.PID() {
		t.Errorf("found %v, %v", f, err)
	}
}

// TestKilled wants a worker that was killed to be told from one that has ended, and the guest to go on from its newest
// generation, with what it had written until then in the log: with nothing left out, and with a journal nothing twice but
// what was being written, since the log cannot be asked whether that came through.
func TestKilled(t *testing.T) {
	for _, durability := range []config.Durability{config.DurabilityNone, "process"} {
		t.Run(string(durability), func(t *testing.T) { testKilled(t, durability) })
	}
}

func testKilled(t *testing.T, durability config.Durability) {
	ctx := context.Background()
	s := newSpec(t, "counter", "1")
	s.Settings.Snapshot.Every = config.Duration(10 * time.Millisecond)
	s.Settings.Snapshot.Durability = durability
	h, c := beginRunning(t, s)
	last := uint64(0)
	const kills = 3
	for range kills {
		await(t, "generations", func() bool { return generation(t, c) > last+2 })
		if err := h.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_, err := ends(t, h)
		var crash *CrashError
		if !errors.As(err, &crash) || crash.Signal != "killed" || crash.PID != h.PID() {
			t.Fatalf("it ended with %v, want CrashError: killed", err)
		}
		h, c = beginRunning(t, s)
		st, err := c.Status(ctx)
		if err != nil || st.RestoredFrom <= last {
			t.Fatalf("went on: %+v, %v; want from a generation after %d", st, err, last)
		}
		last = st.RestoredFrom
	}
	if _, err := c.Suspend(ctx); err != nil {
		t.Fatal(err)
	}
	most, twice := 0, 0
	for _, line := range lines(logged(t, s)) {
		n, err := strconv.Atoi(line)
		if err != nil || n > most+1 || n < most && durability != config.DurabilityNone {
			t.Fatalf("after %d: %q", most, line)
		}
		if n == most {
			twice++
		}
		most = max(most, n)
	}
	if twice > kills && durability != config.DurabilityNone {
		t.Errorf("%d lines are there twice, after %d kills", twice, kills)
	}
}

// TestSignalled wants SIGTERM to suspend, as a service manager expects.
func TestSignalled(t *testing.T) {
	s := newSpec(t, "spin")
	h, _ := beginRunning(t, s)
	if err := h.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out, err := ends(t, h)
	if err != nil || out.Kind != OutcomeSuspended || out.Generation == 0 {
		t.Errorf("it ended with %+v, %v", out, err)
	}
}

// TestOutcomes wants every end that a worker can tell of to be in the file.
func TestOutcomes(t *testing.T) {
	change := func(name string, change func(*Spec), args ...string) Spec {
		s := newSpec(t, name, args...)
		s.Settings.Snapshot.Every = 0 // so that the end makes the first generation
		change(&s)
		return s
	}
	nonsense := filepath.Join(t.TempDir(), "nonsense.wasm")
	if err := os.WriteFile(nonsense, []byte("\x00asm\x01\x00\x00\x00\x7f"), 0o600); err != nil {
		t.Fatal(err)
	}
	nothing := func(*Spec) {}
	nonsenseSpec := func(s *Spec) { s.Program, s.SHA256 = nonsense, sumOf([]byte("\x00asm\x01\x00\x00\x00\x7f")) }
	for claim, c := range map[string]struct {
		spec Spec
		want Outcome
		says string
	}{
		"an end":                {change("exitcode", nothing, "7"), Outcome{Kind: OutcomeEnded, ExitCode: 7, Generation: 1}, ""},
		"a trap":                {change("trap", nothing, "divide"), Outcome{Kind: OutcomeTrapped}, "divide by zero"},
		"no program":            {change("counter", nonsenseSpec), Outcome{Kind: OutcomeRefused}, "nonsense.wasm"},
		"no program, fresh":     {change("counter", func(s *Spec) { nonsenseSpec(s); s.Fresh = true }), Outcome{Kind: OutcomeRefused}, "nonsense.wasm"},
		"another program":       {change("counter", func(s *Spec) { s.SHA256 = sumOf(nil) }), Outcome{Kind: OutcomeError}, "another program by now"},
		"no file and no copy":   {change("counter", func(s *Spec) { s.Program += ".gone" }), Outcome{Kind: OutcomeError}, "program not found"},
		"no key":                {change("counter", func(s *Spec) { s.Settings.Memsnap.KeyFile = "/nowhere/key" }), Outcome{Kind: OutcomeError}, "/nowhere/key"},
		"a program unread":      {change("counter", func(s *Spec) { s.Program = filepath.Dir(s.Program) }), Outcome{Kind: OutcomeRefused}, "is no file"},
		"too little memory":     {change("grow", func(s *Spec) { s.Settings.Limits.Memory = 64 << 10 }), Outcome{Kind: OutcomeRefused}, "memory"},
		"no confinement wanted": {change("exitcode", func(s *Spec) { s.Settings.Limits.Confine = false }, "0"), Outcome{Kind: OutcomeEnded, Generation: 1}, ""},
		"no standard input":     {change("echo", func(s *Spec) { s.Settings.Console.Stdin = config.StdinNull }), Outcome{Kind: OutcomeEnded, Generation: 1}, ""},
	} {
		t.Run(claim, func(t *testing.T) {
			h := begin(t, c.spec)
			got, err := ends(t, h)
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != c.want.Kind || got.ExitCode != c.want.ExitCode || got.Generation != c.want.Generation ||
				got.PID != h.PID() || got.Time.IsZero() || !strings.Contains(got.Error, c.says) || c.says == "" && got.Error != "" {
				t.Errorf("got %+v, want %+v that says %q", got, c.want, c.says)
			}
			if got.Kind == OutcomeTrapped && len(got.Stack) == 0 {
				t.Errorf("a trap without a stack: %+v", got)
			}
			if read, err := ReadOutcome(c.spec.Dir); err != nil || read.PID != got.PID {
				t.Errorf("the file says %+v, %v", read, err)
			}
		})
	}
}

// TestEnterFails wants a worker that cannot begin to say why where the daemon finds it.
func TestEnterFails(t *testing.T) {
	s := newSpec(t, "counter")
	s.Version = 99
	_, err := ends(t, begin(t, s))
	var crash *CrashError
	if !errors.As(err, &crash) || crash.Status != 125 || !strings.Contains(crash.Log, "it has version 99") {
		t.Errorf("it ended with %v", err)
	}
}

// TestProgramGone wants a process to go on from its copy when the program's file is gone, but not when the copy is
// another program than the daemon means.
func TestProgramGone(t *testing.T) {
	s := newSpec(t, "counter", "5")
	h, c := beginRunning(t, s)
	if _, err := c.Suspend(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := ends(t, h); err != nil {
		t.Fatal(err)
	}
	s.Program += ".gone"
	h, c = beginRunning(t, s)
	if st, err := c.Status(context.Background()); err != nil || st.RestoredFrom == 0 || st.Program != s.SHA256 {
		t.Errorf("status %+v, %v", st, err)
	}
	if _, err := c.Suspend(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := ends(t, h); err != nil {
		t.Fatal(err)
	}
	s.SHA256 = sumOf(nil)
	if out, err := ends(t, begin(t, s)); err != nil || out.Kind != OutcomeError || !strings.Contains(out.Error, "another program") {
		t.Errorf("ended with %+v, %v", out, err)
	}
}

// TestFresh wants a fresh start to keep the old state and to begin anew, but not while another worker has it.
func TestFresh(t *testing.T) {
	ctx := context.Background()
	s := newSpec(t, "counter", "5")
	h, c := beginRunning(t, s)
	if _, err := c.Snapshot(ctx); err != nil {
		t.Fatal(err)
	}
	s.Fresh = true
	var locked *runtime.LockedError
	if _, err := ends(t, begin(t, s)); !errors.As(err, &locked) {
		t.Errorf("a second one, fresh, ended with %v", err)
	}
	if _, err := c.Suspend(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := ends(t, h); err != nil {
		t.Fatal(err)
	}
	_, c = beginRunning(t, s)
	if st, err := c.Status(ctx); err != nil || st.RestoredFrom != 0 {
		t.Errorf("status %+v, %v", st, err)
	}
	if old, err := runtime.OpenSaved(s.Dir + ".ended-1"); err != nil {
		t.Error(err)
	} else if list, err := old.Generations(); err != nil || len(list) == 0 {
		t.Errorf("the old state has generations %v, %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, LogFile)); err != nil {
		t.Error(err)
	}
}

// TestFreshWithoutAGeneration wants a fresh start to be one though there is nothing of the old life but its journal.
func TestFreshWithoutAGeneration(t *testing.T) {
	s := newSpec(t, "counter", "1")
	s.Settings.Snapshot.Every, s.Settings.Snapshot.Durability = 0, "process"
	written := func(least int) []string {
		t.Helper()
		await(t, "output", func() bool { return strings.Count(logged(t, s), "\n") >= least })
		return lines(logged(t, s))
	}
	h, _ := beginRunning(t, s)
	written(5)
	if err := h.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ends(t, h)
	before := len(written(5))
	s.Fresh = true
	beginRunning(t, s)
	if line := written(before + 1)[before]; line != "1" {
		t.Errorf("it went on with %q", line)
	}
}

// TestAdoption wants a worker to outlive the one that started it, and to be found and watched by another.
func TestAdoption(t *testing.T) {
	s := newSpec(t, "counter", "5")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(exe)
	daemon.Env = append(os.Environ(), asDaemon+"=1")
	daemon.Stdin = bytes.NewReader(b)
	if out, err := daemon.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var h *Handle
	await(t, "the worker to be found", func() bool {
		h, err = Find(s.Dir)
		return err == nil
	})
	endWith(t, h)
	c := NewClient(s.Dir)
	await(t, "the guest to run", func() bool {
		st, err := c.Status(context.Background())
		return err == nil && st.PID == h.PID() && st.Phase != PhaseStarting
	})
	out, err := c.Suspend(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ends(t, h); err != nil || got.Generation != out.Generation {
		t.Errorf("it ended with %+v, %v", got, err)
	}
}

// TestFindBelievesNoNumber wants a process that has the number of a worker, but not its lock, not to be taken for it.
func TestFindBelievesNoNumber(t *testing.T) {
	dir := t.TempDir()
	for claim, content := range map[string]string{
		"this program": fmt.Sprintf("%d 0\n", os.Getpid()), "the first": "1 3\n", "nobody": "999999999 3\n",
		"no number": "x y\n", "nothing": "", "negative": "-1 -1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, lockFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if h, err := Find(dir); !errors.Is(err, ErrNoWorker) {
			t.Errorf("%s: found %v, %v", claim, h, err)
		}
	}
	// The file itself, open but not locked; emptied first, as a worker does, since its numbers may be shorter.
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(fmt.Appendf(nil, "%d %d\n", os.Getpid(), f.Fd()), 0); err != nil {
		t.Fatal(err)
	}
	if h, err := Find(dir); !errors.Is(err, ErrNoWorker) {
		t.Errorf("not locked: found %v, %v", h, err)
	}
	if err := flock(f); err != nil {
		t.Fatal(err)
	}
	if h, err := Find(dir); err != nil || h.PID() != os.Getpid() {
		t.Errorf("locked: found %v, %v", h, err)
	}
}
