package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"perdure/runtime"
)

// journalJSON is a record as perdure journal --json prints it.
type journalJSON struct {
	Segment uint64 `json:"segment"`
	Offset  int    `json:"offset"`
	Record  int    `json:"record"`
	Op      string `json:"op"`
	Errno   string `json:"errno"`
	Bytes   int    `json:"bytes"`
	Text    string `json:"text"`
}

func newJournalCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal NAME",
		Short: "print what the outside has answered to a process",
		Long: `Print the journal of a process: what the outside answered to each of its host calls, since
a generation that may be gone back to. A line has the record's number, the segment and offset
where it is, the call, its error number, how many bytes the record holds and what it says.
It may be printed while the process runs.

With --json: an array of objects with segment, offset, record (0 for a mark), op, errno, bytes
and text.`,
		Example: `  perdure journal prog
  perdure journal prog --json | jq '.[] | select(.op == "open")'`,
		Args: oneProcess,
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	asJSON := addJSONFlag(cmd)
	cmd.ValidArgsFunction = place.complete
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		dir, err := place.existing(args[0])
		if err != nil {
			return err
		}
		if _, err := os.Stat(dir); err != nil {
			return place.noProcess(args[0])
		}
		list := []journalJSON{}
		flaw, err := runtime.DumpJournal(dir, func(e runtime.JournalEntry) error {
			if *asJSON {
				list = append(list, journalJSON{e.Segment, e.Offset, e.Record, e.Op, e.Errno.String(), e.Bytes, e.Text})
				return nil
			}
			_, err := fmt.Fprintf(env.stdout, "%7d  %d:%-9d %-11s %-12v %8d  %s\n", e.Record, e.Segment, e.Offset, e.Op, e.Errno, e.Bytes, e.Text)
			return err
		})
		if err != nil {
			return err
		}
		if *asJSON {
			err = writeJSON(env.stdout, list)
		}
		return errors.Join(err, flaw)
	}
	return cmd
}
