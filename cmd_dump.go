package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"perdure/memsnap"
	"perdure/runtime"
)

// dumpJSON is what perdure dump --json prints.
type dumpJSON struct {
	Name       string            `json:"name"`
	Generation uint64            `json:"generation"`
	Base       uint64            `json:"base"`
	Time       time.Time         `json:"time"`
	Pages      uint64            `json:"pages"`
	Program    string            `json:"program"`
	Ended      bool              `json:"ended"`
	ExitCode   uint32            `json:"exit_code"`
	Restarts   uint64            `json:"restarts"`
	Error      string            `json:"error"`
	Sections   []dumpSectionJSON `json:"sections"`
	Files      []dumpFileJSON    `json:"files"`
	Copies     []uint64          `json:"copies"`
	Archive    []dumpRunJSON     `json:"archive"`
}

type dumpSectionJSON struct {
	Name        string `json:"name"`
	In          uint64 `json:"in"`
	BytesRaw    uint64 `json:"bytes_raw"`
	BytesStored uint64 `json:"bytes_stored"`
	SHA256      string `json:"sha256"`
}

type dumpFileJSON struct {
	In       uint64 `json:"in"`
	Pages    uint64 `json:"pages"`
	Further  uint64 `json:"further"`
	Sections int    `json:"sections"`
}

type dumpRunJSON struct {
	First     uint64         `json:"first"`
	Count     uint64         `json:"count"`
	Backlinks []backlinkJSON `json:"backlinks"`
}

type backlinkJSON struct {
	In       uint64 `json:"in"`
	Position uint64 `json:"position"`
}

func newDumpCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dump NAME[@GEN]",
		Short: "print of what a generation consists",
		Long: `Print of what a generation of a process consists, GEN or its newest that is well: what it says of
the process, its sections, from which generations' files it takes its pages, and how many copies
they have; with --archive, where each page is. --section and --memory write the content itself
to standard output. The process may run meanwhile.

With --json: an object with name, generation, base (which it was made from), time, pages, program,
ended, exit_code, restarts, error (why these could not be read, or empty), sections (name, in: the
generation whose file has it, bytes_raw, bytes_stored, sha256), files (in, pages: for how many it
is the first choice, further: for how many another one, sections), copies (how many pages have none,
since they are zero, how many have one, and so on) and archive, the runs of pages: first, count and
backlinks, the places of the first page, each with in and position, which count up with the pages.`,
		Example: `  perdure dump prog
  perdure dump prog@7 --archive
  perdure dump prog@7 --section wasi | jq .
  perdure dump prog --memory > memory`,
		Args: oneProcess,
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	archive := cmd.Flags().Bool("archive", false, "print where each page is")
	section := cmd.Flags().String("section", "", "write the content of section `NAME`")
	memory := cmd.Flags().Bool("memory", false, "write the memory of the program")
	asJSON := addJSONFlag(cmd)
	cmd.MarkFlagsMutuallyExclusive("archive", "section", "memory", "json")
	cmd.ValidArgsFunction = place.completeNameAt(cobra.ShellCompDirectiveNoFileComp)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		name, generation, err := splitGeneration(args[0])
		if err != nil {
			return err
		}
		s, err := place.saved(name, nil)
		if err != nil {
			return err
		}
		switch {
		case cmd.Flags().Changed("section"):
			err = writeSection(ctx, env, s, generation, *section)
		case *memory:
			if isTerminal(env.stdout) {
				return errors.New("memory is not for a terminal; write it into a file or a pipe")
			}
			err = s.Memory(ctx, generation, env.stdout)
		default:
			var c *runtime.Contents
			if c, err = s.Contents(ctx, generation); err != nil {
				break
			}
			t := newTalk(env.stderr)
			for _, sk := range c.Skipped {
				t.warn("generation %d is passed over: %v", sk.Number, sk.Err)
			}
			j := describeContents(name, c)
			if *asJSON {
				return writeJSON(env.stdout, j)
			}
			if *archive {
				return printArchive(env, c)
			}
			return printContents(env, c.Generation, j)
		}
		return place.explain(name, noGeneration(err, name, generation))
	}
	return cmd
}

func writeSection(ctx context.Context, env *environment, s *runtime.Saved, generation uint64, section string) error {
	b, err := s.Section(ctx, generation, section)
	if errors.Is(err, memsnap.ErrNoSection) {
		c, cerr := s.Contents(ctx, generation)
		if cerr != nil {
			return err
		}
		var names []string
		for _, s := range c.Sections {
			names = append(names, s.Name)
		}
		return fmt.Errorf("there is no section %q; there are: %s", section, strings.Join(names, ", "))
	}
	if err != nil {
		return err
	}
	_, err = env.stdout.Write(b)
	return err
}

