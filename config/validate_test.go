package config

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

// TestValidateReportsEveryProblem has every rule that one value can break, all broken at once.
func TestValidateReportsEveryProblem(t *testing.T) {
	c := Config{}
	c.Daemon.CacheDir = "cache"
	c.Daemon.LogsDir = "/a\x00"
	c.Daemon.Socket = "/" + strings.Repeat("s", 107)
	c.Daemon.MetricsListen = "x"
	c.Daemon.ParallelStarts = -1
	c.Daemon.Settle = Duration(time.Hour)
	c.Daemon.Rescan = 1
	c.Snapshot.Every = -1
	c.Snapshot.Durability = "power"
	c.Snapshot.JournalMax = KiB
	c.Snapshot.OnDivergence = "hope"
	c.Snapshot.MaxShare = Percent(math.NaN())
	c.Memsnap = Memsnap{Redundancy: -1, KeyFile: "key", Retention: Retention{
		MaxSnapshots: 3, MinSnapshots: 4, Expiration: 1,
		KeepLast: -1, KeepMinutely: -2, KeepHourly: -3, KeepDaily: -4, MinFree: Space{Percent: 99.5},
	}}
	c.Limits = Limits{OutputRate: 1, OpenFiles: 1, CPU: 0.5, PIDs: 1}
	c.Restart = Restart{Backoff: Duration(time.Second), MaxTraps: -1}
	c.Console = Console{LogFiles: -1}
	c.Processes = map[string]Process{
		"": {},
		"p": {
			Args: []string{"\x00"}, Env: map[string]string{"": "x", "A=": "", "B": "\x00"},
			Dirs:   []Dir{{}, {Host: "/a", Guest: "\x00"}},
			Listen: []Listen{{}, {"tcp", "x"}, {"unix", "/" + strings.Repeat("s", 107)}},
		},
	}
	c.Processes["p"] = func(p Process) Process {
		p.Settings, p.OnChange = Default().Settings, Hold
		return p
	}(c.Processes["p"])
	c.Processes["q"] = Process{OnChange: Hold, Settings: Default().Settings}
	c.Processes[""] = Process{OnChange: Hold, Settings: Default().Settings}
	const want = `daemon.state_dir: is empty; write an absolute path
daemon.modules_dir: is empty; write an absolute path
daemon.cache_dir: "cache" is a relative path; write an absolute one
daemon.logs_dir: has a zero byte, which no path can have; remove it
daemon.socket: the path has 108 bytes; that of a socket has at most 107, so choose a shorter one
daemon.log_level: there is no ""; write "debug", "info", "warn" or "error"
daemon.log_format: there is no ""; write "auto", "text" or "json"
daemon.metrics_listen: "x": not an address; write HOST:PORT
daemon.parallel_starts: -1 is out of range; write 1 to 1000, or 0 for one for each CPU
daemon.stop_timeout: 0s is out of range; write 1s to 1h
daemon.settle: 1h is out of range; write 1ms to 1m, or 0s to take a file at once
daemon.rescan: 1ns is out of range; write 1s to 1d, or 0s for only after lost events
daemon.on_change: there is no ""; write "replace" or "hold"
snapshot.every: -1ns is out of range; write 1ms to 1d, or 0s for only at a stop and on request
snapshot.durability: there is no "power"; write "none", "process" or "disk"
snapshot.journal_max: 1KiB is out of range; write 1MiB to 512MiB
snapshot.on_divergence: there is no "hope"; write "generation" or "stop"
snapshot.max_share: NaN% is out of range; write 1% to 100%
memsnap.redundancy: -1 is out of range; write 1 to 1000000, or 0 to store no page twice
memsnap.threshold: 0 is out of range; write 10 to 1000000
memsnap.bufsize: 0 is out of range; write 64KiB to 1GiB
memsnap.key_file: "key" is a relative path; write an absolute one
memsnap.min_snapshots: 4 is more than max_snapshots, which is 3; lower the one or raise the other
memsnap.expiration: 1ns is out of range; write 1s to 36500d, or 0s for never
memsnap.keep_last: -1 is out of range; write 1 to 1000000, or 0 for none
memsnap.keep_minutely: -2 is out of range; write 1 to 1000000, or 0 for none
memsnap.keep_hourly: -3 is out of range; write 1 to 1000000, or 0 for none
memsnap.keep_daily: -4 is out of range; write 1 to 1000000, or 0 for none
memsnap.min_free: 99.5% is out of range; write 0% to 90%
limits.memory: 0 is out of range; write 64KiB to 4GiB
limits.output_rate: 1 is out of range; write 1KiB to 1TiB, or 0 for no limit
limits.open_files: 1 is out of range; write 16 to 1000000, or 0 for no limit
limits.cpu: 0.5% is out of range; write 1% to 100000%, or 0% for no limit
limits.pids: 1 is out of range; write 32 to 1000000, or 0 for no limit
restart.policy: there is no ""; write "always", "on-failure" or "never"
restart.backoff_max: 0s is out of range; write 1ms to 1d
restart.backoff: 1s is more than backoff_max, which is 0s; lower the one or raise the other
restart.reset_after: 0s is out of range; write 1ms to 365d
restart.max_traps: -1 is out of range; write 1 to 1000000, or 0 for no limit
console.stdin: there is no ""; write "wait" or "null"
console.log_size: 0 is out of range; write 4KiB to 1TiB
console.log_files: -1 is out of range; write 1 to 1000, or 0 to keep no rotated log
process."": "" is no name for a process: it is empty
process.p.args[0]: has a zero byte, which no argument can have; remove it
process.p.env."": a variable has no name; write NAME = "VALUE"
process.p.env."A=": the name of a variable cannot have = or a zero byte; choose another
process.p.env.B: has a zero byte, which no variable can have; remove it
process.p.dirs[0]: is empty; write an absolute path
process.p.dirs[1]: has a zero byte, which no path can have; remove it
process.p.listen[0]: "://": "" is no network; there are tcp, tcp4, tcp6, udp, udp4, udp6 and unix
process.p.listen[1]: "tcp://x": write tcp://HOST:PORT: address x: missing port in address
process.p.listen[2]: the path has 108 bytes; that of a socket has at most 107, so choose a shorter one`
	err := c.Validate()
	if errText(err) != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	var k *KeyError
	if !errors.As(err, &k) || k.Key != "daemon.state_dir" || k.Line != 0 || k.File != "" {
		t.Errorf("the first problem is %#v", k)
	}
}

