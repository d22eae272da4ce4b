package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	PagesPut    uint64    `json:"pages_put"`
	PagesNew    uint64    `json:"pages_new"`
	PagesLinked uint64    `json:"pages_linked"`
	PagesCopied uint64    `json:"pages_copied"`
	PagesZero   uint64    `json:"pages_zero"`
	BytesRaw    uint64    `json:"bytes_raw"`
	BytesStored uint64    `json:"bytes_stored"`
	PauseNS     int64     `json:"pause_ns"`
	EncodeNS    int64     `json:"encode_ns"`
	SyncNS      int64     `json:"sync_ns"`
	TotalNS     int64     `json:"total_ns"`
	Pinned      bool      `json:"pinned"`
	Status      string    `json:"verified"`
	Error       string    `json:"error"`
}

// What is known of a generation.
const (
	statusUnchecked = "unchecked" // its ends and its report are well
	statusOK        = "ok"        // every byte that it needs was checked
	statusDamaged   = "damaged"
	statusGone      = "gone" // purged while it was looked at; never shown
)

func newGenerationsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generations NAME",
		Short: "list what was saved of a process",
		Long: `List the generations of a process, oldest first: when each was taken, the pages of 4 KiB
that are new in it and all it has, what it takes on disk, and how long the program stood still.

Without --verify, a generation of which nothing bad is known is "unchecked": only its ends and its
report were read. It may be listed while the process runs.

With --long, the whole report of each: the generation it is based on; the pages that the process
handed over, those stored in it, those that older generations hold, those that were stored once
more to have another copy, those that are zero, and all; the bytes before compression and on disk;
the times of the pause, of compressing and writing, of making it durable, and together. The sync
time is kept by the next generation, so that the newest has none yet.

A pinned generation is not purged, whatever else is said. --pin and --unpin set and end that, also
while the process runs.

With --json: an array of objects with number, base, time, pages, pages_put, pages_new,
pages_linked, pages_copied, pages_zero, bytes_raw, bytes_stored, pause_ns, encode_ns, sync_ns,
total_ns, pinned, verified (unchecked, ok or damaged) and error (why it is damaged, or empty). For
a damaged one only number and pinned are certain.`,
		Example: `  perdure generations prog
  perdure generations prog --long --verify
  perdure generations prog --pin 7 --note 'before the upgrade'
  perdure generations prog --json | jq '.[-1].number'`,
		Args: oneProcess,
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	verify := cmd.Flags().Bool("verify", false, "check every byte of each")
	long := cmd.Flags().BoolP("long", "l", false, "list all that is known of each")
	pin := cmd.Flags().StringSlice("pin", nil, "keep generation `GEN` from being purged (repeatable)")
	unpin := cmd.Flags().StringSlice("unpin", nil, "let generation `GEN` be purged again (repeatable)")
	note := cmd.Flags().String("note", "", "`TEXT` that is kept with a pin")
	asJSON := addJSONFlag(cmd)
	cmd.ValidArgsFunction = place.complete
	for _, name := range []string{"pin", "unpin"} {
		// The only error is a flag that does not exist.
		_ = cmd.RegisterFlagCompletionFunc(name, place.completeOf)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		t := newTalk(env.stderr)
		defer t.rest()
		if len(*pin)+len(*unpin) > 0 {
			return changePins(place, args[0], *pin, *unpin, *note, t)
		}
		m := &meter{t: t, what: "verifying " + args[0]}
		s, err := place.saved(args[0], m.tell)
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
			if list, err = verifyListed(ctx, s, list, m); err != nil {
				return place.explain(args[0], err)
			}
		}
		if *asJSON {
			return writeJSON(env.stdout, list)
		}
		if *long {
			return printReports(env, args[0], list)
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
		Pages: info.Pages, PagesPut: info.PagesPut, PagesNew: info.PagesNew, PagesLinked: info.PagesLinked,
		PagesCopied: info.PagesCopied, PagesZero: info.PagesZero,
		BytesRaw: info.BytesRaw, BytesStored: info.BytesStored,
		PauseNS: info.Pause.Nanoseconds(), EncodeNS: info.Encode.Nanoseconds(), SyncNS: info.Sync.Nanoseconds(),
		TotalNS: info.Total().Nanoseconds(), Pinned: info.Pinned,
		Status: statusUnchecked,
	}
	if info.Err != nil {
		g.Status, g.Error = statusDamaged, info.Err.Error()
	}
	return g
}

