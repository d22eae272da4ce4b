package engine

import (
	"slices"

	"perdure/runtime/internal/wasm"
)

// genOps are instructions without immediates that take and give values only. Those in
// canon may give one of several NaNs, which has to be made one.
var genOps, genTrapOps, canonOps = numericOps()

func numericOps() (plain, traps []wasm.Op, canon map[wasm.Op]bool) {
	canon = map[wasm.Op]bool{}
	for op := wasm.Op(0x45); op <= 0xC4; op++ {
		switch {
		case op >= 0x6d && op <= 0x70, op >= 0x7f && op <= 0x82, op >= 0xa8 && op <= 0xab, op >= 0xae && op <= 0xb1:
			traps = append(traps, op)
			continue
		case op >= 0x8d && op <= 0x97, op >= 0x9b && op <= 0xa5, op == 0xb6, op == 0xbb:
			canon[op] = true
		}
		plain = append(plain, op)
	}
	for op := wasm.Op(0xFC00); op <= 0xFC07; op++ {
		plain = append(plain, op)
	}
	for _, n := range []wasm.Op{0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13, 0x14, 0x4d, 0x4e, 0x4f, 0x50, 0x51, 0x52, 0x53, 0x60, 0x64, 0x6e, 0xae, 0xb5, 0xd5, 0xd6, 0xe0, 0xe1} {
		plain = append(plain, 0xFD0000|n)
	}
	for _, op := range append(slices.Clone(plain), traps...) {
		if _, _, fixed := op.Sig(); !fixed {
			panic(op.String())
		}
	}
	return plain, traps, canon
}

// statement makes one statement. It may leave values on the stack.
func (g *gen) statement(depth int) {
	if g.ctl().dead && !g.c.oneIn(3) {
		return
	}
	if len(g.stack) > 18 {
		g.discard()
		return
	}
	switch k := g.c.n(32); {
	case k <= 1:
		g.value(genTypes[g.c.n(len(genTypes))])
	case k <= 6:
		g.numeric()
	case k == 7:
		g.lanes()
	case k <= 9:
		if len(g.stack) > 0 {
			g.discard()
		}
	case k == 10:
		l := uint32(g.c.n(len(g.locals)))
		if g.locals[l].IsRef() {
			return
		}
		g.need(g.locals[l])
		g.op(wasm.OpLocalTee, l)
		g.push(g.locals[l])
	case k == 11:
		t := genTypes[g.c.n(len(genTypes))]
		g.need(t, t, wasm.I32)
		if g.c.oneIn(2) {
			g.emit(wasm.Instr{Op: wasm.OpSelectT, Types: []wasm.ValType{t}})
		} else {
			g.op(wasm.OpSelect)
		}
		g.push(t)
	case k == 12:
		g.need(wasm.I32)
		g.address()
		t := genTypes[g.c.n(len(genTypes))]
		g.emit(g.load(t))
		g.push(t)
	case k == 13:
		g.need(wasm.I32)
		g.address()
		g.push(wasm.I32)
		t := genTypes[g.c.n(len(genTypes))]
		g.value(t)
		g.pop(2)
		g.emit(g.store(t, g.c.n(64)))
	case k <= 15:
		g.memory()
	case k <= 18:
		g.table()
	case k <= 21:
		g.call()
	case k <= 25 && depth < 5:
		g.nested([]wasm.Op{wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpLoop}[k-22], depth)
	case k <= 28:
		g.branch()
	case k == 29:
		g.rare()
	default:
		g.op(wasm.OpNop)
	}
}

func (g *gen) numeric() {
	list := genOps
	if g.trappy && g.c.oneIn(4) {
		list = genTrapOps
	}
	op := list[g.c.n(len(list))]
	pops, pushes, _ := op.Sig()
	g.need(pops...)
	g.op(op)
	g.push(pushes...)
	if !canonOps[op] {
		return
	}
	// Which NaN comes out is for the engine to choose, and not the same in other code.
	t := pushes[0]
	tmp := g.local(t)
	ne := wasm.OpF32Ne
	if t == wasm.F64 {
		ne = wasm.OpF64Ne
	}
	g.op(wasm.OpLocalTee, tmp)
	g.emit(wasm.Instr{Op: constOp(t), Imm: 3})
	g.op(wasm.OpLocalGet, tmp)
	g.op(wasm.OpLocalGet, tmp)
	g.op(ne)
	g.op(wasm.OpI32Eqz)
	g.op(wasm.OpSelect)
}

