package engine

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasm"
)

// Engine compiles and holds programs. It owns a wazero runtime.
type Engine struct {
	rt wazero.Runtime
}

// Config is what an Engine may be told.
type Config struct {
	// Cache keeps machine code between runs; nil for none. The Engine does not close
	// it.
	Cache wazero.CompilationCache
	// MemoryLimitPages bounds linear memory, in wasm pages of 64 KiB; 0 is the
	// specification's limit.
	MemoryLimitPages uint32
	// Features narrows what wazero accepts; 0 means core 2.0.
	Features api.CoreFeatures
}

// New returns an Engine.
func New(ctx context.Context, c Config) *Engine {
	if c.Features == 0 {
		c.Features = api.CoreFeaturesV2
	}
	rc := wazero.NewRuntimeConfigCompiler().WithCoreFeatures(c.Features).WithDebugInfoEnabled(false)
	if c.MemoryLimitPages != 0 {
		rc = rc.WithMemoryLimitPages(c.MemoryLimitPages)
	}
	if c.Cache != nil {
		rc = rc.WithCompilationCache(c.Cache)
	}
	return &Engine{rt: wazero.NewRuntimeWithConfig(ctx, rc)}
}

// Runtime returns the wazero runtime, for modules that are linked with a program.
func (e *Engine) Runtime() wazero.Runtime { return e.rt }

// Close frees everything that was compiled or instantiated.
func (e *Engine) Close(ctx context.Context) error { return e.rt.Close(ctx) }

// Program is an instrumented and compiled module. Instances of it may run one after the
// other, or at once in different goroutines.
type Program struct {
	engine   *Engine
	meta     *instrument.Meta
	src      *wasm.Module
	compiled wazero.CompiledModule
}

// Load decodes, validates, instruments and compiles a module. The bytes must stay
// unchanged while the program is in use. The error is a *instrument.RefusedError or a
// *wasm.UnsupportedError when the module cannot be made persistent.
func (e *Engine) Load(ctx context.Context, src []byte, o instrument.Options) (*Program, error) {
	mod, err := wasm.Decode(src)
	if err != nil {
		return nil, err
	}
	if err := mod.Validate(); err != nil {
		return nil, err
	}
	hot, meta, err := instrument.Instrument(mod, o)
	if err != nil {
		return nil, err
	}
	return e.LoadInstrumented(ctx, hot, meta)
}

// LoadInstrumented compiles hot code that was made before. The meta must be bound to
// the original module.
func (e *Engine) LoadInstrumented(ctx context.Context, hot []byte, meta *instrument.Meta) (*Program, error) {
	compiled, err := e.rt.CompileModule(ctx, hot)
	if err != nil {
		return nil, fmt.Errorf("compile instrumented module: %w", err)
	}
	return &Program{engine: e, meta: meta, src: meta.Module(), compiled: compiled}, nil
}

// Meta returns the tables of the program.
func (p *Program) Meta() *instrument.Meta { return p.meta }

// Close frees the compiled code. No instance may be in use.
func (p *Program) Close(ctx context.Context) error { return p.compiled.Close(ctx) }

// Func is a function that the host provides to guests.
type Func struct {
	Module, Name    string
	Params, Results []api.ValueType
}

// ErrInterrupted is what a Host returns when a call would wait and a cut is due. The
// call has had no effect; the host has recorded it and carries it out in Resume.
var ErrInterrupted = errors.New("interrupted")

// Host carries out the guest's calls to imported functions. Its methods are called on
// the guest's goroutine only.
type Host interface {
	// Call carries out function i of Funcs. Parameters are on stack, results are put
	// there. Any error but ErrInterrupted ends the guest and is what Run returns.
	Call(i int, stack []uint64) error
	// Resume carries out the call that was interrupted, here or before a restore.
	Resume(stack []uint64) error
}

// MissingError lists the imports of a program that nobody provides.
type MissingError struct {
	Names []string // "module.name"
}

func (e *MissingError) Error() string {
	n := e.Names
	more := ""
	if len(n) > 8 {
		n, more = n[:8], fmt.Sprintf(" and %d more", len(e.Names)-8)
	}
	return "imports nobody provides: " + strings.Join(n, ", ") + more
}

// Missing returns the imports of a module that are not among funcs, with their module
// and name; nil when there are none.
func Missing(m *wasm.Module, funcs []Func) error {
	have := map[string]Func{}
	for _, f := range funcs {
		have[f.Module+"\x00"+f.Name] = f
	}
	var names []string
	for i := range m.Imports {
		im := &m.Imports[i]
		f, ok := have[im.Module+"\x00"+im.Name]
		switch {
		case im.Kind != wasm.ExternFunc:
			names = append(names, fmt.Sprintf("%s.%s (%v)", im.Module, im.Name, im.Kind))
		case !ok:
			names = append(names, im.Module+"."+im.Name)
		case !sameTypes(m.Types[im.TypeIndex], f):
			names = append(names, fmt.Sprintf("%s.%s with the type %v", im.Module, im.Name, m.Types[im.TypeIndex]))
		}
	}
	if names == nil {
		return nil
	}
	sort.Strings(names)
	return &MissingError{Names: names}
}

func sameTypes(t wasm.FuncType, f Func) bool {
	same := func(a []wasm.ValType, b []api.ValueType) bool {
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if byte(a[i]) != b[i] {
				return false
			}
		}
		return true
	}
	return same(t.Params, f.Params) && same(t.Results, f.Results)
}

func apiTypes(ts []wasm.ValType) []api.ValueType {
	out := make([]api.ValueType, len(ts))
	for i, t := range ts {
		out[i] = api.ValueType(t)
	}
	return out
}
