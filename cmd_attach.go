package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// The keys that detach.
const (
	keyDetach = 0x1d // Ctrl-]
	keyP      = 0x10 // Ctrl-P, followed by
	keyQ      = 0x11 // Ctrl-Q
)

func newAttachCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach NAME",
		Short: "the console of a process of the daemon",
		Long: `Join the console of a process: what it writes from now on is shown, and what is typed is its
standard input, a line at a time. Ctrl-], or Ctrl-P Ctrl-Q, or Ctrl-C detaches, and the process runs
on. The console outlasts restarts of the process, and ends when it stops. Several may be attached
at the same time. Where standard input is not a terminal and has ended, output is shown on.`,
		Example: `  perdure attach prog
  echo hello | perdure attach prog`,
		Args: oneProcess,
	}
	contact := addSocketFlag(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		conn, err := contact.client().Attach(ctx, args[0])
		if err != nil {
			return err
		}
		defer conn.Close() // nothing is written that could be lost
		t := newTalk(env.stderr)
		in, terminal := cmd.InOrStdin().(*os.File)
		if terminal && isTerminal(in) {
			restore, err := lineKeys(in)
			if err != nil {
				return fmt.Errorf("set up the terminal: %w", err)
			}
			defer restore()
			t.say("attached to %s; Ctrl-] detaches", args[0])
		} else {
			terminal = false
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() { // ends with perdure: a read from a terminal cannot be called off
			if typeInto(conn, cmd.InOrStdin()) || terminal {
				cancel()
			}
		}()
		shown := make(chan error, 1)
		go func() {
			_, err := io.Copy(env.stdout, conn)
			shown <- err
		}()
		select {
		case <-ctx.Done():
			t.say("detached from %s, which runs on", args[0])
			return nil
		case err := <-shown:
			if err == nil {
				t.say("%s has stopped", args[0])
			}
			return err
		}
	}
	return cmd
}

// typeInto copies what is typed, and tells whether the keys that detach were among it. Else the input has ended.
func typeInto(w io.Writer, r io.Reader) (detach bool) {
	b := make([]byte, 4<<10)
	var keep []byte
	var last byte
	for {
		n, err := r.Read(b)
		keep = keep[:0]
		for _, key := range b[:n] {
			if key == keyDetach || key == keyQ && last == keyP {
				_, _ = w.Write(keep) // it is left anyway
				return true
			}
			if last == keyP {
				keep = append(keep, keyP)
			}
			if last = key; key != keyP {
				keep = append(keep, key)
			}
		}
		if _, werr := w.Write(keep); werr != nil {
			return false
		}
		if err != nil {
			return false
		}
	}
}
