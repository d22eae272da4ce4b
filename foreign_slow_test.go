//go:build slow

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// machine is a processor on which perdure runs: this one, or one that QEMU plays.
type machine struct {
	name  string
	words []string // of the command that runs perdure there
	cache string   // of compiled programs
}

// machines returns this machine and one of the other architecture.
func machines(t *testing.T) (here, there machine) {
	t.Helper()
	foreign := map[string][2]string{"amd64": {"arm64", "aarch64"}, "arm64": {"amd64", "x86_64"}}[runtime.GOARCH]
	if foreign[0] == "" {
		t.Fatalf("perdure does not run on %s", runtime.GOARCH)
	}
	qemu := ""
	for _, name := range []string{"qemu-" + foreign[1], "qemu-" + foreign[1] + "-static"} {
		if path, err := exec.LookPath(name); err == nil {
			qemu = path
		}
	}
	if qemu == "" {
		const what = "qemu-%s is not installed (Debian: qemu-user), so that nothing was tried on %s"
		if os.Getenv("CI") == "true" {
			t.Fatalf(what, foreign[1], foreign[0])
		}
		t.Skipf(what, foreign[1], foreign[0])
	}
	dir := t.TempDir()
	for _, arch := range []string{runtime.GOARCH, foreign[0]} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, arch), ".")
		build.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build for %s: %v\n%s", arch, err, out)
		}
	}
	here = machine{runtime.GOARCH, []string{filepath.Join(dir, runtime.GOARCH)}, filepath.Join(dir, "cache-here")}
	there = machine{foreign[0], []string{qemu, filepath.Join(dir, foreign[0])}, filepath.Join(dir, "cache-there")}
	return here, there
}

// perdure returns a command on the machine.
func (m machine) perdure(args ...string) *exec.Cmd {
	words := append(append([]string{}, m.words...), args...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+m.cache)
	return cmd
}

// leg runs a process until it has printed so many lines, or to its end if that is 0, and returns what it printed, and
// whether it ended as wanted: on a busy machine the program may be done before it can be stopped.
func (m machine) leg(t *testing.T, lines int, args ...string) (printed string, ok bool) {
	t.Helper()
	var stdout, stderr buffer
	cmd := m.perdure(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(5*patience, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // the status says it all
	}()
	for over := lines == 0; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(time.Millisecond):
			if over = strings.Count(stdout.String(), "\n") >= lines; over {
				_ = cmd.Process.Signal(syscall.SIGTERM)
			}
		}
	}
	<-done
	want := exitSignal + int(syscall.SIGTERM)
	if lines == 0 {
		want = 0
	}
	switch got := cmd.ProcessState.ExitCode(); got {
	case want:
		ok = true
	case 0:
	default:
		t.Fatalf("%s: perdure %s: status %d, want %d\n%s", m.name, strings.Join(args, " "), got, want, stderr.String())
	}
	return stdout.String(), ok
}

// move takes a process from one state directory to another, from one machine to the other.
func move(t *testing.T, name string, from machine, fromState string, to machine, toState string) {
	t.Helper()
	var file, said bytes.Buffer
	export := from.perdure("export", "--state", fromState, name, "-")
	export.Stdout, export.Stderr = &file, &said
	if err := export.Run(); err != nil {
		t.Fatalf("export on %s: %v\n%s", from.name, err, said.String())
	}
	imp := to.perdure("import", "--state", toState, "-")
	imp.Stdin, imp.Stderr = &file, &said
	if err := imp.Run(); err != nil {
		t.Fatalf("import on %s: %v\n%s", to.name, err, said.String())
	}
}

// TestForeignMachine wants a process that was begun on one architecture to be finished on the other, in the middle of its
// computation and several times back and forth, with the result of one that never moved.
func TestForeignMachine(t *testing.T) {
	here, there := machines(t)
	for _, c := range []struct {
		program string
		args    []string
	}{
		{"hash", []string{"60"}},
		{"float", []string{"240"}},
		{"simd", []string{"480"}},
		{"rust-collections", []string{"120"}},
		{"sqlite", []string{"agg", "12"}},
	} {
		guest, err := filepath.Abs(filepath.Join("testdata/guests", c.program+".wasm"))
		if err != nil {
			t.Fatal(err)
		}
		run := func(t *testing.T, m machine, state string, lines int) (string, bool) {
			return m.leg(t, lines, append([]string{"run", "--quiet", "--every", "0", "--state", state, guest}, c.args...)...)
		}
		want, _ := run(t, here, filepath.Join(t.TempDir(), "never"), 0)
		lines := strings.Count(want, "\n") / 6 // of each of the first two legs
		for _, order := range [][]machine{{here, there, here}, {there, here, there}} {
			t.Run(fmt.Sprintf("%s/%s first", c.program, order[0].name), func(t *testing.T) {
				got, ok := "", false
				for tries := 0; !ok; tries++ {
					if tries == 5 {
						t.Fatal("each time it was done before it was stopped")
					}
					got, ok = journey(t, order, c.program, func(m machine, state string, lines int) (string, bool) {
						return run(t, m, state, lines)
					}, lines)
				}
				if got != want {
					t.Errorf("printed %d bytes, want %d; they begin to differ at %d", len(got), len(want), differ(got, want))
				}
			})
		}
	}
}

// journey runs a program on three machines in turn, and returns what it printed on all of them, and whether it was moved in
// the middle of its computation each time.
func journey(t *testing.T, order []machine, program string, run func(m machine, state string, lines int) (string, bool), lines int) (string, bool) {
	t.Helper()
	dir, all := t.TempDir(), ""
	state := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	for i, m := range order {
		until := lines
		if i == len(order)-1 {
			until = 0
		}
		printed, ok := run(m, state(i), until)
		if all += printed; !ok {
			return all, false
		}
		if until > 0 {
			move(t, program, m, state(i), order[i+1], state(i+1))
		}
	}
	return all, true
}

// differ returns where two texts begin to differ.
func differ(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
