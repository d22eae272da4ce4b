package config

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// TestTypesParse holds every text type against what it takes, gives back and refuses.
func TestTypesParse(t *testing.T) {
	const (
		noTime    = "not a time; write it like 200ms, 30s, 10m, 12h or 7d"
		noSize    = "not a size; write it like 64MiB or 1GiB"
		noShare   = "not a share; write it like 25%"
		noSpace   = "not an amount of space; write it like 256MiB or 5%"
		noAddress = "not an address; write HOST:PORT"
		longTime  = "too long a time; it has to be less than 292 years"
		largeSize = "too large a size; it has to be less than 16777216TiB"
	)
	for _, c := range []struct {
		in   string
		want any    // a pointer to the value, or to a zero value if it is refused
		back string // what String gives, if not in
		err  string
	}{
		{"0", new(Duration), "0s", ""},
		{"1s", ptr(Duration(time.Second)), "", ""},
		{"200ms", ptr(Duration(200 * time.Millisecond)), "", ""},
		{"1.5h", ptr(Duration(90 * time.Minute)), "1h30m", ""},
		{"60s", ptr(Duration(time.Minute)), "1m", ""},
		{"10m", ptr(Duration(10 * time.Minute)), "", ""},
		{"1h0m30s", ptr(Duration(time.Hour + 30*time.Second)), "", ""},
		{"7d", ptr(Duration(7 * day)), "", ""},
		{"24h", ptr(Duration(day)), "1d", ""},
		{"1d12h", ptr(Duration(36 * time.Hour)), "36h", ""},
		{"0d", new(Duration), "0s", ""},
		{"106751d", ptr(Duration(106751 * day)), "", ""},
		{"106752d", new(Duration), "", longTime},
		{"106751d23h59m", new(Duration), "", longTime},
		{"99999999999999999999d", new(Duration), "", noTime},
		{"", new(Duration), "", noTime},
		{"5", new(Duration), "", noTime},
		{"-1s", new(Duration), "", noTime},
		{"+1s", new(Duration), "", noTime},
		{"1d-1s", new(Duration), "", noTime},
		{"-1d", new(Duration), "", noTime},
		{"1s ", new(Duration), "", noTime},
		{"soon", new(Duration), "", noTime},
		{"9999999h", new(Duration), "", noTime},

		{"0", new(Size), "", ""},
		{"1000", ptr(Size(1000)), "", ""},
		{"1024", ptr(KiB), "1KiB", ""},
		{"64MiB", ptr(64 * MiB), "", ""},
		{"64 MiB", ptr(64 * MiB), "64MiB", ""},
		{"1.5GiB", ptr(1536 * MiB), "1536MiB", ""},
		{"0.000000001GiB", ptr(Size(1)), "1", ""},
		{"4K", ptr(4 * KiB), "4KiB", ""},
		{"4M", ptr(4 * MiB), "4MiB", ""},
		{"4G", ptr(4 * GiB), "4GiB", ""},
		{"4T", ptr(4 * TiB), "4TiB", ""},
		{"4KiB", ptr(4 * KiB), "", ""},
		{"4TiB", ptr(4 * TiB), "", ""},
		{"4kB", ptr(Size(4000)), "4000", ""},
		{"4KB", ptr(Size(4000)), "4000", ""},
		{"4MB", ptr(Size(4e6)), "4000000", ""},
		{"4GB", ptr(Size(4e9)), "3906250KiB", ""},
		{"4TB", ptr(Size(4e12)), "3906250000KiB", ""},
		{"7B", ptr(Size(7)), "7", ""},
		{"18446744073709551615", ptr(^Size(0)), "", ""},
		{"16777216TiB", new(Size), "", largeSize},
		{"18446744073709551615.9K", new(Size), "", largeSize},
		{"18446744073709551616", new(Size), "", noSize},
		{"", new(Size), "", noSize},
		{"MiB", new(Size), "", noSize},
		{"-1", new(Size), "", noSize},
		{"+1", new(Size), "", noSize},
		{"1e3", new(Size), "", noSize},
		{"0x10", new(Size), "", noSize},
		{"1.", new(Size), "", noSize},
		{".5G", new(Size), "", noSize},
		{"1.0000000001G", new(Size), "", noSize},
		{"1,5G", new(Size), "", noSize},
		{"1 M B", new(Size), "", noSize},
		{"1mib", new(Size), "", noSize},
		{"1KM", new(Size), "", noSize},
		{" 1M", new(Size), "", noSize},
		{"NaN", new(Size), "", noSize},

		{"25%", ptr(Percent(25)), "", ""},
		{"12.5 %", ptr(Percent(12.5)), "12.5%", ""},
		{"150%", ptr(Percent(150)), "", ""},
		{"0%", new(Percent), "", ""},
		{"25", new(Percent), "", noShare},
		{"%", new(Percent), "", noShare},
		{"-1%", new(Percent), "", noShare},
		{"inf%", new(Percent), "", noShare},
		{"1e9%", new(Percent), "", noShare},

		{"5%", &Space{Percent: 5}, "", ""},
		{"256MiB", &Space{Bytes: 256 * MiB}, "", ""},
		{"x%", new(Space), "", noShare},
		{"much", new(Space), "", noSpace},

		{"/a", &Dir{"/a", "/a", false}, "", ""},
		{"/a:/b", &Dir{"/a", "/b", false}, "", ""},
		{"/a:/b:ro", &Dir{"/a", "/b", true}, "", ""},
		{"/a::ro", &Dir{"/a", "/a", true}, "/a:/a:ro", ""},
		{"ro", &Dir{"ro", "ro", false}, "", ""},
		{"", new(Dir), "", "the directory is missing; write HOST[:GUEST[:ro]]"},
		{":/b", new(Dir), "", "the directory is missing; write HOST[:GUEST[:ro]]"},
		{"/a:ro", new(Dir), "", `is "ro" a directory of the guest? write HOST:GUEST:ro, or HOST:/ro`},
		{"/a:/b:rx", new(Dir), "", `"rx" is not understood; write HOST[:GUEST[:ro]]`},
		{"/a:/b:ro:x", new(Dir), "", `"ro:x" is not understood; write HOST[:GUEST[:ro]]`},

		{"tcp://127.0.0.1:80", &Listen{"tcp", "127.0.0.1:80"}, "", ""},
		{"tcp6://[::1]:80", &Listen{"tcp6", "[::1]:80"}, "", ""},
		{"unix:///run/x", &Listen{"unix", "/run/x"}, "", ""},
		{":80", new(Listen), "", "write tcp://HOST:PORT or unix:///PATH"},
		{"tcp://x", new(Listen), "", "write tcp://HOST:PORT: address x: missing port in address"},
		{"tcp://x:http", new(Listen), "", `"http" is no port number`},
		{"tcp://x:65536", new(Listen), "", `"65536" is no port number`},
		{"unix://", new(Listen), "", "the path is missing; write unix:///PATH"},
		{"udp://x:1", &Listen{"udp", "x:1"}, "", ""},

		{"tcp://127.0.0.1:80", &Allow{Network: "tcp", Prefix: netip.MustParsePrefix("127.0.0.1/32"), Low: 80, High: 80}, "", ""},
		{"tcp://10.1.2.3/8:1-9", &Allow{Network: "tcp", Prefix: netip.MustParsePrefix("10.0.0.0/8"), Low: 1, High: 9}, "tcp://10.0.0.0/8:1-9", ""},
		{"udp://[::1]:*", &Allow{Network: "udp", Prefix: netip.MustParsePrefix("::1/128"), High: 65535}, "", ""},
		{"udp://[fe80::/10]:53", &Allow{Network: "udp", Prefix: netip.MustParsePrefix("fe80::/10"), Low: 53, High: 53}, "", ""},
		{"tcp://*:*", &Allow{Network: "tcp", High: 65535}, "", ""},
		{"tcp://db.example:5432", &Allow{Network: "tcp", Name: "db.example", Low: 5432, High: 5432}, "", ""},
		{"unix:///run/x", &Allow{Network: "unix", Path: "/run/x"}, "", ""},
		{"unix://*", &Allow{Network: "unix"}, "", ""},
		{"*", new(Allow), "", "write tcp://HOST:PORT, udp://HOST:PORT or unix:///PATH; * stands for all"},
		{"sctp://*:1", new(Allow), "", `"sctp" is no network; there are tcp, udp and unix`},
		{"tcp://x", new(Allow), "", "the port is missing; write tcp://HOST:PORT, with * for all ports"},
		{"tcp://::1:1", new(Allow), "", "write an IPv6 address in brackets: [::1]"},
		{"tcp://x:9-1", new(Allow), "", `"9-1" is no port number, range of them like 8000-8999, or *`},
		{"tcp://a/b:1", new(Allow), "", `"a/b" is no address, range or name of a host; * stands for all`},
		{"unix://x", new(Allow), "", "write unix:///PATH with an absolute path, or unix://*"},
		{"sctp://x:1", new(Listen), "", `"sctp" is no network; there are tcp, tcp4, tcp6, udp, udp4, udp6 and unix`},

		{"", new(Address), "", ""},
		{":9464", ptr(Address(":9464")), "", ""},
		{"localhost:9464", ptr(Address("localhost:9464")), "", ""},
		{"localhost", new(Address), "", noAddress},
		{"localhost:x", new(Address), "", `"x" is no port number`},
	} {
		name := fmt.Sprintf("%T %q", c.want, c.in)
		got := reflect.New(reflect.TypeOf(c.want).Elem())
		err := got.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(c.in))
		switch {
		case c.err != "" && (err == nil || err.Error() != c.err):
			t.Errorf("%s: got error %v, want %s", name, err, c.err)
		case c.err != "":
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case !reflect.DeepEqual(got.Interface(), c.want):
			t.Errorf("%s: got %#v, want %#v", name, got.Elem(), c.want)
		default:
			if c.back == "" {
				c.back = c.in
			}
			if back := fmt.Sprint(got.Elem().Interface()); back != c.back {
				t.Errorf("%s: String gives %q, want %q", name, back, c.back)
			}
			if m, ok := got.Elem().Interface().(encoding.TextMarshaler); ok {
				if b, err := m.MarshalText(); err != nil || string(b) != c.back {
					t.Errorf("%s: MarshalText gives %q, %v", name, b, err)
				}
			}
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestSpaceOfADisk(t *testing.T) {
	for _, c := range []struct {
		space Space
		total uint64
		want  uint64
	}{
		{Space{Bytes: 100}, 1000, 100},
		{Space{Bytes: 2000}, 1000, 2000},
		{Space{Percent: 5}, 1000, 50},
		{Space{Percent: 12.5}, 1 << 50, 1 << 47},
		{Space{Percent: 100}, ^uint64(0), ^uint64(0)},
		{Space{}, 1000, 0},
	} {
		if got := c.space.Of(c.total); got != c.want {
			t.Errorf("%v of %d: got %d, want %d", c.space, c.total, got, c.want)
		}
	}
}

func TestCheckName(t *testing.T) {
	long := string(make([]byte, 101))
	for name, want := range map[string]string{
		"counter":  "",
		"a.b c-d_": "",
		"zähler":   "",
		"":         `"" is no name for a process: it is empty`,
		".hidden":  `".hidden" is no name for a process: it begins with a dot`,
		"-rf":      `"-rf" is no name for a process: it begins with a dash`,
		"a/b":      `"a/b" is no name for a process: it contains a slash`,
		"a\nb":     `"a\nb" is no name for a process: it has characters that cannot be printed`,
		"a\xff":    `"a\xff" is no name for a process: it has characters that cannot be printed`,
		long:       fmt.Sprintf("%q is no name for a process: it has more than 100 bytes", long),
	} {
		got := ""
		if err := CheckName(name); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	c := Default()
	c.Daemon.Socket = c.Daemon.StateDir + "/run/sock"
	for name, want := range map[string]string{
		"counter":  "",
		"a/b":      `"a/b" is no name for a process: it contains a slash`,
		"modules":  `"modules" is no name for a process: its state would be in /var/lib/perdure/modules, where daemon.modules_dir is; rename it, or move that`,
		"modules2": "",
		"run":      `"run" is no name for a process: its state would be in /var/lib/perdure/run, where daemon.socket is; rename it, or move that`,
	} {
		got := ""
		if err := c.CheckName(name); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
