package instrument

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"perdure/runtime/internal/guests"
	"perdure/runtime/internal/wasm"
)

// check instruments a module that is valid, and wants what comes out to be valid too: hot
// code, and the cold code for all places at once.
func check(t testing.TB, m *wasm.Module, o Options) (hot []byte, meta *Meta, err error) {
	t.Helper()
	hot, meta, err = Instrument(m, o)
	if err != nil {
		var refused *RefusedError
		if !errors.As(err, &refused) || len(refused.Reasons) == 0 {
			t.Fatalf("undocumented error: %v", err)
		}
		return nil, nil, err
	}
	valid(t, "hot", hot, o)
	for i, s := range meta.Suspendable {
		if !s || len(meta.Roots) == 0 {
			continue
		}
		fn, err := meta.function(uint32(i + m.NumImportedFuncs()))
		if err != nil {
			t.Fatal(err)
		}
		var points []Point
		for _, s := range fn.sites {
			points = append(points, Point{Func: fn.index, Offset: s.offset})
			if s.kind == siteCall {
				points = append(points, Point{Func: fn.index, Offset: s.offset, InCall: true})
			}
		}
		if len(points) == 0 {
			continue
		}
		cold, err := meta.Resume(points)
		if err != nil {
			if strings.Contains(err.Error(), "too many") {
				continue
			}
			t.Fatal(err)
		}
		valid(t, fmt.Sprintf("cold code of function %d", fn.index), cold, o)
	}
	return hot, meta, nil
}

// valid wants a module to be valid, and without remainders where the options say so.
func valid(t testing.TB, what string, b []byte, o Options) {
	t.Helper()
	m, err := wasm.Decode(b)
	if err == nil {
		err = m.Validate()
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for i := 0; (o.NoRemainder || wrongRemainder) && i < len(m.Codes); i++ {
		var in wasm.Instr
		for r := wasm.NewReader(m.Codes[i].Body); r.Next(&in) == nil; {
			switch in.Op {
			case wasm.OpI32RemS, wasm.OpI32RemU, wasm.OpI64RemS, wasm.OpI64RemU:
				t.Fatalf("%s: a remainder is left", what)
			}
		}
	}
}

// modules calls f with every valid module of the specification tests, and those of
// testdata.
func modules(t testing.TB, f func(name string, b []byte, m *wasm.Module)) {
	var paths []string
	for _, pattern := range []string{
		filepath.Join(guests.WazeroDir(t), "internal/integration_test/spectest/v*/testdata/*.wasm"),
		"../engine/testdata/modules/*.wasm",
	} {
		list, err := filepath.Glob(pattern)
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(list), err)
		}
		paths = append(paths, list...)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := wasm.Decode(b); err == nil && m.Validate() == nil {
			f(filepath.Base(p), b, m)
		}
	}
}

// TestModulesStayValid holds that hot and cold code of every module are valid, and the same
// whoever makes them.
func TestModulesStayValid(t *testing.T) {
	n, refused := 0, 0
	modules(t, func(name string, _ []byte, m *wasm.Module) {
		n++
		one, _, err := check(t, m, Options{Workers: 1})
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), "holds a reference") {
				t.Errorf("%s: %v", name, err)
			}
			return
		}
		if many, _, _ := Instrument(m, Options{Workers: 4}); !bytes.Equal(one, many) {
			t.Errorf("%s: four workers make other code than one", name)
		}
		if _, _, err := check(t, m, Options{EveryLoop: true, NoRemainder: true}); err != nil {
			t.Errorf("%s: with EveryLoop, without remainders: %v", name, err)
		}
	})
	t.Logf("%d modules, %d refused", n, refused)
	if n < 1000 || refused > n/20 {
		t.Errorf("%d modules, %d refused", n, refused)
	}
}

