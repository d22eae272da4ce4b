package instrument

import (
	"perdure/runtime/internal/wasm"
)

// layout is how generated code refers to things in the module that it becomes part of.
type layout struct {
	funcs                      func(original uint32) uint32 // function indexes, to call
	refs                       func(original uint32) uint32 // and to refer to
	push1, push2, push4, push8 uint32
	frame, yield, unwound      uint32
	state, soft                uint32 // globals
	dropFlag                   map[Helper]uint32
	cold                       *coldLayout // nil for hot code
}

// importHost adds the nHostFuncs functions of the host that hot and cold code call.
func (l *layout) importHost(add func(name string, t wasm.FuncType) uint32) {
	l.push1 = add(HostPush1, wasm.FuncType{Params: i64s(1)})
	l.push2 = add(HostPush2, wasm.FuncType{Params: i64s(2)})
	l.push4 = add(HostPush4, wasm.FuncType{Params: i64s(4)})
	l.push8 = add(HostPush8, wasm.FuncType{Params: i64s(8)})
	l.frame = add(HostFrame, wasm.FuncType{Params: oneI32})
	l.yield = add(HostYield, wasm.FuncType{Results: oneI32})
	l.unwound = add(HostUnwound, wasm.FuncType{})
}

// emitter writes the code of one function.
type emitter struct {
	fn       *function
	meta     *Meta
	out      *layout
	siteBase uint32
	buf      []byte
	depth    int   // labels open in the emitted code, without the function's own
	deepest  int   // the most that were
	labels   []int // by open original control instruction: depth at which its label stands
	slow     int   // depth of the slow path of the first call site
	spills   []uint32
	extra    []wasm.ValType // locals that were added
	operands [2][2]uint32   // of them, those of remainders: of i32, of i64; once there are any
	resume   *coldPlan      // what can be resumed here; nil in hot code
}

func (e *emitter) reset(fn *function, siteBase uint32) {
	e.fn, e.siteBase, e.depth, e.deepest, e.resume = fn, siteBase, 0, 0, nil
	e.buf, e.labels, e.extra = e.buf[:0], e.labels[:0], e.extra[:0]
	clear(e.spills)
	e.operands = [2][2]uint32{}
}

func (e *emitter) op(op wasm.Op) {
	if op >= 0xFD0000 {
		e.buf = wasm.AppendUleb(append(e.buf, 0xfd), uint64(op&0xffff))
		return
	}
	e.buf = append(e.buf, byte(op))
}

func (e *emitter) opX(op wasm.Op, x uint32) {
	e.buf = wasm.AppendUleb(append(e.buf, byte(op)), uint64(x))
}

func (e *emitter) i32Const(v int32) {
	e.buf = wasm.AppendSleb(append(e.buf, byte(wasm.OpI32Const)), int64(v))
}

func (e *emitter) block(op wasm.Op, t wasm.BlockType) {
	e.buf = (&wasm.Instr{Op: op, Block: t}).Append(e.buf)
	e.deeper()
}

func (e *emitter) deeper() {
	e.depth++
	e.deepest = max(e.deepest, e.depth)
}

// tooLarge returns why the function that was emitted is larger than functions may be; ""
// when it is not.
func (e *emitter) tooLarge() string {
	switch {
	case len(e.fn.locals)+len(e.extra) > wasm.MaxLocals:
		return "too many locals and operands"
	case e.deepest >= wasm.MaxBlockDepth-1:
		return "too many calls and blocks"
	case e.resume.tooLarge():
		return "too many places on its stack"
	}
	return ""
}

func (e *emitter) end() {
	e.op(wasm.OpEnd)
	e.depth--
}

// to is the label immediate for a label that stands at the given depth.
func (e *emitter) to(depth int) uint32 { return uint32(e.depth - depth) }

// spill returns the local in which the operand at a height of the original stack is
// kept while it cannot stay on the stack.
func (e *emitter) spill(height int, t wasm.ValType) uint32 {
	k := height*8 + int(wasm.I32-t)&7
	if t.IsRef() {
		k = height*8 + 5 + int(wasm.FuncRef-t)
	}
	for k >= len(e.spills) {
		e.spills = append(e.spills, 0)
	}
	if e.spills[k] == 0 {
		e.spills[k] = e.newLocal(t) + 1
	}
	return e.spills[k] - 1
}

func (e *emitter) newLocal(t wasm.ValType) uint32 {
	e.extra = append(e.extra, t)
	return uint32(len(e.fn.locals) + len(e.extra) - 1)
}

