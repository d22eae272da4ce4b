package wasm

import "slices"

// stepVariable checks and applies an instruction whose signature is not fixed.
func (t *Typer) stepVariable(in *Instr) error {
	switch in.Op {
	case OpLocalGet, OpLocalSet, OpLocalTee:
		if uint64(in.X) >= uint64(len(t.locals)) {
			return t.errorf("unknown local %d", in.X)
		}
		local := t.locals[in.X]
		if in.Op != OpLocalGet {
			if err := t.pop(local); err != nil {
				return err
			}
		}
		if in.Op != OpLocalSet {
			t.push(local)
		}
		return nil
	case OpGlobalGet, OpGlobalSet:
		if uint64(in.X) >= uint64(len(t.space.globals)) {
			return t.errorf("unknown global %d", in.X)
		}
		global := t.space.globals[in.X]
		if in.Op == OpGlobalGet {
			t.push(global.Type)
			return nil
		}
		if !global.Mutable {
			return t.errorf("global %d is immutable", in.X)
		}
		return t.pop(global.Type)
	case OpCall:
		if uint64(in.X) >= uint64(len(t.space.funcs)) {
			return t.errorf("unknown function %d", in.X)
		}
		return t.call(t.space.funcs[in.X])
	case OpCallIndirect:
		elem, err := t.table(in.Y)
		if err != nil {
			return err
		}
		if elem != FuncRef {
			return t.errorf("type mismatch: call_indirect through a table of %v", elem)
		}
		if err := t.pop(I32); err != nil {
			return err
		}
		return t.call(in.X)
	case OpDrop:
		_, err := t.popAny()
		return err
	case OpSelect, OpSelectT:
		return t.selectValue(in)
	case OpRefNull:
		if len(in.Types) != 1 {
			return t.errorf("ref.null without its type")
		}
		t.push(in.Types[0])
		return nil
	case OpRefIsNull:
		got, err := t.popAny()
		if err != nil {
			return err
		}
		if got != 0 && !got.IsRef() {
			return t.errorf("type mismatch: ref.is_null wants a reference, found %v", got)
		}
		t.push(I32)
		return nil
	case OpTableGet, OpTableSet, OpTableGrow, OpTableFill:
		return t.tableAccess(in)
	}
	return t.stepControl(in)
}

func (t *Typer) call(typeIndex uint32) error {
	if uint64(typeIndex) >= uint64(len(t.m.Types)) {
		return t.errorf("unknown type %d", typeIndex)
	}
	sig := &t.m.Types[typeIndex]
	if err := t.popAll(sig.Params); err != nil {
		return err
	}
	return t.pushAll(sig.Results)
}

func (t *Typer) selectValue(in *Instr) error {
	if err := t.pop(I32); err != nil {
		return err
	}
	if in.Op == OpSelectT {
		if len(in.Types) != 1 {
			return t.errorf("invalid result arity: select with %d types", len(in.Types))
		}
		if err := t.pop(in.Types[0]); err != nil {
			return err
		}
		if err := t.pop(in.Types[0]); err != nil {
			return err
		}
		t.push(in.Types[0])
		return nil
	}
	b, err := t.popAny()
	if err != nil {
		return err
	}
	a, err := t.popAny()
	if err != nil {
		return err
	}
	if a.IsRef() || b.IsRef() {
		return t.errorf("type mismatch: select without a type wants numbers or vectors, found %v and %v", a, b)
	}
	if a == 0 {
		a = b
	} else if b != 0 && a != b {
		return t.errorf("type mismatch: select between %v and %v", a, b)
	}
	t.push(a)
	return nil
}

func (t *Typer) tableAccess(in *Instr) error {
	elem, err := t.table(in.X)
	if err != nil {
		return err
	}
	pops, pushes := [3]ValType{}, ValType(0)
	n := 0
	switch in.Op {
	case OpTableGet:
		pops, n, pushes = [3]ValType{I32}, 1, elem
	case OpTableSet:
		pops, n = [3]ValType{I32, elem}, 2
	case OpTableGrow:
		pops, n, pushes = [3]ValType{elem, I32}, 2, I32
	case OpTableFill:
		pops, n = [3]ValType{I32, elem, I32}, 3
	}
	if err := t.popAll(pops[:n]); err != nil {
		return err
	}
	if pushes != 0 {
		t.push(pushes)
	}
	return nil
}

// stepControl checks and applies the instructions that open, close and leave blocks.
func (t *Typer) stepControl(in *Instr) error {
	switch in.Op {
	case OpUnreachable:
		t.setUnreachable()
		return nil
	case OpBlock:
		return t.open(FrameBlock, in.Block)
	case OpLoop:
		return t.open(FrameLoop, in.Block)
	case OpIf:
		if err := t.pop(I32); err != nil {
			return err
		}
		return t.open(FrameIf, in.Block)
	case OpElse:
		frame, err := t.close()
		if err != nil {
			return err
		}
		if frame.Kind != FrameIf {
			return t.errorf("else without if")
		}
		return t.openFrame(Frame{Kind: FrameElse, Params: frame.Params, Results: frame.Results})
	case OpEnd:
		frame, err := t.close()
		if err != nil {
			return err
		}
		if frame.Kind == FrameIf && !slices.Equal(frame.Params, frame.Results) {
			return t.errorf("type mismatch: if without else has the results %v but the parameters %v",
				typeNames(frame.Results), typeNames(frame.Params))
		}
		return t.pushAll(frame.Results)
	case OpBr:
		label, err := t.label(in.X)
		if err != nil {
			return err
		}
		if err := t.popAll(label); err != nil {
			return err
		}
		t.setUnreachable()
		return nil
	case OpBrIf:
		if err := t.pop(I32); err != nil {
			return err
		}
		label, err := t.label(in.X)
		if err != nil {
			return err
		}
		if err := t.popAll(label); err != nil {
			return err
		}
		return t.pushAll(label)
	case OpBrTable:
		return t.branchTable(in)
	case OpReturn:
		if err := t.popAll(t.frames[0].Results); err != nil {
			return err
		}
		t.setUnreachable()
		return nil
	}
	return t.errorf("unknown instruction %v", in.Op)
}