func TestValidateDirectories(t *testing.T) {
	c := Default()
	c.Daemon.ModulesDir = c.Daemon.StateDir + "/."
	c.Daemon.LogsDir = c.Daemon.CacheDir
	c.Memsnap.MaxSnapshots = -1
	c.Memsnap.MinSnapshots = -1
	const want = `daemon.modules_dir: "/var/lib/perdure/." is daemon.state_dir too; choose another directory
daemon.logs_dir: "/var/cache/perdure" is daemon.cache_dir too; choose another directory
memsnap.max_snapshots: -1 is out of range; write 1 to 1000000, or 0 for no limit
memsnap.min_snapshots: -1 is out of range; write 1 to 1000000, or 0 to leave just the newest`
	if got := errText(c.Validate()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestDashboardNeedsAToken wants an address that others can reach to have one, and none to be told.
func TestDashboardNeedsAToken(t *testing.T) {
	const good = "0123456789abcdef"
	for _, c := range []struct {
		address Address
		token   Secret
		want    string // part of the error; empty for none
	}{
		{"", "", ""}, {"127.0.0.1:1", "", ""}, {"[::1]:1", "", ""}, {"localhost:1", "", ""}, {"127.0.0.1:1", good, ""}, {"0.0.0.0:1", good, ""},
		{"0.0.0.0:1", "", "dashboard.token: is empty"}, {":1", "", "dashboard.token: is empty"}, {"[::]:1", "", "dashboard.token: is empty"},
		{"host:1", "", "dashboard.token: is empty"}, {"127.0.0.1.example.org:1", "", "dashboard.token: is empty"},
		{"127.0.0.1:1", "short", "dashboard.token: has 5 bytes"}, {"127.0.0.1:1", good + " x", "dashboard.token: has characters"},
		{"x", good, "dashboard.address"},
	} {
		d := Default()
		d.Dashboard = Dashboard{c.address, c.token}
		err := d.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q, %d bytes: got %v, want %q", c.address, len(c.token), err, c.want)
		}
		if err != nil && c.token != "" && strings.Contains(err.Error(), string(c.token)) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
	a, b := Default(), Default()
	b.Dashboard.Token = good
	if got := Diff(a, b); len(got) != 1 || strings.Contains(got[0].String(), good) {
		t.Errorf("the difference is %v", got)
	}
}
