package instrument

import (
	"strconv"

	"perdure/runtime/internal/wasm"
)

// body assembles a small function.
func body(ins ...wasm.Instr) []byte {
	var out []byte
	for i := range ins {
		out = ins[i].Append(out)
	}
	return append(out, byte(wasm.OpEnd))
}

func get(local uint32) wasm.Instr         { return wasm.Instr{Op: wasm.OpLocalGet, X: local} }
func opX(op wasm.Op, x uint32) wasm.Instr { return wasm.Instr{Op: op, X: x} }
func op(o wasm.Op) wasm.Instr             { return wasm.Instr{Op: o} }
func i32Const(v int32) wasm.Instr         { return wasm.Instr{Op: wasm.OpI32Const, Imm: uint64(int64(v))} }
func ifBlock(t wasm.BlockType) wasm.Instr { return wasm.Instr{Op: wasm.OpIf, Block: t} }

var (
	oneI32 = []wasm.ValType{wasm.I32}
	twoI64 = []wasm.ValType{wasm.I64, wasm.I64}
)

func helperType(h Helper) wasm.FuncType {
	if h.Op == wasm.OpMemoryInit || h.Op == wasm.OpTableInit {
		return wasm.FuncType{Params: []wasm.ValType{wasm.I32, wasm.I32, wasm.I32}}
	}
	return wasm.FuncType{}
}

// helper adds the function of a Helper.
func (b *hotBuilder) helper(h Helper) uint32 {
	do := wasm.Instr{Op: h.Op, X: h.X, Y: h.Y}
	t := helperType(h)
	if len(t.Params) == 3 {
		return b.add(t, nil, body(get(0), get(1), get(2), do))
	}
	return b.add(t, nil, body(do, i32Const(1), opX(wasm.OpGlobalSet, b.layout.dropFlag[h])))
}

// thunks adds, for each imported function, one that calls it. References are to these:
// what a reference to a function of the host leads to cannot be looked up (wazero 1.12.0,
// internal/wasm/module_instance_lookup.go, takes a module for an instance of one).
func (b *hotBuilder) thunks() {
	for i := 0; i < b.src.NumImportedFuncs(); i++ {
		t, err := b.src.FuncType(uint32(i))
		if err != nil {
			return // cannot happen: the module is valid
		}
		var ins []wasm.Instr
		for p := range t.Params {
			ins = append(ins, get(uint32(p)))
		}
		b.add(*t, nil, body(append(ins, opX(wasm.OpCall, uint32(i)))...))
	}
}

// root adds the wrapper through which a function is called from outside: when the stack
// has been unwound, the wrapper tells the host while the engine's call still stands.
func (b *hotBuilder) root(f uint32) {
	t, err := b.src.FuncType(f)
	if err != nil {
		return // cannot happen: the module is valid
	}
	var ins []wasm.Instr
	for i := range t.Params {
		ins = append(ins, get(uint32(i)))
	}
	ins = append(ins, opX(wasm.OpCall, b.layout.funcs(f)), opX(wasm.OpGlobalGet, b.layout.state),
		ifBlock(wasm.BlockType{}), opX(wasm.OpCall, b.layout.unwound), op(wasm.OpEnd))
	index := b.add(*t, nil, body(ins...))
	name := b.export("root"+strconv.Itoa(int(f)), wasm.ExternFunc, index)
	b.meta.Roots = append(b.meta.Roots, Root{Func: f, Export: name})
}

