package main

import (
	"github.com/spf13/cobra"
)

func newStartCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start NAME",
		Short: "make a process of the daemon run",
		Long: `Make a process run that was stopped, has ended, has failed, was removed, or is not in the folder.
It goes on from its newest generation; a program that has ended starts anew. The command returns
when the program runs.

Exit status: 0 when it runs; 1 it has failed or cannot run as things are; 126 its program is
refused; 127 there is no such process; 125 another error.`,
		Example: `  perdure start prog
  perdure start --fresh prog`,
		Args: oneProcess,
	}
	contact := addSocketFlag(cmd, env)
	fresh := cmd.Flags().Bool("fresh", false, "start the program anew; the old state stays, as NAME.ended-N")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		return contact.client().Start(ctx, args[0], *fresh)
	}
	return cmd
}
