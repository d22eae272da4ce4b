package main

import (
	"github.com/spf13/cobra"
)

func newStopCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop NAME",
		Short: "take a last snapshot of a process and stop it",
		Long: `Take a last snapshot of a process and stop it. It stays stopped, also when the daemon is started
again, until perdure start. The command returns when the snapshot is durable.

Exit status: 0 when it is stopped; 1 it could not be saved; 127 there is no such process; 125
another error.`,
		Example: `  perdure stop prog`,
		Args:    oneProcess,
	}
	contact := addSocketFlag(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		return contact.client().Stop(ctx, args[0])
	}
	return cmd
}
