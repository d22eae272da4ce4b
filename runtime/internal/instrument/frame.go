package instrument

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"perdure/runtime/internal/wasm"
)

// Value is one WebAssembly value: the bits of an i32, f32 (zero-extended), i64 or
// f64 in Lo, those of a v128 in Lo and Hi (little end first).
type Value struct {
	Type   wasm.ValType
	Lo, Hi uint64
}

// String formats the value as the text format would.
func (v Value) String() string {
	switch v.Type {
	case wasm.I32:
		return fmt.Sprintf("i32 %d", int32(v.Lo))
	case wasm.I64:
		return fmt.Sprintf("i64 %d", int64(v.Lo))
	case wasm.F32:
		return fmt.Sprintf("f32 %g", math.Float32frombits(uint32(v.Lo)))
	case wasm.F64:
		return fmt.Sprintf("f64 %g", math.Float64frombits(v.Lo))
	case wasm.V128:
		return fmt.Sprintf("v128 %#016x%016x", v.Hi, v.Lo)
	}
	return v.Type.String()
}

// Frame is one activation on a saved guest stack, in terms of the original
// module.
type Frame struct {
	// Func is the index of the function in the original module.
	Func uint32
	// Offset is where in the original file the instruction begins: that of a
	// loop instruction whose body is about to run, or of a call.
	Offset uint32
	// InCall says that the call at Offset has not returned: its operands are
	// consumed and its results are still to come. Otherwise a call at Offset has
	// returned and its results are on Stack.
	InCall bool
	// Locals are the parameters and locals. Those which no path can read any
	// more are zero.
	Locals []Value
	// Stack is the operand stack of the function, bottom first.
	Stack []Value
}

// Point identifies a place at which a frame can be resumed.
type Point struct {
	Func   uint32
	Offset uint32
	InCall bool
}

// Point returns the place of the frame.
func (f *Frame) Point() Point { return Point{Func: f.Func, Offset: f.Offset, InCall: f.InCall} }

// words returns the number of 64-bit words which a value of type t takes when
// generated code hands it to the host.
func words(t wasm.ValType) int {
	if t == wasm.V128 {
		return 2
	}
	return 1
}

// Site returns the function to which a site number belongs and the number of
// words that its slow path pushes. It is an error when there is no such site.
func (m *Meta) Site(site uint32) (funcIndex uint32, nWords int, err error) {
	fn, s, err := m.site(site)
	if err != nil {
		return 0, 0, err
	}
	return fn.index, s.nWords(), nil
}

// Frame translates what the slow path of a site has pushed into a frame. inCall
// says that the call at the site did not return; it is ignored for loops.
func (m *Meta) Frame(site uint32, pushed []uint64, inCall bool) (*Frame, error) {
	fn, s, err := m.site(site)
	if err != nil {
		return nil, err
	}
	if len(pushed) != s.nWords() {
		return nil, fmt.Errorf("site %d of function %d pushed %d words, want %d", site, fn.index, len(pushed), s.nWords())
	}
	take := func(t wasm.ValType) Value {
		v := Value{Type: t, Lo: pushed[0]}
		if t == wasm.V128 {
			v.Hi = pushed[1]
		}
		pushed = pushed[words(t):]
		return v
	}
	f := &Frame{Func: fn.index, Offset: s.offset, InCall: inCall && s.kind == siteCall}
	f.Locals = make([]Value, len(fn.locals))
	for i, t := range fn.locals {
		f.Locals[i].Type = t
	}
	for _, l := range s.live {
		f.Locals[l] = take(fn.locals[l])
	}
	for _, t := range s.stack {
		f.Stack = append(f.Stack, take(t))
	}
	if s.kind == siteCall && !f.InCall {
		for _, t := range s.results {
			f.Stack = append(f.Stack, take(t))
		}
	}
	return f, nil
}

// Words returns the words which the cold code of the frame's point pops: its
// ordinal in the resume module made for points, the live locals, the operand
// stack. The points must be as NormalPoints makes them. It fails when the frame
// does not fit the module.
func (m *Meta) Words(f *Frame, points []Point) ([]uint64, error) {
	fn, s, err := m.at(f.Point())
	if err != nil {
		return nil, err
	}
	first, _ := slices.BinarySearchFunc(points, Point{Func: f.Func}, Point.compare)
	place, ok := slices.BinarySearchFunc(points, f.Point(), Point.compare)
	if !ok {
		return nil, fmt.Errorf("function %d: no cold code for offset %#x", f.Func, f.Offset)
	}
	if err := f.fits(fn, s); err != nil {
		return nil, err
	}
	ordinal := place - first + 1
	out := []uint64{uint64(ordinal)}
	put := func(v Value) {
		out = append(out, v.Lo)
		if v.Type == wasm.V128 {
			out = append(out, v.Hi)
		}
	}
	for _, l := range s.live {
		put(f.Locals[l])
	}
	for _, v := range f.Stack {
		put(v)
	}
	return out, nil
}

