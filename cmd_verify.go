package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"perdure/runtime"
)

// verifiedJSON is an element of what perdure verify --json prints.
type verifiedJSON struct {
	Name        string               `json:"name"`
	OK          bool                 `json:"ok"`
	Error       string               `json:"error"`
	Generations []verifiedGeneration `json:"generations"`
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

Exit status: 0 when all is well, 1 when there is damage, 125 when something could not be read.

With --json: an array of objects with name, ok, error (of the process as a whole, or empty) and
generations, an array of objects with number, ok and error.`,
		Example: `  perdure verify
  perdure verify prog
  perdure verify --json | jq '.[] | select(.ok | not) | .name'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneProcess(cmd, args)
		},
	}
	place := addStateFlag(cmd, env)
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
			v, err := verifyProcess(ctx, place, name, newTalk(env.stderr))
			if err != nil {
				return err
			}
			damaged = damaged || !v.OK
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
	s, err := place.saved(name)
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
	if err := verifyListed(ctx, s, name, list, t); err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
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
	if v.Error != "" {
		if _, err := fmt.Fprintf(env.stdout, "%s: %s\n", v.Name, v.Error); err != nil {
			return err
		}
	}
	verdict := "ok"
	if !v.OK {
		verdict = fmt.Sprintf("%d of them well, damaged", len(v.Generations)-bad)
	}
	_, err := fmt.Fprintf(env.stdout, "%s: %s, %s\n", v.Name, count(len(v.Generations), "generation"), verdict)
	return err
}
