package main

import (
	"strings"
	"testing"
	"time"

	"perdure/runtime"
)

func TestParseDir(t *testing.T) {
	for in, want := range map[string]runtime.Preopen{
		"data":          {Host: "data", Guest: "data"},
		"/srv:/data":    {Host: "/srv", Guest: "/data"},
		"/srv:/data:ro": {Host: "/srv", Guest: "/data", ReadOnly: true},
		"data::ro":      {Host: "data", Guest: "data", ReadOnly: true},
		"data:":         {Host: "data", Guest: "data"},
		".:/":           {Host: ".", Guest: "/"},
	} {
		if got, err := parseDir(in); err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", ":", ":/data", "data:ro", "data:rw", "a:b:c", "a:b:ro:", "a:b:c:ro"} {
		if got, err := parseDir(in); err == nil {
			t.Errorf("%q: got %+v, want an error", in, got)
		}
	}
}

func TestParseListener(t *testing.T) {
	for in, want := range map[string]runtime.Listener{
		"tcp://127.0.0.1:8080":   {Network: "tcp", Address: "127.0.0.1:8080"},
		"tcp://:0":               {Network: "tcp", Address: ":0"},
		"tcp6://[::1]:80":        {Network: "tcp6", Address: "[::1]:80"},
		"tcp4://localhost:65535": {Network: "tcp4", Address: "localhost:65535"},
		"unix:///run/s.sock":     {Network: "unix", Address: "/run/s.sock"},
		"udp://localhost:1":      {Network: "udp", Address: "localhost:1"},
	} {
		if got, err := parseListener(in); err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "tcp", "tcp://", "tcp://localhost", "tcp://localhost:", "tcp://localhost:65536", "tcp://[::1:80",
		"udp://localhost", "unix://", "http://localhost:80"} {
		if got, err := parseListener(in); err == nil {
			t.Errorf("%q: got %+v, want an error", in, got)
		}
	}
}

func TestParseMemory(t *testing.T) {
	for in, want := range map[string]uint64{
		"65536": 65536, "64KiB": 65536, "64K": 65536, "1MiB": 1 << 20, "1.5M": 3 << 19, "1GiB": 1 << 30, "4GiB": 4 << 30,
		"100kB": 100_000, "2MB": 2_000_000, "1 GB": 1_000_000_000, "70000B": 70000,
	} {
		if got, err := parseMemory(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-1GiB", "65535", "5GiB", "1TiB", "GiB", "one", "NaN", "Inf", "1e99", "NaNGiB"} {
		if got, err := parseMemory(in); err == nil {
			t.Errorf("%q: got %d, want an error", in, got)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"perdure", "run", "--every", "1s", "/a/b.wasm"}, "perdure run --every 1s /a/b.wasm"},
		{[]string{"a b", "", "$x", "~", "*", "`x`", "é"}, "'a b' '' '$x' '~' '*' '`x`' 'é'"},
		{[]string{"it's"}, `'it'\''s'`},
		{[]string{"K=V", "a:/b:ro", "tcp://[::1]:80", "-x"}, "K=V a:/b:ro 'tcp://[::1]:80' -x"},
	} {
		if got := shellQuote(c.words); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestNamesOfProcesses(t *testing.T) {
	for in, want := range map[string]string{"prog.wasm": "prog", "/a/b/c.d.wasm": "c.d", "prog": "prog", "./x.wasm": "x", ".wasm": "", "a/": "a"} {
		if got := nameOf(in); got != want {
			t.Errorf("name of %q: got %q, want %q", in, got, want)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", ".x", "-x", "a\nb", "a\x00", "\xff", strings.Repeat("x", 101)} {
		if checkName(name) == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
	for _, name := range []string{"a", "a.b", "counter.ended-1", "é", "a b", strings.Repeat("x", 100)} {
		if err := checkName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestFormats(t *testing.T) {
	for in, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 10240: "10.0 KiB", 102400: "100 KiB", 1023 << 10: "1.00 MiB", 1 << 20: "1.00 MiB", 1 << 40: "1.00 TiB",
	} {
		if got := size(in); got != want {
			t.Errorf("size %d: got %q, want %q", in, got, want)
		}
	}
	for in, want := range map[time.Duration]string{
		0: "0 µs", 1234: "1.23 µs", 58 * time.Microsecond: "58 µs", 12345 * time.Microsecond: "12.3 ms", 90 * time.Second: "90 s", 2 * time.Second: "2 s",
	} {
		if got := short(in); got != want {
			t.Errorf("duration %d: got %q, want %q", in, got, want)
		}
	}
}
