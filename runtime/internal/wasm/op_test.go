package wasm

import (
	"fmt"
	"reflect"
	"testing"
)

// allOps returns every instruction of the core specification 2.0.
func allOps() []Op {
	var ops []Op
	for op := Op(0); op < 0xFD0200; op++ {
		if op == 0x200 {
			op = 0xFC00
		}
		if op == 0xFD00 {
			op = 0xFD0000
		}
		if op.Known() {
			ops = append(ops, op)
		}
	}
	return ops
}

func TestNumberOfInstructions(t *testing.T) {
	scalar, vector := 0, 0
	names := map[string]Op{}
	for _, op := range allOps() {
		if op >= 0xFD0000 {
			vector++
		} else {
			scalar++
		}
		if other, ok := names[op.String()]; ok {
			t.Errorf("%#x and %#x are both called %v", uint32(op), uint32(other), op)
		}
		names[op.String()] = op
	}
	// Release 2.0 has 172 instructions of release 1.0, 5 sign extensions, 8 saturating conversions, 7 for bulk
	// memory, 9 for references and tables, and 236 for vectors.
	if scalar != 172+5+8+7+9 || vector != 236 {
		t.Errorf("%d scalar and %d vector instructions, want %d and %d", scalar, vector, 172+5+8+7+9, 236)
	}
}

// sigModule returns a module with a function that puts the pops of op on the stack, carries out in, and
// returns its pushes.
func sigModule(in *Instr) *Module {
	pops, pushes, _ := in.Op.Sig()
	count := uint32(1)
	m := &Module{
		Types:     []FuncType{{Params: pops, Results: pushes}},
		Funcs:     []uint32{0},
		Tables:    []TableType{{Elem: FuncRef}},
		Memories:  []MemoryType{{Min: 1}},
		Exports:   []Export{{Name: "f", Kind: ExternFunc}},
		Elems:     []Elem{{Mode: Passive, Type: FuncRef, Funcs: []uint32{0}}},
		DataCount: &count,
		Datas:     []Data{{Mode: Passive, Bytes: []byte("x")}},
	}
	var body []byte
	for i := range pops {
		get := Instr{Op: OpLocalGet, X: uint32(i)}
		body = get.Append(body)
	}
	m.Codes = []Code{{Body: append(in.Append(body), byte(OpEnd))}}
	return m
}

func TestFixedSignaturesAgreeWithEngine(t *testing.T) {
	r := engine(t)
	checked := 0
	for _, op := range allOps() {
		if _, _, fixed := op.Sig(); !fixed {
			continue
		}
		checked++
		in := Instr{Op: op}
		accept := func(what string, want bool) {
			t.Helper()
			m := sigModule(&in)
			if err := m.Validate(); (err == nil) != want {
				t.Errorf("%v %s: Validate: %v", op, what, err)
			}
			if err := engineAccepts(r, m.Encode()); (err == nil) != want {
				t.Errorf("%v %s: engine: %v", op, what, err)
			}
		}
		accept("as in the table", true)
		info := op.info()
		switch info.imm {
		case immMemarg:
			in.X = uint32(info.arg)
			accept("with natural alignment", true)
			in.X++
			accept("with more than natural alignment", false)
		case immMemargLane:
			in.X, in.Y = uint32(info.arg), 16>>info.arg-1
			accept("with natural alignment and the last lane", true)
			in.Y++
			accept("with a lane too many", false)
		case immLane:
			in.X = uint32(info.arg) - 1
			accept("with the last lane", true)
			in.X++
			accept("with a lane too many", false)
		case immV128:
			in.Imm2 = 0x20 << 56
			accept("with a lane number of 32", op == OpV128Const)
		}
	}
	if want := 437 - 26; checked != want {
		t.Errorf("checked %d instructions with a fixed signature, want %d", checked, want)
	}
}

