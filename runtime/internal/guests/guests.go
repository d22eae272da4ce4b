package guests

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const wazeroModule = "github.com/tetratelabs/wazero"

// Root returns the directory testdata/guests.
func Root(t testing.TB) string {
	t.Helper()
	return filepath.Join(moduleRoot(t), "testdata", "guests")
}

// Path returns where the prebuilt guest name, without ".wasm", is.
func Path(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Root(t), name+".wasm")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no prebuilt guest %s: %v", name, err)
	}
	return path
}

// Bytes returns the prebuilt guest name, without ".wasm".
func Bytes(t testing.TB, name string) []byte {
	t.Helper()
	return read(t, Path(t, name))
}

// Names returns the names of all prebuilt guests, sorted.
func Names(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(Root(t), "*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(paths))
	for i, path := range paths {
		names[i] = strings.TrimSuffix(filepath.Base(path), ".wasm")
	}
	slices.Sort(names)
	return names
}

// BuildGo builds the Go program in dir for GOOS=wasip1 and returns the path of
// the module. A relative dir is below testdata/guests/go. The program may use
// the standard library only and has no go.mod.
//
// The result is kept in the user's cache directory under a name made from the
// sources and the Go version, and is used again while these stay the same.
func BuildGo(t testing.TB, dir string) string {
	t.Helper()
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(Root(t), "go", dir)
	}
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(sources) == 0 {
		t.Fatalf("no Go program in %s (%v)", dir, err)
	}
	version := command(t, dir, "go", "env", "GOVERSION", "GOEXPERIMENT")
	sum := sha256.New()
	fmt.Fprintf(sum, "%q\n", version)
	for _, source := range sources {
		fmt.Fprintf(sum, "%q %q\n", filepath.Base(source), read(t, source))
	}
	name := fmt.Sprintf("%s-%x.wasm", filepath.Base(dir), sum.Sum(nil)[:12])
	built := filepath.Join(goCache(t), name)
	if _, err := os.Stat(built); err == nil {
		return built
	}

	// Tests of several packages may build the same program at the same time:
	// each builds its own file and the last rename wins.
	temp, err := os.CreateTemp(filepath.Dir(built), name+".*")
	if err != nil {
		t.Fatal(err)
	}
	if err := temp.Close(); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(temp.Name())
	args := []string{"build", "-trimpath", "-o", temp.Name()}
	for _, source := range sources {
		args = append(args, filepath.Base(source))
	}
	command(t, dir, "go", args...)
	if err := os.Rename(temp.Name(), built); err != nil {
		t.Fatal(err)
	}
	return built
}

// TinyGoPaths returns the TinyGo programs that lie prebuilt in the wazero
// module, as paths inside that module:
//
//   - wasi.wasm: "wasi ls DIR [repeat]" lists a directory below the mount "/",
//     "wasi stat" says which standard streams are terminals
//   - cat.wasm and cat-tinygo.wasm: "cat FILE..." prints files of the mount "/"
func TinyGoPaths() []string {
	return []string{
		"imports/wasi_snapshot_preview1/testdata/tinygo/wasi.wasm",
		"imports/wasi_snapshot_preview1/example/testdata/tinygo/cat.wasm",
		"cmd/wazero/testdata/cat/cat-tinygo.wasm",
	}
}

// WazeroFile returns a file of the wazero module that this project requires,
// such as one of TinyGoPaths or a test of the specification.
func WazeroFile(t testing.TB, path string) []byte {
	t.Helper()
	return read(t, filepath.Join(WazeroDir(t), filepath.FromSlash(path)))
}

// WazeroDir returns where the sources of the wazero module that this project
// requires are.
func WazeroDir(t testing.TB) string {
	t.Helper()
	dir := command(t, moduleRoot(t), "go", "list", "-m", "-f", "{{.Dir}}", wazeroModule)
	if dir == "" {
		t.Fatalf("the module %s is not downloaded", wazeroModule)
	}
	return dir
}

// moduleRoot returns the nearest directory above the working directory, which
// is the package's when a test runs, that holds this project's go.mod.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module perdure\n")) {
			return dir
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("the working directory is not inside the module perdure")
		}
		dir = parent
	}
}

// goCache returns an existing directory for built Go programs: the user's cache,
// or one for this test where the user has none.
func goCache(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err == nil {
		cache = filepath.Join(cache, "perdure-guests", "go")
		err = os.MkdirAll(cache, 0o755)
	}
	if err != nil {
		return t.TempDir()
	}
	return cache
}

// goEnv makes the go command ignore modules, workspaces and flags of the caller
// and build for wasip1. A program of the standard library needs no module.
var goEnv = sync.OnceValue(func() []string {
	return append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOWASM=", "CGO_ENABLED=0",
		"GO111MODULE=off", "GOWORK=off", "GOFLAGS=")
})

// command runs the go command in dir and returns what it printed, trimmed.
func command(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir, c.Stdout, c.Stderr = dir, &stdout, &stderr
	if args[0] != "list" {
		c.Env = goEnv()
	}
	if err := c.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(stdout.String())
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
