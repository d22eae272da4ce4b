package wasi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// fullState is a State in which every field has a value of its own.
func fullState() *State {
	exit := uint32(7)
	return &State{
		Version:   StateVersion,
		Args:      []Text{"prog", "", "\xff", "ü \u2028 <&>"},
		Env:       []Text{"A=b", "B=\x80"},
		Preopens:  []PreopenState{{Guest: "/", Dev: 1 << 63, Ino: 1<<64 - 1}, {Guest: "\xfe", Dev: 3, Ino: 4}},
		Listeners: 5,
		Descriptors: []Descriptor{
			{FD: 0, Kind: KindStandard, Source: 2, Type: FileCharDevice, Base: 1, Inheriting: 2},
			{FD: 3, Kind: KindFile, Source: 1, Preopened: true, Path: ".", Read: true, Type: FileDirectory, Base: rightsAll,
				Listing: &Listing{Entries: []DirEntry{{".", 1, FileDirectory}, {"\xff", 1<<64 - 1, FileRegular}, {strings.Repeat("n", 255), 3, FileUnknown}}}},
			{FD: 9, Kind: KindFile, Path: "a/\xff", Unlinked: true, Read: true, Write: true, Flags: flagsAll, Type: FileRegular,
				Offset: 1<<63 - 1, Dev: 5, Ino: 6, Born: 7},
			{FD: 10, Kind: KindListener, Source: 4, Type: FileSocketStream, Socket: &SocketState{Keeper: 1<<64 - 1, ID: 3, Local: "here"}},
			{FD: 1000, Kind: KindConnection, Source: 4, Type: FileSocketStream, Socket: &SocketState{Keeper: 1, ID: 2,
				Position: SocketPosition{Dialled: true, Consumed: 1<<64 - 1, Written: 5, Closed: true, Deaf: true}, Remote: "\xff"}},
			{FD: 1002, Kind: KindSocket, Type: FileSocketStream, Made: &MadeSocket{Network: "tcp4", Phase: PhaseListening, Bound: "127.0.0.1:5",
				Remote: "127.0.0.1:6", Backlog: 5, Options: []SocketOptionValue{{OptionReuseAddr, 1}}}},
			{FD: 1003, Kind: KindFile, Path: "empty", Type: FileDirectory, Listing: &Listing{}},
		},
		Clocks:  Clocks{Monotonic: 1<<63 - 1, CPU: 12},
		Cut:     1<<64 - 1,
		Pending: &Pending{Function: "poll_oneoff", Args: []uint64{1<<64 - 1, 2, 3, 4}, Issued: 5, Deadline: -1},
		Exit:    &exit,
	}
}

