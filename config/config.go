package config

import (
	"maps"
	"slices"
	"time"
)

// Config is a whole configuration. One made by Load or Decode has been validated; one made otherwise is valid when
// Validate says so. Maps and slices in it must not be changed.
type Config struct {
	// Daemon is about the daemon itself.
	Daemon Daemon `toml:"daemon"`
	// Dashboard is about the page that the daemon serves.
	Dashboard Dashboard `toml:"dashboard"`
	// Settings are the defaults of every process.
	Settings
	// Processes are the processes with a table or a side file of their own, by name, with all that they inherit filled
	// in. Use Process, which knows the others too.
	Processes map[string]Process

	origin map[string]position // of each key that a file has set
}

// Daemon is the section of the daemon itself.
type Daemon struct {
	// StateDir has one directory for each process. ModulesDir is the watched folder. CacheDir keeps compiled programs;
	// empty means none. LogsDir has what the guests wrote. All are absolute paths, and different from each other.
	StateDir   string `toml:"state_dir" apply:"daemon"`
	ModulesDir string `toml:"modules_dir" apply:"daemon"`
	CacheDir   string `toml:"cache_dir" apply:"daemon"`
	LogsDir    string `toml:"logs_dir" apply:"daemon"`
	// Socket is the absolute path of the unix socket of the control API.
	Socket string `toml:"socket" apply:"daemon"`
	// Keeper is the absolute path of the unix socket of the keeper of sockets, which the daemon starts if nobody listens
	// there; empty means none, so that connections end with their worker.
	Keeper string `toml:"keeper" apply:"daemon"`
	// LogLevel and LogFormat are of the daemon's own log.
	LogLevel  LogLevel  `toml:"log_level" apply:"now"`
	LogFormat LogFormat `toml:"log_format" apply:"daemon"`
	// MetricsListen is where metrics and health are served; empty means nowhere.
	MetricsListen Address `toml:"metrics_listen" apply:"daemon"`
	// ParallelStarts is how many workers may start at the same time; 0 means one for each CPU.
	ParallelStarts int `toml:"parallel_starts" apply:"now"`
	// StopTimeout is how long a graceful stop of the daemon may take, the last cuts of all processes included.
	StopTimeout Duration `toml:"stop_timeout" apply:"now"`
	// Settle is how long a file in the folder must not have changed before it is taken. Rescan is the time between two
	// looks at the folder that need no event; 0 means only after lost events.
	Settle Duration `toml:"settle" apply:"now"`
	Rescan Duration `toml:"rescan" apply:"now"`
	// OnChange is the default for every process of what a replaced program means.
	OnChange OnChange `toml:"on_change" apply:"now"`
	// KeepFor is the default for every process of how long its sockets are kept while it has no worker.
	KeepFor Duration `toml:"keep_for" apply:"now"`
}

// Dashboard is the section of the page on which a browser shows the processes and commands them.
type Dashboard struct {
	// Address is where it is served; empty means nowhere. One that is not of the machine itself needs a token.
	Address Address `toml:"address" apply:"daemon"`
	// Token is what a browser has to show; empty means nothing.
	Token Secret `toml:"token" apply:"daemon"`
}

// Secret is a text that is not told to anybody.
type Secret string

// String tells whether there is one.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(set)"
}

// Settings are what a process inherits unless its own table says otherwise.
type Settings struct {
	Snapshot Snapshot `toml:"snapshot"`
	Memsnap  Memsnap  `toml:"memsnap"`
	Limits   Limits   `toml:"limits"`
	Restart  Restart  `toml:"restart"`
	Console  Console  `toml:"console"`
}

// Snapshot says when generations are taken.
type Snapshot struct {
	// Every is the time between the starts of two cuts; 0 means only at a stop and on request.
	Every Duration `toml:"every" apply:"now"`
	// Durability is what survives a crash beyond the newest generation.
	Durability Durability `toml:"durability" apply:"start"`
	// JournalMax is after how many recorded bytes a generation is taken at once, which bounds how long it takes to go on
	// after a crash.
	JournalMax Size `toml:"journal_max" apply:"start"`
	// OnDivergence is what becomes of a process that cannot be brought to where it was.
	OnDivergence OnDivergence `toml:"on_divergence" apply:"start"`
	// MaxShare is the part of the time that snapshots may take; Every stretches to keep it.
	MaxShare Percent `toml:"max_share" apply:"now"`
}

