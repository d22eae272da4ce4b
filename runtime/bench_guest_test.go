package runtime

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"

	"perdure/runtime/internal/compare"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/linmem"
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

// plainCode is a program as it is, on stock wazero.
type plainCode struct{ *compare.Plain }

func compilePlain(b testing.TB, src []byte) *plainCode {
	b.Helper()
	p, err := compare.CompilePlain(machineCode(), src)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { noError(b, p.Close()) })
	return &plainCode{p}
}

// instantiate returns a function that calls an export.
func (p *plainCode) instantiate(b testing.TB, args ...string) (call func(name string, params ...uint64) error, end func()) {
	b.Helper()
	call, ended, err := p.Instantiate(args...)
	if err != nil {
		b.Fatal(err)
	}
	return call, func() { noError(b, ended()) }
}

// hotCode is an instrumented program.
type hotCode struct{ *compare.Hot }

func compileHot(b testing.TB, src []byte) *hotCode {
	b.Helper()
	h, err := compare.CompileHot(machineCode(), src)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { noError(b, h.Close()) })
	return &hotCode{h}
}

func (h *hotCode) export(b testing.TB, name string) uint32 {
	b.Helper()
	f, err := h.Export(name)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// instantiate makes an instance in a sandbox of its own.
func (h *hotCode) instantiate(b testing.TB, cut func(*engine.Capture) bool, args ...string) (*engine.Instance, *compare.Sandbox) {
	b.Helper()
	in, s, err := h.Instantiate(cut, args...)
	if err != nil {
		b.Fatal(err)
	}
	return in, s
}

// again makes an instance in a memory of its own, with the host of another sandbox.
func (h *hotCode) again(b testing.TB, first *compare.Sandbox) (*engine.Instance, *compare.Sandbox) {
	b.Helper()
	mem, err := linmem.New(linmem.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := &compare.Sandbox{Mem: mem, WASI: first.WASI}
	in, err := h.InSandbox(s, nil)
	if err != nil {
		b.Fatal(err)
	}
	return in, s
}

func closeInstance(b testing.TB, in *engine.Instance, s *compare.Sandbox) {
	noError(b, in.Close())
	noError(b, s.Close())
}

func noError(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Error(err)
	}
}

func shifted(b testing.TB, src []byte, steps int) []byte {
	b.Helper()
	out, err := compare.Shifted(src, steps)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func readFile(b testing.TB, path string) []byte {
	b.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return src
}
