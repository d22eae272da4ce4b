package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/rs/zerolog"

	"perdure/config"
)

// systemConfig is the configuration that is read if nobody names one.
const systemConfig = "/etc/perdure/perdure.toml"

// keepersDir has the sockets of keepers, beside the processes: one for each process of perdure run
// that has sockets, and daemonKeeper of those that a daemon runs. No process's name begins with a dot.
const (
	keepersDir   = ".keepers"
	daemonKeeper = ".daemon.sock"
)

// serveSetup makes the configuration of the daemon. From weakest to strongest: the defaults, the file, the environment,
// the flags.
type serveSetup struct {
	env                                                 *environment
	file, state, modules, logs, cache, socket, logLevel string

	unprivileged bool // set by load: the defaults are those of a user
}

// load reads the configuration.
func (s *serveSetup) load() (config.Config, error) {
	c, err := s.read()
	if err != nil {
		return c, err
	}
	d := &c.Daemon
	usual := config.Default().Daemon
	abs := func(to *string, path string) {
		if path == "" || err != nil {
			return
		}
		*to, err = filepath.Abs(path)
	}
	if state := first(s.state, s.env.getenv("PERDURE_STATE")); state != "" {
		abs(&d.StateDir, state)
		// What is not said lies below.
		if d.ModulesDir == usual.ModulesDir || s.unprivileged {
			d.ModulesDir = filepath.Join(d.StateDir, "modules")
		}
		if d.LogsDir == usual.LogsDir || s.unprivileged {
			d.LogsDir = filepath.Join(d.StateDir, "logs")
		}
		if d.Keeper == usual.Keeper || s.unprivileged {
			d.Keeper = filepath.Join(d.StateDir, keepersDir, daemonKeeper)
		}
	}
	abs(&d.ModulesDir, s.modules)
	abs(&d.LogsDir, s.logs)
	abs(&d.CacheDir, s.cache)
	abs(&d.Socket, first(s.socket, s.env.getenv("PERDURE_SOCKET")))
	if s.logLevel != "" {
		d.LogLevel = config.LogLevel(s.logLevel)
	}
	if err != nil {
		return c, err
	}
	return c, c.Validate()
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// read reads the file, or if there is none returns defaults.
func (s *serveSetup) read() (config.Config, error) {
	if s.file != "" {
		return config.Load(s.file)
	}
	path := systemConfig
	root := os.Geteuid() == 0
	if !root {
		path = ""
		if d := s.env.getenv("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
			path = filepath.Join(d, "perdure", "perdure.toml")
		} else if home := s.env.getenv("HOME"); home != "" {
			path = filepath.Join(home, ".config", "perdure", "perdure.toml")
		}
	}
	if path != "" {
		c, err := config.Load(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
	}
	c := config.Default()
	if root {
		return c, nil
	}
	s.unprivileged = true
	var err error
	if c.Daemon.StateDir, err = userState(s.env); err != nil {
		return c, err
	}
	c.Daemon.ModulesDir = filepath.Join(c.Daemon.StateDir, "modules")
	c.Daemon.LogsDir = filepath.Join(c.Daemon.StateDir, "logs")
	c.Daemon.Keeper = filepath.Join(c.Daemon.StateDir, keepersDir, daemonKeeper)
	c.Daemon.CacheDir = userCache(s.env)
	c.Daemon.Socket, err = userSocket(s.env)
	return c, err
}

// logLevel is the least important message that a log has; it may change at any time.
type logLevel struct{ level atomic.Int32 }

func (l *logLevel) set(level config.LogLevel) {
	parsed, err := zerolog.ParseLevel(string(level))
	if err != nil {
		parsed = zerolog.InfoLevel // the configuration has been validated
	}
	l.level.Store(int32(parsed))
}

// Run drops what is less important.
func (l *logLevel) Run(e *zerolog.Event, level zerolog.Level, _ string) {
	if int32(level) < l.level.Load() {
		e.Discard()
	}
}

// newLog returns the daemon's log, on stderr.
func newLog(env *environment, d config.Daemon) (zerolog.Logger, *logLevel) {
	level := new(logLevel)
	level.set(d.LogLevel)
	terminal := isTerminal(env.stderr)
	// systemd's journal has a time for each line.
	times := env.getenv("JOURNAL_STREAM") == "" && env.getenv("INVOCATION_ID") == "" || terminal
	var w io.Writer = env.stderr
	if d.LogFormat == config.LogText || d.LogFormat == config.LogAuto && terminal {
		console := zerolog.ConsoleWriter{Out: env.stderr, NoColor: !terminal, TimeFormat: "2006-01-02 15:04:05.000"}
		if !times {
			console.PartsExclude = []string{zerolog.TimestampFieldName}
		}
		w = console
	}
	log := zerolog.New(w).Hook(level)
	if times {
		log = log.With().Timestamp().Logger()
	}
	return log, level
}
