package daemon

import (
	"bytes"
	"fmt"

	"perdure/config"
	"perdure/daemon/folder"
)

// takeSet takes in what the folder shows, and tells whether it was the first time.
func (d *Daemon) takeSet(set folder.Set) (first bool) {
	d.reload.Lock()
	defer d.reload.Unlock()
	d.mu.Lock()
	before := d.set
	d.mu.Unlock()
	if before == nil || sidesDiffer(before, set) {
		d.applyConfig(*d.base.Load(), set)
	}
	d.mu.Lock()
	d.set = set
	d.unnamed = make(map[string]string)
	units := make([]*unit, 0, len(d.units))
	for _, u := range d.units {
		units = append(units, u)
	}
	var unknown []string
	for name := range set {
		if err := d.config().CheckName(name); err != nil {
			d.unnamed[name] = err.Error()
		} else if d.units[name] == nil {
			unknown = append(unknown, name)
		}
	}
	d.mu.Unlock()
	for _, u := range units {
		in := inFile{}
		if p, ok := set[u.name]; ok {
			in = fileOf(p)
		}
		if !u.hasFile(in, before == nil) {
			u.post(message{in: in})
		}
	}
	for _, name := range unknown {
		if u := d.load(name); u == nil {
			u = d.add(newUnit(d, name, newRecord()))
			u.post(message{in: inTime{}}) // its first decision
		} else {
			u.post(message{in: fileOf(set[name])})
		}
	}
	return before == nil
}

// hasFile tells whether the unit knows already what the folder shows.
func (u *unit) hasFile(in inFile, first bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	v := &u.view
	if first || in.problem != v.problem {
		return false
	}
	return in.problem != "" || in.file == nil && v.file == nil || in.file != nil && v.file != nil && *in.file == *v.file
}

// sidesDiffer tells whether the side files of two sets differ.
func sidesDiffer(a, b folder.Set) bool {
	for name, p := range a {
		if !bytes.Equal(p.Side, b[name].Side) || (p.Side == nil) != (b[name].Side == nil) {
			return true
		}
	}
	for name, p := range b {
		if _, ok := a[name]; !ok && p.Side != nil {
			return true
		}
	}
	return false
}

// withSides adds the side files of a set to a configuration. What is wrong with one is told by the name of its process.
func withSides(c config.Config, set folder.Set) (config.Config, map[string]string) {
	problems := make(map[string]string)
	for name, p := range set {
		if p.Side == nil {
			continue
		}
		with, err := c.WithSide(name, sideOf(p.Path), bytes.NewReader(p.Side))
		if err != nil {
			problems[name] = err.Error()
			continue
		}
		c = with
	}
	return c, problems
}

// sideOf returns the path of the side file of a module.
func sideOf(path string) string { return path[:len(path)-len(".wasm")] + ".toml" }

// applyConfig makes a configuration, with the side files of set, the one that counts. The caller holds d.reload.
func (d *Daemon) applyConfig(base config.Config, set folder.Set) {
	c, problems := withSides(base, set)
	d.base.Store(&base)
	d.conf.Store(&c)
	d.mu.Lock()
	d.problems = problems
	d.mu.Unlock()
	for _, u := range d.known() {
		process := c.Process(u.name)
		old, _, _, _ := u.look()
		changes := config.DiffProcess(old.config, process)
		if len(changes) == 0 && old.confErr == problems[u.name] {
			continue
		}
		// A refusal may have come from a setting that counts at a start.
		retry := false
		for _, c := range changes {
			retry = retry || c.When != config.Now
		}
		if u.send(d.ctx, message{in: inSettings{d.settingsOf(process, problems[u.name]), retry}, config: &process}) != nil {
			return
		}
		d.group.Go(func() {
			if err := u.noteSettings(d.ctx); err != nil {
				u.log.Warn().Err(err).Msg("its worker did not take the new settings")
			}
		})
	}
}

// Reload reads the configuration again, and applies what can be applied now.
func (d *Daemon) Reload() (Reloaded, error) {
	if d.opt.Reload == nil {
		return Reloaded{}, newError(CodeState, "there is no configuration file to read again")
	}
	if d.opt.Reloading != nil {
		d.opt.Reloading()
	}
	if d.opt.Ready != nil {
		defer d.opt.Ready()
	}
	d.reload.Lock()
	defer d.reload.Unlock()
	c, err := d.opt.Reload()
	if err != nil {
		d.log.Error().Err(err).Msg("the configuration was not reloaded, and the old one counts")
		return Reloaded{}, newError(CodeConfig, "the old configuration still counts: %v", err)
	}
	before := *d.config()
	d.mu.Lock()
	set := d.set
	d.mu.Unlock()
	// What counts at the next start of the daemon does not count now.
	next := c
	keepDirs(&next.Daemon, before.Daemon)
	next.Dashboard = before.Dashboard
	d.applyConfig(next, set)
	after, problems := withSides(c, set)
	out := Reloaded{Changes: []string{}, Problems: []string{}}
	for _, ch := range config.Diff(before, after) {
		out.Changes = append(out.Changes, ch.String())
		d.log.Info().Msg(ch.String())
	}
	for name, p := range problems {
		out.Problems = append(out.Problems, fmt.Sprintf("%s: %s", name, p))
	}
	d.resize(c)
	d.folder.Reconfigure(c.Daemon.Settle.Std(), c.Daemon.Rescan.Std())
	if d.opt.SetLevel != nil {
		d.opt.SetLevel(c.Daemon.LogLevel)
	}
	d.log.Info().Int("changes", len(out.Changes)).Msg("the configuration was reloaded")
	return out, nil
}

// keepDirs leaves what a running daemon cannot change as it is.
func keepDirs(next *config.Daemon, now config.Daemon) {
	next.StateDir, next.ModulesDir, next.CacheDir, next.LogsDir = now.StateDir, now.ModulesDir, now.CacheDir, now.LogsDir
	next.Socket, next.LogFormat, next.MetricsListen = now.Socket, now.LogFormat, now.MetricsListen
}
