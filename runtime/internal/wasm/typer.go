package wasm

import (
	"fmt"
	"slices"
)

// A FrameKind says what opened a control frame.
type FrameKind uint8

// The kinds of control frames.
const (
	FrameFunc FrameKind = iota // the body of the function itself
	FrameBlock
	FrameLoop
	FrameIf
	FrameElse
)

// A Frame is a block of a function body that is open.
type Frame struct {
	Kind            FrameKind
	Params, Results []ValType // shared: not to be changed
	Height          int       // of the operand stack below the block's parameters
	Unreachable     bool      // what follows in this block cannot be reached
}

// Label returns the types that a branch to the frame takes: the parameters of a loop, the results of any
// other block.
func (f *Frame) Label() []ValType {
	if f.Kind == FrameLoop {
		return f.Params
	}
	return f.Results
}

// A Typer follows the types on the operand stack through the body of a function, instruction by instruction,
// and checks them by the rules of validation. It can be used for one function after the other.
type Typer struct {
	m        *Module
	space    space
	declared []uint64 // bit set of the functions that ref.func may name

	fn     int   // index of the current function
	code   *Code // nil for a body that is not in the module
	in     *Instr
	locals []ValType
	stack  []ValType
	frames []Frame
}

// NewTyper returns a Typer for the functions of m. Types, imports, functions, tables, memories, globals,
// exports and element segments of m must be valid (see Decode) and must not change while it is in use.
func NewTyper(m *Module) *Typer {
	t := &Typer{m: m, space: m.buildSpace(), fn: -1}
	t.declared = make([]uint64, (len(t.space.funcs)+63)/64)
	m.eachDeclared(t.declare)
	return t
}

func (t *Typer) declare(index uint32) {
	if uint64(index) < uint64(len(t.space.funcs)) {
		t.declared[index/64] |= 1 << (index % 64)
	}
}

// eachDeclared calls f for each function index that occurs outside of function bodies and of the start
// section: the only functions that a ref.func in a body may name.
func (m *Module) eachDeclared(f func(index uint32)) {
	for i := range m.Globals {
		if index, ok := m.Globals[i].Init.refFunc(); ok {
			f(index)
		}
	}
	for i := range m.Exports {
		if m.Exports[i].Kind == ExternFunc {
			f(m.Exports[i].Index)
		}
	}
	for i := range m.Elems {
		for _, index := range m.Elems[i].Funcs {
			f(index)
		}
		for _, e := range m.Elems[i].Init {
			if index, ok := e.refFunc(); ok {
				f(index)
			}
		}
	}
}

// Begin starts the function with the given index, which the module must define. The locals are then the
// parameters and the declared ones, and the frame of the function is open.
func (t *Typer) Begin(index uint32) error {
	t.fn, t.code, t.in = int(index), nil, nil
	t.stack, t.frames, t.locals = t.stack[:0], t.frames[:0], t.locals[:0]
	first := uint64(t.space.imported[ExternFunc])
	if uint64(index) < first || uint64(index) >= uint64(len(t.space.funcs)) {
		return t.errorf("the module does not define this function")
	}
	if defined := uint64(index) - first; defined < uint64(len(t.m.Codes)) {
		t.code = &t.m.Codes[defined]
	}
	if t.code == nil {
		return t.errorf("the function has no body")
	}
	typeIndex := t.space.funcs[index]
	if uint64(typeIndex) >= uint64(len(t.m.Types)) {
		return t.errorf("unknown type %d", typeIndex)
	}
	sig := &t.m.Types[typeIndex]
	if !inLimits(sig) {
		return &UnsupportedError{Feature: featureManyParams, Offset: -1}
	}
	t.locals = append(t.locals, sig.Params...)
	total := uint64(0)
	for _, run := range t.code.Locals {
		if total += uint64(run.Count); total > MaxLocals {
			return &UnsupportedError{Feature: featureManyLocals, Offset: int(t.code.Offset)}
		}
		if !run.Type.known() {
			return t.errorf("%v is no type for a local", run.Type)
		}
		t.locals = slices.Grow(t.locals, int(run.Count))
		for range run.Count {
			t.locals = append(t.locals, run.Type)
		}
	}
	t.frames = append(t.frames, Frame{Kind: FrameFunc, Results: sig.Results})
	return nil
}

// Locals returns the types of the parameters and locals of the function. It is valid until the next Begin.
func (t *Typer) Locals() []ValType { return t.locals }

// Stack returns the types on the operand stack of the whole function, the top last. Where code cannot be
// reached an entry may be unknown, which is the zero ValType, and entries may be missing above the height
// of the innermost frame. It is valid until the next Step.
func (t *Typer) Stack() []ValType { return t.stack }

// Depth returns the number of open frames: one is that of the function, none means that it has ended.
func (t *Typer) Depth() int { return len(t.frames) }

