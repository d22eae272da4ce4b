package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	wasmPage     = 64 * KiB
	maxSocket    = 107 // bytes of the path of a unix socket
	maxCount     = 1_000_000
	noLimit      = "0 for no limit"
	dirsOfDaemon = 4
)

// Validate returns what is wrong with c, all of it: nil, or an error that joins one *KeyError for each problem.
func (c Config) Validate() error {
	r := report{origin: c.origin}
	c.check(&r)
	return r.err()
}

// problem is something wrong with a key; its place may be that of another key that has to do with it.
type problem struct {
	key  string
	with []string
	text string
}

// problems collects what is wrong with a section, with keys that are relative to what the section is in.
type problems []problem

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, problem{key: key, text: fmt.Sprintf(format, args...)})
}

// note takes over problems, with a prefix for their keys, but not those that follow from a value that could not be read.
func (r *report) note(prefix string, list problems) {
next:
	for _, p := range list {
		var at position
		for _, key := range append([]string{p.key}, p.with...) {
			full := prefix + key
			if r.failed[full] || r.failed[key] {
				continue next
			}
			if at.line == 0 {
				at = r.origin[full]
			}
			if at.line == 0 {
				at = r.taken[full]
			}
		}
		r.add(prefix+p.key, at, p.text)
	}
}

// between checks a number. Zero, if not empty, says that 0 is good too, and what for.
func between[T cmp.Ordered](p *problems, key string, v, low, high T, zero string) {
	var none T
	switch {
	case v >= low && v <= high || zero != "" && v == none:
	case zero == "":
		p.add(key, "%v is out of range; write %v to %v", v, low, high)
	default:
		p.add(key, "%v is out of range; write %v to %v, or %s", v, low, high, zero)
	}
}

// oneOf checks a choice.
func oneOf[T ~string](p *problems, key string, v T, choices ...T) {
	if slices.Contains(choices, v) {
		return
	}
	list := make([]string, len(choices))
	for i, c := range choices {
		list[i] = strconv.Quote(string(c))
	}
	last := len(list) - 1
	p.add(key, "there is no %s; write %s or %s", quote(string(v)), strings.Join(list[:last], ", "), list[last])
}

// absolute checks a path.
func absolute(p *problems, key, path string) bool {
	switch {
	case path == "":
		p.add(key, "is empty; write an absolute path")
	case strings.ContainsRune(path, 0):
		p.add(key, "has a zero byte, which no path can have; remove it")
	case !filepath.IsAbs(path):
		p.add(key, "%s is a relative path; write an absolute one", quote(path))
	default:
		return true
	}
	return false
}

func socketPath(p *problems, key, path string) {
	if absolute(p, key, path) && len(path) > maxSocket {
		p.add(key, "the path has %d bytes; that of a socket has at most %d, so choose a shorter one", len(path), maxSocket)
	}
}

func keepFor(p *problems, key string, v Duration) {
	between(p, key, v, Duration(time.Second), Duration(30*day), "0s to let them go at once")
}

// check finds all that is wrong with c.
func (c *Config) check(r *report) {
	var p problems
	c.Daemon.check(&p)
	c.Dashboard.check(&p)
	r.note("", p)
	p = nil
	c.Settings.check(&p)
	r.note("", p)
	ls := make(listeners)
	for _, name := range c.Names() {
		c.checkProcess(r, name, c.Processes[name], ls)
		ls.add(name, c.Processes[name])
	}
}

func (d *Daemon) check(p *problems) {
	dirs := d.dirs()
	for i, dir := range dirs {
		if dir.path == "" && dir.key == "daemon.cache_dir" {
			continue
		}
		if !absolute(p, dir.key, dir.path) {
			continue
		}
		for _, other := range dirs[:i] {
			if filepath.Clean(other.path) == filepath.Clean(dir.path) {
				*p = append(*p, problem{dir.key, []string{other.key},
					fmt.Sprintf("%s is %s too; choose another directory", quote(dir.path), other.key)})
				break
			}
		}
	}
	socketPath(p, "daemon.socket", d.Socket)
	if d.Keeper != "" {
		absolute(p, "daemon.keeper", d.Keeper)
	}
	oneOf(p, "daemon.log_level", d.LogLevel, LogDebug, LogInfo, LogWarn, LogError)
	oneOf(p, "daemon.log_format", d.LogFormat, LogAuto, LogText, LogJSON)
	if _, err := ParseAddress(string(d.MetricsListen)); err != nil {
		p.add("daemon.metrics_listen", "%s: %v", quote(string(d.MetricsListen)), err)
	}
	between(p, "daemon.parallel_starts", d.ParallelStarts, 1, 1000, "0 for one for each CPU")
	between(p, "daemon.stop_timeout", d.StopTimeout, Duration(time.Second), Duration(time.Hour), "")
	between(p, "daemon.settle", d.Settle, Duration(time.Millisecond), Duration(time.Minute), "0s to take a file at once")
	between(p, "daemon.rescan", d.Rescan, Duration(time.Second), Duration(day), "0s for only after lost events")
	oneOf(p, "daemon.on_change", d.OnChange, Replace, Hold)
	keepFor(p, "daemon.keep_for", d.KeepFor)
}

const minToken = 16 // bytes

