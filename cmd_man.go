package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand returns perdure man, with which packages make the manual.
func newManCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "write the manual, a page for each command, into a directory",
		Long: `Write the manual into a directory, a page for each command: perdure.1, perdure-run.1 and so
on. $SOURCE_DATE_EPOCH is their date, if it is set.`,
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			date := time.Now().UTC()
			if s := env.getenv("SOURCE_DATE_EPOCH"); s != "" {
				n, err := strconv.ParseInt(s, 10, 64)
				if err != nil {
					return fmt.Errorf("$SOURCE_DATE_EPOCH: %w", err)
				}
				date = time.Unix(n, 0).UTC()
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "1", Date: &date, Source: "perdure " + version(), Manual: "Perdure"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write the manual: %w", err)
			}
			return nil
		},
	}
}
