package config

// Reloadable are the settings of the daemon that count at once when they change.
type Reloadable struct {
	LogLevel       LogLevel
	ParallelStarts int
	StopTimeout    Duration
	Settle         Duration
	Rescan         Duration
	OnChange       OnChange
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
