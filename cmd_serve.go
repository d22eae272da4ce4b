package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"perdure/config"
	"perdure/daemon"
)

// serveCommand is perdure serve: the daemon.
type serveCommand struct {
	env  *environment
	talk *talk

	setup serveSetup
	check bool
}

func newServeCommand(env *environment) *cobra.Command {
	s := &serveCommand{env: env, talk: newTalk(env.stderr), setup: serveSetup{env: env}}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "the daemon: run every program in a folder, for good",
		Long: `Watch a folder and run each NAME.wasm in it as the process NAME, persistently. A file that
appears starts; one that is replaced is a new program, and the old process is kept as
NAME.ended-N; one that is removed stops with a snapshot, and goes on when it comes back.

The configuration is read from /etc/perdure/perdure.toml or, for a user other than root, from
perdure in $XDG_CONFIG_HOME, if there is one. A user's own daemon keeps its state where perdure run
does, the folder and the output of the programs below it.

SIGTERM and SIGINT suspend all processes and end the daemon; the next one goes on with them.
SIGQUIT ends the daemon and leaves all processes running, to be taken over by the next one: for
an upgrade. SIGHUP reads the configuration again.

Exit status: 0 when it was told to end; 125 an error, such as a wrong configuration.`,
		Example: `  perdure serve
  perdure serve --config perdure.toml --check-config
  perdure serve --modules ~/modules --socket /tmp/perdure.sock`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("perdure serve takes no arguments; programs go into the folder, %q too", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&s.setup.file, "config", "", "`FILE` with the configuration")
	f.StringVar(&s.setup.state, "state", "", "`DIR` in which processes are kept (default: the configuration's, else $PERDURE_STATE)")
	f.StringVar(&s.setup.modules, "modules", "", "`DIR` that is watched (default: the configuration's, else modules in --state)")
	f.StringVar(&s.setup.logs, "logs", "", "`DIR` for the output of the programs (default: the configuration's, else logs in --state)")
	f.StringVar(&s.setup.cache, "cache", "", "`DIR` for compiled programs")
	f.StringVar(&s.setup.socket, "socket", "", "`PATH` of the socket for commands (default: the configuration's, else $PERDURE_SOCKET)")
	f.StringVar(&s.setup.logLevel, "log-level", "", "`LEVEL` of the log: debug, info, warn or error")
	f.BoolVar(&s.check, "check-config", false, "check the configuration, with the side files in the folder, and exit")
	return cmd
}

func (s *serveCommand) run(ctx context.Context) error {
	c, err := s.setup.load()
	if err != nil {
		return err
	}
	if s.check {
		return s.checkConfig(c)
	}
	if s.setup.unprivileged {
		s.talk.say("not root: state in %s, programs from %s, socket %s", c.Daemon.StateDir, c.Daemon.ModulesDir, c.Daemon.Socket)
	}
	// It allocates little, and there should be much room for others: collecting more often is worth it.
	debug.SetGCPercent(gcPercent)
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find perdure itself: %w", err)
	}
	log, level := newLog(s.env, c.Daemon)
	var systemd daemon.Systemd
	listener, err := systemd.Listener()
	if err != nil {
		return err
	}
	d := daemon.New(daemon.Options{
		Config: c, Reload: s.setup.load, Executable: exe, Version: version(), Check: checker(exe),
		Listener: listener, Log: log, SetLevel: level.set,
		Ready: systemd.Ready, Reloading: systemd.Reloading,
		Stopping: func() {
			systemd.Stopping()
			s.talk.say("suspending all processes …")
		},
		Progress: s.progress(),
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel()
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(sigs)
	done.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-sigs:
				switch sig {
				case syscall.SIGHUP:
					_, _ = d.Reload() // the log tells of it
				case syscall.SIGQUIT:
					d.Detach()
				default:
					cancel()
				}
			}
		}
	})
	done.Go(func() { systemd.Watch(ctx, d.Alive) })
	return d.Run(ctx)
}

// gcPercent is by how much the daemon's heap may grow before it is collected.
const gcPercent = 40

// progress says now and then how many processes are still to be suspended.
func (s *serveCommand) progress() func(left int) {
	var mu sync.Mutex
	var said time.Time
	return func(left int) {
		mu.Lock()
		defer mu.Unlock()
		if left > 0 && time.Since(said) >= time.Second {
			said = time.Now()
			s.talk.say("%s left to suspend", countProcesses(left))
		}
	}
}

func countProcesses(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}

// checkConfig says what is wrong with a configuration that could be read, which is only in its side files.
func (s *serveCommand) checkConfig(c config.Config) error {
	_, failed, err := c.WithFolder()
	if err != nil {
		return err
	}
	var all []error
	for _, err := range failed {
		all = append(all, err)
	}
	if len(all) > 0 {
		return errors.Join(all...)
	}
	s.talk.say("the configuration is well")
	return nil
}

// checkTime bounds the check of a program.
const checkTime = 2 * time.Minute

// checker returns what tells why a program would be refused. It runs perdure check, for the daemon must stay small and
// must not be held up.
func checker(exe string) func(context.Context, string, config.Size) (string, error) {
	return func(ctx context.Context, path string, memory config.Size) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, checkTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, exe, "check", "--json", "--", path)
		cmd.Args[0] = "perdure"
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		err := cmd.Run()
		var c checkJSON
		if jerr := json.Unmarshal(out.Bytes(), &c); jerr != nil {
			return "", fmt.Errorf("%w: %s", errors.Join(err, jerr), strings.TrimSpace(said.String()))
		}
		switch {
		case !c.OK:
			return strings.Join(c.Refused, "; "), nil
		case c.MemoryMinBytes > uint64(memory):
			return fmt.Sprintf("it needs %d bytes of memory, the limit is %d", c.MemoryMinBytes, memory), nil
		}
		return "", nil
	}
}