func TestStateRoundTrip(t *testing.T) {
	want := fullState()
	b, err := encodeState(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeState(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	again, err := encodeState(got)
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("encoded again: %v\n%s\n%s", err, again, b)
	}
}

// TestStateRefused decodes what no host saves.
func TestStateRefused(t *testing.T) {
	good, err := encodeState(fullState())
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := decodeState(good[:n]); !errors.Is(err, ErrState) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	replace := func(old, new string) []byte {
		s := strings.Replace(string(good), old, new, 1)
		if s == string(good) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return []byte(s)
	}
	for name, b := range map[string][]byte{
		"nothing":                 nil,
		"null":                    []byte("null"),
		"a list":                  []byte("[]"),
		"no version":              []byte("{}"),
		"another version":         replace(`"version":2`, `"version":3`),
		"a negative version":      replace(`"version":2`, `"version":-1`),
		"a version without it":    replace(`"version":2`, `"version":1`),
		"a socket of a file":      replace(`"path":".",`, `"path":".","socket":{"keeper":1,"id":1,"position":{"consumed":0,"written":0}},`),
		"a socket not made":       replace(`"made":{`, `"x":{`),
		"a network of no kind":    replace(`"network":"tcp4"`, `"network":"tcp"`),
		"a bad bound address":     replace(`"bound":"127.0.0.1:5"`, `"bound":"here"`),
		"an unknown phase":        replace(`"phase":"listening"`, `"phase":"full"`),
		"a bad backlog":           replace(`"backlog":5`, `"backlog":-5`),
		"an unknown option":       replace(`"option":0`, `"option":2`),
		"a long address":          replace(`"local":"here"`, `"local":"`+strings.Repeat("x", maxPathBytes+1)+`"`),
		"an unknown field":        replace(`"clocks":{`, `"clocks":{"moon":1,`),
		"bytes behind":            append(bytes.Clone(good), "x"...),
		"another object":          append(bytes.Clone(good), good...),
		"a clock below zero":      replace(`"monotonic":`, `"monotonic":-`),
		"descriptors out of line": replace(`"fd":9,`, `"fd":2,`),
		"a descriptor twice":      replace(`"fd":9,`, `"fd":3,`),
		"a huge descriptor":       replace(`"fd":1003`, `"fd":1048576`),
		"an unknown kind":         replace(`"kind":"listener"`, `"kind":"plumber"`),
		"a standard stream 3":     replace(`"source":2`, `"source":3`),
		"a negative source":       replace(`"source":2`, `"source":-1`),
		"a directory 2":           replace(`"source":1`, `"source":2`),
		"a listener too many":     replace(`"listeners":5`, `"listeners":4`),
		"a huge number":           replace(`"listeners":5`, `"listeners":1048577`),
		"an empty path":           replace(`"path":"."`, `"path":""`),
		"a NUL in a path":         replace(`"path":"."`, `"path":"a\u0000"`),
		"a long path":             replace(`"path":"."`, `"path":"`+strings.Repeat("x", maxPathBytes)+`"`),
		"a NUL in an argument":    replace(`"prog"`, `"a\u0000b"`),
		"long arguments":          replace(`"prog"`, `"`+strings.Repeat("x", maxTextBytes)+`"`),
		"unknown flags":           replace(`"flags":31`, `"flags":32`),
		"unknown rights":          replace(`"base":1,`, `"base":1073741824,`),
		"an unknown type":         replace(`"type":4`, `"type":8`),
		"a negative offset":       replace(`"offset":9223372036854775807`, `"offset":-1`),
		"a preopened file":        replace(`"preopened":true,"path":".","read":true,"flags":0,"base":1073741823,"inheriting":0,"type":3`, `"preopened":true,"path":".","flags":0,"base":0,"inheriting":0,"type":4`),
		"a listing of a file":     replace(`"ino":6,`, `"ino":6,"listing":"",`),
		"a cut listing":           replace(`"listing":"`, `"listing":"AAAA`),
		"no listing":              replace(`"listing":""`, `"listing":7`),
		"an unknown function":     replace(`"poll_oneoff"`, `"poll_twooff"`),
		"too few arguments":       replace(`[18446744073709551615,`, `[`),
		"issued in the future":    replace(`"monotonic":9223372036854775807`, `"monotonic":4`),
		"a wrong deadline":        replace(`"deadline":-1`, `"deadline":-2`),
		"a wrong exit code":       replace(`"exit":7`, `"exit":-7`),
		"text of another kind":    replace(`"prog"`, `7`),
		"text with more fields":   replace(`{"base64":"/w=="}`, `{"base64":"/w==","x":1}`),
		"deep nesting":            []byte(`{"version":1,"args":` + strings.Repeat("[", 20000)),
	} {
		if _, err := decodeState(b); !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", name, err)
		}
		if h, _, err := Restore(b, Config{}, newSystem(t)); err == nil {
			h.Close()
			t.Errorf("%s: restored", name)
		}
	}
	if _, err := decodeState(make([]byte, maxStateBytes+1)); !errors.Is(err, ErrState) {
		t.Errorf("too large: %v", err)
	}
}

// savedTypes are the types that the State consists of.
var savedTypes = []reflect.Type{
	reflect.TypeFor[State](), reflect.TypeFor[PreopenState](), reflect.TypeFor[Descriptor](), reflect.TypeFor[Clocks](), reflect.TypeFor[Pending](),
	reflect.TypeFor[SocketState](), reflect.TypeFor[SocketPosition](), reflect.TypeFor[MadeSocket](), reflect.TypeFor[SocketOptionValue](),
}

