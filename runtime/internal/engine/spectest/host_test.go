package spectest

import (
	"context"
	"errors"
	"slices"

	"github.com/tetratelabs/wazero/api"

	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/wasm"
)

// spectestHost provides an instance with the functions of other instances, as the host of a process does. Each call is
// a suspend point.
type spectestHost struct {
	instance *engineInstance
	funcs    []hostFunction
	pending  *pendingCall
}

var _ engine.Host = (*spectestHost)(nil)

// hostFunction is a function of another instance.
type hostFunction struct {
	instance instance
	name     string
	nParams  int
}

// pendingCall is a call that waits.
type pendingCall struct {
	Function int
	Args     []uint64
}

var errNoCallWaits = errors.New("no call waits")

// newHost puts the functions that an instance imports into its configuration. The engine looks for a module in one
// place: where a script has it export something else too, or a type that a host function cannot have, the functions
// come straight from the instance that exports them.
func newHost(i *engineInstance, config *engine.InstanceConfig) *spectestHost {
	h := &spectestHost{instance: i}
	var elsewhere []string
	for _, im := range i.program.module.Imports {
		if im.Kind != wasm.ExternFunc || !h.provides(im) {
			elsewhere = append(elsewhere, im.Module)
		}
	}
	resolve := config.Resolve
	config.Resolve = func(name string) api.Module {
		if slices.Contains(elsewhere, name) {
			return resolve(name)
		}
		return nil
	}
	seen := map[[2]string]bool{}
	for _, im := range i.program.module.Imports {
		key := [2]string{im.Module, im.Name}
		if slices.Contains(elsewhere, im.Module) || seen[key] {
			continue
		}
		seen[key] = true
		from := i.link.resolve(im.Module)
		def := from.linked().ExportedFunctionDefinitions()[im.Name]
		h.funcs = append(h.funcs, hostFunction{from, im.Name, len(def.ParamTypes())})
		config.Funcs = append(config.Funcs, engine.Func{Module: im.Module, Name: im.Name, Params: def.ParamTypes(), Results: def.ResultTypes()})
	}
	config.Host = h
	return h
}

// provides tells whether the function exists and has only numbers for parameters and results.
func (h *spectestHost) provides(im wasm.Import) bool {
	from := h.instance.link.resolve(im.Module)
	if from == nil {
		return false
	}
	def := from.linked().ExportedFunctionDefinitions()[im.Name]
	if def == nil {
		return false
	}
	for _, t := range slices.Concat(def.ParamTypes(), def.ResultTypes()) {
		if v := wasm.ValType(t); !v.IsNum() || v == wasm.V128 {
			return false
		}
	}
	return true
}

// Call carries a call out, or lets it wait when a stop is due.
func (h *spectestHost) Call(function int, stack []uint64) error {
	args := slices.Clone(stack[:h.funcs[function].nParams])
	if h.interrupted() {
		h.pending = &pendingCall{function, args}
		return engine.ErrInterrupted
	}
	return h.carryOut(function, args, stack)
}

// Resume carries out the call that waits, or lets it wait on.
func (h *spectestHost) Resume(stack []uint64) error {
	if h.pending == nil {
		return errNoCallWaits
	}
	if h.interrupted() {
		return engine.ErrInterrupted
	}
	p := *h.pending
	h.pending = nil
	return h.carryOut(p.Function, p.Args, stack)
}

func (h *spectestHost) interrupted() bool {
	m := h.instance.program.machine
	return m.running == h.instance && h.instance.poll()
}

func (h *spectestHost) carryOut(function int, args, stack []uint64) error {
	f := h.funcs[function]
	results, err := f.instance.call(context.Background(), f.name, args)
	copy(stack, results)
	return err
}
