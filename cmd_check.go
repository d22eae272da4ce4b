package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"perdure/runtime"
)

// checkJSON is what perdure check --json prints.
type checkJSON struct {
	Program        string       `json:"program"`
	OK             bool         `json:"ok"`
	Refused        []string     `json:"refused"`
	SHA256         string       `json:"sha256"`
	Bytes          int          `json:"bytes"`
	Kind           string       `json:"kind"`
	Calls          []string     `json:"calls"`
	Imports        []importJSON `json:"imports"`
	MemoryMinBytes uint64       `json:"memory_min_bytes"`
	MemoryMaxBytes uint64       `json:"memory_max_bytes"`
	Features       []string     `json:"features"`
	Functions      int          `json:"functions"`
	Suspendable    int          `json:"suspendable_functions"`
	HotBytes       int          `json:"instrumented_bytes"`
	Growth         float64      `json:"growth"`
}

type importJSON struct {
	Module   string `json:"module"`
	Name     string `json:"name"`
	Provided bool   `json:"provided"`
}

func newCheckCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check PROGRAM.wasm",
		Short: "can a program persist? if not: why",
		Long: `Look at a program without running it: what it is, what it needs, and whether it can be run
persistently. If not, everything that stands in the way is listed.

Exit status: 0 when it can, 126 when it is refused, 127 when it is not found.

With --json: an object with program, ok, refused (reasons), sha256, bytes, kind (command or
reactor), calls (of a reactor: its functions with their types), imports (objects with module, name,
provided), memory_min_bytes, memory_max_bytes (0: no maximum), features, functions,
suspendable_functions, instrumented_bytes and growth. What could not be read of a refused program
is empty or 0.`,
		Example: `  perdure check prog.wasm
  perdure check --json prog.wasm | jq .refused`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("which program? one; see %s --help", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: completeProgram,
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		t := newTalk(env.stderr)
		report, err := runtime.Check(args[0], func(e runtime.Event) {
			if p, ok := e.(runtime.ProgressEvent); ok {
				t.progress(p, args[0])
			}
		})
		t.rest()
		if err != nil {
			return err
		}
		c := describeProgram(args[0], report)
		if *asJSON {
			err = writeJSON(env.stdout, c)
		} else {
			err = printProgram(env.stdout, c)
		}
		if err == nil && !c.OK {
			err = &statusError{status: exitRefused}
		}
		return err
	}
	return cmd
}

func describeProgram(path string, r *runtime.Report) checkJSON {
	c := checkJSON{
		Program: path, OK: len(r.Refused) == 0, Refused: append([]string{}, r.Refused...),
		SHA256: r.SHA256, Bytes: r.Bytes, Kind: string(r.Kind), Calls: append([]string{}, r.Calls...), Imports: []importJSON{},
		Features: append([]string{}, r.Features...), Functions: r.Functions, Suspendable: r.Suspendable, HotBytes: r.HotBytes,
	}
	if r.Memory != nil {
		c.MemoryMinBytes, c.MemoryMaxBytes = r.Memory.Min, r.Memory.Max
	}
	if r.Bytes > 0 {
		c.Growth = float64(r.HotBytes*1000/r.Bytes) / 1000
	}
	for _, i := range r.Imports {
		c.Imports = append(c.Imports, importJSON(i))
	}
	return c
}

func printProgram(out io.Writer, c checkJSON) error {
	verdict := "can persist"
	if !c.OK {
		verdict = "is refused"
	}
	w := newTable(out, 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "%s %s\n", c.Program, verdict)
	for _, why := range c.Refused {
		row("refused", "%s", why)
	}
	if c.SHA256 != "" {
		row("sha256", "%s", c.SHA256)
		row("size", "%d bytes", c.Bytes)
	}
	if c.Kind != "" {
		row("kind", "%s", c.Kind)
		for _, f := range c.Calls {
			row("call", "%s", f)
		}
		printImports(row, c.Imports)
		memory := "none"
		if c.MemoryMinBytes > 0 || c.MemoryMaxBytes > 0 {
			memory = "from " + size(c.MemoryMinBytes)
			if c.MemoryMaxBytes > 0 {
				memory += " to " + size(c.MemoryMaxBytes)
			}
		}
		row("memory", "%s", memory)
		features := strings.Join(c.Features, ", ")
		if features == "" {
			features = "those of WebAssembly 1.0"
		}
		row("features", "%s", features)
		row("functions", "%d", c.Functions)
	}
	if c.HotBytes > 0 {
		row("suspendable", "%s", count(c.Suspendable, "function"))
		row("instrumented", "%d bytes, %.2f times the program", c.HotBytes, c.Growth)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return nil
}

// printImports prints one row for each module, and one for what nobody provides of it.
func printImports(row func(name, format string, args ...any), imports []importJSON) {
	var modules []string
	names := map[string][]string{}
	for _, i := range imports {
		key := i.Module
		if !i.Provided {
			key += " (not provided)"
		}
		if names[key] == nil {
			modules = append(modules, key)
		}
		names[key] = append(names[key], i.Name)
	}
	for _, m := range modules {
		slices.Sort(names[m])
		row("imports", "%s: %s", m, strings.Join(names[m], ", "))
	}
	if len(modules) == 0 {
		row("imports", "none")
	}
}
