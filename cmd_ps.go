package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"perdure/daemon"
)

func newPsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "list the processes of the daemon",
		Long: `List the processes of the daemon: all that run, and all that have a state and could go on.

A process is running, parked (it waits in a host call), stopped, ended (its program has, or was
replaced by another one) or failed (something is wrong, and it is not started again by itself).
A column says more where there is more to say.

With --json: an array of objects with name, state, detail, program (SHA-256), generation (the newest
durable one), pid (of the worker; 0: none), memory_bytes, restarts (after an end that nobody asked
for), last_error (with the backtrace of a trap), exit_code and started.`,
		Example: `  perdure ps
  perdure ps --json | jq -r '.[] | select(.state == "failed") | .name'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("perdure ps lists all processes; for one: perdure inspect %s", args[0])
			}
			return nil
		},
	}
	contact := addSocketFlag(cmd, env)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list, err := contact.client().List(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(env.stdout, list)
		}
		return printProcesses(env, list)
	}
	return cmd
}

func printProcesses(env *environment, list []daemon.Process) error {
	w := newTable(env.stdout, 0)
	fmt.Fprintln(w, "name\tstate\tpid\tgeneration\tmemory\trestarts\tprogram\tdetail\t")
	for _, p := range list {
		pid, memory, program := "", "", p.Program
		if p.PID != 0 {
			pid = strconv.Itoa(p.PID)
			memory = size(p.MemoryBytes)
		}
		if len(program) > 12 {
			program = program[:12]
		}
		detail, _, _ := strings.Cut(p.Detail, "\n")
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\t\n", p.Name, p.State, pid, p.Generation, memory, p.Restarts, program, detail)
	}
	return w.Flush()
}
