package engine

import (
	"math"
	"math/rand/v2"
	"strconv"

	"perdure/runtime/internal/wasm"
)

// choices is where the generator of random modules takes its decisions from: chance, or
// the decisions of an earlier run, of which some were taken out to make the module
// smaller. 0 is always the plainest choice.
type choices struct {
	rnd    *rand.Rand
	replay []uint32
	made   []uint32
}

func (c *choices) n(k int) int {
	v := 0
	switch i := len(c.made); {
	case c.rnd != nil:
		v = c.rnd.IntN(k)
	case i < len(c.replay):
		v = int(c.replay[i]) % k
	}
	c.made = append(c.made, uint32(v))
	return v
}

// oneIn is true once in k times.
func (c *choices) oneIn(k int) bool { return c.n(k) == k-1 }

func (c *choices) bits() uint64 {
	interesting := []uint64{0, 1, math.MaxUint64, 0x7fa00001, 0xffc12345, 0x7ff4000000000123, 0xfff8000000abcdef, 1 << 31, 1 << 63}
	if i := c.n(len(interesting) + 3); i < len(interesting) {
		return interesting[i]
	}
	return uint64(c.n(1<<31))<<33 ^ uint64(c.n(1<<31))
}

// genModule is a generated module and where its parts are.
type genModule struct {
	mod         *wasm.Module
	bytes       []byte
	start       bool
	mainF, dump uint32 // dump is 0 for none
	host        []Func
}

// genTable is a table whose functions all have one type, so that calls through it seldom
// trap.
type genTable struct {
	sig     uint32
	global  uint32 // a mutable funcref that holds such a function
	funcs   []uint32
	passive []uint32 // element segments
}

// gen makes one module.
type gen struct {
	c           *choices
	m           *wasm.Module
	trappy      bool
	sigOf       []uint32 // by function, imported ones first
	tables      []genTable
	fuel        uint32
	trace       uint32
	globals     map[wasm.ValType][]uint32
	dropped     map[uint32]uint32 // global that is set with data.drop, by segment
	droppedElem map[uint32]uint32

	// The function being made.
	code   []byte
	params []wasm.ValType
	locals []wasm.ValType
	ret    []wasm.ValType
	stack  []wasm.ValType // of the innermost block
	ctls   []genCtl
	budget int
	refs   uint32 // a local of type funcref
}

type genCtl struct {
	label, results []wasm.ValType
	outer          []wasm.ValType
	dead, loop     bool
}

var genTypes = []wasm.ValType{wasm.I32, wasm.I64, wasm.F32, wasm.F64, wasm.V128}

const (
	genFuel = 300
	genDump = 0x8800 // where the state is written to
)

func i32c(v int) wasm.Instr { return wasm.Instr{Op: wasm.OpI32Const, Imm: uint64(int64(int32(v)))} }

func (g *gen) types(max int) []wasm.ValType {
	var ts []wasm.ValType
	for n := g.c.n(max + 1); n > 0; n-- {
		ts = append(ts, genTypes[g.c.n(len(genTypes))])
	}
	return ts
}

func (g *gen) typeIndex(t wasm.FuncType) uint32 {
	for i := range g.m.Types {
		if g.m.Types[i].Equal(t) {
			return uint32(i)
		}
	}
	g.m.Types = append(g.m.Types, t)
	return uint32(len(g.m.Types) - 1)
}

func (g *gen) global(t wasm.ValType, mutable bool, init wasm.Instr) uint32 {
	g.m.Globals = append(g.m.Globals, wasm.Global{Type: wasm.GlobalType{Type: t, Mutable: mutable}, Init: wasm.ConstOf(init)})
	return uint32(len(g.m.Globals) - 1)
}

