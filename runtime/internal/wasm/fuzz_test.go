package wasm

import (
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// addSeeds adds small modules of the specification tests to the corpus, one of each script and assertion.
func addSeeds(f *testing.F, add func(b []byte)) {
	seen := map[string]bool{}
	for _, c := range specModules(f) {
		script, _, _ := strings.Cut(c.name, ".")
		if key := script + c.kind; len(c.b) < 400 && !seen[key] {
			seen[key] = true
			add(c.b)
		}
	}
}

// FuzzDecode holds that no input makes Decode and Validate panic, that what they accept survives Encode, and
// that the engine is of the same opinion.
func FuzzDecode(f *testing.F) {
	addSeeds(f, func(b []byte) { f.Add(b) })
	r := engine(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			// The engine allocates for counts before it compares them with the input, so it is asked only about
			// modules that are well-formed outside of function bodies.
			var invalid *ValidationError
			if !typedError(err) {
				t.Fatalf("undocumented error %T: %v", err, err)
			}
			if errors.As(err, &invalid) && engineAccepts(r, b) == nil {
				t.Fatalf("the engine accepts what Decode refuses: %v", err)
			}
			return
		}
		again, err := Decode(m.Encode())
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if !equalModules(m, again) {
			t.Fatalf("encoded and decoded again, the module is another:\n got %+v\nwant %+v", again, m)
		}
		// The engine refuses a malformed name section, which the specification says to ignore.
		bare := *m
		bare.Customs = nil
		engineErr := engineAccepts(r, bare.Encode())
		compareOpinions(t, m.Validate(), engineErr)
	})
}

// compareOpinions fails the test if Validate and the engine do not agree about a module.
func compareOpinions(t *testing.T, err, engineErr error) {
	t.Helper()
	var unsupported *UnsupportedError
	var format *FormatError
	switch {
	case err == nil && engineErr != nil:
		t.Fatalf("the engine refuses what Validate accepts: %v", engineErr)
	case err != nil && !typedError(err):
		t.Fatalf("undocumented error %T: %v", err, err)
	case err == nil || engineErr != nil:
	case errors.As(err, &unsupported):
	case errors.As(err, &format) && (strings.Contains(format.What, "instruction 0xf") || strings.Contains(format.What, "opcode prefix")):
		// The engine looks at the low eight bits, or the first byte, of the number behind a prefix only.
	case errors.As(err, &format) && strings.Contains(format.What, "integer too large"):
		// The engine does not look at all of the unused bits in the last byte of an integer.
	default:
		t.Fatalf("the engine accepts what Validate refuses: %v", err)
	}
}

// FuzzReader holds that no body makes a Reader panic, that the instructions cover the body without a gap, and
// that each survives Append.
func FuzzReader(f *testing.F) {
	for _, op := range allOps() {
		in := sample(op)
		f.Add(in.Append(nil))
	}
	addSeeds(f, func(b []byte) {
		if m, err := Decode(b); err == nil {
			for i := range m.Codes {
				f.Add(m.Codes[i].Body)
			}
		}
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		r, check := NewReader(body), NewReader(nil)
		var in, copied Instr
		for pos := 0; ; pos = in.End {
			err := r.Next(&in)
			if err != nil {
				if err == io.EOF && pos != len(body) {
					t.Fatalf("end at %d of %d bytes", pos, len(body))
				}
				if err != io.EOF && !typedError(err) {
					t.Fatalf("undocumented error %T: %v", err, err)
				}
				return
			}
			if in.Pos != pos || in.End <= pos || in.End > len(body) || r.Pos() != in.End {
				t.Fatalf("instruction from %d to %d, want it at %d of %d", in.Pos, in.End, pos, len(body))
			}
			code := in.Append(nil)
			if len(code) > in.End-in.Pos {
				t.Fatalf("% x is the shortest form of % x", code, body[in.Pos:in.End])
			}
			check.Reset(code)
			if err := check.Next(&copied); err != nil {
				t.Fatalf("%v: read again: %v", in.Op, err)
			}
			want := in
			want.Pos, want.End = 0, len(code)
			if !reflect.DeepEqual(copied, want) {
				t.Fatalf("read again from % x:\n got %+v\nwant %+v", code, copied, want)
			}
		}
	})
}

// bodyModule returns a module with something in every index space, and one function with the given body.
func bodyModule(body []byte) *Module {
	count := uint32(2)
	zero := ConstOf(Instr{Op: OpI32Const})
	return &Module{
		Types: []FuncType{
			{},
			{Params: []ValType{I32, I64, F32, F64, V128, FuncRef, ExternRef}, Results: []ValType{I32}},
			{Params: []ValType{I32}, Results: []ValType{I32}},
			{Params: []ValType{I32, I64}, Results: []ValType{I64, I32}},
		},
		Imports: []Import{
			{Module: "a", Name: "f", Kind: ExternFunc, TypeIndex: 3},
			{Module: "a", Name: "g", Kind: ExternGlobal, Global: GlobalType{Type: I32}},
		},
		Funcs:     []uint32{1},
		Tables:    []TableType{{Elem: FuncRef, Limits: Limits{Min: 2}}, {Elem: ExternRef}},
		Memories:  []MemoryType{{Min: 1}},
		Globals:   []Global{{Type: GlobalType{Type: I64, Mutable: true}, Init: ConstOf(Instr{Op: OpI64Const})}},
		Exports:   []Export{{Name: "f", Kind: ExternFunc, Index: 1}},
		Elems:     []Elem{{Mode: Passive, Type: FuncRef, Funcs: []uint32{1}}, {Mode: Declarative, Type: ExternRef}},
		DataCount: &count,
		Datas:     []Data{{Mode: Passive, Bytes: []byte("x")}, {Mode: Active, Offset: zero}},
		Codes:     []Code{{Locals: []LocalRun{{2, I32}, {1, V128}}, Body: body}},
	}
}

// FuzzBody holds that Validate and the engine agree about every function body.
func FuzzBody(f *testing.F) {
	for _, op := range allOps() {
		in := sample(op)
		in.X, in.Y, in.Imm = in.X%2, 0, in.Imm%16
		var body []byte
		pops, _, _ := op.Sig()
		for i, p := range append(append([]ValType{I32}, pops...), I32) {
			if i > 0 {
				get := Instr{Op: OpLocalGet, X: uint32(slices.Index(bodyModule(nil).Types[1].Params, p))}
				body = get.Append(body)
			}
		}
		f.Add(append(in.Append(body), byte(OpEnd)))
	}
	addSeeds(f, func(b []byte) {
		if m, err := Decode(b); err == nil {
			for i := range m.Codes {
				f.Add(m.Codes[i].Body)
			}
		}
	})
	r := engine(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 || Op(body[len(body)-1]) != OpEnd {
			body = append(slices.Clone(body), byte(OpEnd)) // the input itself belongs to the fuzzer
		}
		m := bodyModule(body)
		err, engineErr := m.Validate(), engineAccepts(r, m.Encode())
		compareOpinions(t, err, engineErr)
	})
}
