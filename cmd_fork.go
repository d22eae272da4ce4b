package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"perdure/runtime"
)

func newForkCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fork NAME[@GEN] NEW",
		Short: "make a new process of a generation of another",
		Long: `Make a new process, NEW, that goes on from a generation of another: from GEN, or from its newest
that is well. Both go their own ways from then on. The new one has this one generation and the
program that belongs to it. The other may run meanwhile; what it did since its newest generation
is not in the copy.

What the program works on outside of its memory, files and sockets, is the same for both.`,
		Example: `  perdure fork prog prog-2
  perdure fork prog@7 what-if
  perdure run --name what-if`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("which process, and how is the new one called? see %s --help", cmd.CommandPath())
			}
			return nil
		},
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	cmd.ValidArgsFunction = place.completeNameAt(cobra.ShellCompDirectiveNoFileComp)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		name, generation, err := splitGeneration(args[0])
		if err != nil {
			return err
		}
		t := newTalk(env.stderr)
		defer t.rest()
		m := &meter{t: t, what: "copying " + name}
		s, err := place.saved(name, m.tell)
		if err != nil {
			return err
		}
		to, err := place.process(args[1]) // beside it
		if err != nil {
			return err
		}
		o, err := place.store(nil)
		if err != nil {
			return err
		}
		c, err := s.Fork(ctx, generation, to, o)
		t.rest()
		warnOf(t, c)
		if errors.Is(err, runtime.ErrProcessExists) {
			return fmt.Errorf("there is a process %q already; choose another name", args[1])
		}
		if err != nil {
			return place.explain(name, noGeneration(err, name, generation))
		}
		t.say("%s is a copy of generation %d of %s; let it run: %s", args[1], c.Generation.Number, name, runByName(env, args[1]))
		return nil
	}
	return cmd
}

// runByName is the command that lets a process run whose program is kept with it.
func runByName(env *environment, name string) string {
	return shellQuote([]string{env.name, "run", "--name", name})
}
