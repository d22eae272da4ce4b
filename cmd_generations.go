package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"perdure/memsnap"
	"perdure/runtime"
)

// generationJSON is an element of what perdure generations --json prints.
type generationJSON struct {
	Number      uint64    `json:"number"`
	Base        uint64    `json:"base"`
	Time        time.Time `json:"time"`
	Pages       uint64    `json:"pages"`
	PagesNew    uint64    `json:"pages_new"`
	PagesLinked uint64    `json:"pages_linked"`
	PagesZero   uint64    `json:"pages_zero"`
	BytesRaw    uint64    `json:"bytes_raw"`
	BytesStored uint64    `json:"bytes_stored"`
	PauseNS     int64     `json:"pause_ns"`
	EncodeNS    int64     `json:"encode_ns"`
	SyncNS      int64     `json:"sync_ns"`
	Status      string    `json:"verified"`
	Error       string    `json:"error"`
}

// What is known of a generation.
const (
	statusUnchecked = "unchecked" // its ends and its report are well
	statusOK        = "ok"        // every byte that it needs was checked
	statusDamaged   = "damaged"
)

func newGenerationsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generations NAME",
		Short: "list what was saved of a process",
		Long: `List the generations of a process, oldest first: when each was taken, the pages of 4 KiB
that are new in it and all it has, what it takes on disk, and how long the program stood still.

Without --verify, a generation of which nothing bad is known is "unchecked": only its ends and its
report were read. It may be listed while the process runs.

With --json: an array of objects with number, base, time, pages, pages_new, pages_linked,
pages_zero, bytes_raw, bytes_stored, pause_ns, encode_ns, sync_ns, verified (unchecked, ok or
damaged) and error (why it is damaged, or empty). For a damaged one only number is certain.`,
		Example: `  perdure generations prog
  perdure generations prog --verify
  perdure generations prog --json | jq '.[-1].number'`,
		Args: oneProcess,
	}
	place := addStateFlag(cmd, env)
	verify := cmd.Flags().Bool("verify", false, "check every byte of each")
	asJSON := addJSONFlag(cmd)
	cmd.ValidArgsFunction = place.complete
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		s, err := place.saved(args[0])
		if err != nil {
			return err
		}
		infos, err := s.Generations()
		if err != nil {
			return err
		}
		list := make([]generationJSON, len(infos))
		for i, info := range infos {
			list[i] = describeGeneration(info)
		}
		if *verify {
			if err := verifyListed(ctx, s, args[0], list, newTalk(env.stderr)); err != nil {
				return err
			}
		}
		if *asJSON {
			return writeJSON(env.stdout, list)
		}
		return printGenerations(env, args[0], list)
	}
	return cmd
}

// oneProcess wants the name of a process as the only argument.
func oneProcess(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return fmt.Errorf("which process? see %s --help", cmd.CommandPath())
	case len(args) > 1:
		return fmt.Errorf("one process at a time; %q is too much", args[1])
	}
	return nil
}

func describeGeneration(info memsnap.Info) generationJSON {
	g := generationJSON{
		Number: info.Number, Base: info.Base, Time: info.Time,
		Pages: info.Pages, PagesNew: info.PagesNew, PagesLinked: info.PagesLinked, PagesZero: info.PagesZero,
		BytesRaw: info.BytesRaw, BytesStored: info.BytesStored,
		PauseNS: info.Pause.Nanoseconds(), EncodeNS: info.Encode.Nanoseconds(), SyncNS: info.Sync.Nanoseconds(),
		Status: statusUnchecked,
	}
	if info.Err != nil {
		g.Status, g.Error = statusDamaged, info.Err.Error()
	}
	return g
}

// verifyListed checks every byte of the generations that seem well.
func verifyListed(ctx context.Context, s *runtime.Saved, name string, list []generationJSON, t *talk) error {
	defer t.rest()
	for i := range list {
		g := &list[i]
		if g.Status == statusDamaged {
			continue
		}
		t.work("verifying "+name, fmt.Sprintf("(generation %d of %d)", i+1, len(list)))
		switch err := s.Verify(ctx, g.Number); {
		case err == nil:
			g.Status = statusOK
		case runtime.IsDamage(err):
			g.Status, g.Error = statusDamaged, err.Error()
		default:
			return fmt.Errorf("verify generation %d: %w", g.Number, err)
		}
	}
	return nil
}

func printGenerations(env *environment, name string, list []generationJSON) error {
	if len(list) == 0 {
		newTalk(env.stderr).warn("%s has no generations yet", name)
		return nil
	}
	w := newTable(env.stdout, tabwriter.AlignRight)
	fmt.Fprintln(w, "number\ttime\tnew pages\tall pages\tstored\tpause\tverified\t")
	for _, g := range list {
		if g.Status == statusDamaged && g.Time.IsZero() {
			fmt.Fprintf(w, "%d\t\t\t\t\t\t%s\t\n", g.Number, g.Status)
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%s\t%s\t%s\t\n", g.Number, localTime(g.Time), g.PagesNew, g.Pages,
			size(g.BytesStored), short(time.Duration(g.PauseNS)), g.Status)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, g := range list {
		if g.Status == statusDamaged {
			if _, err := fmt.Fprintf(env.stdout, "generation %d is damaged: %s\n", g.Number, g.Error); err != nil {
				return err
			}
		}
	}
	return nil
}
