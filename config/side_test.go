package config

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func decodeString(t *testing.T, text string) Config {
	t.Helper()
	c, err := Decode(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSidePrecedence wants a side file over the defaults and beside the table of the same process.
func TestSidePrecedence(t *testing.T) {
	base := decodeString(t, `
[snapshot]
every = "2s"
[limits]
memory = "2GiB"
[process.web]
args = ["-v"]
env = { A = "1" }
snapshot = { max_share = "10%" }
`)
	got, err := base.WithSide("web", "web.toml", strings.NewReader(`
env = { B = "2" }
snapshot.every = "3s"
[memsnap]
keep_daily = 7
`))
	if err != nil {
		t.Fatal(err)
	}
	want := base.Process("web")
	want.Env["B"] = "2"
	want.Snapshot.Every = Duration(3 * time.Second)
	want.Memsnap.KeepDaily = 7
	for _, d := range DiffProcess(want, got.Process("web")) {
		t.Error(d)
	}
	if p := got.Process("web"); p.Limits.Memory != 2*GiB || p.Snapshot.MaxShare != 10 || p.Args[0] != "-v" {
		t.Errorf("what stands elsewhere is lost: %+v", p)
	}
	if p := base.Process("web"); len(p.Env) != 1 || p.Snapshot.Every != Duration(2*time.Second) {
		t.Errorf("the base has changed: %+v", p)
	}
	if !slices.Equal(got.Names(), []string{"web"}) {
		t.Errorf("names: %q", got.Names())
	}
}

func TestSideProblems(t *testing.T) {
	base := decodeString(t, `
[process.web]
args = ["-v"]
env = { A = "1" }
listen = ["tcp://:80"]
[process.web.snapshot]
every = "1s"
`)
	for _, c := range []struct{ claim, name, text, want string }{
		{"keys that are in both", "web", "args = []\nenv.A = \"2\"\nenv.B = \"2\"\n[snapshot]\nevery = \"1s\"\nmax_share = \"10%\"",
			`web.toml:1:1: process.web.args: is set in line 3, column 1 too; remove one of the two
web.toml:2:5: process.web.env.A: is set in line 4, column 9 too; remove one of the two
web.toml:5:1: process.web.snapshot.every: is set in line 7, column 1 too; remove one of the two`},
		{"an address of another", "api", "listen = [\"tcp://:80\"]", `api.toml:1:11: process.api.listen[0]: "tcp://:80" is an address of process.web too; choose another`},
		{"several problems", "api", "listen = 1\narg = []\n[daemon]\n[process.api]\n[snapshot]\nevery = \"1us\"",
			`api.toml:1:1: process.api.listen: is a whole number; write a list, like ["one", "two"]
api.toml:2:1: process.api.arg: there is no such key; did you mean args?
api.toml:3:2: process.api.daemon: there is no such key; here are args, env, dirs, listen, allow_connect, allow_bind, on_change, keep_for, snapshot, memsnap, limits, restart, console
api.toml:4:2: process.api.process: there is no such key; here are args, env, dirs, listen, allow_connect, allow_bind, on_change, keep_for, snapshot, memsnap, limits, restart, console
api.toml:6:1: process.api.snapshot.every: 1µs is out of range; write 1ms to 1d, or 0s for only at a stop and on request`},
		{"a name that is none", "-x", "", `-x.toml: process.-x: "-x" is no name for a process: it begins with a dash`},
		{"a name that is none, and more", "-x", "a = 1", "-x.toml:1:1: process.-x.a: there is no such key; here are args, env, dirs, listen, allow_connect, allow_bind, on_change, keep_for, snapshot, memsnap, limits, restart, console\n" +
			`-x.toml: process.-x: "-x" is no name for a process: it begins with a dash`},
		{"a file that is too long", "api", strings.Repeat("#", maxSideFile+1), "api.toml: more than 65536 bytes, which is no configuration"},
		{"no TOML", "api", "x", "api.toml:1:1: expected '=' after key\n    x\n    ^"},
	} {
		_, err := base.WithSide(c.name, c.name+".toml", strings.NewReader(c.text))
		if got := errText(err); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.claim, got, c.want)
		}
	}
}

// TestSideOfTwoFiles wants the name of the other file in a conflict.
func TestSideOfTwoFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "perdure.toml")
	if err := os.WriteFile(path, []byte("[process.web]\nargs = []"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.WithSide("web", "/m/web.toml", strings.NewReader("\nargs = []"))
	if want := "/m/web.toml:2:1: process.web.args: is set in " + path + ":2:1 too; remove one of the two"; errText(err) != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// TestFolder wants good side files taken and bad ones named, each for itself.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.toml":       "args = [\"1\"]\nlisten = [\"tcp://:81\"]",
		"b.toml":       "listen = [\"tcp://:81\"]",
		"c.toml":       "limits.memory = 1",
		"d.toml":       "on_change = \"hold\"",
		"d.wasm":       "",
		".hidden.toml": "x",
		"toml":         "x",
		"-e.toml":      "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "f.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "g.toml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "h.toml")); err != nil {
		t.Fatal(err)
	}
	base := decodeString(t, "[daemon]\nmodules_dir = \""+dir+"\"")
	got, failed, err := base.WithFolder()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "d"}; !slices.Equal(got.Names(), want) {
		t.Errorf("got processes %q, want %q", got.Names(), want)
	}
	if got.Process("d").OnChange != Hold || len(base.Names()) != 0 {
		t.Error("the side file of d is not in what is returned, or in the base")
	}
	want := map[string]string{
		"-e": dir + `/-e.toml: process.-e: "-e" is no name for a process: it begins with a dash`,
		"b":  dir + `/b.toml:1:11: process.b.listen[0]: "tcp://:81" is an address of process.a too; choose another`,
		"c":  dir + "/c.toml:1:8: process.c.limits.memory: 1 is out of range; write 64KiB to 4GiB",
		"f":  "side file: " + dir + "/f.toml is not a regular file",
		"g":  "side file: " + dir + "/g.toml is not a regular file",
	}
	texts := make(map[string]string)
	for name, err := range failed {
		texts[name] = err.Error()
	}
	if !maps.Equal(texts, want) {
		t.Errorf("got failures\n%q\nwant\n%q", texts, want)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	if len(Diff(got, got)) != 0 {
		t.Error("a configuration differs from itself")
	}
}

func TestFolderThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	c := Default()
	c.Daemon.ModulesDir = filepath.Join(dir, "none")
	if _, failed, err := c.WithFolder(); err != nil || len(failed) != 0 {
		t.Errorf("got %v, %v", failed, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Daemon.ModulesDir = file
	if _, _, err := c.WithFolder(); err == nil {
		t.Error("a file is taken for a folder")
	}
}
