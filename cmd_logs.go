package main

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/spf13/cobra"
)

func newLogsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "what a process of the daemon has written",
		Long: `Print what a process has written to its standard output and standard error, and nothing else. It
begins with the oldest that was kept.`,
		Example: `  perdure logs prog
  perdure logs -f -n 10 prog`,
		Args: oneProcess,
	}
	contact := addSocketFlag(cmd, env)
	follow := cmd.Flags().BoolP("follow", "f", false, "go on with what it writes from now on, until Ctrl-C")
	lines := cmd.Flags().IntP("lines", "n", -1, "only the last `N` lines")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("lines") && *lines < 0 {
			return fmt.Errorf("-n %d: the number of lines cannot be negative", *lines)
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		err := contact.client().Logs(ctx, args[0], *lines, *follow, env.stdout)
		if ctx.Err() != nil || errors.Is(err, syscall.EPIPE) {
			return nil // the reader has enough
		}
		return err
	}
	return cmd
}
