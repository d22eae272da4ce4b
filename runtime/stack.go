package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"perdure/memsnap"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasi"
	"perdure/runtime/internal/wasm"
)

// Backtrace is a guest's call stack in one of its generations.
type Backtrace struct {
	SavedState
	// Skipped are newer generations that are damaged.
	Skipped []memsnap.Skipped
	// Pending is the host call that the guest waits in; nil if it was found in its own code.
	Pending *PendingCall
	// Unnamed says why the names of functions could not be read, which are a comfort only.
	Unnamed error
	// Frames are innermost first. There are none when the program has ended.
	Frames []Frame
}

// PendingCall is a call of WASI that has not returned yet.
type PendingCall struct {
	Function string   // without its module
	Args     []uint64 // as the guest passed them
	// Since is for how long the guest waits, and Left for how long it will at most, both by its
	// own clock, in nanoseconds. Left is -1 if nothing but an event ends the call.
	Since, Left int64
}

// Frame is one activation of a function, in terms of the program as it was given.
type Frame struct {
	Func   uint32 // index of the function
	Name   string // from the program's name section; empty if that has none
	Offset uint32 // where in the program file the instruction begins: a call, or the loop about to be run
	InCall bool   // the call at Offset has not returned
	// Locals are the parameters and local variables, Operands the operand stack, bottom
	// first. Locals which no path can read any more are zero.
	Locals, Operands []FrameValue
}

// FrameValue is a WebAssembly value, with the name of its type.
type FrameValue struct{ Type, Value string }

// Backtrace reads the stack of a generation; 0 stands for the newest that is well.
func (s *Saved) Backtrace(ctx context.Context, generation uint64) (*Backtrace, error) {
	saved, skipped, err := s.open(ctx, generation)
	if err != nil {
		return nil, err
	}
	bt := &Backtrace{SavedState: saved.summary(), Skipped: skipped}
	if bt.Ended {
		return bt, nil
	}
	if saved.image.InCall() {
		if bt.Pending, err = pendingCall(saved.wasi); err != nil {
			return nil, err
		}
	}
	var names map[uint32]string
	names, bt.Unnamed = s.names(saved.state.Program)
	bt.Frames = framesOf(saved.image, names)
	return bt, nil
}

// framesOf returns the frames of an image, innermost first.
func framesOf(image *engine.Image, names map[uint32]string) (frames []Frame) {
	for i := len(image.Frames) - 1; i >= 0; i-- {
		f := image.Frames[i]
		frames = append(frames, Frame{
			Func: f.Func, Name: names[f.Func], Offset: f.Offset, InCall: f.InCall,
			Locals: frameValues(f.Locals), Operands: frameValues(f.Stack),
		})
	}
	return frames
}

// names returns the names of functions from the program that the process keeps.
func (s *Saved) names(sum string) (map[uint32]string, error) {
	src, err := s.program(sum)
	if err != nil {
		return nil, err
	}
	m, err := wasm.Decode(src)
	if err != nil {
		return nil, err
	}
	return instrument.FuncNames(m), nil
}

func frameValues(vs []instrument.Value) []FrameValue {
	out := make([]FrameValue, len(vs))
	for i, v := range vs {
		t := v.Type.String()
		out[i] = FrameValue{Type: t, Value: strings.TrimPrefix(v.String(), t+" ")}
	}
	return out
}

// pendingCall reads the call that waits from the saved state of the host.
func pendingCall(state []byte) (*PendingCall, error) {
	var s struct {
		Version int           `json:"version"`
		Clocks  wasi.Clocks   `json:"clocks"`
		Pending *wasi.Pending `json:"pending"`
	}
	if err := json.Unmarshal(state, &s); err != nil {
		return nil, fmt.Errorf("%w: wasi section: %v", ErrBadState, err)
	}
	if s.Version < wasi.FirstStateVersion || s.Version > wasi.StateVersion {
		return nil, fmt.Errorf("%w: wasi section has version %d, this program knows %d", ErrBadState, s.Version, wasi.StateVersion)
	}
	if s.Pending == nil {
		return nil, nil
	}
	c := &PendingCall{Function: s.Pending.Function, Since: s.Clocks.Monotonic - s.Pending.Issued, Left: -1}
	i, ok := wasi.FunctionIndex(s.Pending.Function)
	if !ok || len(s.Pending.Args) != len(wasi.Functions()[i].Params) {
		return nil, fmt.Errorf("%w: wasi section: there is no function %s with %d arguments", ErrBadState, s.Pending.Function, len(s.Pending.Args))
	}
	for k, t := range wasi.Functions()[i].Params {
		a := s.Pending.Args[k]
		if wasm.ValType(t) == wasm.I32 {
			a = uint64(uint32(a)) // the upper half is of no meaning
		}
		c.Args = append(c.Args, a)
	}
	if s.Pending.Deadline >= 0 {
		c.Left = max(0, s.Pending.Deadline-s.Clocks.Monotonic)
	}
	return c, nil
}
