package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"perdure/runtime"
)

func newReplayCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay NAME",
		Short: "play what a process did since its newest generation, and print where it was",
		Long: `Play the journal of a process from its newest generation on, in memory: nothing outside is
touched, and the process stays as it is. It must not run meanwhile. At the end, or behind the
record that --to names, the program's functions are printed, innermost first.`,
		Example: `  perdure replay prog
  perdure replay prog --to 1200`,
		Args: oneProcess,
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	to := cmd.Flags().Int("to", 0, "`NUMBER` of the record to stop behind, counted from the newest generation (default: the last)")
	var cache string
	addCacheFlag(cmd, &cache)
	cmd.ValidArgsFunction = place.complete
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *to < 0 {
			return fmt.Errorf("--to %d: records count from 1", *to)
		}
		dir, err := place.existing(args[0])
		if err != nil {
			return err
		}
		// What is not there would be made.
		if _, err := os.Stat(filepath.Join(dir, runtime.ProgramFile)); err != nil {
			return place.noProcess(args[0])
		}
		o := runtime.Options{Name: args[0], Dir: dir}
		if o.CacheDir, err = cacheDir(cmd, env, cache); err != nil {
			return err
		}
		if o.Key, err = place.key(); err != nil {
			return err
		}
		point, err := runtime.Replay(cmd.Context(), o, *to)
		if err != nil {
			return place.explain(args[0], err)
		}
		where := "stopped"
		switch {
		case point.Ended:
			where = fmt.Sprintf("ended with status %d", point.ExitCode)
		case point.End:
			where = "at the end"
		}
		fmt.Fprintf(env.stdout, "generation %d, %d records: %s\n", point.Generation, point.Records, where)
		for i, f := range point.Frames {
			name := f.Name
			if name == "" {
				name = fmt.Sprintf("$%d", f.Func)
			}
			fmt.Fprintf(env.stdout, "  %2d  %s  at 0x%x\n", i, name, f.Offset)
		}
		return nil
	}
	return cmd
}
