package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"perdure/daemon"
)

func newEventsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [NAME]",
		Short: "what happens to the processes of the daemon, as it happens",
		Long: `Print what happens to a process of the daemon, or to all, from now on until Ctrl-C: starts, ends,
traps, snapshots, warnings. It ends with the daemon.

With --json: an object a line, with time, process, kind, text and generation (if it is about one).`,
		Example: `  perdure events
  perdure events --json prog | jq -r 'select(.kind == "committed") | .generation'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneProcess(cmd, args)
		},
	}
	contact := addSocketFlag(cmd, env)
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		name := ""
		if len(args) > 0 {
			name = args[0]
		}
		err := contact.client().Events(ctx, name, func(e daemon.Event) error {
			if *asJSON {
				return json.NewEncoder(env.stdout).Encode(e)
			}
			text, _, _ := strings.Cut(e.Text, "\n")
			_, err := fmt.Fprintf(env.stdout, "%s  %s  %s: %s\n", localTime(e.Time), e.Process, e.Kind, text)
			return err
		})
		if ctx.Err() != nil || errors.Is(err, syscall.EPIPE) {
			return nil // the reader has enough
		}
		return err
	}
	return cmd
}
