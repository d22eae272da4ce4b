package runtime

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"perdure/runtime/internal/guests"
)

// run is one life of a worker.
type run struct {
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr bytes.Buffer
	mu     sync.Mutex
	events []string
	read   chan struct{} // closed when the report has ended
}

// start starts a worker.
func start(t testing.TB, o Options) *run {
	t.Helper()
	o.Events = nil
	spec, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{cmd: exec.Command(os.Args[0]), read: make(chan struct{})}
	r.cmd.Env = append(os.Environ(), workerEnv+"="+string(spec))
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.ExtraFiles = []*os.File{pw}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	go func() {
		defer close(r.read)
		defer pr.Close()
		for s := bufio.NewScanner(pr); s.Scan(); {
			r.mu.Lock()
			r.events = append(r.events, s.Text())
			r.mu.Unlock()
		}
	}()
	return r
}

// wait waits for the end of a worker, at most for limit, and returns its exit status, -1
// when it was killed.
func (r *run) wait(t testing.TB, limit time.Duration) int {
	t.Helper()
	timer := time.AfterFunc(limit, func() { _ = r.cmd.Process.Kill() })
	err := r.cmd.Wait()
	<-r.read
	if !timer.Stop() {
		t.Fatalf("worker did not end within %v\n%s\n%s", limit, r.stderr.Bytes(), strings.Join(r.events, "\n"))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return r.cmd.ProcessState.ExitCode()
}

func (r *run) has(event string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.events {
		if strings.HasPrefix(e, "runtime."+event+" ") {
			n++
		}
	}
	return n
}

// killCase is a program that writes its progress to a file of its directory.
type killCase struct {
	name string
	path string
	args []string
}

func goldenRun(t testing.TB, c killCase, cache string) (stdout, file []byte) {
	t.Helper()
	out := t.TempDir()
	r := start(t, Options{Dir: filepath.Join(t.TempDir(), "p"), Name: c.name, CacheDir: cache, Program: c.path,
		Args: append([]string{c.name}, c.args...), Preopens: []Preopen{{Host: out, Guest: "/"}}})
	if status := r.wait(t, time.Minute); status != 0 {
		t.Fatalf("status %d: %s", status, r.stderr.Bytes())
	}
	file, err := os.ReadFile(filepath.Join(out, "out.txt"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return r.stdout.Bytes(), file
}

// killUntilEnd runs a program to its end through as many kill -9 as come, and compares.
func killUntilEnd(t *testing.T, c killCase, cache string, rnd *rand.Rand, maxKills int) (kills int) {
	t.Helper()
	wantOut, wantFile := goldenRun(t, c, cache)
	out := t.TempDir()
	o := Options{Dir: filepath.Join(t.TempDir(), "p"), Name: c.name, CacheDir: cache, Program: c.path,
		Args: append([]string{c.name}, c.args...), Preopens: []Preopen{{Host: out, Guest: "/"}},
		Every: 3 * time.Millisecond, MaxShare: 1}
	for {
		r := start(t, o)
		if kills < maxKills {
			d := time.Duration(rnd.Int64N(int64(150 * time.Millisecond)))
			time.AfterFunc(d, func() { _ = r.cmd.Process.Signal(syscall.SIGKILL) })
		}
		status := r.wait(t, time.Minute)
		if status < 0 {
			kills++
			continue
		}
		if status != 0 {
			t.Fatalf("status %d after %d kills: %s\n%s", status, kills, r.stderr.Bytes(), strings.Join(r.events, "\n"))
		}
		if !bytes.HasSuffix(wantOut, lastLine(r.stdout.Bytes())) {
			t.Errorf("after %d kills the last line is %q, want the end of %q", kills, lastLine(r.stdout.Bytes()), wantOut)
		}
		break
	}
	file, err := os.ReadFile(filepath.Join(out, "out.txt"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if !bytes.Equal(file, wantFile) {
		t.Errorf("after %d kills the file differs:\n%s", kills, firstDifference(file, wantFile))
	}
	return kills
}

func lastLine(b []byte) []byte {
	b = bytes.TrimRight(b, "\n")
	return append(b[bytes.LastIndexByte(b, '\n')+1:], '\n')
}

func firstDifference(got, want []byte) string {
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range w {
		if i >= len(g) || g[i] != w[i] {
			line := ""
			if i < len(g) {
				line = g[i]
			}
			return fmt.Sprintf("line %d: got %q, want %q", i+1, line, w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

func TestKill(t *testing.T) {
	rnd := seed(t)
	cache := t.TempDir()
	total := 0
	for _, name := range []string{"primes", "tree", "sort", "float", "simd"} {
		t.Run(name, func(t *testing.T) {
			total += killUntilEnd(t, killCase{name: name, path: guests.Path(t, name), args: []string{"300", "out.txt"}}, cache, rnd, 15)
		})
	}
	t.Logf("%d kills", total)
}
