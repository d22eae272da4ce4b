package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newSnapshotCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot NAME | --all",
		Short: "take a generation of a process now",
		Long: `Take a generation of a process, or of all that run, now. The command returns when it is durable, and
prints its number; with --all a line for each process, with its name.

Exit status: 0 when all are durable; 1 a process does not run, or could not be saved; 127 there is
no such process; 125 another error.

With --json: an array of objects with name, generation and error (empty if it is durable).`,
		Example: `  perdure snapshot prog
  perdure snapshot --all`,
	}
	contact := addSocketFlag(cmd, env)
	all := cmd.Flags().Bool("all", false, "of all processes that run")
	asJSON := addJSONFlag(cmd)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case *all && len(args) > 0:
			return errors.New("either a process or --all")
		case *all:
			return nil
		case len(args) == 0:
			return errors.New("which process? perdure snapshot NAME, or --all")
		}
		return oneProcess(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		c := contact.client()
		if !*all {
			info, err := c.Snapshot(ctx, args[0])
			if err != nil {
				return err
			}
			if *asJSON {
				return writeJSON(env.stdout, []snapshotJSON{{Name: args[0], Generation: info.Number}})
			}
			_, err = fmt.Fprintln(env.stdout, info.Number)
			return err
		}
		list, err := c.SnapshotAll(ctx)
		if err != nil {
			return err
		}
		failed := 0
		out := make([]snapshotJSON, len(list))
		for i, s := range list {
			out[i] = snapshotJSON(s)
			if s.Error != "" {
				failed++
				if !*asJSON {
					newTalk(env.stderr).warn("%s: %s", s.Name, s.Error)
				}
				continue
			}
			if !*asJSON {
				if _, err := fmt.Fprintf(env.stdout, "%s %d\n", s.Name, s.Generation); err != nil {
					return err
				}
			}
		}
		if *asJSON {
			if err := writeJSON(env.stdout, out); err != nil {
				return err
			}
		}
		if failed > 0 {
			return &statusError{status: exitState}
		}
		return nil
	}
	return cmd
}

// snapshotJSON is an element of what perdure snapshot --json prints.
type snapshotJSON struct {
	Name       string `json:"name"`
	Generation uint64 `json:"generation"`
	Error      string `json:"error"`
}
