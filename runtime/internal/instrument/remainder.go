package instrument

import (
	"runtime"

	"perdure/runtime/internal/wasm"
)

// wrongRemainder says that the engine computes remainders wrong on this machine: on arm64 it
// gives the quotient and the remainder one virtual register, of which only the second value
// is stored when the register is spilled, so that under pressure the remainder is made of
// whatever lay in that place (wazero 1.12.0, backend/isa/arm64/lower_instr.go, lowerIRem; the
// next release has its pull request 2508). Hot and cold code hence divide, multiply and
// subtract there.
const wrongRemainder = runtime.GOARCH == "arm64"

// remainder emits i32.rem_s, i32.rem_u, i64.rem_s or i64.rem_u without that instruction:
// a - a/b*b. It traps as the original does. The division of the smallest number by -1, which
// would trap and whose remainder is 0, is one by 1.
func (e *emitter) remainder(op wasm.Op) {
	t, constant, operands := wasm.I32, wasm.OpI32Const, &e.operands[0]
	divide, equal, multiply, subtract := wasm.OpI32DivS, wasm.OpI32Eq, wasm.OpI32Mul, wasm.OpI32Sub
	if op == wasm.OpI64RemS || op == wasm.OpI64RemU {
		t, constant, operands = wasm.I64, wasm.OpI64Const, &e.operands[1]
		divide, equal, multiply, subtract = wasm.OpI64DivS, wasm.OpI64Eq, wasm.OpI64Mul, wasm.OpI64Sub
	}
	signed := op == wasm.OpI32RemS || op == wasm.OpI64RemS
	if !signed {
		divide++ // the unsigned one is next
	}
	if *operands == [2]uint32{} { // two locals are never both the first
		*operands = [2]uint32{e.newLocal(t), e.newLocal(t)}
	}
	a, b := operands[0], operands[1]
	e.opX(wasm.OpLocalSet, b)
	e.opX(wasm.OpLocalTee, a)
	e.opX(wasm.OpLocalGet, a)
	if signed {
		number := func(v int64) { e.buf = wasm.AppendSleb(append(e.buf, byte(constant)), v) }
		number(1)
		e.opX(wasm.OpLocalGet, b)
		e.opX(wasm.OpLocalGet, b)
		number(-1)
		e.op(equal)
		e.op(wasm.OpSelect)
		e.opX(wasm.OpLocalTee, b)
	} else {
		e.opX(wasm.OpLocalGet, b)
	}
	e.op(divide)
	e.opX(wasm.OpLocalGet, b)
	e.op(multiply)
	e.op(subtract)
}