// generate makes a module out of choices.
func generate(c *choices) *genModule {
	g := &gen{c: c, m: &wasm.Module{}, globals: map[wasm.ValType][]uint32{}, dropped: map[uint32]uint32{},
		droppedElem: map[uint32]uint32{}}
	out := &genModule{mod: g.m}
	i, l, f, d := wasm.I32, wasm.I64, wasm.F32, wasm.F64
	g.trappy = c.oneIn(4)

	// Functions of the host.
	hostTypes := []wasm.FuncType{
		{Results: []wasm.ValType{i}}, {Params: []wasm.ValType{i, l}, Results: []wasm.ValType{l}},
		{Params: []wasm.ValType{f, d}, Results: []wasm.ValType{d}}, {Params: []wasm.ValType{i}},
		{Params: []wasm.ValType{f}, Results: []wasm.ValType{i, l, f}}, {Results: []wasm.ValType{i}},
	}
	for k := 0; k < 1+c.n(len(hostTypes)); k++ {
		t := hostTypes[k]
		ti := g.typeIndex(t)
		module, name := "env", "h"+strconv.Itoa(k)
		if k == 5 {
			module, name = "env2", "h0" // the name of another module's function
		}
		g.m.Imports = append(g.m.Imports, wasm.Import{Module: module, Name: name, Kind: wasm.ExternFunc, TypeIndex: ti})
		g.sigOf = append(g.sigOf, ti)
		out.host = append(out.host, Func{Module: module, Name: name, Params: apiTypes(t.Params), Results: apiTypes(t.Results)})
	}
	nImports := len(g.sigOf)

	// Signatures; the last two functions are main and dump.
	var sigs []uint32
	for k := 0; k < 2+c.n(3); k++ {
		sigs = append(sigs, g.typeIndex(wasm.FuncType{Params: g.types(4), Results: g.types(3)}))
	}
	sigs = append(sigs, g.typeIndex(hostTypes[0]))
	if c.oneIn(5) {
		sigs = append(sigs, g.typeIndex(wasm.FuncType{Params: []wasm.ValType{i, wasm.FuncRef, l}, Results: []wasm.ValType{l}}))
	}
	void := g.typeIndex(wasm.FuncType{})
	nFuncs := 1 + c.n(6)
	for k := 0; k < nFuncs; k++ {
		g.sigOf = append(g.sigOf, sigs[c.n(len(sigs))])
	}
	if c.oneIn(3) {
		out.start = true
		s := uint32(len(g.sigOf))
		g.m.Start = &s
		g.sigOf = append(g.sigOf, void)
	}
	out.mainF = uint32(len(g.sigOf))
	g.sigOf = append(g.sigOf, g.typeIndex(wasm.FuncType{Results: g.types(3)}))
	out.dump = uint32(len(g.sigOf))
	g.sigOf = append(g.sigOf, void)
	g.m.Funcs = g.sigOf[nImports:]

	// Globals.
	g.fuel = g.global(i, true, i32c(genFuel))
	g.trace = g.global(i, true, i32c(1))
	for _, t := range genTypes {
		for k := c.n(3); k >= 0; k-- {
			in := wasm.Instr{Op: constOp(t), Imm: c.bits()}
			if t == wasm.I32 {
				in.Imm = uint64(int64(int32(in.Imm)))
			}
			if t == wasm.F32 {
				in.Imm = uint64(uint32(in.Imm))
			}
			if t == wasm.V128 {
				in.Imm2 = c.bits()
			}
			g.globals[t] = append(g.globals[t], g.global(t, true, in))
		}
	}

	// Memory and segments.
	g.m.Memories = []wasm.MemoryType{{Min: 1, Max: 4, HasMax: true}}
	g.m.Datas = []wasm.Data{{Mode: wasm.Active, Offset: wasm.ConstOf(i32c(16)), Bytes: []byte("the quick brown fox jumps over the lazy dog")}}
	for k := c.n(3); k > 0; k-- {
		g.dropped[uint32(len(g.m.Datas))] = g.global(i, true, i32c(0))
		g.m.Datas = append(g.m.Datas, wasm.Data{Mode: wasm.Passive, Bytes: []byte("passive segment 0123456789")[c.n(8):]})
	}
	n := uint32(len(g.m.Datas))
	g.m.DataCount = &n

	// Tables.
	for k := c.n(4); k > 0; k-- {
		g.addTable(nImports)
	}
	if c.oneIn(6) {
		g.m.Tables = append(g.m.Tables, wasm.TableType{Elem: wasm.ExternRef, Limits: wasm.Limits{Min: 2, Max: 5, HasMax: true}})
	}
	declared := make([]uint32, len(g.sigOf))
	for k := range declared {
		declared[k] = uint32(k)
	}
	g.m.Elems = append(g.m.Elems, wasm.Elem{Mode: wasm.Declarative, Type: wasm.FuncRef, Funcs: declared})

	g.m.Reindex()
	for k := nImports; k < len(g.sigOf)-1; k++ {
		g.function(uint32(k))
	}
	g.dumper(uint32(len(g.sigOf) - 1))
	g.m.Exports = append(g.m.Exports, wasm.Export{Name: "main", Kind: wasm.ExternFunc, Index: out.mainF},
		wasm.Export{Name: "dump", Kind: wasm.ExternFunc, Index: out.dump}, wasm.Export{Name: "memory", Kind: wasm.ExternMemory})
	g.m.Reindex()
	out.bytes = g.m.Encode()
	return out
}

