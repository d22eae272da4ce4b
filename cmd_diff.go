package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"perdure/config"
	"perdure/memsnap"
)

// diffJSON is what perdure diff --json prints.
type diffJSON struct {
	Name        string       `json:"name"`
	Before      uint64       `json:"before"`
	After       uint64       `json:"after"`
	PagesBefore uint64       `json:"pages_before"`
	PagesAfter  uint64       `json:"pages_after"`
	Changed     uint64       `json:"pages_changed"`
	Runs        []rangeJSON  `json:"runs"`
	Regions     []regionJSON `json:"regions"`
	Added       []string     `json:"sections_added"`
	Removed     []string     `json:"sections_removed"`
	Altered     []string     `json:"sections_changed"`
}

type rangeJSON struct {
	First uint64 `json:"first"`
	Count uint64 `json:"count"`
}

type regionJSON struct {
	First   uint64 `json:"first"`
	Count   uint64 `json:"count"`
	Changed uint64 `json:"changed"`
}

func newDiffCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff NAME GEN GEN",
		Short: "compare two generations of a process",
		Long: `Compare two generations of a process: which pages of 4 KiB of its memory differ, summed up by
regions, and which of its sections: process (what it is), stack, and wasi (files, arguments, time).
Where both have a page from the same place it is not read. The process may run meanwhile.

Exit status: 0 whether they differ or not, 125 when something could not be read.

With --json: an object with name, before, after (numbers), pages_before, pages_after (sizes of the
memory), pages_changed, runs (of pages that differ: first, count), regions (those with any: first,
count, changed), sections_added, sections_removed and sections_changed.`,
		Example: `  perdure diff prog 3 7
  perdure diff prog 3 7 --region 64KiB
  perdure diff prog 3 7 --json | jq .pages_changed`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 3 {
				return fmt.Errorf("which process, and which two generations? see %s --help", cmd.CommandPath())
			}
			return nil
		},
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	region := cmd.Flags().String("region", "1MiB", "`SIZE` of a region")
	asJSON := addJSONFlag(cmd)
	cmd.ValidArgsFunction = place.completeGenerations(2)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		name := args[0]
		before, err := parseGeneration(args[1])
		if err != nil {
			return err
		}
		after, err := parseGeneration(args[2])
		if err != nil {
			return err
		}
		bytes, err := config.ParseSize(*region)
		if err == nil && (bytes < memsnap.PageSize || bytes%memsnap.PageSize != 0) {
			err = errors.New("not a whole number of pages of 4KiB")
		}
		if err != nil {
			return fmt.Errorf("--region %s: %w", *region, err)
		}
		t := newTalk(env.stderr)
		defer t.rest()
		m := &meter{t: t, what: "comparing"}
		s, err := place.saved(name, m.tell)
		if err != nil {
			return err
		}
		infos, err := s.Generations()
		if err != nil {
			return err
		}
		have := map[uint64]bool{}
		for _, i := range infos {
			have[i.Number] = true
		}
		for _, n := range []uint64{before, after} {
			if !have[n] {
				return noGeneration(memsnap.ErrNotFound, name, n)
			}
		}
		d, err := s.Diff(ctx, before, after)
		t.rest()
		if err != nil {
			return place.explain(name, err)
		}
		j := describeDiff(name, before, after, d, uint64(bytes)/memsnap.PageSize)
		if *asJSON {
			return writeJSON(env.stdout, j)
		}
		return printDiff(env, j)
	}
	return cmd
}

func describeDiff(name string, before, after uint64, d *memsnap.Difference, region uint64) diffJSON {
	j := diffJSON{
		Name: name, Before: before, After: after, PagesBefore: d.PagesBefore, PagesAfter: d.PagesAfter, Changed: d.Pages(),
		Runs: []rangeJSON{}, Regions: []regionJSON{},
		Added: append([]string{}, d.Added...), Removed: append([]string{}, d.Removed...), Altered: append([]string{}, d.Altered...),
	}
	for _, r := range d.Changed {
		j.Runs = append(j.Runs, rangeJSON(r))
	}
	for _, r := range d.Regions(region) {
		j.Regions = append(j.Regions, regionJSON(r))
	}
	return j
}

func printDiff(env *environment, j diffJSON) error {
	w := newTable(env.stdout, tabwriter.AlignRight)
	fmt.Fprintf(env.stdout, "%s: generation %d has %d pages, generation %d has %d; %d differ (%s)\n",
		j.Name, j.Before, j.PagesBefore, j.After, j.PagesAfter, j.Changed, size(j.Changed*memsnap.PageSize))
	for _, s := range []struct {
		what  string
		names []string
	}{{"is new", j.Added}, {"is gone", j.Removed}, {"differs", j.Altered}} {
		for _, n := range s.names {
			fmt.Fprintf(env.stdout, "section %s %s\n", n, s.what)
		}
	}
	if len(j.Regions) == 0 {
		return nil
	}
	fmt.Fprintln(w, "from\tto\tpages\tdiffer\t")
	for _, r := range j.Regions {
		fmt.Fprintf(w, "%#08x\t%#08x\t%d\t%d\t\n", r.First*memsnap.PageSize, (r.First+r.Count)*memsnap.PageSize-1, r.Count, r.Changed)
	}
	return w.Flush()
}
