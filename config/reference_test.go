package config

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/CONFIG.md anew")

const referenceFile = "../docs/CONFIG.md"

// applies says for people from when on a change of a setting counts.
var applies = map[string]string{
	"now":    "at once",
	"start":  "when the process is started again",
	"fresh":  "when the program starts anew",
	"daemon": "when the daemon is started again",
}

// TestReference wants docs/CONFIG.md to say what the schema and the shipped file say; -update writes it.
func TestReference(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(referenceFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the schema and perdure.toml say; write it anew: go test ./config -run TestReference -update", referenceFile)
	}
}

// reference makes the page of: the keys, and from when on a change counts, of the schema; what they mean and an example,
// which for all but those of a process is the default, of the shipped file.
func reference(t *testing.T) []byte {
	said := explanations(t)
	var b bytes.Buffer
	b.WriteString(`# Configuration

Every setting of the daemon, made of the schema and of [perdure.toml](../config/perdure.toml), which has all of them at their
defaults, by ` + "`go test ./config -run TestReference -update`" + `. The file is read from ` + "`/etc/perdure/perdure.toml`" + ` or, for a user other
than root, from ` + "`~/.config/perdure/perdure.toml`" + `; ` + "`perdure serve --check-config`" + ` checks it. A key that is not known is an
error, and so is a key that is in a side file and the main file both.

A change counts when ` + "`perdure reload`" + ` or SIGHUP has had it read, and then from the moment that the last column says.
Times are written like "200ms", "30s", "10m", "12h" or "7d"; sizes like "64MiB", or as a plain number of bytes; shares like
"25%", where 100% of a processor is one core.
`)
	section := func(title, about string, v reflect.Value, example string) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | %s | meaning | a change counts |\n|---|---|---|---|\n", title, about, example)
		for _, f := range fieldsOf(v) {
			if f.apply == "" {
				continue // a section of its own
			}
			e, ok := said[title+"."+f.name]
			if !ok {
				t.Errorf("perdure.toml does not explain %s.%s", title, f.name)
			}
			when, ok := applies[f.apply]
			if !ok {
				t.Errorf("%s.%s applies %q, which nobody explains", title, f.name, f.apply)
			}
			fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", f.name, e.value, strings.ReplaceAll(e.text, "|", `\|`), when)
		}
	}
	d := Default()
	for _, f := range fieldsOf(reflect.ValueOf(d)) {
		about := "A default of every process; `[process.NAME]` may have it too."
		if f.name == "daemon" {
			about = "The daemon itself."
		}
		section(f.name, about, f.value, "default")
	}
	section("process.NAME", "What is different for the process NAME; without the heading the same may stand in `NAME.toml` beside `NAME.wasm` "+
		"in the folder. The sections above may be here too, such as `limits = { memory = \"64MiB\" }`.", reflect.ValueOf(Process{}), "example")
	return b.Bytes()
}

type explanation struct{ value, text string }

// explanations reads the shipped file: for each key what stands behind it and the comment above it.
func explanations(t *testing.T) map[string]explanation {
	said := make(map[string]explanation)
	heading := regexp.MustCompile(`^#?\[(.+)\]$`)
	setting := regexp.MustCompile(`^#?([a-z_]+) = (.+)$`)
	section, comment := "", []string{}
	for _, line := range strings.Split(string(readSample(t)), "\n") {
		if m := heading.FindStringSubmatch(line); m != nil {
			section, comment = strings.Replace(m[1], "process.counter", "process.NAME", 1), nil
		} else if m := setting.FindStringSubmatch(line); m != nil {
			said[section+"."+m[1]] = explanation{m[2], strings.Join(comment, " ")}
			comment = nil
		} else if text, ok := strings.CutPrefix(line, "# "); ok {
			comment = append(comment, text)
		} else {
			comment = nil
		}
	}
	return said
}
