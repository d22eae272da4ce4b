package linmem

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// storeAndGrow is
//
//	(module
//	  (memory 1)
//	  (func (export "store") (param i32 i32) local.get 0 local.get 1 i32.store)
//	  (func (export "grow") (param i32) (result i32) local.get 0 memory.grow)
//	  (data (i32.const 8192) "perdure"))
const storeAndGrow = "\x00asm\x01\x00\x00\x00" +
	"\x01\x0b\x02\x60\x02\x7f\x7f\x00\x60\x01\x7f\x01\x7f" + // types
	"\x03\x03\x02\x00\x01" + // functions
	"\x05\x03\x01\x00\x01" + // memory
	"\x07\x10\x02\x05store\x00\x00\x04grow\x00\x01" + // exports
	"\x0a\x12\x02\x09\x00\x20\x00\x20\x01\x36\x02\x00\x0b\x06\x00\x20\x00\x40\x00\x0b" + // code
	"\x0b\x0f\x01\x00\x41\x80\xc0\x00\x0b\x07perdure" // data

func TestWasmGuest(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 3))
		ctx := context.Background()
		engine := wazero.NewRuntime(ctx)
		defer engine.Close(ctx)

		const limit = 100 * wasmPageSize
		m, err := New(Options{Tracker: kind, Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		module, err := engine.Instantiate(experimental.WithMemoryAllocator(ctx, m), []byte(storeAndGrow))
		if err != nil {
			t.Fatal(err)
		}
		g := &guest{Memory: m, t: t}
		g.wantCollect(2) // the data segment
		base := &m.Bytes()[0]
		call := func(name string, args ...uint64) uint64 {
			t.Helper()
			result, err := module.ExportedFunction(name).Call(ctx, args...)
			if err != nil {
				t.Fatal(err)
			}
			return append(result, 0)[0]
		}

		pages, value := uint64(wasmPageSize/PageSize), uint64(0)
		for range 200 {
			if r.IntN(4) == 0 && pages < limit/PageSize {
				if old := call("grow", 1); old != pages*PageSize/wasmPageSize {
					t.Fatalf("memory.grow gave %d at %d pages", old, pages)
				}
				pages += wasmPageSize / PageSize
			}
			written := make([]bool, pages)
			for range r.IntN(40) {
				value = value%255 + 1 // no byte of it is zero: a fresh page that zeros are written to need not be emitted
				address := r.Uint64N(pages*PageSize - 3)
				call("store", address, value*0x01010101)
				written[address/PageSize] = true
				written[(address+3)/PageSize] = true
			}
			var want []uint64
			for page, w := range written {
				if w {
					want = append(want, uint64(page))
				}
			}
			if kind == Userfaultfd {
				g.wantCollect(want...)
			} else {
				g.collect()
				g.wantShadow()
			}
		}
		if got := call("grow", 1000); api.DecodeI32(got) != -1 {
			t.Fatalf("memory.grow beyond the limit gave %d", got)
		}
		if _, err := module.ExportedFunction("store").Call(ctx, uint64(len(m.Bytes())), 1); err == nil {
			t.Fatal("a store beyond the memory did not trap")
		}
		if view, ok := module.Memory().Read(0, 1); !ok || &view[0] != base || &m.Bytes()[0] != base {
			t.Fatal("the memory moved")
		}
		if err := module.Close(ctx); err != nil {
			t.Fatal(err)
		}

		// The next instance of the same module in the same memory.
		if _, err := engine.Instantiate(experimental.WithMemoryAllocator(ctx, m), []byte(storeAndGrow)); err != nil {
			t.Fatal(err)
		}
		if len(m.Bytes()) != wasmPageSize || string(m.Bytes()[8192:8199]) != "perdure" || &m.Bytes()[0] != base {
			t.Fatal("the second instance does not start afresh")
		}
		g.shadow = g.shadow[:wasmPageSize]
		g.collect()
		g.wantShadow()
	})
}