func (g *gen) lanes() {
	switch g.c.n(4) {
	case 0:
		g.need(wasm.V128)
		g.op(wasm.OpI32x4ExtractLane, uint32(g.c.n(4)))
		g.push(wasm.I32)
	case 1:
		g.need(wasm.V128)
		g.op(wasm.OpI64x2ExtractLane, uint32(g.c.n(2)))
		g.push(wasm.I64)
	case 2:
		g.need(wasm.V128, wasm.I64)
		g.op(wasm.OpI64x2ReplaceLane, uint32(g.c.n(2)))
		g.push(wasm.V128)
	case 3:
		g.need(wasm.V128, wasm.F32)
		g.op(wasm.OpF32x4ReplaceLane, uint32(g.c.n(4)))
		g.push(wasm.V128)
	}
}

// address makes the i32 on the stack one that is in the memory.
func (g *gen) address() {
	if g.trappy && g.c.oneIn(4) {
		return
	}
	g.emit(i32c(0x3fff))
	g.op(wasm.OpI32And)
}

// small pushes a small number, which depends on a local.
func (g *gen) small(mask int) {
	g.value(wasm.I32)
	g.pop(1)
	g.emit(i32c(mask))
	g.op(wasm.OpI32And)
}

func (g *gen) memory() {
	seg := uint32(1)
	if n := len(g.m.Datas) - 1; n > 0 {
		seg = 1 + uint32(g.c.n(n))
	}
	switch k := g.c.n(8); {
	case k == 0:
		g.op(wasm.OpMemorySize)
		g.push(wasm.I32)
	case k == 1:
		g.small(1)
		g.op(wasm.OpMemoryGrow)
		g.push(wasm.I32)
	case k == 2:
		g.small(0x1fff)
		g.value(wasm.I32)
		g.pop(1)
		g.small(0x7f)
		g.op(wasm.OpMemoryFill)
	case k == 3:
		g.small(0x1fff)
		g.small(0x1fff)
		g.small(0x7f)
		g.op(wasm.OpMemoryCopy)
	case len(g.m.Datas) == 1:
	case k == 4:
		g.op(wasm.OpDataDrop, seg)
		g.emit(i32c(1))
		g.op(wasm.OpGlobalSet, g.dropped[seg])
	default:
		g.small(0x1fff)
		g.small(3)
		g.small(7)
		g.unless(g.dropped[seg])
		g.op(wasm.OpMemoryInit, seg)
	}
}

// unless makes the two numbers on the stack 0 once the segment was dropped, mostly.
func (g *gen) unless(dropped uint32) {
	if g.c.oneIn(4) {
		return
	}
	n := g.local(wasm.I32)
	for _, set := range []bool{true, false} {
		g.op(wasm.OpGlobalGet, dropped)
		g.op(wasm.OpI32Eqz)
		g.op(wasm.OpI32Mul)
		if set {
			g.op(wasm.OpLocalSet, n)
		}
	}
	g.op(wasm.OpLocalGet, n)
}

func (g *gen) ref(ti int) {
	t := &g.tables[ti]
	switch g.c.n(4) {
	case 0:
		g.op(wasm.OpRefFunc, t.funcs[g.c.n(len(t.funcs))])
	case 1:
		g.op(wasm.OpGlobalGet, t.global)
	case 2:
		g.small(1)
		g.op(wasm.OpTableGet, uint32(ti))
	case 3:
		g.emit(wasm.Instr{Op: wasm.OpRefNull, Types: []wasm.ValType{wasm.FuncRef}})
	}
}

func (g *gen) table() {
	if len(g.m.Tables) > len(g.tables) && g.c.oneIn(4) {
		x := uint32(len(g.tables))
		null := wasm.Instr{Op: wasm.OpRefNull, Types: []wasm.ValType{wasm.ExternRef}}
		g.emit(null, i32c(1))
		g.op(wasm.OpTableGrow, x)
		g.push(wasm.I32)
		g.emit(i32c(0), null)
		g.op(wasm.OpTableSet, x)
		return
	}
	if len(g.tables) == 0 {
		return
	}
	ti := g.c.n(len(g.tables))
	t, x := &g.tables[ti], uint32(ti)
	switch k := g.c.n(12); {
	case k == 0:
		g.op(wasm.OpTableSize, x)
		g.push(wasm.I32)
	case k == 1:
		g.small(1)
		g.ref(ti)
		g.op(wasm.OpTableSet, x)
	case k == 2:
		g.ref(ti)
		g.small(1)
		g.op(wasm.OpTableGrow, x)
		g.push(wasm.I32)
	case k == 3:
		g.small(1)
		g.ref(ti)
		g.small(1)
		g.op(wasm.OpTableFill, x)
	case k == 4:
		for other := range g.tables {
			if g.tables[other].sig == t.sig {
				g.small(1)
				g.small(1)
				g.small(1)
				g.op(wasm.OpTableCopy, x, uint32(other))
			}
		}
	case k == 5:
		g.ref(ti)
		g.op(wasm.OpGlobalSet, t.global)
	case k == 6:
		g.ref(ti)
		g.op(wasm.OpLocalSet, g.refs)
		g.op(wasm.OpLocalGet, g.refs)
		g.op(wasm.OpRefIsNull)
		g.push(wasm.I32)
	case len(t.passive) > 0 && k == 7:
		seg := t.passive[g.c.n(len(t.passive))]
		g.op(wasm.OpElemDrop, seg)
		g.emit(i32c(1))
		g.op(wasm.OpGlobalSet, g.droppedElem[seg])
	case len(t.passive) > 0 && k <= 9:
		seg := t.passive[g.c.n(len(t.passive))]
		g.small(1)
		g.small(1)
		g.small(1)
		g.unless(g.droppedElem[seg])
		g.op(wasm.OpTableInit, seg, x)
	default:
		g.indirect(ti)
	}
}

