package wasi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
	"golang.org/x/sys/unix"

	"perdure/runtime/internal/guests"
)

// wazeroDir returns where the module cache has wazero's sources, whose test
// programs these tests run.
func wazeroDir(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatalf("find wazero: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// guestRun is a program to run with plain wazero and this package's functions.
type guestRun struct {
	wasm   []byte
	cfg    Config
	stdin  string
	kernel func(*System) Kernel // what takes the place of the system; nil if nothing does
}

// run runs the program and returns its output and exit code.
func (g guestRun) run(t *testing.T) (stdout, stderr string, code uint32) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, content string) *os.File {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	in, out, errs := file("in", g.stdin), file("out", ""), file("err", "")
	if g.cfg.Stdio == nil {
		g.cfg.Stdio = &[3]Handle{Handle(in.Fd()), Handle(out.Fd()), Handle(errs.Fd())}
	}
	code = g.runToEnd(t)
	read := func(f *os.File) string {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return read(out), read(errs), code
}

// runToEnd runs the program and returns its exit code.
func (g guestRun) runToEnd(t *testing.T) uint32 {
	t.Helper()
	system, err := OS()
	if err != nil {
		t.Fatal(err)
	}
	defer system.Release()
	k := Kernel(system)
	if g.kernel != nil {
		k = g.kernel(system)
	}
	h, err := New(g.cfg, k)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience) // in the interpreter
	defer cancel()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCloseOnContextDone(true))
	defer r.Close(ctx)
	if err := register(ctx, r, h); err != nil {
		t.Fatal(err)
	}
	_, err = r.InstantiateWithConfig(ctx, g.wasm, wazero.NewModuleConfig().WithStartFunctions("_start"))
	var exit *sys.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatalf("run the program: %v", err)
	return 0
}

