package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"perdure/daemon/worker"
	"perdure/runtime"
)

// newWorkerCommand returns perdure worker: what a daemon starts for each of its processes. People have no use for it.
func newWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "worker",
		Short:  "run a process for the daemon, as standard input says",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := worker.Enter(os.Stdin)
			if err == nil {
				_, err = w.Run(cmd.Context())
			}
			var locked *runtime.LockedError
			if errors.As(err, &locked) {
				return &statusError{status: worker.ExitLocked, err: err}
			}
			return err
		},
	}
}