func (t *Typer) branchTable(in *Instr) error {
	if err := t.pop(I32); err != nil {
		return err
	}
	if len(in.Targets) == 0 {
		return t.errorf("br_table without a default label")
	}
	last, err := t.label(in.Targets[len(in.Targets)-1])
	if err != nil {
		return err
	}
	for _, target := range in.Targets[:len(in.Targets)-1] {
		label, err := t.label(target)
		if err != nil {
			return err
		}
		if len(label) != len(last) {
			return t.errorf("type mismatch: br_table to labels of %d and %d values", len(label), len(last))
		}
		if err := t.peekAll(label); err != nil {
			return err
		}
	}
	if err := t.popAll(last); err != nil {
		return err
	}
	t.setUnreachable()
	return nil
}

// label returns the types that a branch to the label takes.
func (t *Typer) label(depth uint32) ([]ValType, error) {
	if uint64(depth) >= uint64(len(t.frames)) {
		return nil, t.errorf("unknown label %d", depth)
	}
	return t.frames[len(t.frames)-1-int(depth)].Label(), nil
}

func (t *Typer) open(kind FrameKind, block BlockType) error {
	params, results, err := t.m.BlockSig(block)
	if err != nil {
		return t.errorf("%v", err)
	}
	if len(params) > MaxParams || len(results) > MaxParams {
		return &UnsupportedError{Feature: featureManyParams, Offset: t.offset()}
	}
	if err := t.popAll(params); err != nil {
		return err
	}
	return t.openFrame(Frame{Kind: kind, Params: params, Results: results})
}

func (t *Typer) openFrame(f Frame) error {
	if len(t.frames) > MaxBlockDepth {
		return &UnsupportedError{Feature: featureDeepBlocks, Offset: t.offset()}
	}
	f.Height = len(t.stack)
	t.frames = append(t.frames, f)
	return t.pushAll(f.Params)
}

// close checks the results of the innermost frame, removes it, and returns it.
func (t *Typer) close() (Frame, error) {
	frame := t.frames[len(t.frames)-1]
	if err := t.popAll(frame.Results); err != nil {
		return frame, err
	}
	if len(t.stack) != frame.Height {
		return frame, t.errorf("type mismatch: values remaining on the stack at the end of a block: %v",
			typeNames(t.stack[frame.Height:]))
	}
	t.frames = t.frames[:len(t.frames)-1]
	return frame, nil
}

// setUnreachable drops the operands of the innermost frame: from here on they can be anything.
func (t *Typer) setUnreachable() {
	frame := &t.frames[len(t.frames)-1]
	frame.Unreachable = true
	t.stack = t.stack[:frame.Height]
}

func (t *Typer) push(v ValType) { t.stack = append(t.stack, v) }

func (t *Typer) pushAll(types []ValType) error {
	// Checked here, not only in Step: a single instruction can push a thousand values.
	if len(t.stack)+len(types) > MaxOperandStack {
		return &UnsupportedError{Feature: featureManyStackEntries, Offset: t.offset()}
	}
	t.stack = append(t.stack, types...)
	return nil
}

// popAny removes the top of the stack; it is unknown, 0, where unreachable code has run out of operands.
func (t *Typer) popAny() (ValType, error) {
	frame := &t.frames[len(t.frames)-1]
	n := len(t.stack)
	if n == frame.Height {
		if frame.Unreachable {
			return 0, nil
		}
		return 0, t.errorf("type mismatch: %v finds nothing on the stack", t.in.Op)
	}
	got := t.stack[n-1]
	t.stack = t.stack[:n-1]
	return got, nil
}

func (t *Typer) pop(want ValType) error {
	frame := &t.frames[len(t.frames)-1]
	if n := len(t.stack); n > frame.Height && t.stack[n-1] == want { // the common case
		t.stack = t.stack[:n-1]
		return nil
	}
	got, err := t.popAny()
	if err != nil {
		return err
	}
	if got != want && got != 0 {
		return t.errorf("type mismatch: %v wants %v, found %v", t.in.Op, want, got)
	}
	return nil
}

// popAll removes the given types from the stack, the last of them from its top.
func (t *Typer) popAll(types []ValType) error {
	if err := t.peekAll(types); err != nil {
		return err
	}
	height := t.frames[len(t.frames)-1].Height
	t.stack = t.stack[:max(height, len(t.stack)-len(types))]
	return nil
}

// peekAll checks that popAll can remove the given types.
func (t *Typer) peekAll(types []ValType) error {
	frame := &t.frames[len(t.frames)-1]
	have := t.stack[frame.Height:]
	if len(have) < len(types) {
		if !frame.Unreachable {
			return t.errorf("type mismatch: %v wants %v, found %v", t.in.Op, typeNames(types), typeNames(have))
		}
		types = types[len(types)-len(have):]
	}
	have = have[len(have)-len(types):]
	if len(types) > 8 && slices.Equal(have, types) {
		return nil
	}
	for i, want := range types {
		if have[i] != want && have[i] != 0 {
			return t.errorf("type mismatch: %v wants %v, found %v", t.in.Op, typeNames(types), typeNames(have))
		}
	}
	return nil
}

// inLimits reports whether a signature is small enough for this package.
func inLimits(t *FuncType) bool { return len(t.Params) <= MaxParams && len(t.Results) <= MaxParams }
