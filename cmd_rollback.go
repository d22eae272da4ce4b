package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"perdure/memsnap"
	"perdure/runtime"
)

func newRollbackCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollback NAME GEN",
		Short: "let a process go on from an older generation",
		Long: `Let a process go on from one of its generations at the next run. It must not run meanwhile; one that
the daemon runs is suspended for it, and goes on.

Nothing is thrown away: a new generation that equals GEN becomes the newest, and its number is
printed. The ones in between stay as they are, so that another rollback leads forward again, until
they are purged. What came after the newest generation is lost. The files that the program has
written stay as they are.`,
		Example: `  perdure rollback prog 7
  perdure rollback prog 9     forward again`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("which process, and to which generation? see %s --help", cmd.CommandPath())
			}
			return nil
		},
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	cmd.ValidArgsFunction = place.completeGenerations(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		name := args[0]
		to, err := parseGeneration(args[1])
		if err != nil {
			return err
		}
		dir, err := place.existing(name)
		if err != nil {
			return err
		}
		t := newTalk(env.stderr)
		defer t.rest()
		m := &meter{t: t, what: "checking generation " + args[1]}
		o, err := place.store(m.tell)
		if err != nil {
			return err
		}
		s, err := place.saved(name, nil)
		if err != nil {
			return err
		}
		var before uint64
		var info memsnap.Info
		err = place.still(ctx, name, func() (err error) {
			if before, err = newestOf(s); err != nil {
				return err
			}
			info, err = runtime.Rollback(ctx, dir, name, to, o)
			return err
		})
		var locked *runtime.LockedError
		switch {
		case errors.As(err, &locked):
			return place.explain(name, err)
		case err != nil:
			return noGeneration(err, name, to)
		}
		t.rest()
		t.say("%s goes on from generation %d, as generation %d; back again: %s", name, to, info.Number,
			shellQuote([]string{env.name, "rollback", name, fmt.Sprint(before)}))
		_, err = fmt.Fprintln(env.stdout, info.Number)
		return err
	}
	return cmd
}
