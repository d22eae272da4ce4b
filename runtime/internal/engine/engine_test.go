package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"perdure/runtime/internal/guests"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/linmem"
	"perdure/runtime/internal/wasm"
)

// seed returns a random source, of PERDURE_SEED if that is set, and prints its seed.
func seed(t testing.TB) *rand.Rand { return rand.New(rand.NewPCG(seedNumber(t), 0)) }

// nobody is a host whose functions are not called.
type nobody struct{}

func (nobody) Call(i int, _ []uint64) error { return fmt.Errorf("call of import %d", i) }
func (nobody) Resume([]uint64) error        { return fmt.Errorf("no call waits") }

// stubs provides every import of a module.
func stubs(m *wasm.Module) []Func {
	var fs []Func
	for i := range m.Imports {
		im := &m.Imports[i]
		t := m.Types[im.TypeIndex]
		fs = append(fs, Func{Module: im.Module, Name: im.Name, Params: apiTypes(t.Params), Results: apiTypes(t.Results)})
	}
	return fs
}

func exportedFunc(t testing.TB, m *wasm.Module, name string) uint32 {
	t.Helper()
	for i := range m.Exports {
		if m.Exports[i].Name == name && m.Exports[i].Kind == wasm.ExternFunc {
			return m.Exports[i].Index
		}
	}
	t.Fatalf("no function %q", name)
	return 0
}

// kernelNames returns the names of the benchmark kernels.
func kernelNames(m *wasm.Module) []string {
	var names []string
	for i := range m.Exports {
		if n, ok := strings.CutPrefix(m.Exports[i].Name, "bench_"); ok {
			names = append(names, n)
		}
	}
	return names
}

// plainKernel runs a kernel uninstrumented.
func plainKernel(t testing.TB, src []byte, m *wasm.Module) (call func(name string, reps uint64) uint64) {
	ctx := context.Background()
	e := New(ctx, Config{})
	t.Cleanup(func() { _ = e.Close(ctx) })
	b := e.rt.NewHostModuleBuilder("wasi_snapshot_preview1")
	for _, f := range stubs(m) {
		b = b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(context.Context, []uint64) { panic("called") }), f.Params, f.Results).Export(f.Name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	in, err := e.rt.InstantiateWithConfig(ctx, src, wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	return func(name string, reps uint64) uint64 {
		r, err := in.ExportedFunction("bench_"+name).Call(ctx, reps)
		if err != nil {
			t.Fatal(err)
		}
		return r[0]
	}
}

// TestKernelsStopAnywhere suspends every kernel again and again at random loop headers
// and calls, each time goes on in a fresh instance, and wants the result of the
// uninterrupted run.
func TestKernelsStopAnywhere(t *testing.T) {
	src := guests.Bytes(t, "kernels")
	mod, err := wasm.Decode(src)
	if err != nil {
		t.Fatal(err)
	}
	plain := plainKernel(t, src, mod)
	rnd := seed(t)
	ctx := context.Background()
	e := New(ctx, Config{})
	t.Cleanup(func() { _ = e.Close(ctx) })
	hot, err := e.Load(ctx, src, instrument.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Load(ctx, src, instrument.Options{EveryLoop: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kernelNames(mod) {
		t.Run(name, func(t *testing.T) {
			want := plain(name, 1)
			for _, mode := range []string{"hot", "cut", "restore"} {
				got, cuts := stopAnywhere(t, p, hot, mode, exportedFunc(t, mod, "bench_"+name), rnd)
				if got != want {
					t.Errorf("%s: got %d, want %d (after %d cuts)", mode, got, want, cuts)
				}
				t.Logf("%s: %d cuts", mode, cuts)
			}
		})
	}
}

// stopAnywhere runs a function with random cuts. In mode "cut" the guest goes on in
// the same instance, in mode "restore" in a fresh one. After so many cuts or polls it goes on
// in an instance of the program without EveryLoop, which is much faster; mode "hot" begins
// there.
func stopAnywhere(t *testing.T, p, hot *Program, mode string, f uint32, rnd *rand.Rand) (result uint64, cuts int) {
	var image *Image
	var memory []byte
	var mem *linmem.Memory
	left, polls := 0, 0
	const maxCuts = 40
	last := func() bool { return cuts >= maxCuts || polls > kernelPolls }
	cfg := InstanceConfig{Host: nobody{}, Funcs: stubs(p.src), Piece: rnd.IntN(4)}
	if mode != "hot" {
		left = rnd.IntN(2000)
		cfg.Poll = func() PollAnswer {
			polls++
			if last() {
				return PollCut
			}
			if left--; left >= 0 {
				return PollGo
			}
			left = int(1) << rnd.IntN(18)
			if rnd.IntN(3) == 0 {
				return PollForce
			}
			return PollCut
		}
	}
	cfg.Cut = func(c *Capture) bool {
		cuts++
		im, err := c.Image()
		if err != nil {
			t.Fatal(err)
		}
		if mode == "cut" && !last() {
			return true
		}
		b := EncodeImage(im)
		if image, err = DecodeImage(b); err != nil {
			t.Fatal(err)
		}
		memory = append(memory[:0], mem.Bytes()...)
		return false
	}
	run := func(first bool) ([]uint64, error) {
		var err error
		if mem, err = linmem.New(linmem.Options{}); err != nil {
			t.Fatal(err)
		}
		defer mem.Close()
		cfg.Memory = mem
		program := p
		if mode == "hot" || last() {
			program, cfg.Poll = hot, nil
		}
		in, err := program.Instantiate(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		if first {
			return in.Run(f, 1)
		}
		if n := (len(memory) - len(mem.Bytes())) / 65536; n > 0 {
			if _, ok := in.Module().Memory().Grow(uint32(n)); !ok {
				t.Fatal("memory does not grow")
			}
		}
		copy(mem.Bytes(), memory)
		if err := in.Restore(image); err != nil {
			t.Fatal(err)
		}
		return in.Resume(image)
	}
	r, err := run(true)
	for err == ErrUnwound {
		r, err = run(false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r[0], cuts
}
