package config

// LogLevel is the least important message that the daemon's log has.
type LogLevel string

// The levels, from most to fewest messages.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

// LogFormat is the form of the daemon's log.
type LogFormat string

// The forms of a log.
const (
	LogAuto LogFormat = "auto" // text on a terminal, else JSON; without timestamps where systemd adds them
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Durability is what survives a crash beyond the newest generation.
type Durability string

// The levels of durability.
const (
	DurabilityNone    Durability = "none"    // a process goes on from its newest generation
	DurabilityProcess Durability = "process" // nothing is lost when a process dies, however it does
	DurabilityDisk    Durability = "disk"    // nor when the power fails
)

// OnDivergence is what becomes of a process that cannot be brought to where it was when it was killed.
type OnDivergence string

// What to do about a process whose journal cannot be followed.
const (
	DivergenceGeneration OnDivergence = "generation" // it goes on from its newest generation; what came after happens again
	DivergenceStop       OnDivergence = "stop"       // it does not go on until an operator decides
)

// OnChange is what the daemon does when the file of a program is replaced.
type OnChange string

// What to do about a replaced program.
const (
	Replace OnChange = "replace" // a last cut, then the new program starts; the old state is kept as an ended process
	Hold    OnChange = "hold"    // the running program goes on until an operator decides
)

// RestartPolicy says after which ends a process is started again.
type RestartPolicy string

// The policies. After a crash or a trap a process goes on from its newest generation; after its own end it starts anew.
const (
	RestartAlways    RestartPolicy = "always"     // after every end that nobody asked for
	RestartOnFailure RestartPolicy = "on-failure" // after a crash, a trap or an exit status other than 0
	RestartNever     RestartPolicy = "never"
)

// Stdin is what a guest reads from its standard input while nobody is attached.
type Stdin string

// What standard input gives.
const (
	StdinWait Stdin = "wait" // nothing: the guest waits until someone attaches and types
	StdinNull Stdin = "null" // the end of the file, at once
)
