package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func text(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestProtocolIsDescribed wants every request, every code and every kind of event to be in PROTOCOL.md.
func TestProtocolIsDescribed(t *testing.T) {
	doc := text(t, "PROTOCOL.md")
	said := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `(GET|POST|DELETE) ([^`?]+)").FindAllStringSubmatch(doc, -1) {
		said[m[1]+" "+strings.ReplaceAll(m[2], "NAME", "{name}")] = true
	}
	served := make(map[string]bool)
	for _, file := range []string{"api.go", "saved.go"} {
		src := strings.ReplaceAll(text(t, file), `"+process+"`, "/v1/processes/{name}/")
		for _, m := range regexp.MustCompile(`handle\("([A-Z]+ ?/[^"]+)"`).FindAllStringSubmatch(src, -1) {
			served[m[1]] = true
		}
	}
	if !reflect.DeepEqual(said, served) {
		t.Errorf("described are %v\nserved are %v", said, served)
	}
	src := text(t, "errors.go") + text(t, "types.go") + text(t, "worker/errors.go") + text(t, "worker/event.go")
	for _, m := range regexp.MustCompile(`(?m)^\t(?:Code|Event)[A-Za-z]+ +(?:Code|EventKind)? *= "([a-z-]+)"`).FindAllStringSubmatch(src, -1) {
		if !strings.Contains(doc, "`"+m[1]+"`") {
			t.Errorf("PROTOCOL.md does not have %s", m[1])
		}
	}
}

// TestRecordIsDescribed wants every key of a record to be in FORMAT.md.
func TestRecordIsDescribed(t *testing.T) {
	doc := text(t, "FORMAT.md")
	var keys func(reflect.Type)
	keys = func(r reflect.Type) {
		for i := range r.NumField() {
			key, _, _ := strings.Cut(r.Field(i).Tag.Get("json"), ",")
			if !strings.Contains(doc, "`"+key+"`") {
				t.Errorf("FORMAT.md does not have %s", key)
			}
			if f := r.Field(i).Type; f.Kind() == reflect.Struct {
				keys(f)
			}
		}
	}
	keys(reflect.TypeFor[record]())
}

func TestRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	want := record{
		Version: 1, Desired: desiredStopped, FromState: true, Program: "/m/x.wasm", SHA256: "a", Fresh: true, Replaced: "b", Removed: "c",
		Quarantine: quarantine{"d", "threads", "1"}, Over: "e", Ended: true, ExitCode: 3, Trap: trapRecord{"f", 2, 7}, LastError: "g", Restarts: 4,
		Stats: Stats{Starts: 1, Crashes: 2, Traps: 3, RanNS: 4, LastEnd: "5"},
	}
	if err := writeRecord(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := readRecord(dir); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for claim, s := range map[string]string{
		"a later version": `{"version": 2, "desired": "running"}`, "no version": `{"version": 0}`, "no state": `{"version": 1, "desired": "asleep"}`,
		"half a record": `{"version": 1, "des`, "nothing": ``, "too much": `{"version": 1, "last_error": "` + strings.Repeat("x", maxRecord) + `"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, RecordFile), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readRecord(dir); err == nil {
			t.Errorf("%s: got %+v", claim, got)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, RecordFile), []byte(`{"version": 1, "later": true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readRecord(dir); err != nil || got != newRecord() {
		t.Errorf("a key that is not known: got %+v, %v", got, err)
	}
}

// FuzzRecord wants a record that was damaged to be refused or to be one that can be written again.
func FuzzRecord(f *testing.F) {
	b, err := json.Marshal(newRecord())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version": 1, "trap": {"count": -1}, "stats": null}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, RecordFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := readRecord(dir)
		if err != nil {
			return
		}
		m := &machine{rec: r, settings: settings().settings}
		for _, in := range []input{inFile{file: &file{sha256: "A"}}, inUp{}, killed, inStart{}} {
			m.step(time.Unix(1e9, 0), in)
		}
		if err := writeRecord(dir, m.rec); err != nil {
			t.Fatal(err)
		}
		if again, err := readRecord(dir); err != nil || again != m.rec {
			t.Errorf("got %+v, %v, want %+v", again, err, m.rec)
		}
	})
}
