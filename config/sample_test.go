package config

import (
	"bytes"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// schema returns the paths of all keys below v that have a value, or of its own fields only.
func schema(prefix string, v reflect.Value, deep bool) []string {
	var keys []string
	for _, f := range fieldsOf(v) {
		key := join(prefix, f.name)
		if f.apply == "" && deep {
			keys = append(keys, schema(key, f.value, deep)...)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}

func readSample(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("perdure.toml")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keysOf returns the keys of a file in their order, which have no table as their value.
func keysOf(t *testing.T, text []byte) []string {
	t.Helper()
	doc, err := read(bytes.NewReader(text), "perdure.toml", maxFile)
	if err != nil {
		t.Fatal(err)
	}
	type keyAt struct {
		key  string
		line int
	}
	var all []keyAt
	var walk func(key string, values map[string]any, at *place)
	walk = func(key string, values map[string]any, at *place) {
		for name, v := range values {
			if table, ok := v.(map[string]any); ok {
				walk(join(key, name), table, at.child(name))
				continue
			}
			all = append(all, keyAt{join(key, name), at.child(name).line})
		}
	}
	walk("", doc.values, doc.at)
	slices.SortFunc(all, func(a, b keyAt) int { return a.line - b.line })
	var keys []string
	for _, k := range all {
		keys = append(keys, k.key)
	}
	return keys
}

// TestSampleIsTheDefault wants the shipped file to say what holds without it: every key of the schema, in its order, and
// nothing else.
func TestSampleIsTheDefault(t *testing.T) {
	sample := readSample(t)
	c, err := Decode(bytes.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range Diff(Default(), c) {
		t.Errorf("the sample has another default: %v", change)
	}
	d := Default()
	if want := schema("", reflect.ValueOf(d), true); !slices.Equal(keysOf(t, sample), want) {
		t.Errorf("the keys of the sample are not those of the schema, or in another order:\n got %q\nwant %q", keysOf(t, sample), want)
	}
}

// TestSampleExplains wants a comment above every setting.
func TestSampleExplains(t *testing.T) {
	setting := regexp.MustCompile(`^#?[a-z_]+ = `)
	lines := strings.Split(string(readSample(t)), "\n")
	for i, line := range lines {
		if !setting.MatchString(line) {
			continue
		}
		switch above := lines[max(i-1, 0)]; {
		case strings.HasPrefix(above, "# "), strings.HasPrefix(line, "#memsnap"), strings.HasPrefix(line, "#limits"),
			strings.HasPrefix(line, "#restart"), strings.HasPrefix(line, "#console"): // one comment for all of these
		default:
			t.Errorf("line %d has no comment above it: %s", i+1, line)
		}
		if len(line) > 120 {
			t.Errorf("line %d is too long", i+1)
		}
	}
}

// TestSampleProcess wants the process that is a comment in the sample to show every key that it may have, rightly.
func TestSampleProcess(t *testing.T) {
	commented := regexp.MustCompile(`(?m)^#(\S)`)
	c, err := Decode(bytes.NewReader(commented.ReplaceAll(readSample(t), []byte("$1"))))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	shown := regexp.MustCompile(`(?m)^#([a-z_]+) = `)
	for _, m := range shown.FindAllStringSubmatch(string(readSample(t)), -1) {
		got = append(got, m[1])
	}
	if want := schema("", reflect.ValueOf(Process{}), false); !slices.Equal(got, want) {
		t.Errorf("the sample shows other keys of a process than there are:\n got %q\nwant %q", got, want)
	}
	p := c.Process("counter")
	if p.Snapshot.Every.String() != "200ms" || p.Snapshot.MaxShare != 25 || len(p.Dirs) != 2 || !p.Dirs[1].ReadOnly || p.OnChange != Hold {
		t.Errorf("the process of the sample is %+v", p)
	}
}
