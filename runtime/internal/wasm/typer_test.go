package wasm

import (
	"slices"
	"testing"
)

func TestTyperFollowsStackAndFrames(t *testing.T) {
	code := []Instr{
		{Op: OpLocalGet, X: 1}, // i64
		{Op: OpLocalGet},       // i32
		{Op: OpIf, Block: BlockType{Kind: BlockValue, Value: F64}},
		{Op: OpF64Const},
		{Op: OpBr, X: 0},
		{Op: OpDrop},
		{Op: OpElse},
		{Op: OpLoop, Block: BlockType{Kind: BlockIndex, Index: 0}},
		{Op: OpLocalGet},
		{Op: OpBrIf, X: 0},
		{Op: OpEnd},
		{Op: OpLocalGet, X: 3}, // f64
		{Op: OpEnd},
		{Op: OpDrop},
		{Op: OpI32WrapI64},
		{Op: OpEnd},
	}
	type state struct {
		stack       string
		frames      []FrameKind // innermost first
		unreachable bool
	}
	want := []state{
		{"i64", []FrameKind{FrameFunc}, false},
		{"i64 i32", []FrameKind{FrameFunc}, false},
		{"i64", []FrameKind{FrameIf, FrameFunc}, false},
		{"i64 f64", []FrameKind{FrameIf, FrameFunc}, false},
		{"i64", []FrameKind{FrameIf, FrameFunc}, true},
		{"i64", []FrameKind{FrameIf, FrameFunc}, true},
		{"i64", []FrameKind{FrameElse, FrameFunc}, false},
		{"i64", []FrameKind{FrameLoop, FrameElse, FrameFunc}, false},
		{"i64 i32", []FrameKind{FrameLoop, FrameElse, FrameFunc}, false},
		{"i64", []FrameKind{FrameLoop, FrameElse, FrameFunc}, false},
		{"i64", []FrameKind{FrameElse, FrameFunc}, false},
		{"i64 f64", []FrameKind{FrameElse, FrameFunc}, false},
		{"i64 f64", []FrameKind{FrameFunc}, false},
		{"i64", []FrameKind{FrameFunc}, false},
		{"i32", []FrameKind{FrameFunc}, false},
		{"i32", nil, false},
	}
	ty := NewTyper(bodyModule([]byte{byte(OpEnd)}))
	if err := ty.Begin(1); err != nil {
		t.Fatal(err)
	}
	if got, want := typeNames(ty.Locals()), "i32 i64 f32 f64 v128 funcref externref i32 i32 v128"; got != want {
		t.Errorf("locals are %s, want %s", got, want)
	}
	for i := range code {
		if err := ty.Step(&code[i]); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		var frames []FrameKind
		for label := range ty.Depth() {
			frames = append(frames, ty.Frame(label).Kind)
		}
		got := state{typeNames(ty.Stack()), frames, ty.Unreachable()}
		if got.stack != want[i].stack || !slices.Equal(got.frames, want[i].frames) || got.unreachable != want[i].unreachable {
			t.Errorf("behind step %d, %v:\n got %+v\nwant %+v", i, code[i].Op, got, want[i])
		}
		if label := ty.Depth() - 1; label > 0 && len(ty.Frame(label-1).Label()) > 1 {
			t.Errorf("behind step %d a branch takes %v", i, ty.Frame(label-1).Label())
		}
	}
	if ty.Frame(0) != nil || ty.Frame(-1) != nil {
		t.Error("behind the end there still is a frame")
	}
	if err := ty.Step(&code[0]); err == nil {
		t.Error("an instruction behind the end is accepted")
	}
}

func TestTyperRefusesFunctionsWithoutBody(t *testing.T) {
	ty := NewTyper(bodyModule([]byte{byte(OpEnd)}))
	for _, index := range []uint32{0, 2, 1 << 31} {
		if err := ty.Begin(index); err == nil {
			t.Errorf("function %d is imported or does not exist, but it begins", index)
		}
		if err := ty.Step(&Instr{Op: OpNop}); err == nil {
			t.Errorf("function %d has not begun, but it goes on", index)
		}
	}
}

// Once its buffers have grown, the walk through a function does not allocate.
func TestTyperDoesNotAllocate(t *testing.T) {
	body := []byte{0x20, 1, 0x20, 0, 0x04, 0x7c, 0x20, 3, 0x05, 0x20, 3, 0x0b, 0x1a, 0xa7, 0x0b}
	m := bodyModule(body)
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	ty, r, in := NewTyper(m), NewReader(nil), new(Instr)
	if n := testing.AllocsPerRun(100, func() {
		if err := ty.checkBody(1, r, in); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a function takes %v allocations", n)
	}
}
