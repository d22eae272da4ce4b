package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"perdure/runtime/internal/guests"
	"perdure/runtime/internal/wasi"
)

// outcome is all of a run that must be the same however often it is interrupted.
type outcome struct {
	stdout string
	files  map[string]string
	status uint32
	trap   string // the error's text up to the backtrace
}

func (o *outcome) compare(t testing.TB, want *outcome) {
	t.Helper()
	if o.status != want.status || o.trap != want.trap {
		t.Errorf("ended with status %d, trap %q; want %d, %q", o.status, o.trap, want.status, want.trap)
	}
	if o.stdout != want.stdout {
		t.Errorf("output: %s", firstDifference(o.stdout, want.stdout))
	}
	for name, b := range want.files {
		got, ok := o.files[name]
		switch {
		case !ok:
			t.Errorf("%s is missing", name)
		case got != b:
			t.Errorf("%s: %s", name, firstDifference(got, b))
		}
	}
	for name := range o.files {
		if _, ok := want.files[name]; !ok {
			t.Errorf("%s should not be there", name)
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d: got %.200q, want %.200q", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// tree returns what lies below a directory: the bytes of files, the targets of links.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		switch e.Type() {
		case fs.ModeDir:
			files[name] = "directory"
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			files[name] = "link to " + target
		default:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files[name] = "file " + string(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// recorder keeps the events of a process.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) event(e Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
}

// all returns the events of one type.
func all[E Event](r *recorder) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	var es []E
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			es = append(es, e)
		}
	}
	return es
}

// bench is a place where one process runs in this operating-system process, life after
// life.
type bench struct {
	t      testing.TB
	opt    Options
	stdout *os.File
	stdin  *os.File
	out    string // the directory that the guest is given
	rec    *recorder
}

// newBench makes a place for a case. Its standard output is a file.
func newBench(t testing.TB, c subject, args []string) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{t: t, out: filepath.Join(dir, "out"), rec: &recorder{}}
	open := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	if err := os.Mkdir(b.out, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range c.given {
		if err := os.WriteFile(filepath.Join(b.out, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.stdout, b.stdin = open("stdout"), open("stdin")
	if err := os.WriteFile(b.stdin.Name(), []byte(c.Stdin), 0o600); err != nil {
		t.Fatal(err)
	}
	b.opt = Options{Dir: filepath.Join(dir, "process"), Name: c.Name, CacheDir: cacheDir(), Program: c.path(t),
		Args: append([]string{c.Guest}, args...), Events: b.rec.event}
	if c.Files {
		b.opt.Preopens = []Preopen{{Host: b.out, Guest: "/"}}
	}
	b.opt.hooks.stdio = &[3]wasi.Handle{wasi.Handle(b.stdin.Fd()), wasi.Handle(b.stdout.Fd()), wasi.Handle(b.stdout.Fd())}
	return b
}

// open opens the process.
func (b *bench) open() *Process {
	b.t.Helper()
	p, err := Open(b.t.Context(), b.opt)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// life opens the process, runs it and closes it.
func (b *bench) life(ctx context.Context, before func(*Process)) (Result, error) {
	b.t.Helper()
	p := b.open()
	if before != nil {
		before(p)
	}
	r, err := p.Run(ctx)
	if cerr := p.Close(); cerr != nil {
		b.t.Error(cerr)
	}
	return r, err
}

// outcome returns what the process has left when it has ended.
func (b *bench) outcome(r Result, err error) *outcome {
	b.t.Helper()
	stdout, rerr := os.ReadFile(b.stdout.Name())
	if rerr != nil {
		b.t.Fatal(rerr)
	}
	o := &outcome{stdout: string(stdout), files: tree(b.t, b.out), status: r.ExitCode}
	var trap *TrapError
	switch {
	case errors.As(err, &trap):
		o.trap, _, _ = strings.Cut(trap.Error(), "\n")
	case err != nil:
		b.t.Fatal(err)
	}
	return o
}

// subject is a program with arguments.
type subject struct {
	guests.Case
	program string
	given   map[string]string // files that are in its directory at the start
}

// subjects returns all programs that tests interrupt.
func subjects(t testing.TB) []subject {
	t.Helper()
	var ss []subject
	for _, c := range guests.Cases() {
		ss = append(ss, subject{Case: c})
	}
	return append(ss, tinyGo(t, 12))
}

// named returns the subject of a case.
func named(t testing.TB, name string) subject {
	t.Helper()
	for _, s := range subjects(t) {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no case %q", name)
	return subject{}
}

// path returns where the program is, after building it where need be.
func (s subject) path(t testing.TB) string {
	t.Helper()
	if s.program != "" {
		return s.program
	}
	return s.Path(t)
}

// tinyGo is a program that prints many short files, one after the other.
func tinyGo(t testing.TB, files int) subject {
	t.Helper()
	const program = "/cat-tinygo.wasm"
	i := slices.IndexFunc(guests.TinyGoPaths(), func(p string) bool { return strings.HasSuffix(p, program) })
	s := subject{Case: guests.Case{Name: "tinygo-cat", Guest: "cat", Files: true, Again: true},
		program: filepath.Join(guests.WazeroDir(t), guests.TinyGoPaths()[i]), given: map[string]string{}}
	for i := range files {
		name := fmt.Sprintf("/file-%d.txt", i)
		s.given[name] = fmt.Sprintf("this is file %d\n", i)
		s.Args = append(s.Args, name)
	}
	s.Long = s.Args
	return s
}