// pop moves operands from the stack, of which the lowest has the given height, to
// their spill locals; unpop puts them back.
func (e *emitter) pop(height int, types []wasm.ValType) {
	for i := len(types) - 1; i >= 0; i-- {
		e.opX(wasm.OpLocalSet, e.spill(height+i, types[i]))
	}
}

func (e *emitter) unpop(height int, types []wasm.ValType) {
	for i, t := range types {
		e.opX(wasm.OpLocalGet, e.spill(height+i, t))
	}
}

// function emits the instructions of the function, final end included.
func (e *emitter) function() {
	nCalls := 0
	for i := range e.fn.sites {
		if e.fn.sites[i].kind == siteCall {
			nCalls++
		}
	}
	if e.resume != nil {
		e.prologue()
	}
	for i := 0; i < nCalls; i++ {
		e.block(wasm.OpBlock, wasm.BlockType{})
	}
	e.slow = e.depth
	e.sequence(-1, 0, int32(len(e.fn.sites)))
	call := 0
	for i := range e.fn.nodes {
		if s := e.node(&e.fn.nodes[i], e.slow-call); s {
			call++
		}
	}
	if nCalls > 0 {
		e.op(wasm.OpReturn)
		for i := range e.fn.sites {
			if e.fn.sites[i].kind == siteCall {
				e.end()
				e.save(i)
			}
		}
	}
	e.op(wasm.OpEnd)
}

// node emits one instruction; slow is where the slow path of the next call site
// stands. It reports whether that one was used.
func (e *emitter) node(n *node, slow int) (usedSlow bool) {
	switch n.op {
	case wasm.OpBlock, wasm.OpLoop, wasm.OpIf:
		e.enter(n)
	case wasm.OpElse:
		e.op(wasm.OpElse)
		c := &e.fn.ctls[n.ctl]
		e.arm(n.ctl, c.elseSite, c.lastSite)
	case wasm.OpEnd:
		if n.ctl >= 0 {
			e.leave(n)
		}
	case wasm.OpBr, wasm.OpBrIf:
		e.opX(n.op, e.branch(n.x))
	case wasm.OpBrTable:
		e.op(n.op)
		targets := e.fn.targets[n.x:n.y]
		e.buf = wasm.AppendUleb(e.buf, uint64(len(targets)-1))
		for _, t := range targets {
			e.buf = wasm.AppendUleb(e.buf, uint64(e.branch(t)))
		}
	case wasm.OpCall, wasm.OpCallIndirect:
		if n.site >= 0 {
			e.suspendableCall(n, slow)
			return true
		}
		e.call(n)
	case wasm.OpDataDrop, wasm.OpElemDrop:
		e.segment(n)
		if e.resume == nil { // the helper does it for cold code
			e.i32Const(1)
			e.opX(wasm.OpGlobalSet, e.out.dropFlag[Helper{Op: n.op, X: n.x}])
		}
	case wasm.OpMemoryInit, wasm.OpTableInit:
		e.segment(n)
	case wasm.OpI32RemS, wasm.OpI32RemU, wasm.OpI64RemS, wasm.OpI64RemU:
		if e.meta.NoRemainder {
			e.remainder(n.op)
		} else {
			e.copy(n)
		}
	case wasm.OpRefFunc:
		if e.resume != nil {
			e.i32Const(int32(n.x))
			e.opX(wasm.OpTableGet, e.out.cold.all)
		} else {
			e.opX(wasm.OpRefFunc, e.out.refs(n.x))
		}
	default:
		e.copy(n)
	}
	return false
}

// copy emits an instruction as it was.
func (e *emitter) copy(n *node) { e.buf = append(e.buf, e.fn.code.Body[n.pos:n.end]...) }

func (e *emitter) branch(depth uint32) uint32 {
	if i := len(e.labels) - 1 - int(depth); i >= 0 {
		return e.to(e.labels[i])
	}
	return e.to(0)
}

// call emits a call without more.
func (e *emitter) call(n *node) {
	if n.op == wasm.OpCallIndirect {
		e.copy(n)
		return
	}
	e.opX(wasm.OpCall, e.out.funcs(n.x))
}

// segment emits an instruction on a segment; these belong to the hot module, so that
// cold code calls a helper there.
func (e *emitter) segment(n *node) {
	if e.resume == nil {
		e.copy(n)
		return
	}
	h := Helper{Op: n.op, X: n.x}
	if n.op == wasm.OpTableInit {
		h.Y = n.y
	}
	e.callThrough(e.out.cold.helper[h], e.out.cold.types(helperType(h)))
}

