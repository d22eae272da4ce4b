package wasi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestArgsAndEnviron(t *testing.T) {
	args := []string{"prog", "", "two words", "\xff\xfe not UTF-8"}
	env := []string{"HOME=/", "EMPTY=", "BIN=\x80"}
	g := newGuest(t, func(c *Config) { c.Args, c.Env = args, env })
	for range 2 { // and again in a restored host
		for _, c := range []struct {
			function string
			want     []string
		}{{"args", args}, {"environ", env}} {
			var count, size uint32
			g.must(c.function+"_sizes_get", &count, &size)
			want := strings.Join(c.want, "\x00") + "\x00"
			if int(count) != len(c.want) || int(size) != len(want) {
				t.Fatalf("%s: count %d, size %d; want %d, %d", c.function, count, size, len(c.want), len(want))
			}
			pointers, data := make(out, 4*count), make(out, size)
			rawArgs, fetch := g.marshal([]any{pointers, data})
			if errno, err := g.h.Call(index(t, c.function+"_get"), g.mem, rawArgs); errno != 0 || err != nil {
				t.Fatalf("%s_get: %d, %v", c.function, errno, err)
			}
			fetch()
			if string(data) != want {
				t.Errorf("%s: %q, want %q", c.function, data, want)
			}
			for i, w := range c.want {
				p := binary.LittleEndian.Uint32(pointers[4*i:]) - uint32(rawArgs[1])
				if got := data[p : int(p)+len(w)+1]; !bytes.Equal(got, append([]byte(w), 0)) {
					t.Errorf("%s %d: %q, want %q", c.function, i, got, w)
				}
			}
		}
		g.noWarnings(g.restart())
	}
}

func TestNoArgs(t *testing.T) {
	g := newGuest(t, func(c *Config) { c.Args = nil })
	count, size := uint32(9), uint32(9)
	g.must("args_sizes_get", &count, &size)
	if count != 0 || size != 0 {
		t.Errorf("count %d, size %d", count, size)
	}
	g.must("args_get", raw(0), raw(len(g.mem)))
}

func TestNewRefuses(t *testing.T) {
	k := newSystem(t)
	dir := t.TempDir()
	for name, cfg := range map[string]Config{
		"NUL in an argument":        {Args: []string{"a\x00b"}},
		"NUL in the environment":    {Env: []string{"A=\x00"}},
		"huge arguments":            {Args: []string{strings.Repeat("x", maxTextBytes+1)}},
		"missing directory":         {Preopens: []Preopen{{Host: dir + "/none", Guest: "/"}}},
		"directory without a name":  {Preopens: []Preopen{{Host: dir}}},
		"file as directory":         {Preopens: []Preopen{{Host: "/dev/null", Guest: "/"}}},
		"unknown network":           {Listeners: []Listener{{"sctp", "127.0.0.1:0"}}},
		"bad address":               {Listeners: []Listener{{"tcp", "127.0.0.1"}}},
		"too many for the limit":    {Limits: Limits{Descriptors: 3}, Preopens: []Preopen{{Host: dir, Guest: "/"}}},
		"socket in no directory":    {Listeners: []Listener{{"unix", dir + "/none/sock"}}},
		"directory with a long way": {Preopens: []Preopen{{Host: dir, Guest: strings.Repeat("x", maxPathBytes+1)}}},
	} {
		before := openFDs()
		if h, err := New(cfg, k); err == nil {
			h.Close()
			t.Errorf("%s: no error", name)
		}
		if after := openFDs(); after != before {
			t.Errorf("%s: %d descriptors leaked", name, after-before)
		}
	}
	if _, err := New(Config{}, nil); err == nil {
		t.Error("no Kernel: no error")
	}
}

func TestClocks(t *testing.T) {
	g := newGuest(t)
	now := func(id int) (v uint64) {
		g.must("clock_time_get", id, 0, &v)
		return v
	}
	if d := time.Since(time.Unix(0, int64(now(int(ClockRealtime))))); d < 0 || d > time.Minute {
		t.Errorf("wall clock is off by %v", d)
	}
	for id := range 4 {
		var res uint64
		g.must("clock_res_get", id, &res)
		if res == 0 || res > 1e9 {
			t.Errorf("clock %d: resolution %d", id, res)
		}
		a := now(id)
		for i := 0; i < 1000; i++ {
			b := now(id)
			if b < a && id != int(ClockRealtime) {
				t.Fatalf("clock %d ran backwards: %d, %d", id, a, b)
			}
			a = b
		}
	}
	if m := now(int(ClockMonotonic)); m < monotonicStart || m > monotonicStart+60e9 {
		t.Errorf("monotonic time began at %d", m)
	}
	before := now(int(ClockProcessCPU))
	for x := 0; now(int(ClockProcessCPU)) < before+1e6; x++ { // the CPU clock runs while we do
		if x > 1e8 {
			t.Fatal("CPU time stands still")
		}
	}
	var v uint64
	for _, id := range []int{4, 5, 0x7fffffff, 0xffffffff} {
		g.want(EINVAL, "clock_time_get", id, 0, &v)
		g.want(EINVAL, "clock_res_get", id, &v)
	}
}

func TestRandom(t *testing.T) {
	g := newGuest(t)
	for _, n := range []int{0, 1, 255, 256, 257, 100_000, 3 << 20} {
		b := make(buf, n)
		g.must("random_get", b)
		if n < 255 {
			continue
		}
		var seen [256]bool
		distinct := 0
		for _, c := range b[n-255:] {
			if !seen[c] {
				seen[c] = true
				distinct++
			}
		}
		if distinct < 64 {
			t.Errorf("%d bytes: the last 255 have %d different values", n, distinct)
		}
	}
}

func TestYield(t *testing.T) {
	newGuest(t).must("sched_yield")
}

func TestExit(t *testing.T) {
	for _, code := range []uint32{0, 1, 125, 255, 256, 0xffffffff} {
		g := newGuest(t)
		for range 2 {
			_, err := g.try("proc_exit", code)
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Code != code || exit.Error() == "" {
				t.Fatalf("proc_exit(%d): %v", code, err)
			}
			// A guest that has ended does nothing any more, in any host.
			if _, err := g.try("sched_yield"); !errors.As(err, &exit) || exit.Code != code {
				t.Fatalf("after the end: %v", err)
			}
			g.noWarnings(g.restart())
		}
	}
}

func TestRaise(t *testing.T) {
	for signal, code := range map[uint32]uint32{1: 129, 2: 130, 6: 134, 9: 137, 11: 139, 13: 141, 15: 143, 23: 152, 30: 159} {
		g := newGuest(t)
		_, err := g.try("proc_raise", signal)
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Code != code {
			t.Errorf("signal %d: %v, want exit code %d", signal, err, code)
		}
	}
	g := newGuest(t)
	for signal, want := range map[int]Errno{0: ESUCCESS, 16: ESUCCESS, 17: ESUCCESS, 22: ESUCCESS, 27: ESUCCESS,
		18: ENOTSUP, 19: ENOTSUP, 20: ENOTSUP, 21: ENOTSUP, 31: EINVAL, 255: EINVAL, 0xffffffff: EINVAL} {
		g.want(want, "proc_raise", signal)
	}
}
