package guests

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

var update = flag.Bool("update", false, "rewrite testdata/guests/golden from what the guests print")

// result is everything about a run that has to be the same in every run.
type result struct {
	stdout   string
	exitCode uint32
	err      error // a trap
	files    map[string]string
}

// engine runs guests on wazero as it comes, with wazero's own WASI.
type engine struct {
	runtime wazero.Runtime
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	ctx := t.Context()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithMemoryLimitPages(4096))
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	return &engine{r}
}

func (e *engine) run(t *testing.T, module wazero.CompiledModule, name string, args []string, stdin string, dir string) result {
	t.Helper()
	var stdout bytes.Buffer
	config := wazero.NewModuleConfig().WithName("").WithArgs(append([]string{name}, args...)...).
		WithStdin(strings.NewReader(stdin)).WithStdout(&stdout).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep()
	if dir != "" {
		config = config.WithFSConfig(wazero.NewFSConfig().WithDirMount(dir, "/"))
	}
	instance, err := e.runtime.InstantiateModule(t.Context(), module, config)
	var exit *sys.ExitError
	if errors.As(err, &exit) {
		return result{stdout: stdout.String(), exitCode: exit.ExitCode()}
	}
	if err == nil {
		if err := instance.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return result{stdout: stdout.String(), err: err}
}

func (e *engine) compile(t *testing.T, wasm []byte) wazero.CompiledModule {
	t.Helper()
	module, err := e.runtime.CompileModule(t.Context(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// tree returns the regular files below dir.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files[strings.TrimPrefix(path, dir)] = string(read(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Every case gives the expected output, twice over, and leaves the same files.
func TestCases(t *testing.T) {
	e := newEngine(t)
	modules := map[string]wazero.CompiledModule{}
	for _, c := range Cases() {
		if raceDetector && c.Go && c.Guest != "counter" {
			continue // the engine needs 15 s to compile each with the race detector on, 1 s without
		}
		t.Run(c.Name, func(t *testing.T) {
			key := c.Path(t)
			if modules[key] == nil {
				modules[key] = e.compile(t, c.Bytes(t))
			}
			var results [2]result
			for i := range results {
				var dir string
				if c.Files {
					dir = t.TempDir()
				}
				start := time.Now()
				r := e.run(t, modules[key], c.Guest, c.Args, c.Stdin, dir)
				t.Logf("%v in %v", c.Args, time.Since(start).Round(time.Millisecond))
				if c.Files {
					r.files = tree(t, dir)
				}
				results[i] = r
			}
			first, second := results[0], results[1]
			if first.stdout != second.stdout {
				t.Errorf("two runs differ:\n%s\n---\n%s", first.stdout, second.stdout)
			}
			if !maps.Equal(first.files, second.files) {
				t.Errorf("two runs left different files: %q and %q", first.files, second.files)
			}
			if c.Files && len(first.files) == 0 {
				t.Error("no file was left in the directory")
			}
			if first.exitCode != c.ExitCode {
				t.Errorf("exit status %d, want %d", first.exitCode, c.ExitCode)
			}
			switch {
			case c.Trap == "" && first.err != nil:
				t.Errorf("trap: %v", first.err)
			case c.Trap != "" && (first.err == nil || !strings.Contains(first.err.Error(), c.Trap)):
				t.Errorf("error %v, want %q", first.err, c.Trap)
			}
			if text, ok := first.files["/copy"]; ok && text != first.stdout {
				t.Errorf("file and stdout differ:\n%s\n---\n%s", text, first.stdout)
			}
			if !c.HasGolden() {
				return
			}
			if *update {
				if err := os.WriteFile(c.goldenPath(t), []byte(first.stdout), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(c.Golden(t)); first.stdout != want {
				t.Errorf("got:\n%s\nwant:\n%s", first.stdout, want)
			}
		})
	}
}

// Every prebuilt guest is in a case, or has a test of its own in this file.
func TestEveryGuestIsTested(t *testing.T) {
	tested := []string{"oom", "sleeper", "spin", "server", "keyvalue", "resp", "bank", "ledger"} // servers by package main, ledger by package runtime
	goldens := []string{}
	for _, c := range Cases() {
		if !c.Go {
			tested = append(tested, c.Guest)
			goldens = append(goldens, c.Name+".txt")
		}
	}
	slices.Sort(tested)
	if got, want := Names(t), slices.Compact(tested); !slices.Equal(got, want) {
		t.Errorf("prebuilt guests %q, tested %q", got, want)
	}
	entries, err := os.ReadDir(filepath.Join(Root(t), "golden"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(goldens)
	var files []string
	for _, entry := range entries {
		files = append(files, entry.Name())
	}
	if !slices.Equal(files, goldens) {
		t.Errorf("golden files %q, cases %q", files, goldens)
	}
}

// The same C source prints the same whatever compiled it.
func TestCompilersAgree(t *testing.T) {
	golden := map[string][]byte{}
	for _, c := range Cases() {
		if c.HasGolden() {
			golden[c.Name] = c.Golden(t)
		}
	}
	for _, name := range []string{"files", "strings"} {
		if !bytes.Equal(golden[name], golden["zigcc-"+name]) {
			t.Errorf("%s prints %q from one compiler, %q from the other", name, golden[name], golden["zigcc-"+name])
		}
	}
}

// The exported kernels give without _start what the commands print.
func TestKernels(t *testing.T) {
	e := newEngine(t)
	modules := map[string]wazero.CompiledModule{}
	for _, k := range Kernels() {
		if modules[k.Guest] == nil {
			modules[k.Guest] = e.compile(t, Bytes(t, k.Guest))
		}
		instance, err := e.runtime.InstantiateModule(t.Context(), modules[k.Guest], wazero.NewModuleConfig().WithName("").WithStartFunctions())
		if err != nil {
			t.Fatal(err)
		}
		f := instance.ExportedFunction(k.Export())
		if f == nil {
			t.Fatalf("%s does not export %s", k.Guest, k.Export())
		}
		got, err := f.Call(t.Context(), 1)
		if err != nil {
			t.Fatalf("%s: %v", k.Export(), err)
		}
		golden, line := "kernels.txt", fmt.Sprintf("%s %016x\n", k.Name, got[0])
		if k.Guest == "sqlite" {
			golden, line = "sqlite-"+k.Name+".txt", fmt.Sprintf("%s 0 %016x\n", k.Name, got[0])
		}
		if text := string(read(t, filepath.Join(Root(t), "golden", golden))); !strings.Contains(text, line) {
			t.Errorf("%s(1) is %q, printed:\n%s", k.Export(), line, text)
		}
		if err := instance.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// The sleeper sleeps at least as long as it says, by every means.
func TestSleeper(t *testing.T) {
	e := newEngine(t)
	module := e.compile(t, Bytes(t, "sleeper"))
	awake := regexp.MustCompile(`(?m)^[12] awake after (\d{2,}) ms, \d+ ms in all$`)
	for _, how := range []string{"nanosleep", "poll"} {
		start := time.Now()
		r := e.run(t, module, "sleeper", []string{"20", "2", how}, "", "")
		if r.err != nil || r.exitCode != 0 || len(awake.FindAllString(r.stdout, -1)) != 2 {
			t.Errorf("%s: status %d, error %v, output:\n%s", how, r.exitCode, r.err, r.stdout)
		}
		if d := time.Since(start); d < 40*time.Millisecond {
			t.Errorf("%s: slept twice 20 ms in %v", how, d)
		}
	}
	r := e.run(t, module, "sleeper", []string{"10000", "1", "stdin"}, "x", "")
	if !strings.Contains(r.stdout, "1 input\n") {
		t.Errorf("waiting for input: status %d, error %v, output:\n%s", r.exitCode, r.err, r.stdout)
	}
}

func TestOutOfMemory(t *testing.T) {
	e := newEngine(t)
	r := e.run(t, e.compile(t, Bytes(t, "oom")), "oom", []string{"1"}, "", "")
	if r.err != nil || r.exitCode != 3 || !strings.HasPrefix(r.stdout, "no memory after ") {
		t.Errorf("status %d, error %v, output %q", r.exitCode, r.err, r.stdout)
	}
}

// Spin is only started where something can stop it.
func TestSpin(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCloseOnContextDone(true))
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	stdout := cancelWriter{cancel: cancel}
	_, err := r.InstantiateWithConfig(ctx, Bytes(t, "spin"), wazero.NewModuleConfig().WithStdout(&stdout))
	var exit *sys.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != sys.ExitCodeContextCanceled {
		t.Errorf("got %v, want the end of the context", err)
	}
	if got := stdout.String(); got != "spinning\n" {
		t.Errorf("output %q", got)
	}
	if err := r.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// cancelWriter ends a context at the first write.
type cancelWriter struct {
	bytes.Buffer
	cancel context.CancelFunc
}

func (w *cancelWriter) Write(b []byte) (int, error) {
	defer w.cancel()
	return w.Buffer.Write(b)
}

// The TinyGo programs of the wazero module run.
func TestTinyGo(t *testing.T) {
	e := newEngine(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range TinyGoPaths() {
		args, want := []string{"/a.txt"}, "hello\n"
		if strings.HasSuffix(path, "/wasi.wasm") {
			args, want = []string{"ls", "/"}, "./a.txt\n"
		}
		r := e.run(t, e.compile(t, WazeroFile(t, path)), "tinygo", args, "", dir)
		if r.err != nil || r.stdout != want {
			t.Errorf("%s: error %v, got %q, want %q", path, r.err, r.stdout, want)
		}
	}
}

// A Go guest is built once and found again.
func TestBuildGo(t *testing.T) {
	// Into a cache of its own: tests of other packages may build the same program meanwhile, and the last one wins.
	t.Setenv("GOCACHE", command(t, Root(t), "go", "env", "GOCACHE"))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	first := BuildGo(t, "counter")
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	second := BuildGo(t, filepath.Join(Root(t), "go", "counter"))
	after, err := os.Stat(second)
	if err != nil {
		t.Fatal(err)
	}
	if first != second || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("built %s at %v, then %s at %v", first, before.ModTime(), second, after.ModTime())
	}
}