func describeContents(name string, c *runtime.Contents) dumpJSON {
	j := dumpJSON{
		Name: name, Generation: c.Generation.Number, Base: c.Generation.Base, Time: c.Generation.Time, Pages: c.Generation.Pages,
		Program: c.State.Program, Ended: c.State.Ended, ExitCode: c.State.ExitCode, Restarts: c.State.Restarts,
		Sections: []dumpSectionJSON{}, Files: []dumpFileJSON{}, Copies: []uint64{}, Archive: []dumpRunJSON{},
	}
	if c.Unread != nil {
		j.Error = c.Unread.Error()
	}
	files := map[uint64]*dumpFileJSON{}
	file := func(n uint64) *dumpFileJSON {
		if files[n] == nil {
			files[n] = &dumpFileJSON{In: n}
		}
		return files[n]
	}
	for _, s := range c.Sections {
		j.Sections = append(j.Sections, dumpSectionJSON{
			Name: s.Name, In: s.Generation, BytesRaw: s.RawSize, BytesStored: s.StoredSize, SHA256: fmt.Sprintf("%x", s.SHA256),
		})
		file(s.Generation).Sections++
	}
	for _, r := range c.Runs {
		run := dumpRunJSON{First: r.First, Count: r.Count, Backlinks: []backlinkJSON{}}
		for i, l := range r.Backlinks {
			run.Backlinks = append(run.Backlinks, backlinkJSON{In: l.Generation, Position: l.Position})
			if i == 0 {
				file(l.Generation).Pages += r.Count
			} else {
				file(l.Generation).Further += r.Count
			}
		}
		for len(j.Copies) <= len(r.Backlinks) {
			j.Copies = append(j.Copies, 0)
		}
		j.Copies[len(r.Backlinks)] += r.Count
		j.Archive = append(j.Archive, run)
	}
	for _, f := range files {
		j.Files = append(j.Files, *f)
	}
	sort.Slice(j.Files, func(a, b int) bool { return j.Files[a].In < j.Files[b].In })
	return j
}

func printContents(env *environment, g memsnap.Info, j dumpJSON) error {
	w := newTable(env.stdout, 0)
	line := func(what, format string, args ...any) { fmt.Fprintf(w, what+"\t"+format+"\n", args...) }
	line("generation", "%d of %s, based on %d", g.Number, j.Name, g.Base)
	line("time", "%s", localTime(g.Time))
	switch {
	case j.Error != "":
		line("process", "%s", j.Error)
	case j.Ended:
		line("process", "ended with status %d", j.ExitCode)
	default:
		line("process", "going on, restored %d times", j.Restarts)
	}
	line("program", "%s", j.Program)
	line("memory", "%d pages, %s", g.Pages, size(g.Pages*memsnap.PageSize))
	line("file", "%s (%s before compression): %d pages handed over, %d stored, %d of them copies",
		size(g.BytesStored), size(g.BytesRaw), g.PagesPut, g.PagesNew, g.PagesCopied)
	line("times", "pause %s, encode %s", short(g.Pause), short(g.Encode))
	for n, pages := range j.Copies {
		switch n {
		case 0:
			line("zero pages", "%d", pages)
		case 1:
			line("pages with 1 copy", "%d", pages)
		default:
			line(fmt.Sprintf("pages with %d copies", n), "%d", pages)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(env.stdout)
	w = newTable(env.stdout, tabwriter.AlignRight)
	fmt.Fprintln(w, "section\tfrom generation\tbytes\tstored\tSHA-256\t")
	for _, s := range j.Sections {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.16s…\t\n", s.Name, s.In, s.BytesRaw, s.BytesStored, s.SHA256)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(env.stdout)
	w = newTable(env.stdout, tabwriter.AlignRight)
	fmt.Fprintln(w, "from generation\tpages\tfurther copies\tsections\t")
	for _, f := range j.Files {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t\n", f.In, f.Pages, f.Further, f.Sections)
	}
	return w.Flush()
}

// printArchive prints where each page is: a run of pages in a line, with the places of its first.
func printArchive(env *environment, c *runtime.Contents) error {
	w := newTable(env.stdout, tabwriter.AlignRight)
	fmt.Fprintln(w, "page\tpages\tgeneration:position of each copy\t")
	for _, r := range c.Runs {
		places := make([]string, len(r.Backlinks))
		for i, l := range r.Backlinks {
			places[i] = fmt.Sprintf("%d:%d", l.Generation, l.Position)
		}
		if len(places) == 0 {
			places = []string{"zero"}
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t\n", r.First, r.Count, strings.Join(places, " "))
	}
	return w.Flush()
}