// FuzzInstrument holds that every valid module is instrumented or refused, and that what
// comes out is valid.
func FuzzInstrument(f *testing.F) {
	seen := map[string]bool{}
	modules(f, func(name string, b []byte, _ *wasm.Module) {
		script, _, _ := strings.Cut(name, ".")
		if !seen[script] || len(b) < 300 {
			seen[script] = true
			if len(b) < 4000 {
				f.Add(b)
			}
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wasm.Decode(b)
		if err != nil || m.Validate() != nil || len(b) > 1<<16 {
			return
		}
		_, _, _ = check(t, m, Options{Workers: 1})
		_, _, _ = check(t, m, Options{Workers: 1, EveryLoop: true, NoRemainder: true})
	})
}

// FuzzBody holds the same for function bodies, in a module that has something of every kind.
func FuzzBody(f *testing.F) {
	modules(f, func(_ string, b []byte, m *wasm.Module) {
		for i := range m.Codes {
			if n := len(m.Codes[i].Body); n > 8 && n < 200 && len(b) < 2000 {
				f.Add(m.Codes[i].Body[:n-1])
			}
		}
	})
	f.Fuzz(func(t *testing.T, code []byte) {
		m := bodyModule(append(append([]byte(nil), code...), byte(wasm.OpEnd)))
		if m.Validate() != nil {
			return
		}
		d, err := wasm.Decode(m.Encode()) // offsets are of the encoded module
		if err != nil {
			t.Fatal(err)
		}
		_, _, _ = check(t, d, Options{Workers: 1, EveryLoop: len(code)%2 == 0, NoRemainder: len(code)%3 == 0})
	})
}

// bodyModule returns a module with something in every index space, whose last function has
// the given body.
func bodyModule(code []byte) *wasm.Module {
	i, l, f, d, v := wasm.I32, wasm.I64, wasm.F32, wasm.F64, wasm.V128
	types := func(ts ...wasm.ValType) []wasm.ValType { return ts }
	two := uint32(2)
	m := &wasm.Module{
		Types: []wasm.FuncType{{}, {Results: types(i)}, {Params: types(i), Results: types(i)}, {Params: types(i, l), Results: types(l, i)},
			{Params: types(i, l, f, d, v, wasm.FuncRef), Results: types(i)}},
		Imports:   []wasm.Import{{Module: "a", Name: "f", Kind: wasm.ExternFunc, TypeIndex: 3}, {Module: "a", Name: "g", Kind: wasm.ExternFunc, TypeIndex: 2}},
		Funcs:     []uint32{0, 4},
		Tables:    []wasm.TableType{{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: 2}}, {Elem: wasm.ExternRef}},
		Memories:  []wasm.MemoryType{{Min: 1}},
		Elems:     []wasm.Elem{{Mode: wasm.Passive, Type: wasm.FuncRef, Funcs: []uint32{0, 1, 2, 3}}},
		Exports:   []wasm.Export{{Name: "f", Kind: wasm.ExternFunc, Index: 3}},
		DataCount: &two,
		Datas:     []wasm.Data{{Mode: wasm.Passive, Bytes: []byte("x")}, {Mode: wasm.Active, Offset: wasm.ConstOf(i32Const(0))}},
		Codes:     []wasm.Code{{Body: body()}, {Locals: []wasm.LocalRun{{Count: 2, Type: i}, {Count: 1, Type: v}, {Count: 1, Type: wasm.ExternRef}}, Body: code}},
	}
	for _, t := range []wasm.ValType{i, l, f, d, v} {
		ops := map[wasm.ValType]wasm.Op{i: wasm.OpI32Const, l: wasm.OpI64Const, f: wasm.OpF32Const, d: wasm.OpF64Const, v: wasm.OpV128Const}
		m.Globals = append(m.Globals, wasm.Global{Type: wasm.GlobalType{Type: t, Mutable: true}, Init: wasm.ConstOf(op(ops[t]))})
	}
	m.Reindex()
	return m
}

// cpuTime returns how long this process has run.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// builder makes a module with one exported function.
type builder struct {
	code   []byte
	locals []wasm.LocalRun
	types  []wasm.FuncType
}

func (b *builder) add(ins ...wasm.Instr) {
	for i := range ins {
		b.code = ins[i].Append(b.code)
	}
}

