package config

// Reloadable are the settings of the daemon that count at once when they change.
type Reloadable struct {
	LogLevel       LogLevel
	ParallelStarts int
	StopTimeout    Duration
	Settle         Duration
	Rescan         Duration
	OnChange       OnChange
	KeepFor        Duration
}

// Reloadable returns the part of d that a running daemon can take over.
func (d Daemon) Reloadable() Reloadable {
	return Reloadable{
		LogLevel:       d.LogLevel,
		ParallelStarts: d.ParallelStarts,
		StopTimeout:    d.StopTimeout,
		Settle:         d.Settle,
		Rescan:         d.Rescan,
		OnChange:       d.OnChange,
		KeepFor:        d.KeepFor,
	}
}

// ReloadableProcess are the settings of a process that count at once when they change, its guest untouched.
type ReloadableProcess struct {
	OnChange   OnChange
	Every      Duration
	MaxShare   Percent
	Verbose    bool
	Redundancy int
	Retention  Retention
	OutputRate Size
	CPU        Percent
	PIDs       int
	Restart    Restart
	LogSize    Size
	LogFiles   int
}

// Reloadable returns the part of p that can be taken over while the process runs. Two that are equal need nothing done.
func (p Process) Reloadable() ReloadableProcess {
	return ReloadableProcess{
		OnChange:   p.OnChange,
		Every:      p.Snapshot.Every,
		MaxShare:   p.Snapshot.MaxShare,
		Verbose:    p.Memsnap.Verbose,
		Redundancy: p.Memsnap.Redundancy,
		Retention:  p.Memsnap.Retention,
		OutputRate: p.Limits.OutputRate,
		CPU:        p.Limits.CPU,
		PIDs:       p.Limits.PIDs,
		Restart:    p.Restart,
		LogSize:    p.Console.LogSize,
		LogFiles:   p.Console.LogFiles,
	}
}

// With returns p with the part of it that r is.
func (p Process) With(r ReloadableProcess) Process {
	p.OnChange = r.OnChange
	p.Snapshot.Every = r.Every
	p.Snapshot.MaxShare = r.MaxShare
	p.Memsnap.Verbose = r.Verbose
	p.Memsnap.Redundancy = r.Redundancy
	p.Memsnap.Retention = r.Retention
	p.Limits.OutputRate = r.OutputRate
	p.Limits.CPU = r.CPU
	p.Limits.PIDs = r.PIDs
	p.Restart = r.Restart
	p.Console.LogSize = r.LogSize
	p.Console.LogFiles = r.LogFiles
	return p
}

// Validate returns what is wrong with r, as Config.Validate does.
func (r ReloadableProcess) Validate() error {
	var found problems
	p := Process{Settings: Default().Settings}.With(r)
	oneOf(&found, "on_change", p.OnChange, Replace, Hold)
	p.Settings.check(&found)
	var all report
	all.note("", found)
	return all.err()
}