// indirect calls what is in a slot of a table, if anything.
func (g *gen) indirect(ti int) {
	t := &g.tables[ti]
	sig := g.m.Types[t.sig]
	slot := g.local(wasm.I32)
	g.small(15)
	if !g.trappy {
		g.op(wasm.OpTableSize, uint32(ti))
		g.op(wasm.OpI32RemU)
	}
	g.op(wasm.OpLocalSet, slot)
	hasRef := slices.ContainsFunc(sig.Params, wasm.ValType.IsRef)
	if !hasRef {
		g.need(sig.Params...)
	}
	if !(g.trappy && g.c.oneIn(4)) {
		// If the slot is null then the call is left out.
		params := sig.Params
		if hasRef {
			params = nil
		}
		g.op(wasm.OpLocalGet, slot)
		g.op(wasm.OpTableGet, uint32(ti))
		g.op(wasm.OpRefIsNull)
		g.open(wasm.OpIf, params, sig.Results)
		g.fit(sig.Results)
		g.op(wasm.OpElse)
		g.stack = append([]wasm.ValType(nil), params...)
		if hasRef {
			g.need(sig.Params...)
		} else {
			g.pop(len(params))
		}
		g.op(wasm.OpLocalGet, slot)
		g.op(wasm.OpCallIndirect, t.sig, uint32(ti))
		g.push(sig.Results...)
		g.shut()
		return
	}
	if hasRef {
		g.need(sig.Params...)
	}
	g.op(wasm.OpLocalGet, slot)
	g.op(wasm.OpCallIndirect, t.sig, uint32(ti))
	g.push(sig.Results...)
}

// call calls a function, of the host or of the module.
func (g *gen) call() {
	f := g.c.n(len(g.sigOf) - 2)
	t := g.m.Types[g.sigOf[f]]
	g.need(t.Params...)
	g.op(wasm.OpCall, uint32(f))
	g.push(t.Results...)
}

// branch makes a branch to any label.
func (g *gen) branch() {
	depth := g.c.n(len(g.ctls))
	label := g.ctls[len(g.ctls)-1-depth].label
	switch k := g.c.n(8); {
	case k <= 4:
		g.need(append(slices.Clone(label), wasm.I32)...)
		if g.c.oneIn(2) {
			g.emit(i32c(3))
			g.op(wasm.OpI32And)
			g.op(wasm.OpI32Eqz)
		}
		g.op(wasm.OpBrIf, uint32(depth))
		g.push(label...)
	case k <= 6:
		var targets []uint32
		for d := range g.ctls {
			if sameList(g.ctls[len(g.ctls)-1-d].label, label) {
				targets = append(targets, uint32(d))
			}
		}
		var list []uint32
		for n := 1 + g.c.n(5); n > 0; n-- {
			list = append(list, targets[g.c.n(len(targets))])
		}
		g.need(append(slices.Clone(label), wasm.I32)...)
		g.emit(i32c(7))
		g.op(wasm.OpI32And)
		g.emit(wasm.Instr{Op: wasm.OpBrTable, Targets: list})
		g.die()
	default:
		g.need(label...)
		g.op(wasm.OpBr, uint32(depth))
		g.die()
	}
}

// die notes that what follows is not reached.
func (g *gen) die() { g.ctl().dead, g.stack = true, nil }

// rare makes what would end most programs early.
func (g *gen) rare() {
	switch k := g.c.n(6); {
	case k == 0:
		g.need(g.ret...)
		g.op(wasm.OpReturn)
		g.die()
	case k == 1 && g.trappy:
		g.op(wasm.OpUnreachable)
		g.die()
	case k == 2:
		g.small(15)
		g.op(wasm.OpI32Eqz)
		g.emit(wasm.Instr{Op: wasm.OpIf})
		saved := g.stack
		g.stack = nil
		g.values(g.ret)
		g.op(wasm.OpReturn)
		g.stack = saved
		g.op(wasm.OpEnd)
	}
}