func (b *builder) module(t testing.TB) *wasm.Module {
	t.Helper()
	m := &wasm.Module{
		Types:   append([]wasm.FuncType{{}, {Results: []wasm.ValType{wasm.I32}}}, b.types...),
		Imports: []wasm.Import{{Module: "env", Name: "f", Kind: wasm.ExternFunc}, {Module: "env", Name: "g", Kind: wasm.ExternFunc, TypeIndex: 1}},
		Funcs:   []uint32{0},
		Exports: []wasm.Export{{Name: "main", Kind: wasm.ExternFunc, Index: 2}},
		Codes:   []wasm.Code{{Locals: b.locals, Body: append(b.code, byte(wasm.OpEnd))}},
	}
	m.Reindex()
	d, err := wasm.Decode(m.Encode())
	if err == nil {
		err = d.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestHostileModules holds that modules which were made to exhaust us end soon, one way or
// the other.
func TestHostileModules(t *testing.T) {
	call := opX(wasm.OpCall, 0)
	loop, block := wasm.Instr{Op: wasm.OpLoop}, wasm.Instr{Op: wasm.OpBlock}
	locals := []wasm.LocalRun{{Count: 50_000, Type: wasm.I64}}
	use := func(b *builder) { // every local is read at the end
		for i := uint32(0); i < 50_000; i++ {
			b.add(get(i), op(wasm.OpDrop))
		}
	}
	repeat := func(b *builder, n int, ins ...wasm.Instr) {
		for ; n > 0; n-- {
			b.add(ins...)
		}
	}
	tests := map[string]func(b *builder){
		"nested blocks": func(b *builder) {
			repeat(b, 60_000, block)
			b.add(call)
			repeat(b, 60_000, op(wasm.OpEnd))
		},
		"nested loops": func(b *builder) {
			repeat(b, 50_000, loop)
			b.add(call)
			repeat(b, 50_000, opX(wasm.OpCall, 1), opX(wasm.OpBrIf, 0), op(wasm.OpEnd))
		},
		"nested loops and locals": func(b *builder) {
			b.locals = locals
			repeat(b, 3000, loop)
			for i := uint32(0); i < 3000; i++ {
				b.add(opX(wasm.OpCall, 1), opX(wasm.OpBrIf, i%37%(3000-i)), get(i), op(wasm.OpDrop), op(wasm.OpEnd))
			}
			use(b)
		},
		"blocks and locals": func(b *builder) {
			b.locals = locals
			repeat(b, 60_000, block, call, op(wasm.OpEnd))
		},
		"calls and live locals": func(b *builder) {
			b.locals = locals
			repeat(b, 20_000, call)
			use(b)
		},
		"a few calls and live locals": func(b *builder) {
			b.locals = []wasm.LocalRun{{Count: 40_000, Type: wasm.I64}}
			repeat(b, 50, call)
			for i := uint32(0); i < 40_000; i++ {
				b.add(get(i), op(wasm.OpDrop))
			}
		},
		"calls and operands": func(b *builder) {
			repeat(b, 30_000, opX(wasm.OpCall, 1))
			repeat(b, 30_000, op(wasm.OpDrop))
		},
		"blocks and operands": func(b *builder) {
			repeat(b, 20_000, opX(wasm.OpCall, 1), block)
			for i := 0; i < 20_000; i++ {
				b.add(op(wasm.OpEnd), op(wasm.OpDrop))
			}
		},
		"branch tables": func(b *builder) {
			repeat(b, 1000, loop)
			b.locals = []wasm.LocalRun{{Count: 40_000, Type: wasm.I64}}
			targets := make([]uint32, 100_000)
			for i := range targets {
				targets[i] = uint32(i % 1000)
			}
			b.add(opX(wasm.OpCall, 1), wasm.Instr{Op: wasm.OpBrTable, Targets: targets})
			repeat(b, 1000, op(wasm.OpEnd))
		},
		"many results": func(b *builder) {
			many := make([]wasm.ValType, 1000)
			for i := range many {
				many[i] = wasm.I32
			}
			b.types = []wasm.FuncType{{Params: many, Results: many}}
			repeat(b, 1000, opX(wasm.OpCall, 1))
			repeat(b, 2000, wasm.Instr{Op: wasm.OpLoop, Block: wasm.BlockType{Kind: wasm.BlockIndex, Index: 2}})
			b.add(call)
			repeat(b, 2000, op(wasm.OpEnd))
			repeat(b, 1000, op(wasm.OpDrop))
		},
	}
	for name, build := range tests {
		t.Run(name, func(t *testing.T) {
			b := &builder{}
			build(b)
			m := b.module(t)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := cpuTime(t)
			hot, _, err := check(t, m, Options{Workers: 1})
			took := cpuTime(t) - start
			runtime.ReadMemStats(&after)
			t.Logf("%d bytes, %d made in %v, %d MiB allocated: %v", len(b.code), len(hot), took, (after.TotalAlloc-before.TotalAlloc)>>20, err)
			if took > 30*time.Second {
				t.Errorf("took %v of the processor", took)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 4<<30 {
				t.Errorf("%d MiB allocated", n>>20)
			}
		})
	}
}
