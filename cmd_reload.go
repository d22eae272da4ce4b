package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReloadCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "make the daemon read its configuration again",
		Long: `Make the daemon read its configuration again. What can be applied without touching running programs
is applied at once. Each change is printed, with the time from which on it counts. A configuration
with an error changes nothing.

With --json: an object with changes and problems (with side files), arrays of lines.`,
		Example: `  perdure reload`,
		Args:    cobra.NoArgs,
	}
	contact := addSocketFlag(cmd, env)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := contact.client().Reload(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(env.stdout, r)
		}
		for _, c := range r.Changes {
			if _, err := fmt.Fprintln(env.stdout, c); err != nil {
				return err
			}
		}
		t := newTalk(env.stderr)
		for _, p := range r.Problems {
			t.warn("%s", p)
		}
		if len(r.Changes) == 0 {
			t.say("nothing has changed")
		}
		return nil
	}
	return cmd
}