// callThrough calls an entry of the table of all functions.
func (e *emitter) callThrough(entry int32, typeIndex uint32) {
	e.i32Const(entry)
	e.opX(wasm.OpCallIndirect, typeIndex)
	e.buf = wasm.AppendUleb(e.buf, uint64(e.out.cold.all))
}

// suspendableCall emits a call after which the stack may be unwinding.
func (e *emitter) suspendableCall(n *node, slow int) {
	s := &e.fn.sites[n.site]
	base := 0 // operands of enclosing control instructions are in their spill locals already
	if s.ctl >= 0 {
		base = int(e.fn.ctls[s.ctl].base)
	}
	below := s.stack[base:]
	args := e.callArgs(n)
	wanted := e.resume.ordinalsOf(n.site)
	if len(below) > 0 {
		e.pop(len(s.stack), args)
		e.pop(base, below)
		e.unpop(len(s.stack), args)
	}
	e.call(n)
	if len(wanted) == 0 && len(below) == 0 && len(s.results) == 1 {
		e.opX(wasm.OpLocalTee, e.spill(len(s.stack), s.results[0]))
		e.opX(wasm.OpGlobalGet, e.out.state)
		e.opX(wasm.OpBrIf, e.to(slow))
		return
	}
	e.pop(len(s.stack), s.results)
	if len(wanted) > 0 {
		e.end() // the sequence jumps here
		e.rewind(s, wanted)
	}
	e.opX(wasm.OpGlobalGet, e.out.state)
	e.opX(wasm.OpBrIf, e.to(slow))
	e.unpop(base, below)
	e.unpop(len(s.stack), s.results)
}

// callArgs returns the types that a call takes from the stack.
func (e *emitter) callArgs(n *node) []wasm.ValType {
	if n.op == wasm.OpCallIndirect {
		p := e.meta.src.Types[n.x].Params
		return append(p[:len(p):len(p)], wasm.I32)
	}
	t, _ := e.meta.src.FuncType(n.x) // was looked up when the site was made
	return t.Params
}

// enter emits the start of a block, loop or if.
func (e *emitter) enter(n *node) {
	c := &e.fn.ctls[n.ctl]
	inside := e.parentBase(c)
	wanted := e.resume.wanted(c.firstSite, c.lastSite)
	if !c.hasSite() {
		e.copy(n)
		e.deeper()
		e.labels = append(e.labels, e.depth)
		return
	}
	nOuter := int(c.base) - inside
	block := c.block
	switch {
	case wanted:
		e.pop(inside, c.outer)
		e.end() // the sequence jumps here
		switch c.op {
		case wasm.OpLoop:
			e.atHeader(c)
			e.unpop(int(c.base), c.params)
		case wasm.OpIf:
			e.condition(c)
			block = e.out.cold.resultBlock(c.results)
		default:
			block = e.out.cold.resultBlock(c.results)
		}
	case nOuter > 0:
		e.pop(inside, c.outer)
		e.unpop(int(c.base), c.outer[nOuter:]) // parameters and condition
	}
	if c.op == wasm.OpLoop {
		e.openLoop(n)
		return
	}
	e.block(c.op, block)
	e.labels = append(e.labels, e.depth)
	last := c.lastSite
	if c.elseSite >= 0 {
		last = c.elseSite
	}
	e.arm(n.ctl, c.firstSite, last)
}

// arm emits the start of the body of a block or of an arm of an if, with the sites
// from first to last-1 in it.
func (e *emitter) arm(ci, first, last int32) {
	c := &e.fn.ctls[ci]
	if !c.hasSite() || !e.resume.wanted(c.firstSite, c.lastSite) {
		return
	}
	e.sequence(ci, first, last)
	e.unpop(int(c.base), c.params)
}

// leave emits the end of a block, loop or if.
func (e *emitter) leave(n *node) {
	c := &e.fn.ctls[n.ctl]
	if c.op == wasm.OpIf && c.elseSite < 0 && len(c.params) > 0 && e.resume.wanted(c.firstSite, c.lastSite) {
		// Without an else arm the parameters are the results; they are not on the
		// stack of the emitted block.
		e.op(wasm.OpElse)
		e.unpop(int(c.base), c.params)
	}
	if c.op == wasm.OpLoop && c.hasSite() {
		e.closeLoop(c)
	} else {
		e.end()
	}
	e.labels = e.labels[:len(e.labels)-1]
	if inside := e.parentBase(c); c.hasSite() && int(c.base) > inside {
		e.pop(int(c.base), c.results)
		e.unpop(inside, c.outer[:int(c.base)-inside])
		e.unpop(int(c.base), c.results)
	}
}

