package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"perdure/memsnap"
)

// purgedJSON is what perdure purge --json prints.
type purgedJSON struct {
	Purged     []uint64   `json:"purged"`
	Removed    int        `json:"files_removed"`
	Rest       int        `json:"files_needed"`
	FreedBytes uint64     `json:"freed_bytes"`
	Held       []heldJSON `json:"held"`
}

type heldJSON struct {
	Number uint64 `json:"number"`
	Error  string `json:"error"`
}

func newPurgeCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge NAME [GEN... | --keep N]",
		Short: "remove generations of a process",
		Long: `Remove generations of a process: the given ones; with --keep all but the last N; else those that
perdure run would remove. What the others need of them stays. What an interrupted purge left behind
is cleared up too. The process must not run meanwhile; perdure run purges by itself.

The newest good generation and pinned ones never go.

With --json: an object with purged (numbers of the generations), files_removed, files_needed (of
purged generations, because others need something of them), freed_bytes, and held, an array of
objects with number and error: damaged generations because of which files were left as they are.`,
		Example: `  perdure purge prog
  perdure purge prog 3 4
  perdure purge prog --keep 10`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return oneProcess(cmd, args)
			}
			return nil
		},
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	keep := cmd.Flags().Uint64("keep", 0, "how many generations stay; `N` is at least 1")
	asJSON := addJSONFlag(cmd)
	cmd.ValidArgsFunction = place.completeGenerations(1000)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		name := args[0]
		o, err := place.store(nil)
		if err != nil {
			return err
		}
		o.Policy = memsnap.DefaultPolicy()
		var numbers []uint64
		switch {
		case cmd.Flags().Changed("keep") && len(args) > 1:
			return errors.New("either the generations that go, or with --keep how many stay")
		case cmd.Flags().Changed("keep"):
			if *keep == 0 {
				return errors.New("--keep 0: at least one generation stays")
			}
			o.Policy = memsnap.Policy{MaxSnapshots: *keep}
		case len(args) > 1:
			o.Policy = memsnap.Policy{}
			for _, a := range args[1:] {
				n, err := parseGeneration(a)
				if err != nil {
					return err
				}
				numbers = append(numbers, n)
			}
		}
		t := newTalk(env.stderr)
		t.work("purging "+name, "")
		defer t.rest()
		var report memsnap.PurgeReport
		err = place.maintain(ctx, name, o, func(s *memsnap.Store) (err error) {
			report, err = purge(ctx, s, name, numbers)
			return err
		})
		t.rest()
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(env.stdout, describePurge(report))
		}
		return printPurge(env, name, report)
	}
	return cmd
}

// purge removes generations, or what the policy lets go if there are none given, and sweeps.
func purge(ctx context.Context, s *memsnap.Store, name string, numbers []uint64) (report memsnap.PurgeReport, err error) {
	if numbers != nil {
		infos, err := s.Generations()
		if err != nil {
			return report, err
		}
		for _, n := range numbers {
			if !slices.ContainsFunc(infos, func(i memsnap.Info) bool { return i.Number == n }) {
				return report, noGeneration(memsnap.ErrNotFound, name, n)
			}
		}
		report, err = s.Purge(ctx, numbers...)
		if err != nil {
			return report, err
		}
	} else {
		if report, err = s.PurgeExpired(ctx); err != nil {
			return report, err
		}
	}
	swept, err := s.Sweep(ctx) // of all that is left, of earlier purges too
	swept.Purged = report.Purged
	swept.Removed += report.Removed
	swept.Freed += report.Freed
	return swept, err
}

func describePurge(r memsnap.PurgeReport) purgedJSON {
	j := purgedJSON{Purged: append([]uint64{}, r.Purged...), Removed: r.Removed, Rest: r.Rest, FreedBytes: r.Freed, Held: []heldJSON{}}
	for _, h := range r.Held {
		j.Held = append(j.Held, heldJSON{h.Number, h.Err.Error()})
	}
	return j
}

func printPurge(env *environment, name string, r memsnap.PurgeReport) error {
	for _, h := range r.Held {
		newTalk(env.stderr).warn("generation %d is damaged, so that older files which it may need were left: %v", h.Number, h.Err)
	}
	gone := "no generation"
	if len(r.Purged) > 0 {
		gone = count(len(r.Purged), "generation") + " (" + ranges(r.Purged) + ")"
	}
	_, err := fmt.Fprintf(env.stdout, "%s: %s purged, %s freed\n", name, gone, size(r.Freed))
	return err
}

// ranges lists ascending numbers: 1-3, 7.
func ranges(numbers []uint64) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		switch j - i {
		case 0:
			parts = append(parts, fmt.Sprint(numbers[i]))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", numbers[i], numbers[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ", ")
}