// Memsnap says how generations are kept.
type Memsnap struct {
	// Verbose reports each generation in the daemon's log.
	Verbose bool `toml:"verbose" apply:"now"`
	// Redundancy is how many generations may lean on the only copy of a page; 0 means any number.
	Redundancy int `toml:"redundancy" apply:"now"`
	// Integrity refuses a state with a page that cannot be recovered; else the newest whole generation is restored.
	Integrity bool `toml:"integrity" apply:"start"`
	// Threshold is how many files one directory of a store may have.
	Threshold int `toml:"threshold" apply:"start"`
	// BufSize is how much of a commit is buffered before it is written.
	BufSize Size `toml:"bufsize" apply:"start"`
	// KeyFile is the absolute path of the key that generations are authenticated with; empty means none.
	KeyFile string `toml:"key_file" apply:"start"`
	// Retention says which generations go.
	Retention
}

// Retention says which generations are removed. The newest good one and pinned ones never are.
type Retention struct {
	// MaxSnapshots is how many generations there may be; 0 means any number. MinSnapshots is how many are left in any case.
	MaxSnapshots int `toml:"max_snapshots" apply:"now"`
	MinSnapshots int `toml:"min_snapshots" apply:"now"`
	// Expiration is the age at which a generation goes; 0 means never.
	Expiration Duration `toml:"expiration" apply:"now"`
	// KeepLast, KeepMinutely, KeepHourly and KeepDaily thin generations out: what none of them keeps goes. All 0 means
	// no thinning.
	KeepLast     int `toml:"keep_last" apply:"now"`
	KeepMinutely int `toml:"keep_minutely" apply:"now"`
	KeepHourly   int `toml:"keep_hourly" apply:"now"`
	KeepDaily    int `toml:"keep_daily" apply:"now"`
	// MinFree is the free disk space below which the oldest go first.
	MinFree Space `toml:"min_free" apply:"now"`
}

// Limits bound what a process may use; 0 means no limit where a limit may be missing.
type Limits struct {
	// Memory bounds the guest's linear memory.
	Memory Size `toml:"memory" apply:"start"`
	// OutputRate bounds what the guest writes to its output, per second; a guest that is faster waits.
	OutputRate Size `toml:"output_rate" apply:"now"`
	// OpenFiles bounds the guest's descriptors.
	OpenFiles int `toml:"open_files" apply:"start"`
	// CPU bounds the processor time of the worker; 100 % is one core.
	CPU Percent `toml:"cpu" apply:"now"`
	// PIDs bounds the threads of the worker, which needs some for itself.
	PIDs int `toml:"pids" apply:"now"`
	// Confine locks the worker in, as far as the kernel can.
	Confine bool `toml:"confine" apply:"start"`
}

// Restart says what follows when a process stops by itself.
type Restart struct {
	Policy RestartPolicy `toml:"policy" apply:"now"`
	// Backoff is the wait before the first restart; it doubles with each one up to BackoffMax, and begins anew once a
	// process has run for ResetAfter.
	Backoff    Duration `toml:"backoff" apply:"now"`
	BackoffMax Duration `toml:"backoff_max" apply:"now"`
	ResetAfter Duration `toml:"reset_after" apply:"now"`
	// MaxTraps is how many traps at the same place in a row make a process failed; 0 means any number do not.
	MaxTraps int `toml:"max_traps" apply:"now"`
}

// Console is about standard input and output of a process.
type Console struct {
	// Stdin is what a guest reads while nobody is attached.
	Stdin Stdin `toml:"stdin" apply:"start"`
	// LogSize is the size at which the log of the output is rotated, and LogFiles how many rotated logs are kept.
	LogSize  Size `toml:"log_size" apply:"now"`
	LogFiles int  `toml:"log_files" apply:"now"`
}

