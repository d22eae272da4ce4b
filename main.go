// A guest owns a processor while it runs, and stopping the world would wait for it. The Go
// runtime stops it to follow changes of the processor limits, unless told not to.
//
//go:debug updatemaxprocs=0

// Perdure runs WebAssembly programs as processes that last: killed at any moment, a
// program goes on from where it was. Each command is in a file of its own, cmd_NAME.go;
// docs/ARCHITECTURE.md describes what lies below.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"perdure/daemon"
	"perdure/runtime"
)

// Exit statuses of Perdure itself, those that shells and container engines use. All others
// are the guest's.
const (
	exitDamage   = 1   // verify found damage, or demo lost something
	exitState    = 1   // as things are, what was asked for cannot be done
	exitError    = 125 // an error of Perdure itself
	exitRefused  = 126 // the program cannot be made persistent
	exitNotFound = 127 // there is no such program, process, generation or export
	exitTrap     = 134 // the guest did what it must not: 128 + SIGABRT
	exitSignal   = 128 // plus the number of the signal that suspended the process
)

// environment is what a command sees of the outside.
type environment struct {
	name           string // the command line's first word
	stdout, stderr io.Writer
	getenv         func(string) string
}

// statusError ends perdure with a status. Err is nil when everything has been said.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("status %d", e.status)
	}
	return e.err.Error()
}

func (e *statusError) Unwrap() error { return e.err }

func main() {
	env := &environment{name: os.Args[0], stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	os.Exit(execute(env, os.Args[1:]))
}

// execute carries out a command line and returns the exit status.
func execute(env *environment, args []string) int {
	root := newRootCommand(env)
	root.SetArgs(args)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	status, said := exitError, false
	var se *statusError
	var refused *runtime.RefusedError
	switch {
	case errors.As(err, &se):
		status, said = se.status, se.err == nil
	case errors.As(err, &refused):
		status = exitRefused
	case errors.Is(err, runtime.ErrNoProgram), errors.Is(err, daemon.CodeNotFound), errors.Is(err, daemon.CodeNoExport):
		status = exitNotFound
	case errors.Is(err, daemon.CodeRefused):
		status = exitRefused
	case errors.Is(err, daemon.CodeTrap):
		status = exitTrap
	case isState(err):
		status = exitState
	}
	if !said {
		fmt.Fprintf(env.stderr, "perdure: %v\n", err)
	}
	return status
}

// isState tells whether a daemon has understood what was asked for, and cannot do it as things are.
func isState(err error) bool {
	for _, c := range []daemon.Code{
		daemon.CodeState, daemon.CodeExists, daemon.CodeFailed, daemon.CodeNotSaved, daemon.CodeDamaged, daemon.CodeNotReactor,
		daemon.CodeEnded, daemon.CodeStarting,
	} {
		if errors.Is(err, c) {
			return true
		}
	}
	return false
}

// The groups of commands in the help.
const (
	groupRun   = "run"
	groupServe = "serve"
	groupLook  = "look"
	groupKeep  = "keep"
)

func newRootCommand(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "perdure",
		Short: "run WebAssembly programs as processes that last",
		Long: `Perdure runs a WebAssembly program as a process that lasts. Kill it at any moment, give
the same command again, and it goes on from where it was, in the middle of a function.`,
		Example: `  perdure run prog.wasm         run a program; the same command later goes on
  perdure generations prog      what was saved of it
  perdure check prog.wasm       can it persist?
  perdure demo                  see a program killed and going on`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		// Without a command there is only help; a word that is no command is an error.
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("perdure {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddGroup(&cobra.Group{ID: groupRun, Title: "Run programs:"}, &cobra.Group{ID: groupServe, Title: "The daemon and its processes:"},
		&cobra.Group{ID: groupLook, Title: "Look at what is there:"}, &cobra.Group{ID: groupKeep, Title: "Change what is saved:"})
	for _, c := range []*cobra.Command{newRunCommand(env), newKeeperCommand(env), newDemoCommand(env), newBenchCommand(env)} {
		c.GroupID = groupRun
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{
		newServeCommand(env), newPsCommand(env), newInspectCommand(env), newStartCommand(env), newStopCommand(env), newRestartCommand(env),
		newRmCommand(env), newSnapshotCommand(env), newLogsCommand(env), newAttachCommand(env), newCallCommand(env), newEventsCommand(env), newReloadCommand(env),
	} {
		c.GroupID = groupServe
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{newGenerationsCommand(env), newStackCommand(env), newJournalCommand(env), newReplayCommand(env), newVerifyCommand(env), newCheckCommand(env),
		newDiffCommand(env), newDumpCommand(env)} {
		c.GroupID = groupLook
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{newRollbackCommand(env), newForkCommand(env), newPurgeCommand(env), newExportCommand(env), newImportCommand(env)} {
		c.GroupID = groupKeep
		root.AddCommand(c)
	}
	root.AddCommand(newVersionCommand(env), newWorkerCommand(), newManCommand(env))
	return root
}

// unknownCommand says what may have been meant.
func unknownCommand(root *cobra.Command, word string) error {
	hint := "perdure --help lists the commands"
	if near := root.SuggestionsFor(word); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %q?", near[0])
	} else if strings.HasSuffix(word, ".wasm") {
		hint = fmt.Sprintf("to run a program: perdure run %s", word)
	}
	return fmt.Errorf("there is no command %q; %s", word, hint)
}

// interruptible returns a context that ends at SIGINT or SIGTERM.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}