func (d *Dashboard) check(p *problems) {
	if _, err := ParseAddress(string(d.Address)); err != nil {
		p.add("dashboard.address", "%s: %v", quote(string(d.Address)), err)
		return
	}
	switch {
	case d.Token != "" && len(d.Token) < minToken:
		p.add("dashboard.token", "has %d bytes; write at least %d, which nobody can guess", len(d.Token), minToken)
	case d.Token != "" && strings.ContainsFunc(string(d.Token), func(r rune) bool { return r <= ' ' || r > '~' }):
		p.add("dashboard.token", "has characters that a header cannot have; write letters and digits")
	case d.Token == "" && d.Address != "" && !d.Address.Loopback():
		*p = append(*p, problem{"dashboard.token", []string{"dashboard.address"},
			fmt.Sprintf("is empty, but others can reach %s; write a token, or an address like \"127.0.0.1:9465\"", quote(string(d.Address)))})
	}
}

// namedDir is a directory of the daemon.
type namedDir struct{ key, path string }

func (d *Daemon) dirs() [dirsOfDaemon]namedDir {
	return [dirsOfDaemon]namedDir{
		{"daemon.state_dir", d.StateDir},
		{"daemon.modules_dir", d.ModulesDir},
		{"daemon.cache_dir", d.CacheDir},
		{"daemon.logs_dir", d.LogsDir},
	}
}

func (s *Settings) check(p *problems) {
	between(p, "snapshot.every", s.Snapshot.Every, Duration(time.Millisecond), Duration(day), "0s for only at a stop and on request")
	oneOf(p, "snapshot.durability", s.Snapshot.Durability, DurabilityNone, DurabilityProcess, DurabilityDisk)
	between(p, "snapshot.journal_max", s.Snapshot.JournalMax, MiB, 512*MiB, "")
	oneOf(p, "snapshot.on_divergence", s.Snapshot.OnDivergence, DivergenceGeneration, DivergenceStop)
	between(p, "snapshot.max_share", s.Snapshot.MaxShare, 1, 100, "")
	s.Memsnap.check(p)
	s.Limits.check(p)
	s.Restart.check(p)
	oneOf(p, "console.stdin", s.Console.Stdin, StdinWait, StdinNull)
	between(p, "console.log_size", s.Console.LogSize, 4*KiB, TiB, "")
	between(p, "console.log_files", s.Console.LogFiles, 1, 1000, "0 to keep no rotated log")
}

func (m *Memsnap) check(p *problems) {
	between(p, "memsnap.redundancy", m.Redundancy, 1, maxCount, "0 to store no page twice")
	between(p, "memsnap.threshold", m.Threshold, 10, maxCount, "")
	between(p, "memsnap.bufsize", m.BufSize, 64*KiB, GiB, "")
	if m.KeyFile != "" {
		absolute(p, "memsnap.key_file", m.KeyFile)
	}
	between(p, "memsnap.max_snapshots", m.MaxSnapshots, 1, maxCount, noLimit)
	between(p, "memsnap.min_snapshots", m.MinSnapshots, 1, maxCount, "0 to leave just the newest")
	if m.MaxSnapshots > 0 && m.MinSnapshots > m.MaxSnapshots {
		*p = append(*p, problem{"memsnap.min_snapshots", []string{"memsnap.max_snapshots"},
			fmt.Sprintf("%d is more than max_snapshots, which is %d; lower the one or raise the other", m.MinSnapshots, m.MaxSnapshots)})
	}
	between(p, "memsnap.expiration", m.Expiration, Duration(time.Second), Duration(100*365*day), "0s for never")
	for _, k := range []struct {
		key   string
		count int
	}{{"keep_last", m.KeepLast}, {"keep_minutely", m.KeepMinutely}, {"keep_hourly", m.KeepHourly}, {"keep_daily", m.KeepDaily}} {
		between(p, "memsnap."+k.key, k.count, 1, maxCount, "0 for none")
	}
	if m.MinFree.Percent != 0 {
		between(p, "memsnap.min_free", m.MinFree.Percent, 0, 90, "")
	}
}

func (l *Limits) check(p *problems) {
	between(p, "limits.memory", l.Memory, wasmPage, 4*GiB, "")
	between(p, "limits.output_rate", l.OutputRate, KiB, TiB, noLimit)
	between(p, "limits.open_files", l.OpenFiles, 16, maxCount, noLimit)
	between(p, "limits.cpu", l.CPU, 1, 100_000, "0% for no limit")
	between(p, "limits.pids", l.PIDs, 32, maxCount, noLimit)
}

func (r *Restart) check(p *problems) {
	oneOf(p, "restart.policy", r.Policy, RestartAlways, RestartOnFailure, RestartNever)
	between(p, "restart.backoff", r.Backoff, Duration(time.Millisecond), Duration(time.Hour), "")
	between(p, "restart.backoff_max", r.BackoffMax, Duration(time.Millisecond), Duration(day), "")
	if r.Backoff > r.BackoffMax {
		*p = append(*p, problem{"restart.backoff", []string{"restart.backoff_max"},
			fmt.Sprintf("%v is more than backoff_max, which is %v; lower the one or raise the other", r.Backoff, r.BackoffMax)})
	}
	between(p, "restart.reset_after", r.ResetAfter, Duration(time.Millisecond), Duration(365*day), "")
	between(p, "restart.max_traps", r.MaxTraps, 1, maxCount, "0 for no limit")
}
