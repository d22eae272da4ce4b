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
	o := runtime.Options{
		Dir: s.Dir, Name: s.Name, CacheDir: s.CacheDir, Program: s.Program,
		Args:        append([]string{filepath.Base(s.Program)}, c.Args...),
		Every:       c.Snapshot.Every.Std(),
		MaxShare:    c.Snapshot.MaxShare.Share(),
		Keep:        keepPolicy(c.Memsnap.Redundancy, c.Memsnap.Integrity, c.Memsnap.Retention),
		MemoryLimit: uint64(c.Limits.Memory),
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
	return o
}

// keepPolicy returns what memsnap has to know of a configuration. The numbers have been validated: none is negative.
func keepPolicy(redundancy int, integrity bool, r config.Retention) memsnap.Policy {
	return memsnap.Policy{
		Redundancy:   uint64(redundancy),
		Integrity:    integrity,
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
