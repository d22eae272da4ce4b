package main

import (
	"bytes"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"perdure/daemon"
	"perdure/runtime/bench"
)

func testRoot() *cobra.Command {
	env := &environment{name: "perdure", stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, getenv: func(string) string { return "" }}
	return newRootCommand(env)
}

// TestCommandsAreDocumented wants every command of ours to have a line, an example and a group.
func TestCommandsAreDocumented(t *testing.T) {
	for _, c := range testRoot().Commands() {
		if c.Hidden {
			continue
		}
		if c.Short == "" || !strings.HasPrefix(c.Example, "  perdure "+c.Name()) {
			t.Errorf("%s: got line %q, example %q", c.Name(), c.Short, c.Example)
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len(line) > 100 {
				t.Errorf("%s: a line of help has %d bytes: %s", c.Name(), len(line), line)
			}
		}
	}
}

// TestJSONIsDocumented wants every key of every JSON output to be in lower case and in the help of its command.
func TestJSONIsDocumented(t *testing.T) {
	root := testRoot()
	for name, value := range map[string]any{
		"generations": []generationJSON{}, "verify": []verifiedJSON{}, "check": checkJSON{}, "stack": stackJSON{},
		"purge": purgedJSON{}, "diff": diffJSON{}, "dump": dumpJSON{}, "journal": []journalJSON{},
		"ps": []daemon.Process{}, "snapshot": []snapshotJSON{}, "events": daemon.Event{}, "reload": daemon.Reloaded{}, "call": callJSON{}, "version": versionJSON{}, "bench": bench.Result{},
	} {
		c, _, err := root.Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range jsonKeys(reflect.TypeOf(value)) {
			if !regexp.MustCompile(`^[a-z][a-z0-9_]*$`).MatchString(key) {
				t.Errorf("%s: the key %q is not in snake case", name, key)
			}
			if !regexp.MustCompile(`\b` + key + `\b`).MatchString(c.Long) {
				t.Errorf("%s: the help does not name the key %q", name, key)
			}
		}
	}
}

// jsonKeys returns the keys of a type and of those within it.
func jsonKeys(t reflect.Type) []string {
	var keys []string
	switch t.Kind() {
	case reflect.Slice, reflect.Pointer:
		return jsonKeys(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return nil
		}
		for i := range t.NumField() {
			key, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			keys = append(keys, key)
			keys = append(keys, jsonKeys(t.Field(i).Type)...)
		}
	}
	return keys
}

// TestAgainKnowsAllFlags wants the command that goes on with a process to have every flag of run.
func TestAgainKnowsAllFlags(t *testing.T) {
	c, _, err := testRoot().Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(againFlags), "fresh")
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^ .{4} --([a-z][a-z-]*)`).FindAllStringSubmatch(c.Flags().FlagUsages(), -1) {
		got = append(got, m[1])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("run has the flags %q, againFlags and fresh are %q", got, want)
	}
}

// TestTalkShowsLongWork wants work to be told once where no terminal is, and only when it takes long.
func TestTalkShowsLongWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		said := newTalk(&out)
		said.work("instrumenting", "(1 of 2 functions)")
		time.Sleep(progressAfter / 2)
		said.rest()
		if got := out.String(); got != "" {
			t.Errorf("short work: got %q", got)
		}
		said.work("instrumenting", "(1 of 2 functions)")
		time.Sleep(2 * progressAfter)
		said.work("instrumenting", "(2 of 2 functions)")
		time.Sleep(2 * progressAfter)
		said.rest()
		said.say("done")
		if got, want := out.String(), "perdure: instrumenting …\nperdure: done\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestTalkClearsTheTerminal wants the line of progress to be gone before anything else is said.
func TestTalkClearsTheTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var screen buffer
		said := &talk{w: &screen, terminal: true}
		said.work("compiling", "(1 of 2)")
		time.Sleep(progressAfter + 50*time.Millisecond)
		synctest.Wait()
		said.warn("careful")
		said.rest()
		const clear = "\r\x1b[K"
		if got, want := screen.String(), clear+"perdure: compiling, 0.3 s (1 of 2)"+clear+"perdure: careful\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