// verifyListed checks every byte of the generations that seem well, and returns the list without those that were purged
// meanwhile.
func verifyListed(ctx context.Context, s *runtime.Saved, list []generationJSON, m *meter) ([]generationJSON, error) {
	defer m.t.rest()
	for i := range list {
		g := &list[i]
		if g.Status == statusDamaged {
			continue
		}
		m.step = fmt.Sprintf("of generation %d (%d of %d)", g.Number, i+1, len(list))
		m.tell(0, 0)
		switch err := s.Verify(ctx, g.Number); {
		case err == nil:
			g.Status = statusOK
		case runtime.IsDamage(err):
			g.Status, g.Error = statusDamaged, err.Error()
		case errors.Is(err, memsnap.ErrNotFound):
			g.Status = statusGone
		default:
			return nil, fmt.Errorf("verify generation %d: %w", g.Number, err)
		}
	}
	return slices.DeleteFunc(list, func(g generationJSON) bool { return g.Status == statusGone }), nil
}

// changePins pins and unpins generations.
func changePins(place *place, name string, pin, unpin []string, note string, t *talk) error {
	dir, err := place.existing(name)
	if err != nil {
		return err
	}
	o, err := place.store(nil)
	if err != nil {
		return err
	}
	each := func(list []string, do func(uint64) error, what string) error {
		for _, s := range list {
			n, err := parseGeneration(s)
			if err != nil {
				return err
			}
			if err := do(n); err != nil {
				return place.explain(name, noGeneration(err, name, n))
			}
			t.say("generation %d of %s %s", n, name, what)
		}
		return nil
	}
	if err := each(pin, func(n uint64) error { return runtime.Pin(dir, o, n, note) }, "is pinned"); err != nil {
		return err
	}
	return each(unpin, func(n uint64) error { return runtime.Unpin(dir, o, n) }, "is not pinned any more")
}

// verdict is what is known of a generation, for people.
func (g *generationJSON) verdict() string {
	if g.Pinned {
		return g.Status + ", pinned"
	}
	return g.Status
}

// printReports lists all that is known of each generation.
func printReports(env *environment, name string, list []generationJSON) error {
	return printTable(env, name, list, "number\tbase\ttime\tput\tnew\tlinked\tcopied\tzero\tpages\traw\tstored\tpause\tencode\tsync\ttotal\tverified\t",
		func(g *generationJSON) string {
			return fmt.Sprintf("%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t", g.Number, g.Base, localTime(g.Time),
				g.PagesPut, g.PagesNew, g.PagesLinked, g.PagesCopied, g.PagesZero, g.Pages, size(g.BytesRaw), size(g.BytesStored),
				short(time.Duration(g.PauseNS)), short(time.Duration(g.EncodeNS)), short(time.Duration(g.SyncNS)),
				short(time.Duration(g.TotalNS)), g.verdict())
		})
}

func printGenerations(env *environment, name string, list []generationJSON) error {
	return printTable(env, name, list, "number\ttime\tnew pages\tall pages\tstored\tpause\tverified\t", func(g *generationJSON) string {
		return fmt.Sprintf("%d\t%s\t%d\t%d\t%s\t%s\t%s\t", g.Number, localTime(g.Time), g.PagesNew, g.Pages,
			size(g.BytesStored), short(time.Duration(g.PauseNS)), g.verdict())
	})
}

// printTable lists generations in columns with these heads. One of which nothing is known has
// but its number and the verdict.
func printTable(env *environment, name string, list []generationJSON, heads string, row func(*generationJSON) string) error {
	if len(list) == 0 {
		newTalk(env.stderr).warn("%s has no generations yet", name)
		return nil
	}
	w := newTable(env.stdout, tabwriter.AlignRight)
	fmt.Fprintln(w, heads)
	for i := range list {
		g := &list[i]
		if g.Status == statusDamaged && g.Time.IsZero() {
			fmt.Fprintf(w, "%d%s%s\t\n", g.Number, strings.Repeat("\t", strings.Count(heads, "\t")-1), g.verdict())
			continue
		}
		fmt.Fprintln(w, row(g))
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
