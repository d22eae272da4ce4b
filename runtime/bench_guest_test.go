package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/linmem"
	"perdure/runtime/internal/wasi"
	"perdure/runtime/internal/wasm"
)

// machineCode keeps what benchmarks have compiled while the test binary runs. It lies on
// disk, so that what was closed is there again.
var machineCode = sync.OnceValue(func() wazero.CompilationCache {
	c, err := wazero.NewCompilationCacheWithDir(filepath.Join(cacheDir(), "benchmarks"))
	if err != nil {
		panic(err)
	}
	return c
})

// sandbox is what a guest of a benchmark has around it: memory and host as in a Process,
// standard streams that go nowhere.
type sandbox struct {
	mem  *linmem.Memory
	wasi *wasi.Host
}

func newSandbox(b testing.TB, args []string) *sandbox {
	b.Helper()
	mem, err := linmem.New(linmem.Options{})
	if err != nil {
		b.Fatal(err)
	}
	kernel, err := wasi.OS()
	if err != nil {
		b.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	fd := wasi.Handle(null.Fd())
	host, err := wasi.New(wasi.Config{Args: args, Stdio: &[3]wasi.Handle{fd, fd, fd}}, kernel)
	if err != nil {
		b.Fatal(err)
	}
	s := &sandbox{mem: mem, wasi: host}
	b.Cleanup(func() {
		host.Close()
		if err := errors.Join(kernel.Release(), null.Close()); err != nil {
			b.Error(err)
		}
	})
	return s
}

func (s *sandbox) close(b testing.TB) {
	if err := s.mem.Close(); err != nil {
		b.Error(err)
	}
}

// Call and Resume make a sandbox the engine's host.
func (s *sandbox) Call(i int, stack []uint64) error {
	r, err := s.wasi.Call(i, s.mem.Bytes(), stack[:len(wasi.Functions()[i].Params)])
	return s.result(r, stack, err)
}

func (s *sandbox) Resume(stack []uint64) error {
	r, err := s.wasi.Resume(s.mem.Bytes())
	return s.result(r, stack, err)
}

func (s *sandbox) result(r uint32, stack []uint64, err error) error {
	if errors.Is(err, wasi.ErrInterrupted) {
		return engine.ErrInterrupted
	}
	if err == nil && len(stack) > 0 {
		stack[0] = uint64(r)
	}
	return err
}

// exited tells whether an error is how a guest ends that succeeds.
func exited(err error) bool {
	var exit *wasi.ExitError
	return err == nil || errors.As(err, &exit) && exit.Code == 0
}

// ended ends a guest on stock wazero: a panic of a host function ends the call.
type ended struct{ err error }

func (e *ended) Error() string { return e.err.Error() }
func (e *ended) Unwrap() error { return e.err }

// plainCode is a program as it is, on stock wazero.
type plainCode struct {
	rt       wazero.Runtime
	compiled wazero.CompiledModule
	now      *sandbox // of the instance that runs
}

func compilePlain(b testing.TB, src []byte) *plainCode {
	b.Helper()
	ctx := context.Background()
	p := &plainCode{rt: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithDebugInfoEnabled(false).WithCompilationCache(machineCode()))}
	b.Cleanup(func() {
		if err := p.rt.Close(ctx); err != nil {
			b.Error(err)
		}
	})
	host := p.rt.NewHostModuleBuilder(wasi.ModuleName)
	for i, f := range wasi.Functions() {
		host = host.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) {
			if err := p.now.Call(i, stack); err != nil {
				panic(&ended{err})
			}
		}), f.Params, f.Results).Export(f.Name)
	}
	if _, err := host.Instantiate(ctx); err != nil {
		b.Fatal(err)
	}
	var err error
	if p.compiled, err = p.rt.CompileModule(ctx, src); err != nil {
		b.Fatal(err)
	}
	return p
}

// instantiate returns a function that calls an export.
func (p *plainCode) instantiate(b testing.TB, args ...string) (call func(name string, params ...uint64) error, end func()) {
	b.Helper()
	s := newSandbox(b, args)
	ctx := experimental.WithMemoryAllocator(context.Background(), s.mem)
	m, err := p.rt.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		b.Fatal(err)
	}
	call = func(name string, params ...uint64) error {
		p.now = s
		_, err := m.ExportedFunction(name).Call(ctx, params...)
		return err
	}
	return call, func() {
		if err := m.Close(ctx); err != nil {
			b.Error(err)
		}
		s.close(b)
	}
}

// hotCode is an instrumented program.
type hotCode struct {
	module  *wasm.Module
	program *engine.Program
}

func compileHot(b testing.TB, src []byte) *hotCode {
	b.Helper()
	ctx := context.Background()
	m, err := wasm.Decode(src)
	if err != nil {
		b.Fatal(err)
	}
	e := engine.New(ctx, engine.Config{Cache: machineCode()})
	b.Cleanup(func() {
		if err := e.Close(ctx); err != nil {
			b.Error(err)
		}
	})
	p, err := e.Load(ctx, src, instrument.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return &hotCode{m, p}
}

func (h *hotCode) export(b testing.TB, name string) uint32 {
	b.Helper()
	for i := range h.module.Exports {
		if e := &h.module.Exports[i]; e.Name == name && e.Kind == wasm.ExternFunc {
			return e.Index
		}
	}
	b.Fatalf("no function %q", name)
	return 0
}

// instantiate makes an instance in a sandbox of its own.
func (h *hotCode) instantiate(b testing.TB, cut func(*engine.Capture) bool, args ...string) (*engine.Instance, *sandbox) {
	b.Helper()
	s := newSandbox(b, args)
	in, err := h.program.Instantiate(context.Background(), engine.InstanceConfig{Host: s, Funcs: wasiFuncs(&wasm.Module{}), Memory: s.mem, Cut: cut})
	if err != nil {
		b.Fatal(err)
	}
	return in, s
}

func closeInstance(b testing.TB, in *engine.Instance, s *sandbox) {
	if err := in.Close(); err != nil {
		b.Error(err)
	}
	s.close(b)
}

// shifted returns the module with its machine code moved by so many small steps: dead code
// of that size is put into its first function. How fast a loop is can depend on where its
// code lies, by a factor of two for one whose branches are hard to predict; whoever compares
// two codes has to look at several places.
func shifted(b testing.TB, src []byte, steps int) []byte {
	b.Helper()
	m, err := wasm.Decode(src)
	if err != nil {
		b.Fatal(err)
	}
	pad := []byte{0x3f, 0, 0x45, 0x04, 0x40} // memory.size, i32.eqz, if: never
	for range 3 * steps {
		pad = append(pad, 0x41, 0, 0x41, 1, 0x3a, 0, 0) // i32.const 0, i32.const 1, i32.store8
	}
	m.Codes[0].Body = append(append(pad, 0x0b), m.Codes[0].Body...)
	return m.Encode()
}

func readFile(b testing.TB, path string) []byte {
	b.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return src
}
