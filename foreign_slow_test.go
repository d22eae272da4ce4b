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

// leg runs a process until it has printed so many lines, or to its end if that is 0, and returns what it printed.
func (m machine) leg(t *testing.T, lines int, args ...string) string {
	t.Helper()
	var stdout, stderr buffer
	cmd := m.perdure(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(3*patience, func() { _ = cmd.Process.Kill() })
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
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("%s: perdure %s: status %d, want %d\n%s", m.name, strings.Join(args, " "), got, want, end(stderr.String()))
	}
	return stdout.String()
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
		run := func(m machine, state string, lines int) string {
			return m.leg(t, lines, append([]string{"run", "--quiet", "--every", "0", "--state", state, guest}, c.args...)...)
		}
		want := run(here, filepath.Join(t.TempDir(), "never"), 0)
		lines := strings.Count(want, "\n") / 6 // of each of the first two legs
		for _, order := range [][]machine{{here, there, here}, {there, here, there}} {
			t.Run(fmt.Sprintf("%s/%s first", c.program, order[0].name), func(t *testing.T) {
				dir := t.TempDir()
				state := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
				got := run(order[0], state(0), lines)
				move(t, c.program, order[0], state(0), order[1], state(1))
				got += run(order[1], state(1), lines)
				move(t, c.program, order[1], state(1), order[2], state(2))
				got += run(order[2], state(2), 0)
				if got != want {
					t.Errorf("printed %d bytes, want %d; they begin to differ at %d", len(got), len(want), differ(got, want))
				}
			})
		}
	}
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