// Frame returns an open frame, counted as labels are: 0 is the innermost one, Depth()-1 that of the function.
// It is valid until the next Step, and nil if there is no such frame.
func (t *Typer) Frame(label int) *Frame {
	if i := len(t.frames) - 1 - label; i >= 0 && i < len(t.frames) {
		return &t.frames[i]
	}
	return nil
}

// Unreachable reports whether the next instruction cannot be reached.
func (t *Typer) Unreachable() bool {
	return len(t.frames) > 0 && t.frames[len(t.frames)-1].Unreachable
}

// Step checks one instruction and applies it. Errors are *ValidationError, or *UnsupportedError when a limit
// is exceeded; after an error the Typer can only Begin another function.
func (t *Typer) Step(in *Instr) error {
	t.in = in
	if len(t.frames) == 0 {
		return t.errorf("%v behind the end of the function", in.Op)
	}
	info := in.Op.info()
	if info == nil {
		return t.errorf("unknown instruction %v", in.Op)
	}
	if !info.fixed {
		if err := t.stepVariable(in); err != nil {
			return err
		}
	} else {
		if info.imm != immNone {
			if err := t.checkImmediates(in, info); err != nil {
				return err
			}
		}
		if err := t.popAll(info.pops); err != nil {
			return err
		}
		t.stack = append(t.stack, info.pushes...)
	}
	if len(t.stack) > MaxOperandStack {
		return &UnsupportedError{Feature: featureManyStackEntries, Offset: t.offset()}
	}
	return nil
}

// checkImmediates checks the immediates of an instruction with a fixed signature.
func (t *Typer) checkImmediates(in *Instr, info *opInfo) error {
	switch info.imm {
	case immMemarg, immMemargLane:
		if in.X > uint32(info.arg) {
			return t.errorf("alignment 2^%d is larger than natural", in.X)
		}
		if info.imm == immMemargLane && in.Y >= 16>>info.arg {
			return t.errorf("lane %d does not exist", in.Y)
		}
		return t.needMemory()
	case immLane:
		if in.X >= uint32(info.arg) {
			return t.errorf("lane %d does not exist", in.X)
		}
	case immZero, immZero2:
		return t.needMemory()
	case immV128:
		// A lane number has to be below 32.
		if in.Op == OpI8x16Shuffle && (in.Imm|in.Imm2)&0xe0e0e0e0e0e0e0e0 != 0 {
			return t.errorf("shuffle of a lane that does not exist")
		}
	case immIndexZero:
		if err := t.needMemory(); err != nil {
			return err
		}
		return t.needData(in.X)
	}
	switch in.Op {
	case OpDataDrop:
		return t.needData(in.X)
	case OpElemDrop:
		if uint64(in.X) >= uint64(len(t.m.Elems)) {
			return t.errorf("unknown element segment %d", in.X)
		}
	case OpRefFunc:
		if uint64(in.X) >= uint64(len(t.space.funcs)) {
			return t.errorf("unknown function %d", in.X)
		}
		if t.declared[in.X/64]&(1<<(in.X%64)) == 0 {
			return t.errorf("function %d is not declared for references", in.X)
		}
	case OpTableSize:
		_, err := t.table(in.X)
		return err
	case OpTableCopy:
		to, err := t.table(in.X)
		if err != nil {
			return err
		}
		from, err := t.table(in.Y)
		if err != nil {
			return err
		}
		if to != from {
			return t.errorf("type mismatch: copy from a table of %v to one of %v", from, to)
		}
	case OpTableInit:
		to, err := t.table(in.Y)
		if err != nil {
			return err
		}
		if uint64(in.X) >= uint64(len(t.m.Elems)) {
			return t.errorf("unknown element segment %d", in.X)
		}
		if from := t.m.Elems[in.X].Type; to != from {
			return t.errorf("type mismatch: init a table of %v from a segment of %v", to, from)
		}
	}
	return nil
}

func (t *Typer) needMemory() error {
	if len(t.space.memories) == 0 {
		return t.errorf("unknown memory 0")
	}
	return nil
}

func (t *Typer) needData(index uint32) error {
	if t.m.DataCount == nil {
		return t.errorf("data count section required")
	}
	if index >= *t.m.DataCount {
		return t.errorf("unknown data segment %d", index)
	}
	return nil
}

// table returns the element type of a table.
func (t *Typer) table(index uint32) (ValType, error) {
	if uint64(index) >= uint64(len(t.space.tables)) {
		return 0, t.errorf("unknown table %d", index)
	}
	return t.space.tables[index].Elem, nil
}

// offset returns where the current instruction was in the module that was decoded.
func (t *Typer) offset() int {
	if t.in == nil || t.code == nil {
		return 0
	}
	return int(t.code.Offset) + t.in.Pos
}

func (t *Typer) errorf(format string, args ...any) error {
	e := &ValidationError{Func: t.fn, Where: fmt.Sprintf("function %d", t.fn), What: fmt.Sprintf(format, args...)}
	if t.in != nil {
		e.Pos, e.Offset = t.in.Pos, t.offset()
	}
	return e
}
