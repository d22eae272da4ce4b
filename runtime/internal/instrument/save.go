package instrument

import "perdure/runtime/internal/wasm"

// save pushes all that a site needs to the host.
func (e *emitter) save(siteIndex int) {
	s := &e.fn.sites[siteIndex]
	var ws []word
	add := func(local uint32, t wasm.ValType) {
		ws = append(ws, word{local, t, 0})
		if t == wasm.V128 {
			ws = append(ws, word{local, t, 1})
		}
	}
	for _, l := range s.live {
		add(l, e.fn.locals[l])
	}
	for i, t := range s.stack {
		add(e.spill(i, t), t)
	}
	for i, t := range s.results {
		add(e.spill(len(s.stack)+i, t), t)
	}
	if s.kind == siteCall && e.resume == nil && len(ws) > firstPush(len(ws)) {
		// What is pushed by the second call or a later one is live across the first: see
		// openLoop for what that would do to a local that a loop around changes.
		for _, w := range ws[firstPush(len(ws)):] {
			if int(w.local) < len(e.fn.locals) && w.half == 0 && e.fn.changedAround(s.ctl, w.local) {
				e.renew(w.local, w.t)
			}
		}
	}
	for len(ws) > 0 {
		n, f := firstPush(len(ws)), e.out.push1
		switch n {
		case 8:
			f = e.out.push8
		case 4:
			f = e.out.push4
		case 2:
			f = e.out.push2
		}
		for _, w := range ws[:n] {
			w.emit(e)
		}
		e.opX(wasm.OpCall, f)
		ws = ws[n:]
	}
	e.i32Const(int32(e.siteBase + uint32(siteIndex)))
	e.opX(wasm.OpCall, e.out.frame)
	for _, t := range e.fn.typ.Results {
		e.zero(t)
	}
	e.op(wasm.OpReturn)
}

// firstPush is how many of n words one call pushes.
func firstPush(n int) int {
	for _, k := range []int{8, 4, 2} {
		if n >= k {
			return k
		}
	}
	return min(n, 1)
}

// word is 64 bits of a local.
type word struct {
	local uint32
	t     wasm.ValType
	half  byte
}

func (w word) emit(e *emitter) {
	e.opX(wasm.OpLocalGet, w.local)
	switch w.t {
	case wasm.I32:
		e.op(wasm.OpI64ExtendI32U)
	case wasm.F32:
		e.op(wasm.OpI32ReinterpretF32)
		e.op(wasm.OpI64ExtendI32U)
	case wasm.F64:
		e.op(wasm.OpI64ReinterpretF64)
	case wasm.V128:
		e.op(wasm.OpI64x2ExtractLane)
		e.buf = append(e.buf, w.half)
	}
}

func (e *emitter) zero(t wasm.ValType) {
	in := wasm.Instr{Op: wasm.OpI32Const}
	switch t {
	case wasm.I64:
		in.Op = wasm.OpI64Const
	case wasm.F32:
		in.Op = wasm.OpF32Const
	case wasm.F64:
		in.Op = wasm.OpF64Const
	case wasm.V128:
		in.Op = wasm.OpV128Const
	case wasm.FuncRef, wasm.ExternRef:
		in.Op, in.Types = wasm.OpRefNull, []wasm.ValType{t}
	}
	e.buf = in.Append(e.buf)
}