// fits tells whether the frame has the values that its site needs.
func (f *Frame) fits(fn *function, s *site) error {
	results := s.results
	if s.kind != siteCall || f.InCall {
		results = nil
	}
	if n := len(s.stack) + len(results); len(f.Locals) != len(fn.locals) || len(f.Stack) != n {
		return fmt.Errorf("function %d at %#x: frame has %d locals and %d operands, want %d and %d",
			f.Func, f.Offset, len(f.Locals), len(f.Stack), len(fn.locals), n)
	}
	is := func(v Value, t wasm.ValType, what string, i int) error {
		if v.Type != t {
			return fmt.Errorf("function %d at %#x: %s %d is %v, want %v", f.Func, f.Offset, what, i, v.Type, t)
		}
		return nil
	}
	for _, l := range s.live {
		if err := is(f.Locals[l], fn.locals[l], "local", int(l)); err != nil {
			return err
		}
	}
	for i, t := range s.stack {
		if err := is(f.Stack[i], t, "operand", i); err != nil {
			return err
		}
	}
	for i, t := range results {
		if err := is(f.Stack[len(s.stack)+i], t, "operand", len(s.stack)+i); err != nil {
			return err
		}
	}
	return nil
}

// NormalPoints returns where the frames stand: each point once, in the order that Words
// wants.
func NormalPoints(frames []*Frame) []Point {
	points := make([]Point, len(frames))
	for i, f := range frames {
		points[i] = f.Point()
	}
	return normalPoints(points)
}

// CheckStack tells whether the frames, outermost first, can be the stack of a call of the
// function root from outside: each frame is of the function that the one before it calls, and
// has the values that its place needs.
// When the innermost frame waits for a function of the host, waits is true and nResults
// says how many results that has.
func (m *Meta) CheckStack(root uint32, frames []*Frame) (nResults int, waits bool, err error) {
	if len(frames) == 0 {
		return 0, false, errors.New("stack has no frames")
	}
	if _, ok := m.RootOf(root); !ok {
		return 0, false, fmt.Errorf("function %d cannot be called from outside", root)
	}
	if frames[0].Func != root {
		return 0, false, fmt.Errorf("outermost frame is of function %d, want %d", frames[0].Func, root)
	}
	nImports := uint32(m.src.NumImportedFuncs())
	for i, f := range frames {
		fn, s, err := m.at(f.Point())
		if err != nil {
			return 0, false, fmt.Errorf("frame %d: %w", i, err)
		}
		inner := i < len(frames)-1
		if inner && !f.InCall {
			return 0, false, fmt.Errorf("frame %d of function %d is not in a call", i, f.Func)
		}
		if err := f.fits(fn, s); err != nil {
			return 0, false, fmt.Errorf("frame %d: %w", i, err)
		}
		if !f.InCall {
			return 0, false, nil
		}
		n := &fn.nodes[s.node]
		switch {
		case inner && n.op == wasm.OpCall && n.x != frames[i+1].Func:
			return 0, false, fmt.Errorf("frame %d of function %d calls function %d, the next frame is of function %d", i, f.Func, n.x, frames[i+1].Func)
		case inner && n.op == wasm.OpCallIndirect:
			t, err := m.src.FuncType(frames[i+1].Func)
			if err != nil {
				return 0, false, fmt.Errorf("frame %d: %w", i+1, err)
			}
			if !t.Equal(m.src.Types[n.x]) {
				return 0, false, fmt.Errorf("frame %d of function %d calls a function of type %v, the next frame is of function %d of type %v", i, f.Func, m.src.Types[n.x], frames[i+1].Func, t)
			}
		case !inner && n.op == wasm.OpCall && n.x >= nImports:
			return 0, false, fmt.Errorf("innermost frame of function %d is in a call of function %d, which has no frame", f.Func, n.x)
		}
		nResults = len(s.results)
	}
	return nResults, true, nil
}
