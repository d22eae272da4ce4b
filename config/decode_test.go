package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// TestDecodeReportsEveryProblem has every kind of problem that a file can have, and wants all of each file at once.
func TestDecodeReportsEveryProblem(t *testing.T) {
	for _, c := range []struct {
		claim, text, want string
	}{
		{"the whole schema at once", `
[daemon]
state_dir = "var"
log_level = "loud"
metrics_listen = "9464"
settle = 5
[snapshot]
every = "often"
evrey = "1s"
[memsnap]
integrity = "yes"
[limits]
memory = "1KiB"
[process.web]
listen = ["tcp://:80", "http://:80"]
`, `line 3, column 1: daemon.state_dir: "var" is a relative path; write an absolute one
line 4, column 1: daemon.log_level: there is no "loud"; write "debug", "info", "warn" or "error"
line 5, column 1: daemon.metrics_listen: "9464": not an address; write HOST:PORT
line 6, column 1: daemon.settle: 5: a time needs a unit; write it in quotes, like "5s"
line 8, column 1: snapshot.every: "often": not a time; write it like 200ms, 30s, 10m, 12h or 7d
line 9, column 1: snapshot.evrey: there is no such key; did you mean every?
line 11, column 1: memsnap.integrity: is text; write true or false, without quotes
line 13, column 1: limits.memory: 1KiB is out of range; write 64KiB to 4GiB
line 15, column 24: process.web.listen[1]: "http://:80": "http" is no network; there are tcp, tcp4, tcp6, udp, udp4, udp6 and unix`},

		{"unknown sections and keys", "colour = 1\n[snapshots]\n[limits]\nmemory.max = 1\ndisk = 1\nLimits = { x = 1 }\n[journal]\na = 1\n[process.web]\nfile = 1",
			`line 1, column 1: colour: there is no such key; here are daemon, dashboard, snapshot, memsnap, limits, restart, console, process
line 2, column 2: snapshots: there is no such key; did you mean snapshot?
line 4, column 1: limits.memory: is a table; write a size, like "64MiB" or a number of bytes
line 5, column 1: limits.disk: there is no such key; here are memory, output_rate, open_files, cpu, pids, confine
line 6, column 1: limits.Limits: there is no such key; here are memory, output_rate, open_files, cpu, pids, confine
line 7, column 2: journal: there is no such key; here are daemon, dashboard, snapshot, memsnap, limits, restart, console, process
line 10, column 1: process.web.file: there is no such key; here are args, env, dirs, listen, allow_connect, allow_bind, on_change, keep_for, snapshot, memsnap, limits, restart, console`},
		{"keys in another case", "[Daemon]\n[daemon]\nState_Dir = \"/a\"",
			`line 1, column 2: Daemon: there is no such key; did you mean daemon?
line 3, column 1: daemon.State_Dir: there is no such key; did you mean state_dir?`},

		{"a value of every wrong kind", "[daemon]\nstate_dir = 1\nparallel_starts = \"two\"\nstop_timeout = 1.5\nsettle = true\nrescan = 1979-05-27\nlog_level = [\"info\"]\nsocket = { a = 1 }\nmetrics_listen = 9464\n[memsnap]\nmin_free = true\n[snapshot]\ndurability = \"full\"",
			`line 2, column 1: daemon.state_dir: is a whole number; write text in quotes
line 3, column 1: daemon.parallel_starts: is text; write a whole number, without quotes
line 4, column 1: daemon.stop_timeout: is a number with a fraction; write a time in quotes, like "30s"
line 5, column 1: daemon.settle: is true or false; write a time in quotes, like "30s"
line 6, column 1: daemon.rescan: is a date or a time of day; write a time in quotes, like "30s"
line 7, column 1: daemon.log_level: is a list; write text in quotes
line 8, column 1: daemon.socket: is a table; write text in quotes
line 9, column 1: daemon.metrics_listen: is a whole number; write an address in quotes, like "127.0.0.1:9464"
line 11, column 1: memsnap.min_free: is true or false; write an amount of space, like "256MiB" or "5%"
line 13, column 1: snapshot.durability: there is no "full"; write "none", "process" or "disk"`},
		{"plain numbers", "[snapshot]\nmax_share = 25\nevery = 0\n[memsnap]\nbufsize = -1\nmin_free = -1\nexpiration = -3600\n[limits]\nmemory = 65536\nconfine = 1\n[process.a]\nenv = 1",
			`line 2, column 1: snapshot.max_share: is a whole number; write a share in quotes, like "25%"
line 5, column 1: memsnap.bufsize: -1: a size cannot be negative
line 6, column 1: memsnap.min_free: -1: a size cannot be negative
line 7, column 1: memsnap.expiration: -3600: a time needs a unit; write it in quotes, like "1s"
line 10, column 1: limits.confine: is a whole number; write true or false, without quotes
line 12, column 1: process.a.env: is a whole number; write a table, like { LANG = "C" }`},
		{"sections that are none", "snapshot = \"1s\"\nprocess = 1\n[[daemon]]\n[[restart]]",
			`line 1, column 1: snapshot: is text; write a table, with its keys below it
line 2, column 1: process: is a whole number; write a table [process.NAME] for each process
line 3, column 3: daemon: is a list; write a table, with its keys below it
line 4, column 3: restart: is a list; write a table, with its keys below it`},

		{"processes", `
[process]
web = 1
list = [1]
"a/b" = {}
[process.modules]
[process."my app"]
args = "--port"
env = { LANG = 1, A = "a\u0000", "B=C" = "" }
dirs = ["srv:/srv", "/a:/b", "/c:/b", "/a\u0000", "/d:/e\u0000", {a = 1}, [1]]
listen = ["tcp://:80", "tcp://:80", "unix://x", "tcp://:0", "tcp://:0"]
on_change = "restart"
snapshot = { every = "1us", durability = "power" }
[process."my app".limits]
pids = 1
`, `line 3, column 1: process.web: is a whole number; write a table, with its keys below it
line 4, column 1: process.list: is a list; write a table, with its keys below it
line 5, column 1: process."a/b": "a/b" is no name for a process: it contains a slash
line 6, column 10: process.modules: "modules" is no name for a process: its state would be in /var/lib/perdure/modules, where daemon.modules_dir is; rename it, or move that
line 8, column 1: process."my app".args: is text; write a list, like ["one", "two"]
line 9, column 9: process."my app".env.LANG: is a whole number; write text in quotes
line 9, column 19: process."my app".env.A: has a zero byte, which no variable can have; remove it
line 9, column 34: process."my app".env."B=C": the name of a variable cannot have = or a zero byte; choose another
line 10, column 1: process."my app".dirs[5]: is a table; write a directory in quotes, like "/srv/data:/data"
line 10, column 1: process."my app".dirs[6]: is a list; write a directory in quotes, like "/srv/data:/data"
line 10, column 9: process."my app".dirs[0]: "srv" is a relative path; write an absolute one
line 10, column 30: process."my app".dirs[2]: the guest has "/b" from dirs[1] already; choose another name
line 10, column 39: process."my app".dirs[3]: has a zero byte, which no path can have; remove it
line 10, column 51: process."my app".dirs[4]: has a zero byte, which no path can have; remove it
line 11, column 24: process."my app".listen[1]: "tcp://:80" is listen[0] already; remove one of the two
line 11, column 37: process."my app".listen[2]: "x" is a relative path; write an absolute one
line 12, column 1: process."my app".on_change: there is no "restart"; write "replace" or "hold"
line 13, column 14: process."my app".snapshot.every: 1µs is out of range; write 1ms to 1d, or 0s for only at a stop and on request
line 13, column 29: process."my app".snapshot.durability: there is no "power"; write "none", "process" or "disk"
line 15, column 1: process."my app".limits.pids: 1 is out of range; write 32 to 1000000, or 0 for no limit`},
		{"two processes with one address", "[process.a]\nlisten = [\"tcp://:80\"]\n[process.b]\nlisten = [\"unix:///run/b\", \"tcp://:80\"]",
			`line 4, column 28: process.b.listen[1]: "tcp://:80" is an address of process.a too; choose another`},
		{"a problem of a default is told once", "[daemon]\non_change = \"x\"\n[limits]\nmemory = 1\n[process.a]\n[process.b]\nargs = [\"x\\u0000\"]",
			`line 2, column 1: daemon.on_change: there is no "x"; write "replace" or "hold"
line 4, column 1: limits.memory: 1 is out of range; write 64KiB to 4GiB
line 7, column 9: process.b.args[0]: has a zero byte, which no argument can have; remove it`},
		{"a problem between an own and an inherited key", "[process.a.memsnap]\nmax_snapshots = 1",
			`line 2, column 1: process.a.memsnap.min_snapshots: 2 is more than max_snapshots, which is 1; lower the one or raise the other`},
		{"no problems that follow from another", "[memsnap]\nmax_snapshots = 1\nmin_snapshots = \"x\"\n[restart]\nbackoff = \"2m\"\nbackoff_max = \"x\"\n[process.a.memsnap]\nmax_snapshots = 2",
			`line 3, column 1: memsnap.min_snapshots: is text; write a whole number, without quotes
line 6, column 1: restart.backoff_max: "x": not a time; write it like 200ms, 30s, 10m, 12h or 7d`},
		{"values of great length are not repeated", "[daemon]\nlog_level = \"" + strings.Repeat("x", 1000) + "\"\n" + strings.Repeat("k", 1000) + " = 1",
			`line 2, column 1: daemon.log_level: there is no "` + strings.Repeat("x", 120) + `…"; write "debug", "info", "warn" or "error"
line 3, column 1: daemon.` + strings.Repeat("k", 113) + `…: there is no such key; here are state_dir, modules_dir, cache_dir, logs_dir, socket, keeper, log_level, log_format, metrics_listen, parallel_starts, stop_timeout, settle, rescan, on_change, keep_for`},
	} {
		_, err := Decode(strings.NewReader(c.text))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.claim, err, c.want)
			continue
		}
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok {
			t.Errorf("%s: the error is a %T, not a joined one", c.claim, err)
			continue
		}
		for _, e := range joined.Unwrap() {
			if k, ok := e.(*KeyError); !ok || k.Line == 0 || k.Column == 0 {
				t.Errorf("%s: %#v is no KeyError with a position", c.claim, e)
			}
		}
	}
}

