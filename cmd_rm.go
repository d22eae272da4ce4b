package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newRmCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "remove a process with all that was saved of it",
		Long: `End a process and remove all that was saved of it: its generations, its program and its output.
This cannot be undone. Its file in the folder stays, and does not start again by itself until it
is changed, or perdure start does it.

Exit status: 0 when it is removed; 1 nobody has said yes; 127 there is no such process; 125 another
error.`,
		Example: `  perdure rm prog
  perdure rm --yes prog`,
		Args: oneProcess,
	}
	contact := addSocketFlag(cmd, env)
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		c, name := contact.client(), args[0]
		i, err := c.Inspect(ctx, name)
		if err != nil {
			return err
		}
		if !*yes {
			fmt.Fprintf(env.stderr, "Remove %s, which is %s, with its newest generation %d and all others? [y/N] ", name, i.State, i.Generation)
			answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
				return &statusError{status: exitState, err: errors.New("nothing was removed; to remove it without a question: --yes")}
			}
		}
		if err := c.Remove(ctx, name); err != nil {
			return err
		}
		if i.File != "" {
			newTalk(env.stderr).say("%s is removed; its file %s stays, and starts when it is changed, or by perdure start %s", name, i.File, name)
		}
		return nil
	}
	return cmd
}
