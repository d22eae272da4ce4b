package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// specDir returns the directory of the core specification tests, which wazero's module brings along.
var specDir = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	return filepath.Join(strings.TrimSpace(string(out)), "internal/integration_test/spectest"), err
})

// A specModule is one module of the specification tests and what they say about it.
type specModule struct {
	name string // such as "v2/br_table.3.wasm"
	kind string // "module", or the assertion about it
	text string // what the tests expect as the error
	b    []byte
}

// specModules returns the binary modules of the core specification tests 1.0 and 2.0.
func specModules(tb testing.TB) []specModule {
	tb.Helper()
	dir, err := specDir()
	if err != nil {
		tb.Fatalf("find the specification tests: %v", err)
	}
	var modules []specModule
	for _, version := range []string{"v1", "v2"} {
		files, err := filepath.Glob(filepath.Join(dir, version, "testdata", "*.json"))
		if err != nil || len(files) == 0 {
			tb.Fatalf("list %s of the specification tests: %d files, %v", version, len(files), err)
		}
		for _, file := range files {
			modules = append(modules, specScript(tb, file, version)...)
		}
	}
	return modules
}

func specScript(tb testing.TB, file, version string) []specModule {
	tb.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var script struct {
		Commands []struct {
			Type, Filename, Text string
			ModuleType           string `json:"module_type"`
		}
	}
	if err := json.Unmarshal(raw, &script); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	var modules []specModule
	for _, c := range script.Commands {
		if c.Filename == "" || !strings.HasSuffix(c.Filename, ".wasm") || c.ModuleType == "text" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(filepath.Dir(file), c.Filename))
		if err != nil {
			tb.Fatal(err)
		}
		modules = append(modules, specModule{name: version + "/" + c.Filename, kind: c.Type, text: c.Text, b: b})
	}
	return modules
}

func decodeAndValidate(b []byte) (*Module, error) {
	m, err := Decode(b)
	if err != nil {
		return nil, err
	}
	return m, m.Validate()
}

// engine returns a wazero runtime that compiles for the interpreter, which is the quickest to check with.
func engine(tb testing.TB) wazero.Runtime {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2))
	tb.Cleanup(func() {
		if err := r.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// engineAccepts compiles a module. The engine panics on some malformed ones, which counts as a refusal.
func engineAccepts(r wazero.Runtime, b []byte) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the engine panics: %v", v)
		}
	}()
	ctx := context.Background()
	compiled, err := r.CompileModule(ctx, b)
	if err != nil {
		return err
	}
	return compiled.Close(ctx)
}

// equalModules compares modules up to Code.Offset, which depends on how integers were encoded.
func equalModules(a, b *Module) bool {
	strip := func(m *Module) *Module {
		c := *m
		c.Codes = append([]Code(nil), m.Codes...)
		for i := range c.Codes {
			c.Codes[i].Offset = 0
		}
		return &c
	}
	return reflect.DeepEqual(strip(a), strip(b))
}

// typedError reports whether err is one that this package documents.
func typedError(err error) bool {
	var format *FormatError
	var invalid *ValidationError
	var unsupported *UnsupportedError
	return errors.As(err, &format) || errors.As(err, &invalid) || errors.As(err, &unsupported) ||
		errors.Is(err, ErrNotWasm) || errors.Is(err, ErrComponent)
}

// allowedSince2 lists the modules that release 1.0 calls invalid and release 2.0 allows.
var allowedSince2 = map[string]string{
	"v1/func.20.wasm":              "several results",
	"v1/func.21.wasm":              "several results",
	"v1/type.3.wasm":               "several results",
	"v1/type.4.wasm":               "several results",
	"v1/imports.47.wasm":           "several tables",
	"v1/imports.48.wasm":           "several tables",
	"v1/imports.49.wasm":           "several tables",
	"v1/unreached-invalid.87.wasm": "br_table in unreachable code to labels of different types",
}

func TestSpecificationTestsAgree(t *testing.T) {
	r := engine(t)
	count := map[string]int{}
	for _, c := range specModules(t) {
		count[c.kind]++
		m, err := decodeAndValidate(c.b)
		switch c.kind {
		case "assert_invalid", "assert_malformed":
			if reason, ok := allowedSince2[c.name]; ok {
				if err != nil {
					t.Errorf("%s: release 2.0 allows %s: %v", c.name, reason, err)
				}
			} else if err == nil {
				t.Errorf("%s: accepted, but %s: %s", c.name, c.kind, c.text)
			} else if !typedError(err) {
				t.Errorf("%s: undocumented error %T: %v", c.name, err, err)
			}
		default:
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			encoded := m.Encode()
			again, err := Decode(encoded)
			if err != nil {
				t.Errorf("%s: decode what was encoded: %v", c.name, err)
				continue
			}
			if !equalModules(m, again) {
				t.Errorf("%s: encoded and decoded again, the module is another:\n got %+v\nwant %+v", c.name, again, m)
			}
			if err := engineAccepts(r, encoded); err != nil {
				t.Errorf("%s: the engine refuses what was encoded: %v", c.name, err)
			}
		}
	}
	t.Logf("modules by kind: %v", count)
}

// The tests of proposals that this package does not support: modules that use one are refused by its name.
func TestProposalsAreRefusedByName(t *testing.T) {
	dir, err := specDir()
	if err != nil {
		t.Fatalf("find the specification tests: %v", err)
	}
	for proposal, features := range map[string][]string{
		"exception-handling":        {featureExceptions, featureFunctionRefs, featureGC},
		"extended-const":            {featureExtendedConst},
		"tail-call":                 {featureTailCalls},
		"threads":                   {featureThreads},
		"typed-function-references": {featureFunctionRefs, featureTailCalls, featureExtendedConst},
	} {
		files, err := filepath.Glob(filepath.Join(dir, proposal, "testdata", "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d scripts, %v", proposal, len(files), err)
		}
		refused := map[string]int{}
		for _, file := range files {
			for _, c := range specScript(t, file, proposal) {
				_, err := decodeAndValidate(c.b)
				var unsupported *UnsupportedError
				switch {
				case errors.As(err, &unsupported):
					refused[unsupported.Feature]++
				case c.kind == "assert_invalid" || c.kind == "assert_malformed":
					if err == nil {
						t.Errorf("%s: accepted, but %s: %s", c.name, c.kind, c.text)
					}
				case err != nil: // a good module, but for the proposal
					t.Errorf("%s: refused without the name of the proposal: %v", c.name, err)
				}
			}
		}
		t.Logf("%s: %v", proposal, refused)
		if refused[features[0]] == 0 {
			t.Errorf("%s: no module was refused for %q, but for %v", proposal, features[0], refused)
		}
		for feature := range refused {
			if !slices.Contains(features, feature) {
				t.Errorf("%s: a module was refused for %q", proposal, feature)
			}
		}
	}
}