// addTable adds a table and its segments.
func (g *gen) addTable(nImports int) {
	t := genTable{sig: g.sigOf[g.c.n(len(g.sigOf)-2)]}
	for f, s := range g.sigOf[:len(g.sigOf)-2] {
		if s == t.sig {
			t.funcs = append(t.funcs, uint32(f))
		}
	}
	index := uint32(len(g.m.Tables))
	size := 3 + g.c.n(4)
	g.m.Tables = append(g.m.Tables, wasm.TableType{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: uint64(size), Max: 9, HasMax: true}})
	items := func(n int) (fs []uint32) {
		for ; n > 0; n-- {
			fs = append(fs, t.funcs[g.c.n(len(t.funcs))])
		}
		return fs
	}
	g.m.Elems = append(g.m.Elems, wasm.Elem{Mode: wasm.Active, Table: index, Offset: wasm.ConstOf(i32c(0)), Type: wasm.FuncRef, Funcs: items(1 + g.c.n(size))})
	for k := g.c.n(3); k > 0; k-- {
		seg := uint32(len(g.m.Elems))
		e := wasm.Elem{Mode: wasm.Passive, Type: wasm.FuncRef}
		if fs := items(1 + g.c.n(3)); g.c.oneIn(2) {
			for _, f := range fs {
				e.Init = append(e.Init, wasm.ConstOf(wasm.Instr{Op: wasm.OpRefFunc, X: f}))
			}
			e.Init = append(e.Init, wasm.ConstOf(wasm.Instr{Op: wasm.OpRefNull, Types: []wasm.ValType{wasm.FuncRef}}))
		} else {
			e.Funcs = fs
		}
		g.m.Elems = append(g.m.Elems, e)
		t.passive = append(t.passive, seg)
		g.droppedElem[seg] = g.global(wasm.I32, true, i32c(0))
	}
	t.global = g.global(wasm.FuncRef, true, wasm.Instr{Op: wasm.OpRefNull, Types: []wasm.ValType{wasm.FuncRef}})
	g.tables = append(g.tables, t)
}

func constOp(t wasm.ValType) wasm.Op {
	return map[wasm.ValType]wasm.Op{wasm.I32: wasm.OpI32Const, wasm.I64: wasm.OpI64Const, wasm.F32: wasm.OpF32Const,
		wasm.F64: wasm.OpF64Const, wasm.V128: wasm.OpV128Const}[t]
}

func (g *gen) emit(ins ...wasm.Instr) {
	for i := range ins {
		g.code = ins[i].Append(g.code)
	}
}

func (g *gen) op(op wasm.Op, x ...uint32) {
	in := wasm.Instr{Op: op}
	if len(x) > 0 {
		in.X = x[0]
	}
	if len(x) > 1 {
		in.Y = x[1]
	}
	g.emit(in)
}

func (g *gen) begin(t *wasm.FuncType) {
	g.code, g.params, g.ret = nil, t.Params, t.Results
	g.locals = append([]wasm.ValType(nil), t.Params...)
	g.stack, g.ctls = nil, []genCtl{{label: t.Results, results: t.Results}}
}

func (g *gen) local(t wasm.ValType) uint32 {
	g.locals = append(g.locals, t)
	return uint32(len(g.locals) - 1)
}

func (g *gen) finish() {
	g.op(wasm.OpEnd)
	c := wasm.Code{Body: g.code}
	for _, t := range g.locals[len(g.params):] {
		c.Locals = append(c.Locals, wasm.LocalRun{Count: 1, Type: t})
	}
	g.m.Codes = append(g.m.Codes, c)
}