// Process is all that applies to one process.
type Process struct {
	// Args are the arguments behind the program's name, and Env the environment. Both are the guest's own from its start
	// on, so a change counts when the program starts anew.
	Args []string          `toml:"args" apply:"fresh"`
	Env  map[string]string `toml:"env" apply:"fresh"`
	// Dirs are the directories that the guest is given, and Listen its listening sockets, which follow them.
	Dirs   []Dir    `toml:"dirs" apply:"start"`
	Listen []Listen `toml:"listen" apply:"start"`
	// AllowConnect and AllowBind are the addresses that the guest may connect to, and bind sockets of its own to.
	AllowConnect []Allow `toml:"allow_connect" apply:"start"`
	AllowBind    []Allow `toml:"allow_bind" apply:"start"`
	// OnChange says what a replaced program means.
	OnChange OnChange `toml:"on_change" apply:"now"`
	// KeepFor is how long its sockets are kept while it has no worker; 0 means not at all.
	KeepFor Duration `toml:"keep_for" apply:"start"`
	Settings
}

// Default returns the configuration of a daemon without a configuration file. It is the only place with defaults.
func Default() Config {
	return Config{
		Daemon: Daemon{
			StateDir:    "/var/lib/perdure",
			ModulesDir:  "/var/lib/perdure/modules",
			CacheDir:    "/var/cache/perdure",
			LogsDir:     "/var/log/perdure",
			Socket:      "/run/perdure/perdure.sock",
			Keeper:      "/run/perdure/keeper.sock",
			LogLevel:    LogInfo,
			LogFormat:   LogAuto,
			StopTimeout: Duration(30 * time.Second),
			Settle:      Duration(100 * time.Millisecond),
			Rescan:      Duration(time.Minute),
			OnChange:    Replace,
			KeepFor:     Duration(5 * time.Minute),
		},
		Settings: Settings{
			Snapshot: Snapshot{Every: Duration(time.Second), Durability: DurabilityProcess, JournalMax: 64 * MiB, OnDivergence: DivergenceGeneration, MaxShare: 25},
			Memsnap: Memsnap{
				Redundancy: 3,
				Integrity:  true,
				Threshold:  100,
				BufSize:    MiB,
				Retention:  Retention{MaxSnapshots: 64, MinSnapshots: 2, MinFree: Space{Bytes: 256 * MiB}},
			},
			Limits: Limits{Memory: GiB, OutputRate: 4 * MiB, OpenFiles: 1024, PIDs: 256, Confine: true},
			Restart: Restart{
				Policy:     RestartOnFailure,
				Backoff:    Duration(100 * time.Millisecond),
				BackoffMax: Duration(time.Minute),
				ResetAfter: Duration(time.Minute),
				MaxTraps:   3,
			},
			Console: Console{Stdin: StdinWait, LogSize: 16 * MiB, LogFiles: 4},
		},
	}
}

// Process returns what applies to the process called name, whether or not it has a table of its own. The result shares
// nothing with c.
func (c Config) Process(name string) Process {
	if p, ok := c.Processes[name]; ok {
		return p.clone()
	}
	return Process{OnChange: c.Daemon.OnChange, KeepFor: c.Daemon.KeepFor, Settings: c.Settings}
}

// UsesSockets tells whether the guest can have sockets.
func (p Process) UsesSockets() bool { return len(p.Listen)+len(p.AllowConnect)+len(p.AllowBind) > 0 }

func (p Process) clone() Process {
	p.Args = slices.Clone(p.Args)
	p.Env = maps.Clone(p.Env)
	p.Dirs = slices.Clone(p.Dirs)
	p.Listen = slices.Clone(p.Listen)
	p.AllowConnect, p.AllowBind = slices.Clone(p.AllowConnect), slices.Clone(p.AllowBind)
	return p
}

// clone returns a Config of which Processes can be given new entries.
func (c Config) clone() Config {
	c.Processes = maps.Clone(c.Processes)
	if c.Processes == nil {
		c.Processes = make(map[string]Process)
	}
	c.origin = maps.Clone(c.origin)
	if c.origin == nil {
		c.origin = make(map[string]position)
	}
	return c
}