// sample returns op with immediates that are easy to tell apart.
func sample(op Op) Instr {
	in := Instr{Op: op}
	switch op.info().imm {
	case immBlock:
		in.Block = BlockType{Kind: BlockIndex, Index: 300}
	case immIndex, immIndexZero:
		in.X = 1 << 31
	case immIndex2:
		in.X, in.Y = 127, 128
	case immTargets:
		in.Targets = []uint32{1, 200, 0}
	case immTypes:
		in.Types = []ValType{ExternRef}
	case immRefType:
		in.Types = []ValType{FuncRef}
	case immMemarg:
		in.X, in.Imm = 3, 1<<32-1
	case immMemargLane:
		in.X, in.Imm, in.Y = 1, 1000, 255
	case immLane:
		in.X = 200
	case immI32:
		in.Imm = 1<<64 - 65 // i32 -65
	case immI64:
		in.Imm = 1 << 63
	case immF32:
		in.Imm = 0x7fc00001
	case immF64:
		in.Imm = 0x7ff8_0000_0000_0001
	case immV128:
		in.Imm, in.Imm2 = 0x0102030405060708, 0x090a0b0c0d0e0f10
	}
	return in
}

func TestAppendedInstructionReadsTheSame(t *testing.T) {
	for _, op := range allOps() {
		want := sample(op)
		body := want.Append(nil)
		want.End = len(body)
		r := NewReader(body)
		var got Instr
		if err := r.Next(&got); err != nil {
			t.Errorf("%v: read % x: %v", op, body, err)
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v: % x\n got %+v\nwant %+v", op, body, got, want)
		}
		for n := range body {
			r.Reset(body[:n])
			if err := r.Next(&got); err == nil {
				t.Errorf("%v: read the first %d bytes of % x as %+v", op, n, body, got)
			}
		}
	}
}

func TestUnknownOpcodesAreNamed(t *testing.T) {
	for op, want := range map[Op]string{0x27: "opcode(0x27)", 0xFC12: "opcode(0xfc12)", 0xFD009A: "opcode(0xfd009a)", 1 << 31: "opcode(0x80000000)"} {
		if got := op.String(); got != want || op.Known() {
			t.Errorf("%#x is called %q, want %q", uint32(op), got, want)
		}
	}
}

func TestProposalsAreRecognisedByOpcode(t *testing.T) {
	for code, want := range map[string]string{
		"\x06\x40":     featureExceptions,
		"\x1f\x40\x00": featureExceptions,
		"\x12\x00":     featureTailCalls,
		"\x14\x00":     featureFunctionRefs,
		"\xd0\x05":     featureFunctionRefs,
		"\xfb\x00\x00": featureGC,
		"\xd0\x6e":     featureGC,
		"\xfe\x03\x00": featureThreads,
		"\xfc\x13":     featureWideArithmetic,
		"\xfd\x80\x02": featureRelaxedSIMD,
		"\xfd\x8c\x00": featureLongOpcodes,
		"\x3f\x01":     featureMultiMemory,
		"\x28\x42\x01": featureMultiMemory,
		"\xe2\x00\x00": featureStackSwitching,
		"\x02\x64\x00": featureFunctionRefs,
	} {
		var in Instr
		err := NewReader([]byte(code)).Next(&in)
		if got := fmt.Sprint(err); got != (&UnsupportedError{Feature: want, Offset: unsupportedAt(err)}).Error() {
			t.Errorf("% x: %v, want %q to be unsupported", code, err, want)
		}
	}
}

// Numbers behind a prefix must not be taken for another instruction, however large they are.
func TestLargeOpcodesAreUnknown(t *testing.T) {
	for _, prefix := range []byte{0xfc, 0xfd} {
		for bit := 9; bit < 32; bit++ {
			for low := range uint64(0x200) {
				body := AppendUleb([]byte{prefix}, 1<<bit|low)
				var in Instr
				if err, ok := NewReader(append(body, make([]byte, 20)...)).Next(&in).(*FormatError); !ok {
					t.Fatalf("% x: read as %v: %v", body, in.Op, err)
				}
			}
		}
	}
}

func unsupportedAt(err error) int {
	if u, ok := err.(*UnsupportedError); ok {
		return u.Offset
	}
	return -1
}
