package main

import (
	"github.com/spf13/cobra"
)

func newRestartCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restart NAME",
		Short: "stop a process in a snapshot and start it again",
		Long: `Stop a process in a snapshot and start it again, with the settings of now: it goes on where it
was. With --fresh the program starts anew. The command returns when the program runs.

Exit status: as of perdure start.`,
		Example: `  perdure restart prog
  perdure restart --fresh prog`,
		Args: oneProcess,
	}
	contact := addSocketFlag(cmd, env)
	fresh := cmd.Flags().Bool("fresh", false, "start the program anew; the old state stays, as NAME.ended-N")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		return contact.client().Restart(ctx, args[0], *fresh)
	}
	return cmd
}
