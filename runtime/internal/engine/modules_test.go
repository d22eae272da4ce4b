package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasm"
)

// moduleBytes returns a module of testdata/modules. They were made of the text files beside
// them with wat2wasm of wabt, names.wat with --debug-names.
func moduleBytes(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "modules", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func moduleOf(t testing.TB, name string) *genModule {
	t.Helper()
	g := &genModule{bytes: moduleBytes(t, name)}
	var err error
	if g.mod, err = wasm.Decode(g.bytes); err != nil {
		t.Fatal(err)
	}
	g.start = g.mod.Start != nil
	g.mainF = exportedFunc(t, g.mod, "main")
	g.host = stubs(g.mod)
	return g
}

// TestModules runs each module of testdata in every mode, many times.
func TestModules(t *testing.T) {
	s := seedNumber(t)
	ctx := context.Background()
	e := New(ctx, Config{})
	t.Cleanup(func() { _ = e.Close(ctx) })
	files, err := filepath.Glob(filepath.Join("testdata", "modules", "*.wat"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d modules: %v", len(files), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".wat")
		t.Run(name, func(t *testing.T) {
			g := moduleOf(t, name)
			var n counted
			// Five times, and more for a small module that chance did not stop in every way.
			for i := uint64(0); i < 5 || i < 50 && (n.restores == 0 || n.cuts == n.restores); i++ {
				if err := checkModule(e, g, s+i, false, &n); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%+v", n)
			if n.restores == 0 || n.cuts == n.restores {
				t.Errorf("not suspended: %+v", n)
			}
		})
	}
}

// TestModulesDoWhatTheySay pins what the modules give when nobody disturbs them, so that a
// module which traps early is noticed.
func TestModulesDoWhatTheySay(t *testing.T) {
	ctx := context.Background()
	e := New(ctx, Config{})
	t.Cleanup(func() { _ = e.Close(ctx) })
	for name, want := range map[string]string{
		"block_params": "[", "multi_value": "[", "v128": "[", "br_table": "[", "unreachable": "[", "globals": "[", "names": "[", "start": "[", "recursion": "[",
		"tables":   "wasm error: invalid table access",
		"segments": "wasm error: out of bounds memory access",
	} {
		o, err := runPlain(e, moduleOf(t, name))
		if err != nil || !strings.HasPrefix(o.Steps[len(o.Steps)-1], want) {
			t.Errorf("%s: %v, %v; want %s", name, o.Steps, err, want)
		}
	}
}

// TestNames holds that functions keep their names in hot code, and that exports of the
// program that begin like ours are no obstacle.
func TestNames(t *testing.T) {
	mod, err := wasm.Decode(moduleBytes(t, "names"))
	if err != nil {
		t.Fatal(err)
	}
	hot, meta, err := instrument.Instrument(mod, instrument.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if meta.Prefix != "__perdure___" {
		t.Errorf("prefix %q", meta.Prefix)
	}
	h, err := wasm.Decode(hot)
	if err != nil {
		t.Fatal(err)
	}
	names := instrument.FuncNames(h)
	for i, n := range instrument.FuncNames(mod) {
		found := ""
		for j, m := range names {
			if o, ok := meta.OriginalIndex(j); ok && o == i || j == i && int(i) < mod.NumImportedFuncs() {
				found = m
			}
		}
		if found != n {
			t.Errorf("function %d is called %q, want %q", i, found, n)
		}
	}
	if len(names) != 3 {
		t.Errorf("names %v", names)
	}
	for _, x := range mod.Exports {
		n := 0
		for _, y := range h.Exports {
			if x.Name == y.Name {
				n++
			}
		}
		if n != 1 {
			t.Errorf("export %s is there %d times", x.Name, n)
		}
	}
}
