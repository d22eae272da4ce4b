package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"perdure/daemon"
	"perdure/runtime"
)

// callJSON is what perdure call --json prints.
type callJSON struct {
	Results []runtime.Value `json:"results"`
}

func newCallCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "call [flags] NAME EXPORT [ARG...]",
		Short: "call a function of a process of the daemon",
		Long: `Call a function that the program of a process exports, and print its results, one a line. The
program has to be a reactor: one without _start. Its memory lasts between calls, and longer.
Arguments are written in decimal, or whole numbers with 0x in hexadecimal. Calls of one process
follow each other.

Exit status: 0 when the function has returned; 134 it trapped; 127 there is no such process or no
such function; 1 the process does not run, or is no reactor; 125 wrong arguments, or another error.

With --json: an object with results, an array of objects with type (i32, i64, f32, f64) and value.`,
		Example: `  perdure call acc add 2 3
  perdure call acc add -- -2 0x10`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("which function of which process? perdure call NAME EXPORT [ARG...]")
			}
			return nil
		},
	}
	contact := addSocketFlag(cmd, env)
	asJSON := addJSONFlag(cmd)
	cmd.Flags().SetInterspersed(false) // numbers may be negative
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		arguments := args[2:]
		if len(arguments) > 0 && arguments[0] == "--" {
			arguments = arguments[1:]
		}
		results, err := contact.client().Call(ctx, args[0], args[1], arguments)
		var e *daemon.Error
		if errors.As(err, &e) && e.Code == daemon.CodeTrap {
			newTalk(env.stderr).warn("%s trapped: %s", args[0], e.Text)
			for i, f := range e.Stack {
				fmt.Fprintf(env.stderr, "  %2d  %s\n", i, f)
			}
			return &statusError{status: exitTrap}
		}
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(env.stdout, callJSON{Results: results})
		}
		for _, v := range results {
			if _, err := fmt.Fprintln(env.stdout, v.Value); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}