// function makes the body of a function.
func (g *gen) function(index uint32) {
	t := &g.m.Types[g.sigOf[index]]
	g.begin(t)
	for _, lt := range g.types(6) {
		g.local(lt)
	}
	g.refs = g.local(wasm.FuncRef)
	for i, p := range t.Params {
		if p.IsRef() { // looked at while it may be
			g.op(wasm.OpLocalGet, uint32(i))
			g.op(wasm.OpRefIsNull)
			g.op(wasm.OpDrop)
		}
	}
	// The trace: which functions are called, in which order.
	g.op(wasm.OpGlobalGet, g.trace)
	g.emit(i32c(31))
	g.op(wasm.OpI32Mul)
	g.emit(i32c(int(index)))
	g.op(wasm.OpI32Add)
	g.op(wasm.OpGlobalSet, g.trace)
	g.burn()
	g.budget = 6 + g.c.n(40)
	g.body(0)
	g.fit(t.Results)
	g.finish()
}

// burn makes the function return when the fuel is used up: all programs end.
func (g *gen) burn() {
	g.op(wasm.OpGlobalGet, g.fuel)
	g.emit(i32c(1))
	g.op(wasm.OpI32Sub)
	g.op(wasm.OpGlobalSet, g.fuel)
	g.op(wasm.OpGlobalGet, g.fuel)
	g.emit(i32c(0))
	g.op(wasm.OpI32LtS)
	g.emit(wasm.Instr{Op: wasm.OpIf})
	if g.trappy && g.c.oneIn(4) {
		g.op(wasm.OpUnreachable)
	}
	for _, t := range g.ret {
		g.emit(wasm.Instr{Op: constOp(t), Imm: 7})
	}
	g.op(wasm.OpReturn)
	g.op(wasm.OpEnd)
}

// body makes statements.
func (g *gen) body(depth int) {
	for n := 1 + g.c.n(10); n > 0 && g.budget > 0; n-- {
		g.budget--
		g.statement(depth)
	}
}

func (g *gen) ctl() *genCtl { return &g.ctls[len(g.ctls)-1] }

// push notes that values are on the stack now.
func (g *gen) push(ts ...wasm.ValType) { g.stack = append(g.stack, ts...) }

func (g *gen) pop(n int) {
	if n > len(g.stack) {
		n = len(g.stack) // in dead code there is more
	}
	g.stack = g.stack[:len(g.stack)-n]
}

// need makes that the top of the stack is of the types, and takes them.
func (g *gen) need(ts ...wasm.ValType) {
	have := 0
	if g.c.n(4) != 0 || len(g.stack) > 14 {
		for k := min(len(ts), len(g.stack)); k > 0 && have == 0; k-- {
			have = k
			for i := 0; i < k; i++ {
				if g.stack[len(g.stack)-k+i] != ts[i] {
					have = 0
				}
			}
		}
	}
	if have == 0 && g.ctl().dead && len(g.stack) == 0 {
		have = g.c.n(len(ts) + 1)
		g.values(ts[have:])
		g.pop(len(ts) - have)
		return
	}
	g.values(ts[have:])
	g.pop(len(ts))
}

func (g *gen) values(ts []wasm.ValType) {
	for _, t := range ts {
		g.value(t)
	}
}

func (g *gen) localsOf(t wasm.ValType) (list []uint32) {
	for i, lt := range g.locals {
		if lt == t {
			list = append(list, uint32(i))
		}
	}
	return list
}

// value pushes a value.
func (g *gen) value(t wasm.ValType) {
	g.push(t)
	if t == wasm.FuncRef {
		if len(g.tables) > 0 && g.c.oneIn(2) {
			g.op(wasm.OpGlobalGet, g.tables[g.c.n(len(g.tables))].global)
		} else {
			g.op(wasm.OpRefFunc, uint32(g.c.n(len(g.sigOf))))
		}
		return
	}
	switch k := g.c.n(8); {
	case k <= 4 && len(g.localsOf(t)) > 0:
		ls := g.localsOf(t)
		g.op(wasm.OpLocalGet, ls[g.c.n(len(ls))])
	case k == 5:
		gs := g.globals[t]
		g.op(wasm.OpGlobalGet, gs[g.c.n(len(gs))])
	case k == 6:
		g.emit(i32c(g.c.n(0x2000)))
		g.emit(g.load(t))
	default:
		in := wasm.Instr{Op: constOp(t), Imm: g.c.bits()}
		switch t {
		case wasm.I32:
			in.Imm = uint64(int64(int32(in.Imm)))
		case wasm.F32:
			in.Imm = uint64(uint32(in.Imm))
		case wasm.V128:
			in.Imm2 = g.c.bits()
		}
		g.emit(in)
	}
}

