package main

import (
	"context"
	"embed"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"perdure/runtime/bench"
)

// benchGuests are the programs that are measured.
//
//go:embed testdata/guests/kernels.wasm testdata/guests/sqlite.wasm testdata/guests/dirty.wasm testdata/guests/sort.wasm
//go:embed testdata/guests/server.wasm testdata/guests/keyvalue.wasm
var benchGuests embed.FS

// benchCommand is perdure bench.
type benchCommand struct {
	env  *environment
	talk *talk

	asJSON, markdown, quick bool
	versus                  []string
	svg, dir                string
	hold                    int // MiB
}

func newBenchCommand(env *environment) *cobra.Command {
	b := &benchCommand{env: env, talk: newTalk(env.stderr)}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "measure what it costs on this machine",
		Long: `Measure what persistence costs on this machine: the speed of programs, pauses, commit and restore,
the size of snapshots, recovery after kill -9, connections, the journal. What can be compared is
measured in turns with plain wazero, the raw disk or a native program, and told as a ratio, for
absolute times say more about the machine. It takes some minutes, with --quick some seconds; other
work on the machine disturbs it.

--vs compares with others too, where they are installed: redis (append-only file), criu (needs
root), asyncify (Binaryen's wasm-opt).

With --json: an object with machine (time, cpu, cores, memory_mib, kernel, arch, file_system, go,
wazero, version, load: the load average before), quick, took_ns, lines, and skipped (what was not
measured, and why). Each line has id, what, unit (x for a ratio), value (the median), p99 and max (0
where they mean nothing) and samples.`,
		Example: `  perdure bench
  perdure bench --quick --json
  perdure bench --vs redis,asyncify --svg bench.svg`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			err := b.run(ctx)
			if ctx.Err() != nil {
				return &statusError{status: exitSignal + 2}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&b.quick, "quick", false, "measure less, and less exactly")
	f.StringSliceVar(&b.versus, "vs", nil, "`OTHERS` to compare with: "+strings.Join(bench.Others(), ", "))
	f.BoolVar(&b.asJSON, "json", false, "print JSON")
	f.BoolVar(&b.markdown, "markdown", false, "print a table in Markdown")
	f.StringVar(&b.svg, "svg", "", "`FILE` for a picture of the ratios and times")
	f.StringVar(&b.dir, "dir", "", "`DIR` on the disk to measure (default: that of temporary files)")
	f.IntVar(&b.hold, "hold", 0, "hold so many MiB of memory until it is killed")
	cmd.MarkFlagsMutuallyExclusive("json", "markdown")
	// The only error is a flag that does not exist.
	_ = f.MarkHidden("hold")
	return cmd
}

func (b *benchCommand) run(ctx context.Context) error {
	for _, name := range b.versus {
		if !slices.Contains(bench.Others(), name) {
			return fmt.Errorf("--vs %s: there is nothing of that name; there are %s", name, strings.Join(bench.Others(), ", "))
		}
	}
	if b.hold > 0 {
		return holdMemory(ctx, b.env.stdout, b.hold)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find perdure itself: %w", err)
	}
	r, err := bench.Measure(ctx, bench.Options{
		Exe: exe, Dir: b.dir, Quick: b.quick, Versus: b.versus,
		Guest: func(name string) []byte {
			src, err := benchGuests.ReadFile("testdata/guests/" + name + ".wasm")
			if err != nil {
				panic(err) // it is not embedded
			}
			return src
		},
		Progress: func(what string) { b.talk.say("measuring %s …", what) },
	})
	if err != nil {
		return err
	}
	if b.svg != "" {
		if err := os.WriteFile(b.svg, benchSVG(&r), 0o644); err != nil {
			return err
		}
	}
	switch {
	case b.asJSON:
		return writeJSON(b.env.stdout, r)
	case b.markdown:
		return writeBenchMarkdown(b.env.stdout, &r)
	}
	return writeBenchTable(b.env.stdout, &r)
}

// holdMemory is the native process that others are to save: it has so much memory that does not compress.
func holdMemory(ctx context.Context, w io.Writer, mib int) error {
	memory := make([]byte, mib<<20)
	x := uint64(1)
	for i := range memory {
		x = x*6364136223846793005 + 1442695040888963407
		memory[i] = byte(x >> 56)
	}
	if _, err := fmt.Fprintln(w, "ready"); err != nil {
		return err
	}
	<-ctx.Done()
	_, err := fmt.Fprintln(w, memory[len(memory)-1]) // it is needed until here
	return err
}

// writeBenchTable writes a result for people.
func writeBenchTable(w io.Writer, r *bench.Result) error {
	if _, err := fmt.Fprintf(w, "%s\n%s, took %s\n\n", r.Machine, r.Machine.Time.Format(time.RFC3339), r.Took.Round(time.Second)); err != nil {
		return err
	}
	t := newTable(w, 0)
	fmt.Fprintln(t, "ID\tMEDIAN\tP99\tMAX\tWHAT")
	for _, l := range r.Lines {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.ID, benchValue(l.Value, l.Unit), benchValue(l.P99, l.Unit), benchValue(l.Max, l.Unit), l.What)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range r.Skipped {
		if _, err := fmt.Fprintf(w, "\nnot measured: %s: %s\n", s.What, s.Why); err != nil {
			return err
		}
	}
	return nil
}

// writeBenchMarkdown writes a result for a document.
func writeBenchMarkdown(w io.Writer, r *bench.Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. Version %s, %s; it took %s", r.Machine, r.Machine.Version, r.Machine.Time.Format("2006-01-02"), r.Took.Round(time.Second))
	if r.Quick {
		b.WriteString(", with `--quick`, which is not exact")
	}
	b.WriteString(".\n\n")
	b.WriteString("| id | median | p99 | max | what | measured |\n|---|---|---|---|---|---|\n")
	for _, l := range r.Lines {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %d × |\n", l.ID, benchValue(l.Value, l.Unit), benchValue(l.P99, l.Unit), benchValue(l.Max, l.Unit), l.What, l.Samples)
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "\nNot measured: %s: %s.\n", s.What, s.Why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// benchValue formats a value with three digits; empty for one that means nothing.
func benchValue(v float64, unit string) string {
	switch {
	case v == 0:
		return ""
	case unit == "x":
		return fmt.Sprintf("%.2f ×", v)
	case unit == "bytes", v >= 100:
		return fmt.Sprintf("%.0f %s", v, unit)
	}
	return fmt.Sprintf("%.3g %s", v, unit)
}
