package compare

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/linmem"
	"perdure/runtime/internal/wasi"
	"perdure/runtime/internal/wasm"
)

// Sandbox is what a guest has around it: memory and host as in a process, standard streams that go nowhere. It is the
// engine's host.
type Sandbox struct {
	Mem  *linmem.Memory
	WASI *wasi.Host
	own  []func() error // what Close closes beside the memory
}

// NewSandbox makes a sandbox for a guest with these arguments.
func NewSandbox(args []string) (*Sandbox, error) {
	s := &Sandbox{}
	fail := func(err error) (*Sandbox, error) { return nil, errors.Join(err, s.Close()) }
	var err error
	if s.Mem, err = linmem.New(linmem.Options{}); err != nil {
		return nil, err
	}
	kernel, err := wasi.OS()
	if err != nil {
		return fail(err)
	}
	s.own = append(s.own, kernel.Release)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	s.own = append(s.own, null.Close)
	fd := wasi.Handle(null.Fd())
	if s.WASI, err = wasi.New(wasi.Config{Args: args, Stdio: &[3]wasi.Handle{fd, fd, fd}}, kernel); err != nil {
		return fail(err)
	}
	return s, nil
}

// Close gives back the memory, and the host with all it has open.
func (s *Sandbox) Close() error {
	if s.WASI != nil && s.own != nil {
		s.WASI.Close()
	}
	all := []error{s.Mem.Close()}
	for _, f := range s.own {
		all = append(all, f())
	}
	s.own = nil
	return errors.Join(all...)
}

// Call carries out the i-th host function.
func (s *Sandbox) Call(i int, stack []uint64) error {
	r, err := s.WASI.Call(i, s.Mem.Bytes(), stack[:len(wasi.Functions()[i].Params)])
	return s.result(r, stack, err)
}

// Resume goes on with the one that was interrupted.
func (s *Sandbox) Resume(stack []uint64) error {
	r, err := s.WASI.Resume(s.Mem.Bytes())
	return s.result(r, stack, err)
}

func (s *Sandbox) result(r uint32, stack []uint64, err error) error {
	if errors.Is(err, wasi.ErrInterrupted) {
		return engine.ErrInterrupted
	}
	if err == nil && len(stack) > 0 {
		stack[0] = uint64(r)
	}
	return err
}

// Exited tells whether an error is how a guest ends that succeeds.
func Exited(err error) bool {
	var exit *wasi.ExitError
	return err == nil || errors.As(err, &exit) && exit.Code == 0
}

// ended ends a guest on stock wazero: a panic of a host function ends the call.
type ended struct{ err error }

func (e *ended) Error() string { return e.err.Error() }
func (e *ended) Unwrap() error { return e.err }

// Plain is a program as it is, on stock wazero.
type Plain struct {
	rt       wazero.Runtime
	compiled wazero.CompiledModule
	now      *Sandbox // of the instance that runs
}

// CompilePlain compiles a program. The cache, which may be nil, stays the caller's.
func CompilePlain(cache wazero.CompilationCache, src []byte) (*Plain, error) {
	ctx := context.Background()
	c := wazero.NewRuntimeConfigCompiler().WithDebugInfoEnabled(false)
	if cache != nil {
		c = c.WithCompilationCache(cache)
	}
	p := &Plain{rt: wazero.NewRuntimeWithConfig(ctx, c)}
	host := p.rt.NewHostModuleBuilder(wasi.ModuleName)
	for i, f := range wasi.Functions() {
		host = host.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) {
			if err := p.now.Call(i, stack); err != nil {
				panic(&ended{err})
			}
		}), f.Params, f.Results).Export(f.Name)
	}
	_, err := host.Instantiate(ctx)
	if err == nil {
		p.compiled, err = p.rt.CompileModule(ctx, src)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close gives the program back.
func (p *Plain) Close() error { return p.rt.Close(context.Background()) }

// Instantiate makes an instance in a sandbox of its own. Call calls an export of it, end ends it.
func (p *Plain) Instantiate(args ...string) (call func(name string, params ...uint64) error, end func() error, err error) {
	s, err := NewSandbox(args)
	if err != nil {
		return nil, nil, err
	}
	ctx := experimental.WithMemoryAllocator(context.Background(), s.Mem)
	m, err := p.rt.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	call = func(name string, params ...uint64) error {
		p.now = s
		_, err := m.ExportedFunction(name).Call(ctx, params...)
		return err
	}
	return call, func() error { return errors.Join(m.Close(ctx), s.Close()) }, nil
}

// Hot is an instrumented program.
type Hot struct {
	Module  *wasm.Module
	Program *engine.Program
	engine  *engine.Engine
}

// CompileHot instruments and compiles a program. The cache, which may be nil, stays the caller's.
func CompileHot(cache wazero.CompilationCache, src []byte) (*Hot, error) {
	ctx := context.Background()
	m, err := wasm.Decode(src)
	if err != nil {
		return nil, err
	}
	h := &Hot{Module: m, engine: engine.New(ctx, engine.Config{Cache: cache})}
	if h.Program, err = h.engine.Load(ctx, src, instrument.Options{}); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Close gives the program back.
func (h *Hot) Close() error { return h.engine.Close(context.Background()) }

// Export returns the index of a function by its name.
func (h *Hot) Export(name string) (uint32, error) {
	for i := range h.Module.Exports {
		if e := &h.Module.Exports[i]; e.Name == name && e.Kind == wasm.ExternFunc {
			return e.Index, nil
		}
	}
	return 0, fmt.Errorf("no function %q", name)
}

// InSandbox makes an instance in a sandbox, which stays the caller's. Cut, if not nil, is told of cuts.
func (h *Hot) InSandbox(s *Sandbox, cut func(*engine.Capture) bool) (*engine.Instance, error) {
	var funcs []engine.Func
	for _, f := range wasi.Functions() {
		funcs = append(funcs, engine.Func{Module: wasi.ModuleName, Name: f.Name, Params: f.Params, Results: f.Results})
	}
	return h.Program.Instantiate(context.Background(), engine.InstanceConfig{Host: s, Funcs: funcs, Memory: s.Mem, Cut: cut})
}

// Instantiate makes an instance in a sandbox of its own, both of which the caller closes.
func (h *Hot) Instantiate(cut func(*engine.Capture) bool, args ...string) (*engine.Instance, *Sandbox, error) {
	s, err := NewSandbox(args)
	if err != nil {
		return nil, nil, err
	}
	in, err := h.InSandbox(s, cut)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return in, s, nil
}

// Shifted returns the module with its machine code moved by so many small steps: dead code of that size is put into its
// first function. How fast a loop is can depend on where its code lies, by a factor of two for one whose branches are hard
// to predict; whoever compares two codes has to look at several places.
func Shifted(src []byte, steps int) ([]byte, error) {
	m, err := wasm.Decode(src)
	if err != nil {
		return nil, err
	}
	pad := []byte{0x3f, 0, 0x45, 0x04, 0x40} // memory.size, i32.eqz, if: never
	for range 3 * steps {
		pad = append(pad, 0x41, 0, 0x41, 1, 0x3a, 0, 0) // i32.const 0, i32.const 1, i32.store8
	}
	m.Codes[0].Body = append(append(pad, 0x0b), m.Codes[0].Body...)
	return m.Encode(), nil
}
