package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func newDemoCommand(env *environment) *cobra.Command {
	var guest string
	var plain bool
	cmd := &cobra.Command{
		Use:   "demo [--guest PROGRAM.wasm]",
		Short: "see programs killed and going on, live",
		Long: `Start a daemon in a temporary directory and let it run three programs: one that counts in a tight
loop, one that computes primes, and a key-value server, to which a client holds one connection
open. Then kill them with SIGKILL, one after the other, the daemon itself, and all of them at
once. Each goes on where it was. Every line that the programs write and every answer that the
client gets is checked meanwhile: nothing may be lost, and nothing done twice. What it cost is
printed at the end. It takes less than a minute, needs no network and leaves nothing behind.

With --guest, the daemon runs this program too, without arguments, and it is killed like the others.

On a terminal it is shown in one screen; elsewhere, and with --plain, line by line.

Exit status: 0 when nothing was lost, 1 when something was, 126 when the program is refused.`,
		Example: `  perdure demo
  perdure demo --guest prog.wasm
  perdure demo --plain | tee demo.txt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("perdure demo takes no arguments; to see a program of your own: --guest %s", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A closed terminal and a reader that is gone, too: nothing may be left behind.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
			defer stop()
			err := runDemo(ctx, env, guest, plain)
			if ctx.Err() != nil {
				return &statusError{status: exitSignal + 2}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&guest, "guest", "", "`PROGRAM.wasm` of your own to be shown as well")
	cmd.Flags().BoolVar(&plain, "plain", false, "print lines, also on a terminal")
	// The only error is a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("guest", completeProgram)
	return cmd
}

// runDemo shows the demonstration in a directory of its own, and clears up whatever happens.
func runDemo(ctx context.Context, env *environment, guest string, plain bool) (err error) {
	dir, err := os.MkdirTemp("", "perdure-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// The names of the file system may differ from those that the workers see.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find perdure itself: %w", err)
	}
	d := &demo{exe: exe, dir: dir, screen: newDemoScreen(env.stdout, plain), pace: 200 * time.Millisecond}
	if d.screen.terminal {
		d.pace = 2 * time.Second
	}
	if guest != "" {
		if err := d.addGuest(ctx, guest); err != nil {
			return err
		}
	}
	err = d.run(ctx)
	// First, for nothing that runs may write below dir when it is removed.
	err = errors.Join(err, d.end())
	if err == nil {
		err = d.lost()
	}
	d.screen.close()
	if err != nil || ctx.Err() != nil {
		return err
	}
	return d.summarize(env)
}
