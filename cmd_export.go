package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"perdure/internal/durable"
	"perdure/runtime"
)

func newExportCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export NAME[@GEN] FILE|-",
		Short: "write a process into one file, or to standard output",
		Long: `Write a generation of a process, GEN or its newest that is well, and the program that belongs to
it into one file that leans on nothing else: perdure import makes a process of it, here or on
another machine, of another architecture too. FILE - is standard output. Everything is checked
while it is read. The process may run meanwhile; what it did since its newest generation is not
in the file.

With --archive, the file of that one generation is written as it is, which leans on older ones. It
serves to put a damaged one back with perdure import.`,
		Example: `  perdure export prog prog.export
  perdure export prog@7 - | ssh host perdure import -
  perdure export --archive prog@7 7.gen`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("which process, and into which file? see %s --help", cmd.CommandPath())
			}
			return nil
		},
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	archive := cmd.Flags().Bool("archive", false, "only the file of that generation, as it is")
	cmd.ValidArgsFunction = place.completeNameAt(cobra.ShellCompDirectiveDefault)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		name, generation, err := splitGeneration(args[0])
		if err != nil {
			return err
		}
		t := newTalk(env.stderr)
		defer t.rest()
		m := &meter{t: t, what: "exporting " + name}
		s, err := place.saved(name, m.tell)
		if err != nil {
			return err
		}
		var c runtime.Copied
		write := func(w io.Writer) (err error) {
			c, err = s.Export(ctx, generation, name, w)
			return err
		}
		if *archive {
			write = func(w io.Writer) (err error) {
				if generation == 0 {
					if generation, err = newestOf(s); err != nil {
						return err
					}
				}
				c.Generation.Number = generation
				return s.ExportArchive(ctx, generation, w)
			}
		}
		if args[1] == "-" {
			if isTerminal(env.stdout) {
				return errors.New("an export is not for a terminal; write it into a file or a pipe")
			}
			err = write(env.stdout)
		} else {
			err = writeFile(args[1], write)
		}
		t.rest()
		warnOf(t, c)
		if err != nil {
			return place.explain(name, noGeneration(err, name, generation))
		}
		if args[1] != "-" {
			what := "generation"
			if *archive {
				what = "the file of generation"
			}
			t.say("%s has %s %d of %s", args[1], what, c.Generation.Number, name)
		}
		return nil
	}
	return cmd
}

// writeFile writes a file that is there wholly or not at all. What is no regular file, such as
// a pipe, is written to directly.
func writeFile(path string, write func(io.Writer) error) error {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	return durable.WriteStream(durable.OS, path, 0o600, write)
}
