package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"perdure/memsnap"
	"perdure/runtime"
)

// verifiedJSON is an element of what perdure verify --json prints.
type verifiedJSON struct {
	Name        string               `json:"name"`
	OK          bool                 `json:"ok"`
	Error       string               `json:"error"`
	Generations []verifiedGeneration `json:"generations"`
	Repair      *repairJSON          `json:"repair"`
}

// repairJSON is what a repair has done.
type repairJSON struct {
	Checked    uint64 `json:"checked"`
	Pages      uint64 `json:"pages"`
	Lost       int    `json:"lost"`
	Generation uint64 `json:"generation"`
	Whole      bool   `json:"whole"`
}

type verifiedGeneration struct {
	Number uint64 `json:"number"`
	OK     bool   `json:"ok"`
	Error  string `json:"error"`
}

func newVerifyCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [NAME]",
		Short: "check every byte of one process, or of all",
		Long: `Read and check every byte that the generations of a process need, and the program that it
keeps; without NAME, of all processes. It may be done while they run.

With --repair, a process with damage, which must not run meanwhile, gets a new generation: it equals
the newest one that can be read, and pages of which a copy was bad are stored in it once more, from
a good copy. The others stay as they are, until they are purged.

Exit status: 0 when all is well, or with --repair when the newest generation is; 1 when there is
damage, 125 when something could not be read.

With --json: an array of objects with name, ok, error (of the process as a whole, or empty),
generations, an array of objects with number, ok and error, and repair, null or what was done:
checked (the generation that was looked at), pages (that were stored again), lost (pages and
sections that cannot be had any more), generation (the new one, or 0) and whole (whether the newest
is well now).`,
		Example: `  perdure verify
  perdure verify prog
  perdure verify prog --repair
  perdure verify --json | jq '.[] | select(.ok | not) | .name'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneProcess(cmd, args)
		},
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	repair := cmd.Flags().Bool("repair", false, "store once more what is damaged and can be had from another copy")
	asJSON := addJSONFlag(cmd)
	cmd.ValidArgsFunction = place.complete
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		names := args
		if len(names) == 0 {
			dir, err := place.dir()
			if err != nil {
				return err
			}
			if names, err = runtime.SavedProcesses(dir); err != nil {
				return err
			}
			if len(names) == 0 {
				newTalk(env.stderr).warn("there are no processes in %s", dir)
			}
		}
		list := make([]verifiedJSON, 0, len(names))
		damaged := false
		for _, name := range names {
			t := newTalk(env.stderr)
			v, err := verifyProcess(ctx, place, name, t)
			if err == nil && *repair && !v.OK {
				v, err = repairProcess(ctx, place, name, t)
			}
			if err != nil {
				return err
			}
			damaged = damaged || !v.OK && (v.Repair == nil || !v.Repair.Whole)
			list = append(list, v)
			if !*asJSON {
				if err := printVerified(env, v); err != nil {
					return err
				}
			}
		}
		if *asJSON {
			if err := writeJSON(env.stdout, list); err != nil {
				return err
			}
		}
		if damaged {
			return &statusError{status: exitDamage}
		}
		return nil
	}
	return cmd
}

// verifyProcess checks one process. The error is not damage.
func verifyProcess(ctx context.Context, place *place, name string, t *talk) (verifiedJSON, error) {
	v := verifiedJSON{Name: name, OK: true, Generations: []verifiedGeneration{}}
	m := &meter{t: t, what: "verifying " + name}
	s, err := place.saved(name, m.tell)
	if err != nil {
		return v, err
	}
	infos, err := s.Generations()
	if err != nil {
		return v, err
	}
	list := make([]generationJSON, len(infos))
	for i, info := range infos {
		list[i] = describeGeneration(info)
	}
	if list, err = verifyListed(ctx, s, list, m); err != nil {
		return v, fmt.Errorf("%s: %w", name, place.explain(name, err))
	}
	for _, g := range list {
		v.OK = v.OK && g.Status == statusOK
		v.Generations = append(v.Generations, verifiedGeneration{Number: g.Number, OK: g.Status == statusOK, Error: g.Error})
	}
	if err := s.VerifyProgram(ctx); err != nil {
		if !runtime.IsDamage(err) {
			return v, fmt.Errorf("%s: %w", name, err)
		}
		v.OK, v.Error = false, err.Error()
	}
	return v, nil
}

// repairProcess repairs a process and checks it again.
func repairProcess(ctx context.Context, place *place, name string, t *talk) (verifiedJSON, error) {
	m := &meter{t: t, what: "repairing " + name}
	o, err := place.store(m.tell)
	if err != nil {
		return verifiedJSON{}, err
	}
	var report memsnap.RepairReport
	err = place.maintain(ctx, name, o, func(s *memsnap.Store) (err error) {
		report, err = s.Repair(ctx)
		return err
	})
	t.rest()
	if err != nil {
		return verifiedJSON{}, err
	}
	v, err := verifyProcess(ctx, place, name, t)
	if err != nil {
		return v, err
	}
	v.Repair = &repairJSON{Checked: report.Checked, Pages: report.Repaired, Lost: report.Damage.Lost(), Generation: report.Generation.Number}
	v.Repair.Whole = v.Error == "" && v.Generations[len(v.Generations)-1].OK
	return v, nil
}

func printVerified(env *environment, v verifiedJSON) error {
	bad := 0
	for _, g := range v.Generations {
		if !g.OK {
			bad++
			if _, err := fmt.Fprintf(env.stdout, "%s: generation %d is damaged: %s\n", v.Name, g.Number, g.Error); err != nil {
				return err
			}
		}
	}
	if r := v.Repair; r != nil && r.Generation != 0 {
		if _, err := fmt.Fprintf(env.stdout, "%s: generation %d was repaired: generation %d equals it, with %s stored again\n",
			v.Name, r.Checked, r.Generation, count(int(r.Pages), "page")); err != nil {
			return err
		}
	}
	if r := v.Repair; r != nil && r.Lost > 0 {
		if _, err := fmt.Fprintf(env.stdout, "%s: %d pages and sections of generation %d are lost\n", v.Name, r.Lost, r.Checked); err != nil {
			return err
		}
	}
	if v.Error != "" {
		if _, err := fmt.Fprintf(env.stdout, "%s: %s\n", v.Name, v.Error); err != nil {
			return err
		}
	}
	verdict := "ok"
	if !v.OK {
		verdict = fmt.Sprintf("%d of them well, damaged", len(v.Generations)-bad)
	}
	if v.Repair != nil && v.Repair.Whole {
		verdict = fmt.Sprintf("%d of them well, the newest among them", len(v.Generations)-bad)
	}
	_, err := fmt.Fprintf(env.stdout, "%s: %s, %s\n", v.Name, count(len(v.Generations), "generation"), verdict)
	return err
}
