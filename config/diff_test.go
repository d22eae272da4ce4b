package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDiff(t *testing.T) {
	before := decodeString(t, `
[daemon]
log_level = "info"
[process.web]
args = ["a", "b"]
env = { OLD = "secret", SAME = "1", OTHER = "1" }
listen = ["tcp://:80"]
[process.gone]
limits = { memory = "64MiB" }
[process.same]
`)
	after := decodeString(t, `
[daemon]
log_level = "debug"
log_format = "json"
metrics_listen = ":9464"
on_change = "hold"
[snapshot]
every = "2s"
[memsnap]
min_free = "5%"
verbose = true
[limits]
open_files = 64
[process.web]
args = ["a"]
env = { NEW = "secret", SAME = "1", OTHER = "2" }
dirs = ["/srv:/data:ro"]
snapshot = { every = "3s" }
[process.new]
on_change = "replace"
`)
	want := []string{
		`daemon.log_level: "info" → "debug", counts now`,
		`daemon.log_format: "auto" → "json", counts when the daemon is started again`,
		`daemon.metrics_listen: "" → ":9464", counts when the daemon is started again`,
		`daemon.on_change: "replace" → "hold", counts now`,
		`snapshot.every: "1s" → "2s", counts now`,
		`memsnap.verbose: false → true, counts now`,
		`memsnap.min_free: "256MiB" → "5%", counts now`,
		`limits.open_files: 1024 → 64, counts when the process is started again`,
		`process.gone.limits.memory: "64MiB" → "1GiB", counts when the process is started again`,
		`process.web.args: ["a", "b"] → ["a"], counts when the program starts anew`,
		`process.web.env.NEW:  → (set), counts when the program starts anew`,
		`process.web.env.OLD: (set) → , counts when the program starts anew`,
		`process.web.env.OTHER: (set) → (set), counts when the program starts anew`,
		`process.web.dirs: [] → ["/srv:/data:ro"], counts when the process is started again`,
		`process.web.listen: ["tcp://:80"] → [], counts when the process is started again`,
		`process.web.snapshot.every: "1s" → "3s", counts now`,
	}
	var got []string
	for _, c := range Diff(before, after) {
		got = append(got, c.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if s := When(9).String(); s != "When(9)" {
		t.Errorf("an unknown time is %q", s)
	}
}

// TestEveryFieldSaysWhenItCounts changes each setting for itself, and wants one change, with the key of the setting, that
// is in the reloadable part exactly if it counts now.
func TestEveryFieldSaysWhenItCounts(t *testing.T) {
	n := 0
	daemon := Default().Daemon
	eachField(reflect.ValueOf(&daemon).Elem(), func(f field) {
		n++
		before := daemon
		alter(t, f)
		a, b := Default(), Default()
		a.Daemon, b.Daemon = before, daemon
		want(t, f, Diff(a, b), before.Reloadable() != daemon.Reloadable())
		if when := whenOf(f.apply); when != Now && when != NextServe {
			t.Errorf("%s is of the daemon, and counts %v", f.name, when)
		}
	})
	page := Default().Dashboard
	eachField(reflect.ValueOf(&page).Elem(), func(f field) {
		n++
		a, b := Default(), Default()
		a.Dashboard = page
		alter(t, f)
		b.Dashboard = page
		want(t, f, Diff(a, b), false)
	})
	process := Default().Process("x")
	eachField(reflect.ValueOf(&process).Elem(), func(f field) {
		n++
		before := process.clone()
		alter(t, f)
		want(t, f, DiffProcess(before, process), before.Reloadable() != process.Reloadable())
		if whenOf(f.apply) == NextServe {
			t.Errorf("%s is of a process, and counts %v", f.name, NextServe)
		}
	})
	if all := schema("", reflect.ValueOf(Default()), true); n != len(all)+8 {
		t.Errorf("%d fields were changed; the schema has %d, and 8 that only a process has", n, len(all))
	}
}

func eachField(v reflect.Value, do func(field)) {
	for _, f := range fieldsOf(v) {
		if f.apply == "" {
			eachField(f.value, do)
		} else {
			do(f)
		}
	}
}

// alter gives a field another value.
func alter(t *testing.T, f field) {
	switch v := f.value.Addr().Interface().(type) {
	case *Space:
		v.Bytes++
	case *[]string:
		*v = append(*v, "x")
	case *map[string]string:
		*v = map[string]string{"X": ""}
	case *[]Dir:
		*v = append(*v, Dir{Host: "/x", Guest: "/x"})
	case *[]Allow:
		*v = append(*v, Allow{Network: "unix"})
	case *[]Listen:
		*v = append(*v, Listen{"unix", "/x"})
	default:
		switch v := f.value; v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Int, reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.Uint64:
			v.SetUint(v.Uint() + 1)
		case reflect.Float64:
			v.SetFloat(v.Float() + 1)
		default:
			t.Fatalf("%s is a %v", f.name, v.Type())
		}
	}
}

func want(t *testing.T, f field, got []Change, reloadable bool) {
	t.Helper()
	key := func(c Change) string { return c.Key }
	if len(got) != 1 || !strings.Contains(key(got[0])+".", f.name+".") {
		t.Errorf("%s was changed, and the difference is %v", f.name, got)
		return
	}
	if got[0].When != whenOf(f.apply) || (got[0].When == Now) != reloadable {
		t.Errorf("%s counts %v, and in the reloadable part: %v", f.name, got[0].When, reloadable)
	}
}

// TestProcessSharesNothing wants what a caller does to a Process to stay with that caller.
func TestProcessSharesNothing(t *testing.T) {
	c := decodeString(t, "[process.a]\nargs = [\"1\"]\nenv = { A = \"1\" }\ndirs = [\"/a\"]\nlisten = [\"tcp://:80\"]")
	p := c.Process("a")
	p.Args[0], p.Env["A"], p.Dirs[0].Host, p.Listen[0].Address = "2", "2", "/b", ":81"
	if q := c.Process("a"); q.Args[0] != "1" || q.Env["A"] != "1" || q.Dirs[0].Host != "/a" || q.Listen[0].Address != ":80" {
		t.Errorf("the configuration has changed: %+v", q)
	}
	if p := c.Process("none"); !reflect.DeepEqual(p, Process{OnChange: c.Daemon.OnChange, KeepFor: c.Daemon.KeepFor, Settings: c.Settings}) {
		t.Errorf("a process without a table does not have the defaults: %+v", p)
	}
	if d := Duration(time.Second); d.Std() != time.Second {
		t.Errorf("Std of %v is %v", d, d.Std())
	}
}
