package spectest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"perdure/runtime/internal/wasm"
)

// captureRule says whether instances of modules which it applies to can be taken out and put back as a fresh instance.
type captureRule struct {
	name    string
	applies func(m *wasm.Module, shared bool) bool
	capture bool
	why     string
}

// captureRules are asked in this order; the first that applies holds. In the product a process is one module whose
// imports are all the host's. The scripts of the specification also link modules with each other, which puts one
// instance's functions, tables, memories and globals into another's hands by address: a fresh instance has other ones.
// Instances which cannot be taken out run instrumented all the same, without a stop.
var captureRules = []captureRule{
	{
		name:    "registered",
		applies: func(_ *wasm.Module, shared bool) bool { return shared },
		why:     "other instances link to this one and would go on with what it was before it was taken out; calls into it come from them, whose frames are not in its image",
	},
	{
		name:    "imports a table",
		applies: importing(func(i *wasm.Import) bool { return i.Kind == wasm.ExternTable }),
		why:     "the table lives on with functions of the instance that was taken out, and holds functions of others, which its image cannot name",
	},
	{
		name:    "imports a memory",
		applies: importing(func(i *wasm.Import) bool { return i.Kind == wasm.ExternMemory }),
		why:     "the memory lives on, and instantiating once more writes the active data segments over what is in it now",
	},
	{
		name: "imports a mutable global or a reference",
		applies: importing(func(i *wasm.Import) bool {
			return i.Kind == wasm.ExternGlobal && (i.Global.Mutable || i.Global.Type.IsRef())
		}),
		why: "the global belongs to the instance that defines it, a reference to the one that it points into",
	},
	{
		name:    "keeps references to the host",
		applies: func(m *wasm.Module, _ bool) bool { return keepsExternRefs(m) },
		why:     "what the host means by a reference cannot be saved; the functions of WASI give none out",
	},
	{
		name:    "imports functions of another module",
		applies: importing(func(i *wasm.Import) bool { return i.Kind == wasm.ExternFunc && i.Module != "spectest" }),
		capture: true,
		why:     "to the instance such a call is a host call, at which it can be stopped too; the callee is registered and never is",
	},
	{
		name:    "imports functions and constants of the host",
		applies: func(m *wasm.Module, _ bool) bool { return len(m.Imports) > 0 },
		capture: true,
		why:     "a fresh instance imports the same ones",
	},
	{
		name:    "imports nothing",
		applies: func(*wasm.Module, bool) bool { return true },
		capture: true,
		why:     "all state is its own",
	},
}

// importing makes a rule's condition from one on a single import.
func importing(is func(*wasm.Import) bool) func(*wasm.Module, bool) bool {
	return func(m *wasm.Module, _ bool) bool {
		for i := range m.Imports {
			if is(&m.Imports[i]) {
				return true
			}
		}
		return false
	}
}

// keepsExternRefs tells whether a module has a place for references to the host that outlasts a call.
func keepsExternRefs(m *wasm.Module) bool {
	for _, t := range m.Tables {
		if t.Elem == wasm.ExternRef {
			return true
		}
	}
	for _, g := range m.Globals {
		if g.Type.Mutable && g.Type.Type == wasm.ExternRef {
			return true
		}
	}
	return false
}

// ruleFor returns the rule that holds for an instance.
func ruleFor(m *wasm.Module, shared bool) captureRule {
	for _, r := range captureRules {
		if r.applies(m, shared) {
			return r
		}
	}
	panic("the last rule applies always")
}

// TestCaptureRules counts to how many modules of the scripts each rule applies. Were it few that can be taken out, the
// tests with stops would prove little.
func TestCaptureRules(t *testing.T) {
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			modules := map[string]int{}
			captured, total := 0, 0
			for _, script := range s.scripts(t) {
				shared := registeredLater(script.commands)
				for i, c := range script.commands {
					if c.Type != "module" {
						continue
					}
					binary, err := script.module(c.Filename)
					if err != nil {
						t.Fatal(err)
					}
					m, err := wasm.Decode(binary)
					if err != nil {
						t.Fatalf("%s: %v", c.Filename, err)
					}
					r := ruleFor(m, shared[i])
					modules[r.name]++
					total++
					if r.capture {
						captured++
					}
				}
			}
			var text strings.Builder
			for _, r := range captureRules {
				fmt.Fprintf(&text, "\n%5d modules, taken out: %-5v %s", modules[r.name], r.capture, r.name)
				if modules[r.name] == 0 && s.features == api.CoreFeaturesV2 {
					t.Errorf("rule %q applies to no module", r.name)
				}
			}
			t.Log(text.String())
			if captured*10 < total*9 {
				t.Errorf("%d of %d modules can be taken out, want at least nine tenths", captured, total)
			}
		})
	}
}
