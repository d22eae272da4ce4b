package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"perdure/memsnap"
	"perdure/runtime"
)

func newImportCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "make a process of what perdure export wrote",
		Long: `Make a new process of a file that perdure export wrote, and print its name. FILE - is standard
input. Every byte is checked before; then the process is there wholly, or not at all.

A single archive, of perdure export --archive or a copy of a file from a process's directory, is put
back in its place in the process that --name names, where it is damaged or missing. That process
must not run meanwhile.`,
		Example: `  perdure import prog.export
  perdure import prog.export --name prog-2
  ssh host perdure export prog - | perdure import -
  perdure import 7.gen --name prog`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("which file? see %s --help", cmd.CommandPath())
			}
			return nil
		},
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	name := cmd.Flags().String("name", "", "`NAME` of the process (default: the one that it had)")
	// The only error is a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("name", place.complete)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		from, what := io.Reader(os.Stdin), "standard input"
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close() // read only
			from, what = f, args[0]
		}
		t := newTalk(env.stderr)
		defer t.rest()
		m := &meter{t: t, what: "importing " + what}
		o, err := place.store(m.tell)
		if err != nil {
			return err
		}
		r := bufio.NewReaderSize(from, 1<<16)
		if runtime.IsArchive(r) {
			return importArchive(ctx, place, *name, what, r, o, t)
		}
		i, err := runtime.ImportProcess(ctx, r, func(exported string) (string, error) {
			if *name == "" {
				*name = exported
			}
			return place.process(*name)
		}, o)
		t.rest()
		if errors.Is(err, runtime.ErrProcessExists) {
			return fmt.Errorf("there is a process %q already; choose another name with --name", *name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, place.explain(*name, err))
		}
		t.say("%s goes on from where it was at %s; let it run: %s", *name, localTime(i.Generation.Time), runByName(env, *name))
		_, err = fmt.Fprintln(env.stdout, *name)
		return err
	}
	return cmd
}

// importArchive puts the file of one generation back.
func importArchive(ctx context.Context, place *place, name, what string, from io.Reader, o memsnap.Options, t *talk) error {
	if name == "" {
		return fmt.Errorf("%s is a single archive; say with --name of which process", what)
	}
	dir, err := place.process(name)
	if err != nil {
		return err
	}
	var number uint64
	err = place.still(ctx, name, func() (err error) {
		number, err = runtime.ImportArchive(ctx, dir, name, from, o)
		return err
	})
	t.rest()
	if err != nil {
		return place.explain(name, err)
	}
	t.say("the file of generation %d of %s is back", number, name)
	return nil
}