func (g *gen) load(t wasm.ValType) wasm.Instr {
	op := map[wasm.ValType]wasm.Op{wasm.I32: wasm.OpI32Load, wasm.I64: wasm.OpI64Load, wasm.F32: wasm.OpF32Load,
		wasm.F64: wasm.OpF64Load, wasm.V128: wasm.OpV128Load}[t]
	return wasm.Instr{Op: op, Imm: uint64(g.c.n(64))}
}

func (g *gen) store(t wasm.ValType, offset int) wasm.Instr {
	op := map[wasm.ValType]wasm.Op{wasm.I32: wasm.OpI32Store, wasm.I64: wasm.OpI64Store, wasm.F32: wasm.OpF32Store,
		wasm.F64: wasm.OpF64Store, wasm.V128: wasm.OpV128Store}[t]
	return wasm.Instr{Op: op, Imm: uint64(offset)}
}

// discard takes the top of the stack away.
func (g *gen) discard() {
	t := g.stack[len(g.stack)-1]
	g.pop(1)
	ls := g.localsOf(t)
	switch k := g.c.n(4); {
	case k == 1 && len(g.globals[t]) > 0:
		g.op(wasm.OpGlobalSet, g.globals[t][g.c.n(len(g.globals[t]))])
	case k >= 2 && len(ls) > 0:
		g.op(wasm.OpLocalSet, ls[g.c.n(len(ls))])
	default:
		g.op(wasm.OpDrop)
	}
}

// fit makes the stack be just what a block's end wants.
func (g *gen) fit(want []wasm.ValType) {
	if sameList(g.stack, want) && g.c.n(4) != 0 {
		return
	}
	for len(g.stack) > 0 {
		g.discard()
	}
	if g.ctl().dead && g.c.oneIn(2) {
		return
	}
	g.values(want)
}

func sameList(a, b []wasm.ValType) bool {
	return wasm.FuncType{Params: a}.Equal(wasm.FuncType{Params: b})
}

func (g *gen) blockType(params, results []wasm.ValType) wasm.BlockType {
	switch {
	case len(params) == 0 && len(results) == 0:
		return wasm.BlockType{}
	case len(params) == 0 && len(results) == 1 && g.c.n(3) != 0:
		return wasm.BlockType{Kind: wasm.BlockValue, Value: results[0]}
	}
	return wasm.BlockType{Kind: wasm.BlockIndex, Index: g.typeIndex(wasm.FuncType{Params: params, Results: results})}
}

// open begins a block, whose parameters are the top of the stack.
func (g *gen) open(op wasm.Op, params, results []wasm.ValType) {
	g.emit(wasm.Instr{Op: op, Block: g.blockType(params, results)})
	label := results
	if op == wasm.OpLoop {
		label = params
	}
	g.ctls = append(g.ctls, genCtl{label: label, results: results, outer: g.stack, loop: op == wasm.OpLoop})
	g.stack = append([]wasm.ValType(nil), params...)
}

func (g *gen) shut() {
	g.fit(g.ctl().results)
	g.op(wasm.OpEnd)
	g.stack = append(g.ctl().outer[:len(g.ctl().outer):len(g.ctl().outer)], g.ctl().results...)
	g.ctls = g.ctls[:len(g.ctls)-1]
}

