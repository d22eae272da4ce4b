package instrument

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"perdure/runtime/internal/wasm"
)

// TestRefused holds that references which are live where the guest can be suspended are
// refused, each by place, and others are not. testdata/refs.wasm was made of the text beside
// it with wat2wasm of wabt.
func TestRefused(t *testing.T) {
	b, err := os.ReadFile("testdata/refs.wasm")
	if err != nil {
		t.Fatal(err)
	}
	m, err := wasm.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = Instrument(m, Options{})
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	want := []string{
		"function 2 holds a reference (local 1) across the suspend point at offset ",
		"function 3 holds a reference (an operand) across the suspend point at offset ",
		"function 4 holds a reference (a result) across the suspend point at offset ",
		"function 6 holds a reference (local 0) across the suspend point at offset ",
	}
	if len(refused.Reasons) != len(want) {
		t.Fatalf("got %q", refused.Reasons)
	}
	for i, r := range refused.Reasons {
		if !strings.HasPrefix(r, want[i]) {
			t.Errorf("reason %d: got %q, want %q", i, r, want[i])
		}
	}
	if got := err.Error(); !strings.HasPrefix(got, "cannot be made persistent: function 2 holds") || strings.Count(got, "; ") != 3 {
		t.Errorf("got %q", got)
	}
}

// TestRefusedList holds that a list of reasons ends.
func TestRefusedList(t *testing.T) {
	byFunc := map[int][]string{}
	for i := 0; i < 100; i++ {
		byFunc[i] = []string{"a", "b"}
	}
	var refused *RefusedError
	if !errors.As(refusal(byFunc), &refused) || len(refused.Reasons) != 9 || refused.Reasons[8] != "and more" {
		t.Errorf("got %q", refused.Reasons)
	}
}

// TestRefusedImports holds that a program cannot import what is ours.
func TestRefusedImports(t *testing.T) {
	for _, name := range []string{HostModule, HotModule} {
		m := &wasm.Module{Types: []wasm.FuncType{{}}, Imports: []wasm.Import{{Module: name, Name: "f", Kind: wasm.ExternFunc}}}
		m.Reindex()
		if _, _, err := Instrument(m, Options{}); err == nil || !strings.Contains(err.Error(), "imports from "+name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestSuspendable holds that just the functions are made suspendable that can be on a stack
// that is taken out.
func TestSuspendable(t *testing.T) {
	call := func(f uint32) wasm.Instr { return opX(wasm.OpCall, f) }
	indirect := func(typ uint32) []wasm.Instr { return []wasm.Instr{i32Const(0), opX(wasm.OpCallIndirect, typ)} }
	drop := op(wasm.OpDrop)
	funcs := []struct {
		name string
		typ  uint32
		want bool
		code []wasm.Instr
	}{
		{"leaf", 0, false, nil},
		{"calls leaf", 0, false, []wasm.Instr{call(1)}},
		{"loop", 0, true, []wasm.Instr{{Op: wasm.OpLoop}, op(wasm.OpEnd)}},
		{"calls loop", 0, true, []wasm.Instr{call(3)}},
		{"host", 0, true, []wasm.Instr{call(0)}},
		{"recursion", 0, true, []wasm.Instr{call(6)}},
		{"one of two", 0, true, []wasm.Instr{call(8)}},
		{"two of two", 0, true, []wasm.Instr{call(7), call(1)}},
		{"in table, leaf", 1, false, []wasm.Instr{i32Const(1)}},
		{"indirect leaf", 0, false, append(indirect(1), drop)},
		{"in table, host", 2, true, []wasm.Instr{call(0), {Op: wasm.OpI64Const}}},
		{"indirect host", 0, true, append(indirect(2), drop)},
	}
	m := &wasm.Module{
		Types:   []wasm.FuncType{{}, {Results: []wasm.ValType{wasm.I32}}, {Results: []wasm.ValType{wasm.I64}}},
		Imports: []wasm.Import{{Module: "env", Name: "f", Kind: wasm.ExternFunc}},
		Tables:  []wasm.TableType{{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: 2}}},
		Elems:   []wasm.Elem{{Mode: wasm.Active, Type: wasm.FuncRef, Offset: wasm.ConstOf(i32Const(0)), Funcs: []uint32{9, 11}}},
	}
	var want []bool
	for _, f := range funcs {
		m.Funcs = append(m.Funcs, f.typ)
		m.Codes = append(m.Codes, wasm.Code{Body: body(f.code...)})
		want = append(want, f.want)
	}
	m.Reindex()
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	suspendable := func() []bool {
		s, err := scanModule(m)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := s.suspendable(m)
		return got
	}
	for i, got := range suspendable() {
		if got != want[i] {
			t.Errorf("%s: suspendable is %v", funcs[i].name, got)
		}
	}
	// A table that others can write to can hold anything.
	m.Exports = []wasm.Export{{Name: "table", Kind: wasm.ExternTable}}
	if got := suspendable(); !got[9] || got[0] || got[8] {
		t.Errorf("with the table exported: %v", got)
	}
}

// TestBind holds that tables of another module or version are noticed.
func TestBind(t *testing.T) {
	b := &builder{}
	b.add(opX(wasm.OpCall, 0))
	m := b.module(t)
	_, meta, err := Instrument(m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	stored := &Meta{Version: meta.Version, Prefix: meta.Prefix, Suspendable: meta.Suspendable, SiteBase: meta.SiteBase,
		IndirectTypes: meta.IndirectTypes, Helpers: meta.Helpers, Roots: meta.Roots}
	if err := stored.Bind(m); err != nil {
		t.Fatal(err)
	}
	points := []Point{{Func: 2, Offset: m.Codes[0].Offset, InCall: true}}
	want, err1 := meta.Resume(points)
	got, err2 := stored.Resume(points)
	if err := errors.Join(err1, err2); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("cold code differs: %v", err)
	}
	stored.Version++
	if err := stored.Bind(m); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("another version: %v", err)
	}
	stored.Version--
	if err := stored.Bind(&wasm.Module{}); err == nil || !strings.Contains(err.Error(), "another module") {
		t.Errorf("another module: %v", err)
	}
}
