package wasm

import "encoding/binary"

// An Instr is one instruction with its immediates. Fields that an instruction has no use for are zero.
type Instr struct {
	Op  Op
	Pos int // offset in the body of the instruction's first byte
	End int // offset in the body behind its last byte: Body[Pos:End] is its encoding

	// X and Y are the indices among the immediates, in the order of the binary format: of a local, global,
	// function, table, data or element segment, or the depth of a label.
	//
	//	call_indirect          X = type,    Y = table
	//	table.init             X = segment, Y = table
	//	table.copy             X = target,  Y = source
	//	loads and stores       X = log2 of the alignment, Imm = offset
	//	v128.load8_lane, …     X = log2 of the alignment, Imm = offset, Y = lane
	//	i8x16.replace_lane, …  X = lane
	X, Y uint32

	// Imm holds the value of a constant: i32.const and i64.const as a sign-extended 64-bit integer, f32.const
	// and f64.const as bits (f32 in the low half), v128.const the low eight bytes, in little-endian order, with
	// the high eight in Imm2. The sixteen lane numbers of i8x16.shuffle are stored in the same way.
	Imm, Imm2 uint64

	Block BlockType // of block, loop, if

	// Targets are the labels of a br_table, the default last. Types are the result types of a select with
	// types, and the one type of ref.null. Both are reused by the Reader: they are valid until its next call.
	Targets []uint32
	Types   []ValType
}

// Append appends the encoding of the instruction, in its shortest form, and returns the extended slice.
// Pos and End have no meaning here. An Op that is not Known is a bug of the caller, and Append panics.
func (in *Instr) Append(b []byte) []byte {
	info := in.Op.info()
	if info == nil {
		panic("wasm: encode " + in.Op.String())
	}
	switch {
	case in.Op < 0x100:
		b = append(b, byte(in.Op))
	case in.Op < 0xFD0000:
		b = AppendUleb(append(b, 0xfc), uint64(in.Op-0xFC00))
	default:
		b = AppendUleb(append(b, 0xfd), uint64(in.Op-0xFD0000))
	}
	switch info.imm {
	case immBlock:
		return in.Block.append(b)
	case immIndex:
		return AppendUleb(b, uint64(in.X))
	case immIndex2:
		return AppendUleb(AppendUleb(b, uint64(in.X)), uint64(in.Y))
	case immIndexZero:
		return append(AppendUleb(b, uint64(in.X)), 0)
	case immZero:
		return append(b, 0)
	case immZero2:
		return append(b, 0, 0)
	case immTargets:
		b = AppendUleb(b, uint64(len(in.Targets)-1))
		for _, t := range in.Targets {
			b = AppendUleb(b, uint64(t))
		}
	case immTypes:
		b = AppendUleb(b, uint64(len(in.Types)))
		for _, t := range in.Types {
			b = append(b, byte(t))
		}
	case immRefType:
		return append(b, byte(in.Types[0]))
	case immMemarg:
		return AppendUleb(AppendUleb(b, uint64(in.X)), in.Imm)
	case immMemargLane:
		return append(AppendUleb(AppendUleb(b, uint64(in.X)), in.Imm), byte(in.Y))
	case immLane:
		return append(b, byte(in.X))
	case immI32:
		return AppendSleb(b, int64(int32(in.Imm)))
	case immI64:
		return AppendSleb(b, int64(in.Imm))
	case immF32:
		return binary.LittleEndian.AppendUint32(b, uint32(in.Imm))
	case immF64:
		return binary.LittleEndian.AppendUint64(b, in.Imm)
	case immV128:
		b = binary.LittleEndian.AppendUint64(b, in.Imm)
		return binary.LittleEndian.AppendUint64(b, in.Imm2)
	}
	return b
}

func (t BlockType) append(b []byte) []byte {
	switch t.Kind {
	case BlockValue:
		return append(b, byte(t.Value))
	case BlockIndex:
		return AppendSleb(b, int64(t.Index))
	}
	return append(b, blockTypeEmpty)
}

// blockTypeEmpty encodes the block type without parameters and results.
const blockTypeEmpty = 0x40
