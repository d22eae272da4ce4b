package wasm

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A Reader decodes the instructions of a function body, or of a constant expression, one after the other. It
// checks that each is well-formed, not that it is typed or that blocks are closed: that is a Typer's work.
type Reader struct {
	body    []byte
	pos     int
	targets []uint32
	types   []ValType
}

// NewReader returns a Reader for a body such as Code.Body, which must not be changed while it is read.
func NewReader(body []byte) *Reader { return &Reader{body: body} }

// Reset makes the Reader start at the beginning of another body, and keeps its buffers.
func (r *Reader) Reset(body []byte) { r.body, r.pos = body, 0 }

// Pos returns the offset in the body of the next instruction.
func (r *Reader) Pos() int { return r.pos }

// Next decodes the next instruction into in, overwriting all of it. It returns io.EOF behind the last one,
// *FormatError for bytes that are no instruction, and *UnsupportedError for an instruction of a proposal
// that is not supported; their offsets count from the start of the body. After an error, the Reader stays
// where it is.
func (r *Reader) Next(in *Instr) error {
	b, pos := r.body, r.pos
	if pos >= len(b) {
		return io.EOF
	}
	*in = Instr{Op: Op(b[pos]), Pos: pos}
	pos++
	if in.Op == 0xfc || in.Op == 0xfd {
		var err error
		if in.Op, pos, err = r.prefixed(pos); err != nil {
			return err
		}
	}
	info := in.Op.info()
	if info == nil {
		if feature := unsupportedOp(in.Op); feature != "" {
			return &UnsupportedError{Feature: feature, Offset: in.Pos}
		}
		return &FormatError{Offset: in.Pos, What: fmt.Sprintf("unknown instruction 0x%02x", uint32(in.Op))}
	}
	if info.imm != immNone {
		var err error
		if pos, err = r.immediates(in, info, pos); err != nil {
			return err
		}
	}
	in.End = pos
	r.pos = pos
	return nil
}

// prefixed decodes the number behind the prefix byte in front of pos. That of a vector instruction must be in its
// shortest form, though the specification does not say so: no compiler writes another one, and wazero, which
// looks at the first byte only, would carry out another instruction.
func (r *Reader) prefixed(pos int) (op Op, next int, err error) {
	base := Op(0xFC00)
	vector := r.body[pos-1] == 0xfd
	if vector {
		base = 0xFD0000
	}
	number, next := readU32(r.body, pos)
	if next == 0 {
		return 0, 0, &FormatError{Offset: pos, What: lebFault(r.body, pos, 32) + " behind an opcode prefix"}
	}
	op = base | Op(number)
	const highest = 0x1ff // beyond it, base and number overlap
	if number > highest || (op.info() == nil && unsupportedOp(op) == "") {
		return 0, 0, &FormatError{Offset: pos - 1, What: fmt.Sprintf("unknown instruction 0x%02x %d", r.body[pos-1], number)}
	}
	if vector && next-pos != ulebSize(uint64(number)) {
		return 0, 0, &UnsupportedError{Feature: featureLongOpcodes, Offset: pos - 1}
	}
	return op, next, nil
}

// immediates decodes what follows the opcode, from pos on, and returns the position behind it.
func (r *Reader) immediates(in *Instr, info *opInfo, pos int) (int, error) {
	b := r.body
	var next int
	switch info.imm {
	case immBlock:
		return r.blockType(in, pos)
	case immIndex:
		if in.X, next = readU32(b, pos); next == 0 {
			return 0, r.badInt(pos, 32)
		}
		return next, nil
	case immIndex2:
		if in.X, next = readU32(b, pos); next == 0 {
			return 0, r.badInt(pos, 32)
		}
		pos = next
		if in.Y, next = readU32(b, pos); next == 0 {
			return 0, r.badInt(pos, 32)
		}
		return next, nil
	case immIndexZero:
		if in.X, next = readU32(b, pos); next == 0 {
			return 0, r.badInt(pos, 32)
		}
		return r.zeros(next, 1)
	case immZero:
		return r.zeros(pos, 1)
	case immZero2:
		return r.zeros(pos, 2)
	case immTargets:
		return r.labels(in, pos)
	case immTypes:
		return r.selectTypes(in, pos)
	case immRefType:
		return r.refType(in, pos)
	case immMemarg:
		return r.memarg(in, pos)
	case immMemargLane:
		next, err := r.memarg(in, pos)
		if err != nil {
			return 0, err
		}
		if next >= len(b) {
			return 0, r.truncated()
		}
		in.Y = uint32(b[next])
		return next + 1, nil
	case immLane:
		if pos >= len(b) {
			return 0, r.truncated()
		}
		in.X = uint32(b[pos])
		return pos + 1, nil
	case immI32:
		v, next := readSigned(b, pos, 32)
		if next == 0 {
			return 0, r.badInt(pos, 32)
		}
		in.Imm = uint64(v)
		return next, nil
	case immI64:
		v, next := readSigned(b, pos, 64)
		if next == 0 {
			return 0, r.badInt(pos, 64)
		}
		in.Imm = uint64(v)
		return next, nil
	case immF32:
		if len(b)-pos < 4 {
			return 0, r.truncated()
		}
		in.Imm = uint64(binary.LittleEndian.Uint32(b[pos:]))
		return pos + 4, nil
	case immF64:
		if len(b)-pos < 8 {
			return 0, r.truncated()
		}
		in.Imm = binary.LittleEndian.Uint64(b[pos:])
		return pos + 8, nil
	case immV128:
		if len(b)-pos < 16 {
			return 0, r.truncated()
		}
		in.Imm = binary.LittleEndian.Uint64(b[pos:])
		in.Imm2 = binary.LittleEndian.Uint64(b[pos+8:])
		return pos + 16, nil
	}
	return pos, nil
}

