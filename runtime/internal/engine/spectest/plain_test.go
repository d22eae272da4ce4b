package spectest

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// plainMachine is wazero as it is.
type plainMachine struct {
	runtime  wazero.Runtime
	features api.CoreFeatures
}

var _ machine = (*plainMachine)(nil)

func newPlain(ctx context.Context, features api.CoreFeatures) *plainMachine {
	config := wazero.NewRuntimeConfigCompiler().WithCoreFeatures(features)
	return &plainMachine{features: features, runtime: wazero.NewRuntimeWithConfig(ctx, config)}
}

func (m *plainMachine) load(ctx context.Context, wasm []byte) (program, error) {
	compiled, err := m.runtime.CompileModule(ctx, wasm)
	if err != nil {
		return nil, err
	}
	return &plainProgram{runtime: m.runtime, compiled: compiled}, nil
}

func (m *plainMachine) host(ctx context.Context, wasm []byte) (instance, error) {
	p, err := m.load(ctx, wasm)
	if err != nil {
		return nil, err
	}
	return p.instantiate(ctx, linkage{resolve: func(string) instance { return nil }})
}

func (m *plainMachine) version2() bool { return m.features == api.CoreFeaturesV2 }

func (m *plainMachine) close(ctx context.Context) error { return m.runtime.Close(ctx) }

type plainProgram struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
}

// instantiate leaves the instance nameless: a script may register one instance under several names, or under a name
// that another one had before, which wazero's own name space forbids. Imports are found through the linkage instead.
func (p *plainProgram) instantiate(ctx context.Context, l linkage) (instance, error) {
	ctx = experimental.WithImportResolver(ctx, func(name string) api.Module {
		if found := l.resolve(name); found != nil {
			return found.linked()
		}
		return nil
	})
	// Scripts may export a function named _start, which is not for the harness to call.
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	module, err := p.runtime.InstantiateModule(ctx, p.compiled, config)
	if err != nil {
		return nil, err
	}
	return &plainInstance{module: module}, nil
}

type plainInstance struct {
	module api.Module
}

func (i *plainInstance) call(ctx context.Context, export string, args []uint64) ([]uint64, error) {
	fn := i.module.ExportedFunction(export)
	if fn == nil {
		return nil, fmt.Errorf("no exported function %q", export)
	}
	return fn.Call(ctx, args...)
}

func (i *plainInstance) linked() api.Module { return i.module }

func (i *plainInstance) global(name string) ([]uint64, error) {
	g := i.module.ExportedGlobal(name)
	if g == nil {
		return nil, fmt.Errorf("no exported global %q", name)
	}
	if g.Type() == api.ValueType(0x7b) {
		return nil, fmt.Errorf("global %q is a v128, of which wazero gives only one half", name)
	}
	return []uint64{g.Get()}, nil
}