// globalAccess adds the functions by which globals are reached that the engine's
// interface cannot reach.
func (b *hotBuilder) globalAccess(index uint32, t wasm.ValType, name string) {
	var getter, setter uint32
	switch t {
	case wasm.V128:
		getter = b.add(wasm.FuncType{Results: twoI64}, nil, body(
			opX(wasm.OpGlobalGet, index), opX(wasm.OpI64x2ExtractLane, 0),
			opX(wasm.OpGlobalGet, index), opX(wasm.OpI64x2ExtractLane, 1)))
		setter = b.add(wasm.FuncType{Params: twoI64}, nil, body(
			get(0), op(wasm.OpI64x2Splat), get(1), opX(wasm.OpI64x2ReplaceLane, 1), opX(wasm.OpGlobalSet, index)))
	case wasm.FuncRef:
		// The getter puts the reference where the host can look it up.
		if b.scratch == 0 {
			b.scratch = b.table(wasm.FuncRef, 1)
			b.export("scratch", wasm.ExternTable, b.scratch)
			b.meta.Scratch = b.scratch
		}
		getter = b.add(wasm.FuncType{Results: oneI32}, nil, body(
			i32Const(0), opX(wasm.OpGlobalGet, index), opX(wasm.OpTableSet, b.scratch),
			opX(wasm.OpGlobalGet, index), op(wasm.OpRefIsNull)))
		setter = b.add(wasm.FuncType{Params: oneI32}, nil, body(append(b.refOf(wasm.FuncRef, 0), opX(wasm.OpGlobalSet, index))...))
	case wasm.ExternRef:
		getter = b.add(wasm.FuncType{Results: oneI32}, nil, body(opX(wasm.OpGlobalGet, index), op(wasm.OpRefIsNull)))
		setter = b.add(wasm.FuncType{Params: oneI32}, nil, body(append(b.refOf(wasm.ExternRef, 0), opX(wasm.OpGlobalSet, index))...))
	default:
		return
	}
	b.mod.Exports = append(b.mod.Exports,
		wasm.Export{Name: name + ".get", Kind: wasm.ExternFunc, Index: getter},
		wasm.Export{Name: name + ".set", Kind: wasm.ExternFunc, Index: setter})
}

// refOf pushes the reference to the function whose original index is in a local, null
// for -1.
func (b *hotBuilder) refOf(t wasm.ValType, local uint32) []wasm.Instr {
	null := wasm.Instr{Op: wasm.OpRefNull, Types: []wasm.ValType{t}}
	if t != wasm.FuncRef {
		return []wasm.Instr{null}
	}
	return []wasm.Instr{
		get(local), i32Const(-1), op(wasm.OpI32Eq),
		ifBlock(wasm.BlockType{Kind: wasm.BlockValue, Value: t}), null,
		op(wasm.OpElse), get(local), opX(wasm.OpTableGet, b.all), op(wasm.OpEnd),
	}
}

// tableAccess adds the functions by which a table is saved and restored.
func (b *hotBuilder) tableAccess(index uint32) {
	t := b.src.TableAt(index).Elem
	name := "table" + strconv.Itoa(int(index))
	null := wasm.Instr{Op: wasm.OpRefNull, Types: []wasm.ValType{t}}
	size := b.add(wasm.FuncType{Results: oneI32}, nil, body(opX(wasm.OpTableSize, index)))
	isNull := b.add(wasm.FuncType{Params: oneI32, Results: oneI32}, nil, body(
		get(0), opX(wasm.OpTableGet, index), op(wasm.OpRefIsNull)))
	set := b.add(wasm.FuncType{Params: []wasm.ValType{wasm.I32, wasm.I32}}, nil, body(
		append(append([]wasm.Instr{get(0)}, b.refOf(t, 1)...), opX(wasm.OpTableSet, index))...))
	grow := b.add(wasm.FuncType{Params: oneI32, Results: oneI32}, nil, body(null, get(0), opX(wasm.OpTableGrow, index)))
	b.meta.Tables = append(b.meta.Tables, TableRef{Index: index, Type: t,
		Size:   b.export(name+".size", wasm.ExternFunc, size),
		IsNull: b.export(name+".isnull", wasm.ExternFunc, isNull),
		Set:    b.export(name+".set", wasm.ExternFunc, set),
		Grow:   b.export(name+".grow", wasm.ExternFunc, grow),
	})
}
