package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasm"
)

// failing is a host whose calls fail, at once or when they are resumed.
type failing struct {
	call, resume error
}

func (h failing) Call(int, []uint64) error { return h.call }
func (h failing) Resume([]uint64) error    { return h.resume }

// TestHostErrors holds that an error of the host ends the guest and is what Run returns, from
// hot code, from a call that waited, and from cold code; and that the instance is not hurt.
func TestHostErrors(t *testing.T) {
	p := load(t, "frames", instrument.Options{})
	main := exportedFunc(t, p.src, "main")
	bad := errors.New("bad")
	for name, h := range map[string]failing{"call": {call: bad}, "resume": {call: ErrInterrupted, resume: bad}} {
		in := instance(t, p, InstanceConfig{Host: h})
		for i := 0; i < 3; i++ {
			if _, err := in.Run(main); err != bad {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if in.state.Get() != 0 {
			t.Errorf("%s: the state flag is left set", name)
		}
	}
	e := load(t, "frames", instrument.Options{EveryLoop: true})
	im := stopped(t, e, true, PollGo, 0)
	in := instance(t, p, InstanceConfig{Host: failing{resume: bad}})
	if err := in.Restore(im); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 3; i++ {
		if _, err := in.Resume(im); err != bad {
			t.Errorf("in cold code: got %v", err)
		}
	}
}

// TestWaitingOutside holds that a function of the host which is exported again and called
// from outside cannot wait: there is no guest to take out.
func TestWaitingOutside(t *testing.T) {
	m := &wasm.Module{Types: []wasm.FuncType{{}}, Imports: []wasm.Import{{Module: "env", Name: "f", Kind: wasm.ExternFunc}},
		Exports: []wasm.Export{{Name: "f", Kind: wasm.ExternFunc}}}
	ctx := context.Background()
	e := New(ctx, Config{})
	defer e.Close(ctx)
	p, err := e.Load(ctx, m.Encode(), instrument.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := instance(t, p, InstanceConfig{Host: failing{}}).Run(0); err != nil {
		t.Error(err)
	}
	if _, err := instance(t, p, InstanceConfig{Host: failing{call: ErrInterrupted}}).Run(0); err == nil || !strings.Contains(err.Error(), "waits") {
		t.Errorf("got %v", err)
	}
	if _, err := instance(t, p, InstanceConfig{}).Run(1); err == nil || !strings.Contains(err.Error(), "function 1 is not exported") {
		t.Errorf("got %v", err)
	}
}

// TestMissing holds that imports which nobody provides are named.
func TestMissing(t *testing.T) {
	i32 := []wasm.ValType{wasm.I32}
	m := &wasm.Module{Types: []wasm.FuncType{{}, {Params: i32}}, Imports: []wasm.Import{
		{Module: "env", Name: "there", Kind: wasm.ExternFunc, TypeIndex: 1},
		{Module: "env", Name: "other", Kind: wasm.ExternFunc, TypeIndex: 1},
		{Module: "env", Name: "gone", Kind: wasm.ExternFunc},
		{Module: "env", Name: "memory", Kind: wasm.ExternMemory},
	}}
	funcs := []Func{{Module: "env", Name: "there", Params: apiTypes(i32)}, {Module: "env", Name: "other"}}
	err := Missing(m, funcs)
	want := "imports nobody provides: env.gone, env.memory (memory), env.other with the type (i32) -> ()"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	m.Imports = m.Imports[:1]
	if err := Missing(m, funcs); err != nil {
		t.Error(err)
	}
	for i := 0; i < 9; i++ {
		m.Imports = append(m.Imports, wasm.Import{Module: "x", Name: "y", Kind: wasm.ExternFunc})
	}
	if err := Missing(m, funcs); err == nil || !strings.HasSuffix(err.Error(), " and 1 more") {
		t.Errorf("got %v", err)
	}
}

// TestLoadErrors holds that what is no module, not valid or refused is told apart.
func TestLoadErrors(t *testing.T) {
	ctx := context.Background()
	e := New(ctx, Config{})
	defer e.Close(ctx)
	var refused *instrument.RefusedError
	if _, err := e.Load(ctx, []byte("hello, world"), instrument.Options{}); !errors.Is(err, wasm.ErrNotWasm) {
		t.Errorf("got %v", err)
	}
	own := &wasm.Module{Types: []wasm.FuncType{{}}, Imports: []wasm.Import{{Module: instrument.HostModule, Name: "yield", Kind: wasm.ExternFunc}}}
	if _, err := e.Load(ctx, own.Encode(), instrument.Options{}); !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
}

// TestPrecompile holds that cold code which was compiled beside a guest is not taken away from
// it: a trap in it is told as one.
func TestPrecompile(t *testing.T) {
	p := load(t, "segments", instrument.Options{EveryLoop: true})
	ctx := context.Background()
	im := stopped(t, p, true, PollGo, 0)
	h := &simHost{funcs: stubs(p.src), pending: &simCall{0, []uint64{0}}, waits: func() bool { return false }}
	in := instance(t, p, InstanceConfig{Host: h, Poll: func() PollAnswer {
		if err := p.Precompile(ctx, im); err != nil {
			t.Error(err)
		}
		return PollGo
	}})
	if err := in.Restore(im); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Resume(im); err == nil || !strings.Contains(err.Error(), "out of bounds memory access") {
		t.Errorf("got %v", err)
	}
	if err := p.Precompile(ctx, &Image{}); err != nil {
		t.Error(err)
	}
}

// TestManyInstances holds that instances leave no host modules behind in the engine: it knows
// them by their address, which another one may have later.
func TestManyInstances(t *testing.T) {
	p := load(t, "frames", instrument.Options{})
	for i := 0; i < 20; i++ {
		in, err := p.Instantiate(context.Background(), InstanceConfig{Host: nobody{}, Funcs: stubs(p.src)})
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		if len(in.hosts) != 0 {
			t.Fatal("host modules are left")
		}
	}
}
