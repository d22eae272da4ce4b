package config

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
)

// CheckName refuses what the function CheckName refuses, and names whose state would be where the daemon keeps something
// of its own. Processes with a table have been checked; it is for all others.
func (c Config) CheckName(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	own := filepath.Join(c.Daemon.StateDir, name)
	dirs := c.Daemon.dirs()
	for _, dir := range append(dirs[:], namedDir{"daemon.socket", c.Daemon.Socket}) {
		if path := filepath.Clean(dir.path); path == own || strings.HasPrefix(path, own+"/") {
			return fmt.Errorf("%q is no name for a process: its state would be in %s, where %s is; rename it, or move that", name, own, dir.key)
		}
	}
	return nil
}

// checkProcess finds what is wrong with a process, but for what it has inherited. Of two processes with the
// same address it blames the one that is not in ls.
func (c *Config) checkProcess(r *report, name string, p Process, ls listeners) {
	key := join(processes, name)
	if err := c.CheckName(name); err != nil {
		r.note("", problems{{key: key, text: err.Error()}})
	}
	var inherited, found problems
	oneOf(&inherited, "on_change", c.Daemon.OnChange, Replace, Hold)
	keepFor(&inherited, "keep_for", c.Daemon.KeepFor)
	c.Settings.check(&inherited)
	oneOf(&found, "on_change", p.OnChange, Replace, Hold)
	keepFor(&found, "keep_for", p.KeepFor)
	p.Settings.check(&found)
	found = slices.DeleteFunc(found, func(f problem) bool {
		return slices.ContainsFunc(inherited, func(i problem) bool { return i.key == f.key && i.text == f.text })
	})
	p.checkOwn(&found)
	ls.check(&found, name, p)
	r.note(key+".", found)
}

// checkOwn finds what is wrong with the settings that only a process has.
func (p *Process) checkOwn(found *problems) {
	for i, arg := range p.Args {
		if strings.ContainsRune(arg, 0) {
			found.add(fmt.Sprintf("args[%d]", i), "has a zero byte, which no argument can have; remove it")
		}
	}
	for _, k := range slices.Sorted(maps.Keys(p.Env)) {
		switch key := join("env", k); {
		case k == "":
			found.add(key, "a variable has no name; write NAME = \"VALUE\"")
		case strings.ContainsAny(k, "=\x00"):
			found.add(key, "the name of a variable cannot have = or a zero byte; choose another")
		case strings.ContainsRune(p.Env[k], 0):
			found.add(key, "has a zero byte, which no variable can have; remove it")
		}
	}
	seen := make(map[string]int)
	for i, d := range p.Dirs {
		key := fmt.Sprintf("dirs[%d]", i)
		absolute(found, key, d.Host)
		if d.Guest != d.Host && strings.ContainsRune(d.Guest, 0) {
			found.add(key, "has a zero byte, which no path can have; remove it")
		}
		if first, ok := seen[d.Guest]; ok {
			found.add(key, "the guest has %s from dirs[%d] already; choose another name", quote(d.Guest), first)
		} else {
			seen[d.Guest] = i
		}
	}
	for i, l := range p.Listen {
		key := fmt.Sprintf("listen[%d]", i)
		if l.Network == "unix" {
			socketPath(found, key, l.Address)
		} else if _, err := ParseListen(l.String()); err != nil {
			found.add(key, "%s: %v", quote(l.String()), err)
		}
	}
	for key, list := range map[string][]Allow{"allow_connect": p.AllowConnect, "allow_bind": p.AllowBind} {
		for i, a := range list {
			if _, err := ParseAllow(a.String()); err != nil {
				found.add(fmt.Sprintf("%s[%d]", key, i), "%s: %v", quote(a.String()), err)
			}
		}
	}
}

// listeners are the addresses on which processes listen, each with the name of the first process that does.
type listeners map[Listen]string

func (ls listeners) add(name string, p Process) {
	for _, l := range p.Listen {
		if _, ok := ls[l]; !ok {
			ls[l] = name
		}
	}
}

// listeners returns the addresses of all processes.
func (c *Config) listeners() listeners {
	ls := make(listeners)
	for _, name := range c.Names() {
		ls.add(name, c.Processes[name])
	}
	return ls
}

// check finds addresses on which another process listens, or this one twice.
func (ls listeners) check(found *problems, name string, p Process) {
	seen := make(map[Listen]int)
	for i, l := range p.Listen {
		if _, port, err := net.SplitHostPort(l.Address); err == nil && port == "0" {
			continue // a free one
		}
		key := fmt.Sprintf("listen[%d]", i)
		if first, ok := seen[l]; ok {
			found.add(key, "%s is listen[%d] already; remove one of the two", quote(l.String()), first)
		} else if other, ok := ls[l]; ok && other != name {
			found.add(key, "%s is an address of %s too; choose another", quote(l.String()), join(processes, other))
		} else {
			seen[l] = i
		}
	}
}
