package worker

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"perdure/config"
)

// TestCgroupFiles wants limits to be written where the kernel reads them. The directory stands in for a control group that a
// service manager has delegated, which not every machine that runs this has; TestSettings asks the kernel.
func TestCgroupFiles(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, cgroupPrefix+"x")
	for _, path := range []string{
		"cgroup.subtree_control", cgroupPrefix + "x/cgroup.procs", cgroupPrefix + "x/cpu.max", cgroupPrefix + "x/pids.max",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(parent, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(parent, path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := joinCgroupBelow(parent, "x")
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read("cgroup.procs"); got != strconv.Itoa(os.Getpid()) {
		t.Errorf("cgroup.procs has %q", got)
	}
	for _, c := range []struct {
		limits    config.Limits
		cpu, pids string
	}{
		{config.Limits{CPU: 150, PIDs: 64}, "150000 100000", "64"},
		{config.Limits{CPU: 1000, PIDs: 12345}, "1000000 100000", "12345"},
		{config.Limits{}, "max 100000", "max"},
	} {
		if err := g.cpu.Truncate(0); err != nil { // the kernel takes each write for itself
			t.Fatal(err)
		}
		if err := g.pids.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if missing := g.limit(&c.limits); len(missing) > 0 {
			t.Errorf("%+v: %q", c.limits, missing)
		}
		if cpu, pids := read("cpu.max"), read("pids.max"); cpu != c.cpu || pids != c.pids {
			t.Errorf("%+v: cpu %q, pids %q; want %q, %q", c.limits, cpu, pids, c.cpu, c.pids)
		}
	}
}

// TestNoCgroup wants a limit that cannot be had to be told, but not one that nobody wants.
func TestNoCgroup(t *testing.T) {
	g := joinCgroupBelow(filepath.Join(t.TempDir(), "nowhere"), "x")
	if missing := g.limit(&config.Limits{}); len(missing) > 0 {
		t.Errorf("nothing is wanted: %q", missing)
	}
	missing := g.limit(&config.Limits{CPU: 50, PIDs: 64})
	if len(missing) != 2 || !strings.HasPrefix(missing[0], "limits.cpu: ") || !strings.HasPrefix(missing[1], "limits.pids: ") {
		t.Errorf("got %q", missing)
	}
}