// register makes the host's functions importable.
func register(ctx context.Context, r wazero.Runtime, h *Host) error {
	b := r.NewHostModuleBuilder(ModuleName)
	for i, f := range Functions() {
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, stack []uint64) {
			mem, _ := m.Memory().Read(0, m.Memory().Size())
			errno, err := h.Call(i, mem, stack[:len(f.Params)])
			var exit *ExitError
			switch {
			case errors.As(err, &exit):
				_ = m.CloseWithExitCode(ctx, exit.Code)
				panic(sys.NewExitError(exit.Code))
			case err != nil:
				panic(err)
			}
			stack[0] = uint64(errno)
		}), f.Params, f.Results).Export(f.Name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

func readWasm(t *testing.T, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPrograms runs the test programs that several compilers made for wazero.
func TestPrograms(t *testing.T) {
	testdata := filepath.Join(wazeroDir(t), "imports", ModuleName, "testdata")
	tree := func(t *testing.T) string {
		dir := t.TempDir()
		for _, name := range []string{"animals.txt", "sub/test.txt"} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("greet sub dir\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, "-"), 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	cases := []struct {
		name, wasm, args string
		stdin            string
		guest            string // name of the preopened directory, "" for none
		want             func(out string) bool
	}{
		{"zig-cc lists a directory", "zig-cc", "ls ./-", "", "/", func(o string) bool { return o == "./.\n./..\n" }},
		{"zig-cc lists a tree", "zig-cc", "ls .", "", "/", func(o string) bool {
			return strings.Contains(o, "./animals.txt\n") && strings.Contains(o, "./sub\n") && strings.Contains(o, "./-\n")
		}},
		{"zig-cc lists twice", "zig-cc", "ls ./sub repeat", "", "/", func(o string) bool {
			return strings.Count(o, "./test.txt\n") == 2 && strings.Count(o, "./..\n") == 2
		}},
		{"zig-cc lists a file", "zig-cc", "ls animals.txt", "", "/", func(o string) bool { return o == "ENOTDIR\n" }},
		{"zig-cc stats", "zig-cc", "stat", "", "/", func(o string) bool {
			return o == "stdin isatty: false\nstdout isatty: false\nstderr isatty: false\n/ isatty: false\n"
		}},
		{"zig-cc polls input", "zig-cc", "poll", "x", "/", func(o string) bool { return o == "STDIN\n" }},
		{"zig-cc sleeps", "zig-cc", "sleepmillis 20", "", "/", func(o string) bool { return o == "OK\n" }},
		{"zig-cc reads only", "zig-cc", "open-rdonly", "", "/", func(o string) bool { return o == "OK\n" }},
		{"zig-cc writes only", "zig-cc", "open-wronly", "", "/", func(o string) bool { return o == "OK\n" }},
		{"zig lists a directory", "zig", "ls ./-", "", "/", func(o string) bool { return o == "" }},
		{"zig lists a tree", "zig", "ls .", "", "/", func(o string) bool {
			return strings.Contains(o, "./animals.txt\n") && strings.Contains(o, "./sub\n")
		}},
		{"zig stats", "zig", "stat", "", "/", func(o string) bool { return strings.Contains(o, "stdin isatty: false\n") }},
		{"cargo-wasi lists a tree", "cargo-wasi", "ls .", "", "/", func(o string) bool {
			return strings.Contains(o, "./animals.txt\n") && strings.Contains(o, "./sub\n") && !strings.Contains(o, "./..")
		}},
		{"cargo-wasi stats", "cargo-wasi", "stat", "", "/", func(o string) bool { return strings.Contains(o, "stdin isatty: false\n") }},
		{"tinygo stats", "tinygo", "stat", "", "/", func(o string) bool { return strings.Contains(o, "isatty: false\n") }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := guestRun{wasm: readWasm(t, testdata, c.wasm, "wasi.wasm"), stdin: c.stdin}
			g.cfg.Args = append([]string{"wasi"}, strings.Fields(c.args)...)
			if c.guest != "" {
				g.cfg.Preopens = []Preopen{{Host: tree(t), Guest: c.guest}}
			}
			out, errs, code := g.run(t)
			if code != 0 || !c.want(out) {
				t.Errorf("exit code %d\nstdout: %q\nstderr: %q", code, out, errs)
			}
		})
	}
}

// TestCat runs the cat programs of several compilers.
func TestCat(t *testing.T) {
	example := filepath.Join(wazeroDir(t), "imports", ModuleName, "example", "testdata")
	for _, compiler := range []string{"cargo-wasi", "tinygo", "zig", "zig-cc"} {
		t.Run(compiler, func(t *testing.T) {
			dir := t.TempDir()
			want := bytes.Repeat([]byte("all work and no play\n"), 5000)
			if err := os.WriteFile(filepath.Join(dir, "file.txt"), want, 0o600); err != nil {
				t.Fatal(err)
			}
			g := guestRun{wasm: readWasm(t, example, compiler, "cat.wasm")}
			g.cfg = Config{Args: []string{"cat", "file.txt"}, Preopens: []Preopen{{Host: dir, Guest: "/", ReadOnly: true}}}
			out, errs, code := g.run(t)
			if code != 0 || out != string(want) {
				t.Errorf("exit code %d, %d bytes (want %d), stderr %q", code, len(out), len(want), errs)
			}
		})
	}
}

// TestGoProgram runs a program that does much with files, built by Go.
func TestGoProgram(t *testing.T) {
	source, err := filepath.Abs("testdata/gofiles")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	g := guestRun{wasm: readWasm(t, guests.BuildGo(t, source)), stdin: "input"}
	g.cfg = Config{
		Args: []string{"gofiles", "argument"}, Env: []string{"NAME=value", "PWD=/"},
		Preopens: []Preopen{{Host: dir, Guest: "/"}, {Host: dir, Guest: "/ro", ReadOnly: true}},
	}
	if out, errs, code := g.run(t); code != 7 || out != "fine\n" {
		t.Errorf("exit code %d\nstdout: %q\nstderr: %q", code, out, errs)
	}
}

// TestSocketPrograms connects to programs that accept one connection and print
// what they receive.
func TestSocketPrograms(t *testing.T) {
	testdata := filepath.Join(wazeroDir(t), "imports", ModuleName, "testdata")
	for _, compiler := range []string{"zig-cc", "cargo-wasi"} {
		t.Run(compiler, func(t *testing.T) {
			address := filepath.Join(t.TempDir(), "sock")
			g := guestRun{wasm: readWasm(t, testdata, compiler, "wasi.wasm")}
			g.cfg = Config{Args: []string{"wasi", "sock"}, Listeners: []Listener{{"unix", address}}}
			sent := make(chan error, 1)
			go func() {
				for limit := time.Now().Add(patience); time.Now().Before(limit); {
					c, err := net.Dial("unix", address)
					if err != nil {
						time.Sleep(10 * time.Millisecond)
						continue
					}
					_, err = c.Write([]byte("wazero\x00"))
					sent <- errors.Join(err, c.Close())
					return
				}
				sent <- errors.New("nobody listened")
			}()
			out, errs, code := g.run(t)
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if code != 0 || strings.TrimRight(out, "\x00\n") != "wazero" {
				t.Errorf("exit code %d\nstdout: %q\nstderr: %q", code, out, errs)
			}
		})
	}
}

// missCounter is a Kernel that counts how often it is asked without waiting, and nothing is ready.
type missCounter struct {
	Kernel
	n *atomic.Int64
}

func (k missCounter) Poll(fds []PollFD, deadline int64) (int, Errno) {
	n, errno := k.Kernel.Poll(fds, deadline)
	if n == 0 && deadline == 0 {
		k.n.Add(1)
	}
	return n, errno
}

// feedFifo waits for a reader of a named pipe, lets it find nothing twice, and then
// writes.
func feedFifo(path, text string, misses *atomic.Int64) error {
	for limit := time.Now().Add(patience); time.Now().Before(limit); {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.ENXIO {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		for enough := misses.Load() + 2; misses.Load() < enough && time.Now().Before(limit); {
			time.Sleep(10 * time.Millisecond)
		}
		_, err = unix.Write(fd, []byte(text))
		return errors.Join(err, unix.Close(fd))
	}
	return errors.New("nobody reads")
}

// TestNonblockPrograms runs programs that read a named pipe without waiting.
func TestNonblockPrograms(t *testing.T) {
	testdata := filepath.Join(wazeroDir(t), "imports", ModuleName, "testdata")
	for _, compiler := range []string{"zig-cc"} {
		t.Run(compiler, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "fifo")
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			wrote := make(chan error, 1)
			var misses atomic.Int64
			go func() { wrote <- feedFifo(path, "wazero\x00", &misses) }()
			g := guestRun{wasm: readWasm(t, testdata, compiler, "wasi.wasm")}
			g.kernel = func(s *System) Kernel { return missCounter{s, &misses} }
			g.cfg = Config{Args: []string{"wasi", "nonblock", "fifo"}, Preopens: []Preopen{{Host: dir, Guest: "/"}}}
			out, errs, code := g.run(t)
			if err := <-wrote; err != nil {
				t.Error(err)
			}
			if code != 0 || !strings.HasPrefix(out, ".") || !strings.HasSuffix(out, "\nwazero\n") {
				t.Errorf("exit code %d\nstdout: %q\nstderr: %q", code, out, errs)
			}
		})
	}
}
