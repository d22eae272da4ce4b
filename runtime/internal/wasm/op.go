package wasm

import (
	"fmt"
	"strings"
)

// An Op is an instruction: its opcode if that is one byte, else 0xFC00|n or 0xFD0000|n for number n behind
// the prefix byte 0xFC or 0xFD.
type Op uint32

// immediates says which immediates follow an opcode.
type immediates uint8

const (
	immNone       immediates = iota
	immBlock                 // block type
	immIndex                 // X
	immIndex2                // X, Y
	immIndexZero             // X, then a byte 0: the memory
	immZero                  // a byte 0: the memory
	immZero2                 // two bytes 0: the memories
	immTargets               // Targets
	immTypes                 // Types
	immRefType               // Types, with one reference type
	immMemarg                // X = alignment, Imm = offset
	immMemargLane            // X = alignment, Imm = offset, Y = lane
	immLane                  // X = lane
	immI32                   // Imm
	immI64                   // Imm
	immF32                   // Imm
	immF64                   // Imm
	immV128                  // Imm, Imm2
)

// An opRow describes one instruction.
type opRow struct {
	op   Op
	name string
	imm  immediates
	sig  string // fixed signature as pops:pushes with a letter for each type (see letterTypes), or "" if it is not fixed
	arg  uint8  // immMemarg, immMemargLane: log2 of the natural alignment; immLane: number of lanes
}

// opInfo is an opRow made ready for use.
type opInfo struct {
	name   string
	imm    immediates
	arg    uint8
	fixed  bool
	pops   []ValType
	pushes []ValType
}

var letterTypes = map[rune]ValType{'i': I32, 'l': I64, 'f': F32, 'd': F64, 'v': V128, 'r': FuncRef}

// opInfos has the one-byte instructions at their opcodes, then those behind 0xFC, then those behind 0xFD.
var opInfos = indexRows()

const (
	miscBase   = 0x100
	vectorBase = 0x120
)

func indexRows() (infos [vectorBase + 0x100]opInfo) {
	lists := map[string][]ValType{"": nil}
	list := func(letters string) []ValType {
		types, ok := lists[letters]
		if !ok {
			for _, l := range letters {
				types = append(types, letterTypes[l])
			}
			lists[letters] = types
		}
		return types
	}
	for _, rows := range [][]opRow{scalarRows[:], vectorRows[:]} {
		for i := range rows {
			row := &rows[i]
			info := opInfo{name: row.name, imm: row.imm, arg: row.arg}
			if row.sig != "" {
				pops, pushes, _ := strings.Cut(row.sig, ":")
				info.fixed, info.pops, info.pushes = true, list(pops), list(pushes)
			}
			infos[row.op.slot()] = info
		}
	}
	return infos
}

// slot returns the index of op in opInfos, or -1 if it cannot have one.
func (op Op) slot() int {
	switch {
	case op < 0x100:
		return int(op)
	case op >= 0xFC00 && op < 0xFC00+(vectorBase-miscBase):
		return miscBase + int(op-0xFC00)
	case op >= 0xFD0000 && op < 0xFD0100:
		return vectorBase + int(op-0xFD0000)
	}
	return -1
}

// info returns the description of op, or nil when there is no such instruction.
func (op Op) info() *opInfo {
	if i := op.slot(); i >= 0 && opInfos[i].name != "" {
		return &opInfos[i]
	}
	return nil
}

// String returns the name of the instruction in the text format. The two forms of select are told apart:
// the one with a type is "select (result)".
func (op Op) String() string {
	if info := op.info(); info != nil {
		return info.name
	}
	return fmt.Sprintf("opcode(0x%02x)", uint32(op))
}

// Known reports whether op is an instruction of the core specification 2.0.
func (op Op) Known() bool { return op.info() != nil }

// Sig returns what the instruction takes from the operand stack and puts on it, the top last. Fixed is false
// for instructions whose signature depends on their immediates, on the module or on the stack; pops and
// pushes are nil then. The lists are shared: they must not be changed.
func (op Op) Sig() (pops, pushes []ValType, fixed bool) {
	info := op.info()
	if info == nil || !info.fixed {
		return nil, nil, false
	}
	return info.pops, info.pushes, true
}

// unsupportedOp names the proposal that an unknown instruction belongs to, or returns "".
func unsupportedOp(op Op) string {
	switch op {
	case 0x06, 0x07, 0x08, 0x09, 0x0a, 0x18, 0x19, 0x1f: // try, catch, throw, rethrow, throw_ref, delegate, catch_all, try_table
		return featureExceptions
	case 0x12, 0x13: // return_call, return_call_indirect
		return featureTailCalls
	case 0x14, 0x15, 0xd4, 0xd5, 0xd6: // call_ref, return_call_ref, ref.as_non_null, br_on_null, br_on_non_null
		return featureFunctionRefs
	case 0xd3, 0xfb: // ref.eq, and the prefix of struct, array, cast and i31
		return featureGC
	case 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6:
		return featureStackSwitching
	case 0xfe: // the prefix of the atomic instructions
		return featureThreads
	case 0xFC13, 0xFC14, 0xFC15, 0xFC16: // i64.add128, i64.sub128, i64.mul_wide_s, i64.mul_wide_u
		return featureWideArithmetic
	}
	if op >= 0xFD0100 && op <= 0xFD01FF {
		return featureRelaxedSIMD
	}
	return ""
}
