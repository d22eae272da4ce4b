package engine

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasm"
)

// offsetOf returns where in the file the nth instruction op of a function begins.
func offsetOf(t *testing.T, m *wasm.Module, f uint32, op wasm.Op, nth int) uint32 {
	t.Helper()
	c := &m.Codes[int(f)-m.NumImportedFuncs()]
	r := wasm.NewReader(c.Body)
	var in wasm.Instr
	for {
		if err := r.Next(&in); err == io.EOF {
			t.Fatalf("function %d has no %v number %d", f, op, nth)
		} else if err != nil {
			t.Fatal(err)
		}
		if in.Op == op {
			if nth--; nth < 0 {
				return c.Offset + uint32(in.Pos)
			}
		}
	}
}

// load compiles a module of testdata.
func load(t testing.TB, name string, o instrument.Options) *Program {
	t.Helper()
	ctx := context.Background()
	e := New(ctx, Config{})
	t.Cleanup(func() { _ = e.Close(ctx) })
	p, err := e.Load(ctx, moduleBytes(t, name), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func instance(t testing.TB, p *Program, cfg InstanceConfig) *Instance {
	t.Helper()
	if cfg.Host == nil {
		cfg.Host = nobody{}
	}
	cfg.Funcs = stubs(p.src)
	in, err := p.Instantiate(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	return in
}

func i32v(v int32) instrument.Value { return instrument.Value{Type: wasm.I32, Lo: uint64(uint32(v))} }
func i64v(v int64) instrument.Value { return instrument.Value{Type: wasm.I64, Lo: uint64(v)} }
func f32v(v float32) instrument.Value {
	return instrument.Value{Type: wasm.F32, Lo: uint64(math.Float32bits(v))}
}
func f64v(v float64) instrument.Value {
	return instrument.Value{Type: wasm.F64, Lo: math.Float64bits(v)}
}

// stopped runs main of a program with a host whose first call waits or, without, until the
// nth loop header, and returns the image.
func stopped(t testing.TB, p *Program, waits bool, answer PollAnswer, nth int) *Image {
	t.Helper()
	var im *Image
	h := &simHost{funcs: stubs(p.src), waits: func() bool { return waits }}
	in := instance(t, p, InstanceConfig{Host: h, Poll: func() PollAnswer {
		if nth--; nth == -1 {
			return answer
		}
		return PollGo
	}, Cut: func(c *Capture) bool {
		var err error
		if im, err = c.Image(); err != nil {
			t.Error(err)
		}
		return false
	}})
	if _, err := in.Run(exportedFunc(t, p.src, "main")); err != ErrUnwound {
		t.Fatalf("run: %v", err)
	}
	return im
}

// TestFrames holds that frames are in the terms of the original module.
func TestFrames(t *testing.T) {
	p := load(t, "frames", instrument.Options{EveryLoop: true})
	m := p.src
	main := exportedFunc(t, m, "main")
	f := main - 1
	v := instrument.Value{Type: wasm.V128, Lo: 3, Hi: 4}
	caller := &instrument.Frame{Func: main, Offset: offsetOf(t, m, main, wasm.OpCall, 0), InCall: true, Locals: []instrument.Value{}, Stack: []instrument.Value{i64v(5)}}
	h := &simHost{funcs: stubs(m)}
	ticked := []uint64{12}
	_ = h.Call(0, ticked)
	tests := []struct {
		name  string
		got   *Image
		inner *instrument.Frame
	}{
		{"in a call of the host", stopped(t, p, true, PollGo, 0), &instrument.Frame{
			Func: f, Offset: offsetOf(t, m, f, wasm.OpCall, 0), InCall: true,
			Locals: []instrument.Value{i32v(7), f64v(2.5), i64v(0), v}, Stack: []instrument.Value{i32v(11), f32v(-0.5)}}},
		{"at a loop", stopped(t, p, false, PollCut, 0), &instrument.Frame{
			Func: f, Offset: offsetOf(t, m, f, wasm.OpLoop, 0),
			Locals: []instrument.Value{i32v(int32(ticked[0]) + 7), f64v(2.5), i64v(0), v}, Stack: []instrument.Value{i32v(11)}}},
		{"in the loop", stopped(t, p, false, PollCut, 2), &instrument.Frame{
			Func: f, Offset: offsetOf(t, m, f, wasm.OpLoop, 0),
			Locals: []instrument.Value{i32v(int32(ticked[0]) + 13), f64v(2.5), i64v(0), v}, Stack: []instrument.Value{i32v(13)}}},
	}
	for _, tt := range tests {
		want := []*instrument.Frame{caller, tt.inner}
		if !reflect.DeepEqual(tt.got.Frames, want) {
			for i := range tt.got.Frames {
				t.Errorf("%s: frame %d\n got %+v\nwant %+v", tt.name, i, *tt.got.Frames[i], *want[i])
			}
		}
	}
	// Forced in the loop, the guest unwinds when f returns.
	im := stopped(t, p, false, PollForce, 0)
	n := int32(ticked[0]) + 7
	for n += 3; uint32(n) < 1000; n += 3 {
	}
	want := &instrument.Frame{Func: main, Offset: caller.Offset, Locals: []instrument.Value{}, Stack: []instrument.Value{i64v(5), f64v(2.5 + float64(n))}}
	if len(im.Frames) != 1 || !reflect.DeepEqual(im.Frames[0], want) {
		t.Errorf("forced: got %+v, want %+v", *im.Frames[0], *want)
	}
}

// TestHostileStacks holds that a stack which the program cannot have had is refused, and
// says why.
func TestHostileStacks(t *testing.T) {
	p := load(t, "frames", instrument.Options{EveryLoop: true})
	main := exportedFunc(t, p.src, "main")
	tests := []struct {
		want   string
		waits  bool
		change func(im *Image)
	}{
		{"no frames", true, func(im *Image) { im.Frames = nil }},
		{"cannot be called from outside", true, func(im *Image) { im.Root = main - 1 }},
		{"cannot be called from outside", true, func(im *Image) { im.Root = 1 << 31 }},
		{"outermost frame is of function", true, func(im *Image) { im.Frames = im.Frames[1:] }},
		{"calls function 1, the next frame is of function 0", true, func(im *Image) { im.Frames[1].Func = 0 }},
		{"the next frame is of function 77", true, func(im *Image) { im.Frames[1].Func = 77 }},
		{"no suspend point", true, func(im *Image) { im.Frames[1].Offset++ }},
		{"no call at", false, func(im *Image) { im.Frames[1].InCall = true }},
		{"is not in a call", true, func(im *Image) { im.Frames[0].InCall = false }},
		{"the next frame is of function", true, func(im *Image) { im.Frames = append(im.Frames[:1], im.Frames[0], im.Frames[1]) }},
		{"which has no frame", true, func(im *Image) { im.Frames = im.Frames[:1] }},
		{"calls function 0, the next frame", true, func(im *Image) { im.Frames = append(im.Frames, im.Frames[1]) }},
		{"4 locals and 1 operands, want 4 and 2", true, func(im *Image) { im.Frames[1].Stack = im.Frames[1].Stack[:1] }},
		{"3 locals and 2 operands", true, func(im *Image) { im.Frames[1].Locals = im.Frames[1].Locals[:3] }},
		{"local 1 is i64, want f64", true, func(im *Image) { im.Frames[1].Locals[1].Type = wasm.I64 }},
		{"operand 0 is f64, want i64", true, func(im *Image) { im.Frames[0].Stack[0].Type = wasm.F64 }},
		{"no call waits", false, func(im *Image) {
			im.Frames[1].Offset, im.Frames[1].InCall = offsetOf(t, p.src, main-1, wasm.OpCall, 0), true
			im.Frames[1].Stack = []instrument.Value{i32v(1), f32v(2)}
		}},
	}
	for _, tt := range tests {
		im := stopped(t, p, tt.waits, PollCut, 0)
		tt.change(im)
		in := instance(t, p, InstanceConfig{})
		if err := in.Restore(im); err != nil {
			t.Errorf("restore: %v", err)
		}
		if _, err := in.Resume(im); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

// TestHostileIndirect holds the same for calls through a table, and for the state beside the
// stack.
func TestHostileIndirect(t *testing.T) {
	p := load(t, "tables", instrument.Options{EveryLoop: true})
	stop := func() *Image {
		im := stopped(t, p, true, PollGo, 0)
		if len(im.Frames) != 2 || !im.InCall() {
			t.Fatalf("%d frames", len(im.Frames))
		}
		return im
	}
	tests := []struct {
		want   string
		change func(im *Image)
	}{
		{"the next frame is of function", func(im *Image) {
			in := im.Frames[1] // $sum calls a function with its own type through the table: main has another
			im.Frames = append(im.Frames, im.Frames[0], in)
		}},
		{"no function 77", func(im *Image) { im.Tables[0].Entries[0] = 77 }},
		{"no function -2", func(im *Image) { im.Tables[0].Entries[0] = -2 }},
		{"no function 0", func(im *Image) { im.Tables[2].Entries[0] = 0 }},
		{"cannot grow", func(im *Image) { im.Tables[0].Entries = make([]int32, 13) }},
		{"the program starts with", func(im *Image) { im.Tables[0].Entries = nil }},
		{"image has table 1 instead", func(im *Image) { im.Tables[0].Index = 1 }},
		{"changeable tables", func(im *Image) { im.Tables = im.Tables[1:] }},
		{"dropped segments", func(im *Image) { im.DroppedElems = []uint32{1, 7} }},
		{"dropped segments", func(im *Image) { im.DroppedElems = []uint32{1, 1} }},
		{"dropped segments", func(im *Image) { im.DroppedData = []uint32{0} }},
		{"mutable globals", func(im *Image) { im.Globals = append(im.Globals, Global{}) }},
	}
	for _, tt := range tests {
		im := stop()
		tt.change(im)
		in := instance(t, p, InstanceConfig{})
		err := in.Restore(im)
		if err == nil {
			_, err = in.Resume(im)
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
	g := load(t, "globals", instrument.Options{EveryLoop: true})
	for _, change := range []func(*Image){
		func(im *Image) { im.Globals[5].Value.Lo = 5000 },
		func(im *Image) { im.Globals[7].Value.Lo = 0 },
		func(im *Image) { im.Globals[0].Value.Type = wasm.I64 },
		func(im *Image) { im.Globals[0].Index = 3 },
	} {
		im := stopped(t, g, true, PollGo, 0)
		change(im)
		if err := instance(t, g, InstanceConfig{}).Restore(im); err == nil {
			t.Errorf("restored %+v", im.Globals)
		}
	}
}

// TestDamagedImages holds that every truncation and every flipped bit of an image gives an
// error or an image that is restored or fails with an error.
func TestDamagedImages(t *testing.T) {
	for _, name := range []string{"frames", "tables", "globals"} {
		p := load(t, name, instrument.Options{EveryLoop: true})
		b := EncodeImage(stopped(t, p, true, PollGo, 0))
		for i := range b {
			if _, err := DecodeImage(b[:i]); err == nil {
				t.Errorf("%s: the first %d bytes of %d are an image", name, i, len(b))
			}
		}
		if _, err := DecodeImage(append(slices.Clone(b), 0)); err == nil {
			t.Error("an image with a byte more")
		}
		for i := range b {
			for bit := 0; bit < 8; bit++ {
				c := slices.Clone(b)
				c[i] ^= 1 << bit
				resumeAny(t, p, c)
			}
		}
	}
}

// resumeAny resumes what may be an image; the guest is stopped soon.
func resumeAny(t testing.TB, p *Program, b []byte) {
	im, err := DecodeImage(b)
	if err != nil {
		return
	}
	polls := 0
	h := &simHost{funcs: stubs(p.src), pending: &simCall{0, []uint64{0, 0, 0, 0}}, waits: func() bool { return false }}
	in, err := p.Instantiate(context.Background(), InstanceConfig{Host: h, Funcs: h.funcs,
		Poll: func() PollAnswer { polls++; return PollAnswer(min(polls/200, 1)) },
		Cut:  func(*Capture) bool { return false }})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if in.Restore(im) == nil {
		_, _ = in.Resume(im)
	}
}

// noGC holds collections off: guest code cannot be stopped for one. One that is under way is
// brought to its end first, else it would wait for the guest, and all else for it.
func noGC(t testing.TB) {
	old := debug.SetGCPercent(-1)
	runtime.GC()
	t.Cleanup(func() { debug.SetGCPercent(old) })
}

// patience bounds what depends on how much of the machine a test gets.
const patience = 3 * time.Minute

// TestRequest holds that a request from another goroutine stops loops without calls, again
// and again, within 100 ms; wazero could as well keep the flag in a register. A stop during which
// the machine was not ours takes longer and is not one of the twenty.
func TestRequest(t *testing.T) {
	p := load(t, "recursion", instrument.Options{})
	noGC(t)
	var asked time.Time
	quick, limit := 0, time.Now().Add(patience)
	next := make(chan bool, 1)
	in := instance(t, p, InstanceConfig{Cut: func(*Capture) bool {
		took := time.Since(asked)
		if took <= 100*time.Millisecond {
			quick++
		}
		if quick == 20 || time.Now().After(limit) {
			if quick < 20 {
				t.Errorf("stopped within 100 ms %d times, the last time after %v", quick, took)
			}
			close(next)
			return false
		}
		next <- true
		return true
	}})
	next <- true
	done := make(chan bool)
	go func() {
		defer close(done)
		for range next {
			time.Sleep(time.Millisecond)
			asked = time.Now()
			in.Request()
		}
	}()
	if _, err := in.Run(exportedFunc(t, p.src, "forever")); err != ErrUnwound {
		t.Error(err)
	}
	<-done
}

// TestForce holds that recursion without loops is stopped by force, and that its result is
// right, however requests fall.
func TestForce(t *testing.T) {
	p := load(t, "recursion", instrument.Options{})
	noGC(t)
	cuts := 0
	in := instance(t, p, InstanceConfig{Cut: func(c *Capture) bool { cuts++; return true }})
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Microsecond):
				in.Request()
				in.Force()
			}
		}
	}()
	const turns = 300_000
	want := uint32(0)
	for n := uint32(turns); n > 0; n-- {
		want = want*31 + n
	}
	fib, spin := exportedFunc(t, p.src, "fib"), exportedFunc(t, p.src, "spin")
	for until := time.Now().Add(patience); cuts < 30 && time.Now().Before(until); {
		r, err := in.Run(fib, 25)
		x, err2 := in.Run(spin, turns)
		if err = errors.Join(err, err2); err != nil || r[0] != 75025 || uint32(x[0]) != want {
			t.Errorf("fib %d, spin %d, %v; want 75025 and %d", r, x, err, want)
			break
		}
	}
	close(stop)
	<-done
	if cuts < 30 {
		t.Errorf("%d cuts", cuts)
	}
}

// TestOverflow holds that a guest which uses up its stack traps in cold code as it does in
// hot, and that the instance can still be used.
func TestOverflow(t *testing.T) {
	p := load(t, "recursion", instrument.Options{EveryLoop: true})
	rnd := rand.New(rand.NewPCG(1, 1))
	cold := false
	in := instance(t, p, InstanceConfig{Poll: func() PollAnswer { return PollAnswer(rnd.IntN(2)) }, Cut: func(c *Capture) bool {
		cold = true
		return false
	}})
	f := exportedFunc(t, p.src, "overflow")
	var im *Image
	in.cfg.Cut = func(c *Capture) bool { im, _ = c.Image(); return false }
	_, err := in.Run(f, 0)
	for err == ErrUnwound {
		cold = true
		_, err = in.Resume(im)
	}
	if err == nil || !strings.Contains(err.Error(), "stack overflow") || !cold {
		t.Fatalf("got %v", err)
	}
	if r, err := in.Run(exportedFunc(t, p.src, "fib"), 10); err != nil || r[0] != 55 {
		t.Errorf("after it: %v, %v", r, err)
	}
}

// TestEndlessStack holds that frames which are not put back yet count against the depth that a
// guest may reach.
func TestEndlessStack(t *testing.T) {
	p := load(t, "recursion", instrument.Options{EveryLoop: true})
	down := exportedFunc(t, p.src, "down")
	polls := 0
	var im *Image
	goOn := false
	cfg := InstanceConfig{Piece: 100, Poll: func() PollAnswer {
		if polls++; polls == 2 {
			return PollCut
		}
		return PollGo
	}, Cut: func(c *Capture) bool { im, _ = c.Image(); return goOn }}
	if _, err := instance(t, p, cfg).Run(down, 1000, 6); err != ErrUnwound {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		max  int
		want error
	}{{1001, nil}, {1000, ErrTooDeep}} {
		polls, goOn = 0, true
		in := instance(t, p, cfg)
		in.maxDepth = tt.max
		saved := im
		if err := in.Restore(saved); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Resume(saved); err != tt.want {
			t.Errorf("at most %d frames: got %v, want %v", tt.max, err, tt.want)
		}
		if r, err := in.Run(exportedFunc(t, p.src, "fib"), 10); err != nil || r[0] != 55 {
			t.Errorf("after it: %v, %v", r, err)
		}
	}
}
