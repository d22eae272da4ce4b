package wasm

import (
	"fmt"
	"slices"
	"strings"
)

// A ValType is the type of a value, in its binary encoding. The zero ValType stands for "unknown": see
// Typer.Stack.
type ValType byte

// The value types of the core specification 2.0.
const (
	I32       ValType = 0x7f
	I64       ValType = 0x7e
	F32       ValType = 0x7d
	F64       ValType = 0x7c
	V128      ValType = 0x7b
	FuncRef   ValType = 0x70
	ExternRef ValType = 0x6f
)

// String returns the name of the type in the text format.
func (t ValType) String() string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	case FuncRef:
		return "funcref"
	case ExternRef:
		return "externref"
	case 0:
		return "unknown"
	}
	return fmt.Sprintf("valtype(0x%02x)", byte(t))
}

// IsRef reports whether t is a reference type.
func (t ValType) IsRef() bool { return t == FuncRef || t == ExternRef }

// IsNum reports whether t is one of the four number types; V128 is not.
func (t ValType) IsNum() bool { return t >= F64 && t <= I32 }

func (t ValType) known() bool { return t.IsNum() || t == V128 || t.IsRef() }

// unsupportedType names the proposal that the first byte of a value type belongs to, or returns "".
func unsupportedType(b byte) string {
	switch b {
	case 0x69, 0x74: // exnref, nullexnref
		return featureExceptions
	case 0x63, 0x64: // (ref null ht), (ref ht)
		return featureFunctionRefs
	case 0x68, 0x75: // contref, nullcontref
		return featureStackSwitching
	case 0x6e, 0x6d, 0x6c, 0x6b, 0x6a, 0x71, 0x72, 0x73, 0x78, 0x77: // any, eq, i31, struct, array, none, noextern, nofunc, i8, i16
		return featureGC
	}
	return ""
}

// single holds every value type, so that a list of one type is a part of it.
var single = [...]ValType{I32, I64, F32, F64, V128, FuncRef, ExternRef}

// listOf returns the list with just t, without allocating for the known types.
func listOf(t ValType) []ValType {
	for i, v := range single {
		if v == t {
			return single[i : i+1 : i+1]
		}
	}
	return []ValType{t}
}

func typeNames(types []ValType) string {
	var b strings.Builder
	for i, t := range types {
		if i == 16 && len(types) > 20 { // a signature may have a thousand parameters
			fmt.Fprintf(&b, " and %d more", len(types)-i)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(t.String())
	}
	return b.String()
}

// A FuncType is the signature of a function.
type FuncType struct {
	Params, Results []ValType
}

// Equal reports whether t and u are the same signature.
func (t FuncType) Equal(u FuncType) bool {
	return slices.Equal(t.Params, u.Params) && slices.Equal(t.Results, u.Results)
}

// String returns the signature as "(i32 i64) -> (f32)".
func (t FuncType) String() string {
	return "(" + typeNames(t.Params) + ") -> (" + typeNames(t.Results) + ")"
}

// Key returns a short string that is the same for equal signatures only, for use in maps.
func (t FuncType) Key() string {
	b := make([]byte, 0, len(t.Params)+1+len(t.Results))
	for _, p := range t.Params {
		b = append(b, byte(p))
	}
	b = append(b, 0) // no value type
	for _, r := range t.Results {
		b = append(b, byte(r))
	}
	return string(b)
}

// Limits bound the size of a table, in elements, or of a memory, in wasm pages of 64 KiB.
type Limits struct {
	Min    uint64
	Max    uint64 // 0 unless HasMax
	HasMax bool
}

// A MemoryType is the type of a linear memory.
type MemoryType = Limits

// A TableType is the type of a table.
type TableType struct {
	Elem ValType // FuncRef or ExternRef
	Limits
}

// A GlobalType is the type of a global variable.
type GlobalType struct {
	Type    ValType
	Mutable bool
}

// A BlockKind says which form a BlockType has.
type BlockKind uint8

// The forms of a block type.
const (
	BlockEmpty BlockKind = iota // no parameters, no results
	BlockValue                  // no parameters, one result: BlockType.Value
	BlockIndex                  // the signature with index BlockType.Index
)

// A BlockType is the type of a block, loop or if; Module.BlockSig resolves it.
type BlockType struct {
	Kind  BlockKind
	Value ValType // with BlockValue
	Index uint32  // with BlockIndex: an index into Module.Types
}