// TestEveryFieldIsDeclared fails on a field that is neither saved nor declared
// transient: whoever adds one has to decide.
func TestEveryFieldIsDeclared(t *testing.T) {
	for _, typ := range savedTypes {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == "" || name == "-" || !f.IsExported() {
				t.Errorf("%s.%s is not saved", typ.Name(), f.Name)
			}
		}
	}
	// In the live types "saved" names where the value goes; the rest says why it
	// is not needed.
	declared := map[reflect.Type]map[string]string{
		reflect.TypeFor[Host](): {
			"args": "saved: State.Args", "env": "saved: State.Env", "preopens": "saved: State.Preopens", "listeners": "saved: State.Listeners", "table": "saved: State.Descriptors",
			"cut":  "saved: State.Cut, another one each time",
			"exit": "saved: State.Exit", "pending": "saved: State.Pending",
			"monotonicBase": "saved: State.Clocks.Monotonic is it plus the kernel's clock", "cpuBase": "saved: State.Clocks.CPU, likewise",
			"resumes": "set by Call and Resume",
			"issued":  "saved: State.Pending.Issued; of no meaning between calls", "deadline": "saved: State.Pending.Deadline, likewise",
			"k": "given to Restore", "cfg": "given to Restore",
			"count": "follows from table", "iov": "scratch", "poll": "scratch",
		},
		reflect.TypeFor[open](): {
			"Descriptor": "saved", "handle": "attached by Restore", "owned": "follows from Kind", "dead": "decided by Restore",
			"stream": "seen when attached", "fifo": "seen when attached", "terminal": "seen when attached", "readOnly": "given to Restore", "pollSlots": "scratch",
		},
		reflect.TypeFor[preopen](): {
			"PreopenState": "saved", "handle": "attached by Restore", "readOnly": "given to Restore",
		},
	}
	for typ, fields := range declared {
		for i := range typ.NumField() {
			if f := typ.Field(i); fields[f.Name] == "" {
				t.Errorf("%s.%s is neither saved nor declared transient", typ.Name(), f.Name)
			}
			delete(fields, typ.Field(i).Name)
		}
		for name := range fields {
			t.Errorf("%s.%s is declared and does not exist", typ.Name(), name)
		}
	}
}

// TestFormatDocument holds FORMAT.md and the types together.
func TestFormatDocument(t *testing.T) {
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string][]string{}
	section := ""
	row := regexp.MustCompile("^\\| `([a-z0-9]+)` \\|")
	for _, line := range strings.Split(string(b), "\n") {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section = name
		} else if m := row.FindStringSubmatch(line); m != nil {
			sections[section] = append(sections[section], m[1])
		}
	}
	for _, typ := range savedTypes {
		var want []string
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			want = append(want, name)
		}
		if got := sections[typ.Name()]; !reflect.DeepEqual(got, want) {
			t.Errorf("FORMAT.md describes %v of %s, which has %v", got, typ.Name(), want)
		}
	}
	if !strings.Contains(string(b), fmt.Sprintf("| `version` | number | %d |", StateVersion)) {
		t.Errorf("FORMAT.md does not name version %d", StateVersion)
	}
}

// TestSaveTakesTheWholeState fills each kind of thing that a State holds and
// compares what comes back after a restore with what was.
func TestSaveTakesTheWholeState(t *testing.T) {
	g := newGuest(t, func(c *Config) { c.Env = []string{"A=b"} })
	g.hostMkdir("d")
	fd := g.open("f \xff", oflagCreate, readWrite, FlagAppend)
	g.write(fd, "x")
	g.readdir(g.openDir("d"), 0, 100)
	before, err := g.h.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	g.noWarnings(g.restart())
	after, err := g.h.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	before.Clocks, after.Clocks = Clocks{}, Clocks{}
	before.Cut, after.Cut = 0, 0
	b, _ := json.Marshal(before)
	a, _ := json.Marshal(after)
	if !bytes.Equal(a, b) {
		t.Errorf("after\n%s\nbefore\n%s", a, b)
	}
}