func (r *Reader) blockType(in *Instr, pos int) (int, error) {
	if pos >= len(r.body) {
		return 0, r.truncated()
	}
	switch c := r.body[pos]; {
	case c == blockTypeEmpty:
		return pos + 1, nil
	case ValType(c).known():
		in.Block = BlockType{Kind: BlockValue, Value: ValType(c)}
		return pos + 1, nil
	case unsupportedType(c) != "":
		return 0, &UnsupportedError{Feature: unsupportedType(c), Offset: pos}
	}
	index, next := readSigned(r.body, pos, 33)
	if next == 0 {
		return 0, r.badInt(pos, 33)
	}
	if index < 0 {
		return 0, &FormatError{Offset: pos, What: "malformed block type"}
	}
	in.Block = BlockType{Kind: BlockIndex, Index: uint32(index)}
	return next, nil
}

func (r *Reader) labels(in *Instr, pos int) (int, error) {
	count, next := readU32(r.body, pos)
	if next == 0 {
		return 0, r.badInt(pos, 32)
	}
	// Each label takes a byte at least, so the buffer cannot become longer than the body.
	if int64(count)+1 > int64(len(r.body)-next) {
		return 0, &FormatError{Offset: pos, What: fmt.Sprintf("br_table with %d labels is longer than the code", count)}
	}
	pos = next
	r.targets = r.targets[:0]
	for range int(count) + 1 {
		label, next := readU32(r.body, pos)
		if next == 0 {
			return 0, r.badInt(pos, 32)
		}
		r.targets = append(r.targets, label)
		pos = next
	}
	in.Targets = r.targets
	return pos, nil
}

func (r *Reader) selectTypes(in *Instr, pos int) (int, error) {
	count, next := readU32(r.body, pos)
	if next == 0 {
		return 0, r.badInt(pos, 32)
	}
	if int64(count) > int64(len(r.body)-next) {
		return 0, &FormatError{Offset: pos, What: fmt.Sprintf("select with %d types is longer than the code", count)}
	}
	pos = next
	r.types = r.types[:0]
	for range count {
		t, err := valType(r.body, pos)
		if err != nil {
			return 0, err
		}
		r.types = append(r.types, t)
		pos++
	}
	in.Types = r.types
	return pos, nil
}

func (r *Reader) refType(in *Instr, pos int) (int, error) {
	if pos >= len(r.body) {
		return 0, r.truncated()
	}
	c := r.body[pos]
	t := ValType(c)
	if !t.IsRef() {
		if feature := unsupportedType(c); feature != "" {
			return 0, &UnsupportedError{Feature: feature, Offset: pos}
		}
		if index, next := readSigned(r.body, pos, 33); next != 0 && index >= 0 {
			return 0, &UnsupportedError{Feature: featureFunctionRefs, Offset: pos}
		}
		return 0, &FormatError{Offset: pos, What: fmt.Sprintf("malformed reference type 0x%02x", c)}
	}
	in.Types = listOf(t)
	return pos + 1, nil
}

func (r *Reader) memarg(in *Instr, pos int) (int, error) {
	align, next := readU32(r.body, pos)
	if next == 0 {
		return 0, r.badInt(pos, 32)
	}
	if align >= 64 {
		if align < 128 { // this bit says that the index of a memory follows
			return 0, &UnsupportedError{Feature: featureMultiMemory, Offset: pos}
		}
		return 0, &FormatError{Offset: pos, What: "malformed memory alignment"}
	}
	in.X = align
	pos = next
	offset, next := readU32(r.body, pos)
	if next == 0 {
		return 0, r.badInt(pos, 32)
	}
	in.Imm = uint64(offset)
	return next, nil
}

// zeros checks the n bytes in which the instructions for memory hold the index of the memory.
func (r *Reader) zeros(pos, n int) (int, error) {
	for ; n > 0; n-- {
		if pos >= len(r.body) {
			return 0, r.truncated()
		}
		if c := r.body[pos]; c != 0 {
			if c < 0x80 {
				return 0, &UnsupportedError{Feature: featureMultiMemory, Offset: pos}
			}
			return 0, &FormatError{Offset: pos, What: "zero byte expected"}
		}
		pos++
	}
	return pos, nil
}

func (r *Reader) badInt(pos, width int) error {
	return &FormatError{Offset: pos, What: lebFault(r.body, pos, width)}
}

func (r *Reader) truncated() error {
	return &FormatError{Offset: len(r.body), What: "unexpected end of code"}
}

// valType reads the value type at b[pos].
func valType(b []byte, pos int) (ValType, error) {
	if pos >= len(b) {
		return 0, &FormatError{Offset: pos, What: "unexpected end in a type"}
	}
	t := ValType(b[pos])
	if t.known() {
		return t, nil
	}
	if feature := unsupportedType(b[pos]); feature != "" {
		return 0, &UnsupportedError{Feature: feature, Offset: pos}
	}
	return 0, &FormatError{Offset: pos, What: fmt.Sprintf("malformed value type 0x%02x", b[pos])}
}