func (e *emitter) parentBase(c *ctl) int {
	if c.parent < 0 {
		return 0
	}
	return int(e.fn.ctls[c.parent].base)
}

// openLoop emits the start of a loop, with the test at its header:
//
//	loop
//	  block exit
//	    block slow
//	      global.get soft, br_if slow
//	      the loop's body                  until here openLoop
//	      br exit                          from here closeLoop
//	    end slow
//	    call yield, when it is 0 go on with the loop
//	    save, return
//	  end exit
//	end
//
// The way through the test is thus straight and meets no other: were there a merge
// behind the call of yield, the engine's register allocator would make every iteration
// pay for that call. For the same reason the slow path gives locals that the loop
// changes a new value, which is the same, before it calls: else they would count as live
// across the call, and a local of a loop for which that is so is stored in every
// iteration (wazero 1.12.0, backend/regalloc, scheduleSpill).
func (e *emitter) openLoop(n *node) {
	c := &e.fn.ctls[n.ctl]
	e.block(wasm.OpLoop, c.block)
	e.labels = append(e.labels, e.depth)
	e.pop(int(c.base), c.params)
	exit := wasm.BlockType{}
	if len(c.results) == 1 {
		exit = wasm.BlockType{Kind: wasm.BlockValue, Value: c.results[0]}
	}
	e.block(wasm.OpBlock, exit)
	e.block(wasm.OpBlock, wasm.BlockType{})
	slow := e.depth
	e.sequence(n.ctl, c.firstSite, c.lastSite)
	e.opX(wasm.OpGlobalGet, e.out.soft)
	e.opX(wasm.OpBrIf, e.to(slow))
	if e.meta.EveryLoop {
		e.i32Const(1)
		e.opX(wasm.OpGlobalSet, e.out.soft)
	}
	e.unpop(int(c.base), c.params)
}

// closeLoop emits the rest of what openLoop shows.
func (e *emitter) closeLoop(c *ctl) {
	loop := e.labels[len(e.labels)-1]
	if len(c.results) > 1 {
		e.pop(int(c.base), c.results) // the exit block has no type for so many
	}
	e.opX(wasm.OpBr, e.to(loop+1))
	e.end()
	for _, l := range e.fn.sites[c.firstSite].live {
		if e.fn.changed(c, l) {
			e.renew(l, e.fn.locals[l])
		}
	}
	for i, t := range c.params {
		e.renew(e.spill(int(c.base)+i, t), t)
	}
	e.opX(wasm.OpCall, e.out.yield)
	if len(c.params) == 0 {
		e.op(wasm.OpI32Eqz)
		e.opX(wasm.OpBrIf, e.to(loop))
		e.save(int(c.firstSite))
	} else {
		e.block(wasm.OpIf, wasm.BlockType{})
		e.save(int(c.firstSite))
		e.end()
		e.unpop(int(c.base), c.params)
		e.opX(wasm.OpBr, e.to(loop))
	}
	e.end()
	if len(c.results) > 1 {
		e.unpop(int(c.base), c.results)
	}
	e.end()
}

// renew sets a local to what it is, in a way that makes a new value of it.
func (e *emitter) renew(local uint32, t wasm.ValType) {
	e.opX(wasm.OpLocalGet, local)
	switch t {
	case wasm.I32:
		e.i32Const(0)
		e.op(wasm.OpI32Or)
	case wasm.I64:
		e.zero(t)
		e.op(wasm.OpI64Or)
	case wasm.F32:
		e.op(wasm.OpI32ReinterpretF32)
		e.op(wasm.OpF32ReinterpretI32)
	case wasm.F64:
		e.op(wasm.OpI64ReinterpretF64)
		e.op(wasm.OpF64ReinterpretI64)
	case wasm.V128:
		e.opX(wasm.OpLocalGet, local)
		e.op(wasm.OpV128Or)
	}
	e.opX(wasm.OpLocalSet, local)
}

// localRuns returns the declaration of the locals behind the first skip.
func (e *emitter) localRuns(skip int) []wasm.LocalRun {
	var runs []wasm.LocalRun
	add := func(t wasm.ValType) {
		if n := len(runs); n > 0 && runs[n-1].Type == t {
			runs[n-1].Count++
			return
		}
		runs = append(runs, wasm.LocalRun{Count: 1, Type: t})
	}
	for _, t := range e.fn.locals[skip:] {
		add(t)
	}
	for _, t := range e.extra {
		add(t)
	}
	return runs
}