// TestDecodeSyntaxErrors wants position and line of a text that is not TOML.
func TestDecodeSyntaxErrors(t *testing.T) {
	for _, c := range []struct{ claim, text, want string }{
		{"a typing error", "[snapshot]\nevery = = \"1s\"\n",
			"line 2, column 9: unexpected character U+003D '=' at start of value\n    every = = \"1s\"\n            ^"},
		{"tabs and carriage returns", "[snapshot]\r\n\tevery = 1s\r\n",
			"line 2, column 11: strings must be quoted\n    \tevery = 1s\n    \t         ^"},
		{"a key twice", "[daemon]\nlog_level = \"info\"\nlog_level = \"warn\"\n",
			"line 3, column 1: key log_level is already defined\n    log_level = \"warn\"\n    ^"},
		{"a table twice", "[daemon]\n[snapshot]\n[daemon]\n",
			"line 3, column 2: table daemon already exists\n    [daemon]\n     ^"},
		{"an end too soon", "[daemon", "line 1, column 7: expected ']' to close table name\n    [daemon\n          ^"},
		{"bytes that are no text", "a = \"\xff\x01\"", "line 1, column 6: invalid UTF-8 character in basic string\n    a = \"��\"\n         ^"},
		{"a long line", "a = [" + strings.Repeat("1, ", 100) + "x]" + strings.Repeat(" ", 100) + "#",
			"line 1, column 306: unexpected character U+0078 'x' at start of value\n    " + strings.Repeat("1, ", 20) + "x]" + strings.Repeat(" ", 38) + "\n    " + strings.Repeat(" ", 60) + "^"},
		{"a key of too many parts", "a.b.c.d.e.f.g.h.i = 1", "line 1, column 17: a key of more than 8 parts; no setting has as many\n    a.b.c.d.e.f.g.h.i = 1\n                    ^"},
		{"values too deep", "a = [[[[[[[[[1]]]]]]]]]", "line 1, column 1: more than 8 lists and tables within each other; no setting has as many\n    a = [[[[[[[[[1]]]]]]]]]\n    ^"},
		{"too many keys", manyKeys("", maxKeys+1), "line 10001, column 1: more than 10000 keys in one table\n    k10001 = 1\n    ^"},
		{"too many keys behind a heading", manyKeys("[process.a.b]\n", maxKeys+1), "line 10002, column 1: more than 10000 keys in one table\n    k10001 = 1\n    ^"},
		{"a number that is too large", "a = 99999999999999999999", "line 1, column 5: decimal number is too large to fit in a 64-bit signed integer\n    a = 99999999999999999999\n        ^"},
	} {
		_, err := Decode(strings.NewReader(c.text))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.claim, err, c.want)
		}
	}
}

