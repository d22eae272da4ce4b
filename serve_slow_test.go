//go:build slow

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"perdure/daemon"
	"perdure/daemon/worker"
)

// served is a daemon of a test, with a directory of its own.
type served struct {
	t      *testing.T
	dir    string
	client *daemon.Client
	cmd    *exec.Cmd
	names  []string // of the processes
}

func newServed(t *testing.T, conf string) *served {
	s := &served{t: t, dir: t.TempDir()}
	s.client = daemon.NewClient(filepath.Join(s.dir, "s"))
	for _, d := range []string{"modules", "new"} {
		s.must(os.Mkdir(filepath.Join(s.dir, d), 0o700))
	}
	s.must(os.WriteFile(filepath.Join(s.dir, "c.toml"), []byte(conf), 0o600))
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may have ended
		_ = s.cmd.Wait()
		for _, name := range s.names {
			if h, err := worker.Find(filepath.Join(s.dir, "state", name)); err == nil {
				_ = h.Signal(9) // it may have ended
				<-h.Done()
			}
		}
	})
	return s
}

func (s *served) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *served) start() {
	s.cmd = exec.Command("perdure", "serve", "--config", filepath.Join(s.dir, "c.toml"), "--state", filepath.Join(s.dir, "state"),
		"--modules", filepath.Join(s.dir, "modules"), "--cache", filepath.Join(s.dir, "cache"), "--socket", filepath.Join(s.dir, "s"))
	s.cmd.Stdout, s.cmd.Stderr = io.Discard, io.Discard
	s.must(s.cmd.Start())
	s.until(2*patience, 5*time.Millisecond, func(ctx context.Context) bool {
		_, err := s.client.Info(ctx)
		return err == nil
	})
}

// drop puts a guest into the folder in one step.
func (s *served) drop(guest, name string) {
	src, err := os.ReadFile(filepath.Join("testdata/guests", guest+".wasm"))
	s.must(err)
	s.must(os.WriteFile(filepath.Join(s.dir, "new", name), src, 0o600))
	s.names = append(s.names, name)
	s.must(os.Rename(filepath.Join(s.dir, "new", name), filepath.Join(s.dir, "modules", name+".wasm")))
}

func (s *served) until(limit, pause time.Duration, ok func(context.Context) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for !ok(ctx) {
		select {
		case <-ctx.Done():
			s.t.Fatalf("waited for %v in vain", limit)
		case <-time.After(pause):
		}
	}
}

// ready counts the processes that have a worker and a guest in it.
func (s *served) ready(ctx context.Context) int {
	list, err := s.client.List(ctx)
	if err != nil {
		return -1
	}
	n := 0
	for _, p := range list {
		if p.PID != 0 && p.MemoryBytes != 0 {
			n++
		}
	}
	return n
}

// TestServeFigures measures the daemon with many idle processes. PERDURE_MANY says how many,
// instead of 40, and PERDURE_REST for how long they have been idle when the daemon is measured at
// rest.
func TestServeFigures(t *testing.T) {
	many := 40
	if n, err := strconv.Atoi(os.Getenv("PERDURE_MANY")); err == nil {
		many = n
	}
	conf := "[daemon]\nstop_timeout = \"5m\"\n[limits]\nconfine = false\n"
	for i := range many {
		conf += fmt.Sprintf("[process.idle%d]\nargs = [\"3600000\"]\n", i)
	}
	s := newServed(t, conf)
	s.start()

	// From the drop of a C program to its first line. The first one compiles.
	var drops []time.Duration
	for i := range 8 {
		name := fmt.Sprintf("drop%d", i)
		began := time.Now()
		s.drop("counter", name)
		s.until(2*patience, 5*time.Millisecond, func(context.Context) bool {
			st, err := os.Stat(filepath.Join(s.dir, "state", "logs", name+".log"))
			return err == nil && st.Size() > 0
		})
		drops = append(drops, time.Since(began))
		s.must(s.client.Stop(t.Context(), name))
	}
	t.Logf("drop to the first line of a C program, the first cold: %v", drops)

	began := time.Now()
	for i := range many {
		s.drop("sleeper", fmt.Sprintf("idle%d", i))
	}
	s.until(10*time.Minute, 300*time.Millisecond, func(ctx context.Context) bool { return s.ready(ctx) == many })
	t.Logf("%d processes started in %v", many, time.Since(began))
	t.Logf("daemon: %d MiB", rss(s.cmd.Process.Pid)>>20)

	// The daemon at rest.
	if rest, err := time.ParseDuration(os.Getenv("PERDURE_REST")); err == nil {
		<-time.After(rest)
	}
	before, at := cpu(t, s.cmd.Process.Pid), time.Now()
	<-time.After(10 * time.Second)
	used := cpu(t, s.cmd.Process.Pid) - before
	t.Logf("daemon at rest: %.2f %% of a core, %d MiB", 100*used.Seconds()/time.Since(at).Seconds(), rss(s.cmd.Process.Pid)>>20)

	// Answers, while a guest computes.
	s.drop("spin", "spin")
	s.until(2*patience, 5*time.Millisecond, func(ctx context.Context) bool { return s.ready(ctx) == many+1 })
	for what, ask := range map[string]func() error{
		"ps":      func() error { _, err := s.client.List(t.Context()); return err },
		"inspect": func() error { _, err := s.client.Inspect(t.Context(), "spin"); return err },
	} {
		var times []time.Duration
		for range 200 {
			began := time.Now()
			s.must(ask())
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		t.Logf("%s beside a guest at 100 %%: median %v, p99 %v", what, times[100], times[198])
	}

	// The daemon is killed, and the next one takes over.
	list, err := s.client.List(t.Context())
	s.must(err)
	up := 0
	pids := map[string]int{}
	for _, p := range list {
		if p.PID != 0 {
			up++
			pids[p.Name] = p.PID
		}
	}
	s.must(s.cmd.Process.Kill())
	_ = s.cmd.Wait() // killed
	began = time.Now()
	s.start()
	s.until(2*patience, 5*time.Millisecond, func(ctx context.Context) bool {
		list, err := s.client.List(ctx)
		n := 0
		for _, p := range list {
			if p.PID != 0 && p.PID == pids[p.Name] {
				n++
			}
		}
		return err == nil && n == up
	})
	t.Logf("%d workers adopted in %v", up, time.Since(began))
	began = time.Now()
	s.must(s.cmd.Process.Signal(os.Interrupt))
	s.must(s.cmd.Wait())
	t.Logf("all suspended in %v", time.Since(began))
}

// rss returns the resident memory of a process, in bytes.
func rss(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.Atoi(strings.Fields(string(b))[1])
	return pages * os.Getpagesize()
}

// cpu returns the processor time of a process.
func cpu(t *testing.T, pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	words := strings.Fields(rest)
	user, _ := strconv.Atoi(words[11])
	system, _ := strconv.Atoi(words[12])
	const tick = 100 // per second, on all architectures of Linux
	return time.Duration(user+system) * time.Second / tick
}
