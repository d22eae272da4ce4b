package worker

import (
	"maps"
	"path/filepath"
	"slices"

	"perdure/config"
	"perdure/memsnap"
	"perdure/runtime"
)

// runtimeOptions returns what the runtime has to know of a spec, but for what belongs to this worker: the program's
// bytes, events and streams.
func runtimeOptions(s *Spec) runtime.Options {
	c := &s.Settings
	l := live(c)
	o := runtime.Options{
		Dir: s.Dir, Name: s.Name, CacheDir: s.CacheDir, Program: s.Program,
		Args:         append([]string{filepath.Base(s.Program)}, c.Args...),
		Every:        l.Every,
		MaxShare:     l.MaxShare,
		Keep:         l.Keep,
		MemoryLimit:  uint64(c.Limits.Memory),
		OpenFiles:    c.Limits.OpenFiles,
		Durability:   runtime.Durability(c.Snapshot.Durability),
		JournalMax:   uint64(c.Snapshot.JournalMax),
		OnDivergence: runtime.OnDivergence(c.Snapshot.OnDivergence),
		// Who calls is told what lasts: an answer that a crash takes back would be none.
		DurableCalls: true,
	}
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		o.Env = append(o.Env, k+"="+c.Env[k])
	}
	for _, d := range c.Dirs {
		o.Preopens = append(o.Preopens, runtime.Preopen(d))
	}
	for _, l := range c.Listen {
		o.Listeners = append(o.Listeners, runtime.Listener(l))
	}
	for _, a := range c.AllowConnect {
		o.AllowConnect = append(o.AllowConnect, runtime.SocketRule(a))
	}
	for _, a := range c.AllowBind {
		o.AllowBind = append(o.AllowBind, runtime.SocketRule(a))
	}
	return o
}

// live returns what the runtime has to know of settings that can change while the guest runs. The numbers have been
// validated: none is negative.
func live(c *config.Process) runtime.Live {
	return runtime.Live{Every: c.Snapshot.Every.Std(), MaxShare: c.Snapshot.MaxShare.Share(), Keep: policy(&c.Memsnap)}
}

// policy returns what memsnap has to know of settings.
func policy(m *config.Memsnap) memsnap.Policy {
	r := m.Retention
	return memsnap.Policy{
		Redundancy:   uint64(m.Redundancy),
		Integrity:    m.Integrity,
		MaxSnapshots: uint64(r.MaxSnapshots),
		MinSnapshots: uint64(r.MinSnapshots),
		Expiration:   r.Expiration.Std(),
		KeepLast:     uint64(r.KeepLast),
		KeepMinutely: uint64(r.KeepMinutely),
		KeepHourly:   uint64(r.KeepHourly),
		KeepDaily:    uint64(r.KeepDaily),
		MinFree:      memsnap.Space{Bytes: uint64(r.MinFree.Bytes), Percent: float64(r.MinFree.Percent)},
	}
}

// unmapped returns the settings that have no meaning for this version, if they are not the default.
func unmapped(c *config.Process) (missing []string) {
	usual := config.Default().Memsnap
	if c.Memsnap.Threshold != usual.Threshold {
		missing = append(missing, "memsnap.threshold: a store has one directory, however many files there are")
	}
	if c.Memsnap.BufSize != usual.BufSize {
		missing = append(missing, "memsnap.bufsize: the size of the buffer is fixed")
	}
	return missing
}