// nested makes a block, loop or if.
func (g *gen) nested(op wasm.Op, depth int) {
	if op == wasm.OpIf {
		g.need(wasm.I32) // a value that stays below the condition or is it
		g.push(wasm.I32)
	}
	n := len(g.stack)
	if op == wasm.OpIf {
		n--
	}
	nParams := min(g.c.n(4), n)
	params := append([]wasm.ValType(nil), g.stack[n-nParams:n]...)
	results := g.types(3)
	if op == wasm.OpIf {
		if g.c.n(3) == 0 {
			results = params
		}
		g.pop(1)
	}
	counter := uint32(0)
	if op == wasm.OpLoop {
		counter = g.local(wasm.I32)
		if g.c.n(3) != 0 {
			g.emit(i32c(0))
			g.op(wasm.OpLocalSet, counter)
		}
	}
	g.pop(nParams)
	g.open(op, params, results)
	switch op {
	case wasm.OpLoop:
		g.burn()
		g.body(depth + 1)
		if !g.ctl().dead && g.c.n(4) != 0 {
			g.need(params...)
			g.push(params...)
			g.op(wasm.OpLocalGet, counter)
			g.emit(i32c(1))
			g.op(wasm.OpI32Add)
			g.op(wasm.OpLocalTee, counter)
			g.emit(i32c(2 + g.c.n(5)))
			g.op(wasm.OpI32LtU)
			g.op(wasm.OpBrIf, 0)
		}
	case wasm.OpIf:
		g.body(depth + 1)
		if !sameList(params, results) || g.c.oneIn(3) {
			g.fit(results)
			g.op(wasm.OpElse)
			g.ctl().dead = false
			g.stack = append([]wasm.ValType(nil), params...)
			g.body(depth + 1)
		}
	default:
		g.body(depth + 1)
	}
	g.shut()
}

// dumper makes the last function: it writes all state to memory and calls all that is in
// the tables.
func (g *gen) dumper(index uint32) {
	g.begin(&g.m.Types[g.sigOf[index]])
	at := genDump
	for i := range g.m.Globals {
		t := g.m.Globals[i].Type.Type
		g.emit(i32c(at))
		g.op(wasm.OpGlobalGet, uint32(i))
		if t.IsRef() {
			g.op(wasm.OpRefIsNull)
			t = wasm.I32
		}
		g.emit(g.store(t, 0))
		at += 16
	}
	g.emit(i32c(at))
	g.op(wasm.OpMemorySize)
	g.emit(g.store(wasm.I32, 4))
	i := g.local(wasm.I32)
	for ti := range g.m.Tables {
		at += 256
		g.emit(i32c(0))
		g.op(wasm.OpLocalSet, i)
		g.emit(wasm.Instr{Op: wasm.OpLoop})
		g.emit(i32c(at))
		g.op(wasm.OpTableSize, uint32(ti))
		g.emit(g.store(wasm.I32, 0))
		g.emit(i32c(20))
		g.op(wasm.OpGlobalSet, g.fuel)
		g.op(wasm.OpLocalGet, i)
		g.op(wasm.OpTableGet, uint32(ti))
		g.op(wasm.OpRefIsNull)
		if ti < len(g.tables) {
			t := g.m.Types[g.tables[ti].sig]
			g.op(wasm.OpI32Eqz)
			g.emit(wasm.Instr{Op: wasm.OpIf})
			for _, p := range t.Params {
				if p == wasm.FuncRef {
					g.emit(wasm.Instr{Op: wasm.OpRefNull, Types: []wasm.ValType{p}})
				} else {
					g.emit(wasm.Instr{Op: constOp(p), Imm: 5})
				}
			}
			g.op(wasm.OpLocalGet, i)
			g.op(wasm.OpCallIndirect, g.tables[ti].sig, uint32(ti))
			for k := len(t.Results) - 1; k >= 0; k-- {
				tmp := g.local(t.Results[k])
				g.op(wasm.OpLocalSet, tmp)
				g.emit(i32c(at + 16 + 16*k))
				g.op(wasm.OpLocalGet, tmp)
				g.emit(g.store(t.Results[k], 0))
			}
			g.op(wasm.OpEnd)
		} else {
			g.op(wasm.OpDrop)
		}
		g.op(wasm.OpLocalGet, i)
		g.emit(i32c(1))
		g.op(wasm.OpI32Add)
		g.op(wasm.OpLocalTee, i)
		g.op(wasm.OpTableSize, uint32(ti))
		g.op(wasm.OpI32LtU)
		g.op(wasm.OpBrIf, 0)
		g.op(wasm.OpEnd)
	}
	g.finish()
}