func manyKeys(head string, n int) string {
	b := []byte(head)
	for i := range n {
		b = fmt.Appendf(b, "k%d = 1\n", i+1)
	}
	return string(b)
}

func TestDecodeTakes(t *testing.T) {
	const all = `
process.quick = { env.A = "1", env.B = "2", args = [], limits.memory = "64MiB" }
[daemon]
cache_dir = ""
metrics_listen = ":9464"
[snapshot]
every = 0
[memsnap]
min_free = "5%"
[limits]
memory = 1_048_576
`
	c, err := Decode(strings.NewReader("\xef\xbb\xbf" + all))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Daemon.CacheDir, want.Daemon.MetricsListen = "", ":9464"
	want.Snapshot.Every = 0
	want.Memsnap.MinFree = Space{Percent: 5}
	want.Limits.Memory = MiB
	quick := want.Process("")
	quick.Env = map[string]string{"A": "1", "B": "2"}
	quick.Limits.Memory = 64 * MiB
	want.Processes = map[string]Process{"quick": quick}
	for _, d := range Diff(want, c) {
		t.Error(d)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if c, err = Decode(strings.NewReader("")); err != nil || len(Diff(Default(), c)) != 0 {
		t.Errorf("an empty file: got %v, %v", Diff(Default(), c), err)
	}
}

func TestDecodeReaders(t *testing.T) {
	broken := errors.New("broken")
	if _, err := Decode(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: got %v", err)
	}
	if _, err := Decode(io.LimitReader(zeros{}, 1<<40)); err == nil || err.Error() != "more than 1048576 bytes, which is no configuration" {
		t.Errorf("a text without end: got %v", err)
	}
	if _, err := Decode(strings.NewReader(strings.Repeat("#\n", maxFile/2))); err != nil {
		t.Errorf("a text of the greatest size: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: got %v", err)
	}
	path := filepath.Join(dir, "perdure.toml")
	for _, c := range []struct{ text, want string }{
		{"[snapshot]\nevery = \"x\"", path + `:2:1: snapshot.every: "x": not a time; write it like 200ms, 30s, 10m, 12h or 7d`},
		{"[snapshot", path + ":1:9: expected ']' to close table name\n    [snapshot\n            ^"},
		{strings.Repeat("#", maxFile+1), path + ": more than 1048576 bytes, which is no configuration"},
		{"[snapshot]\nevery = \"2s\"", ""},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if got := errText(err); got != c.want {
			t.Errorf("got %s\nwant %s", got, c.want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
