package wasm

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestOtherFilesAreNamed(t *testing.T) {
	for what, c := range map[string]struct {
		b    string
		want error
	}{
		"empty":     {"", ErrNotWasm},
		"ELF":       {"\x7fELF\x02\x01\x01\x00", ErrNotWasm},
		"text":      {"(module)", ErrNotWasm},
		"component": {"\x00asm\x0d\x00\x01\x00", ErrComponent},
	} {
		if _, err := Decode([]byte(c.b)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	var format *FormatError
	for _, b := range []string{"\x00asm", "\x00asm\x01\x00", "\x00asm\x02\x00\x00\x00"} {
		if _, err := Decode([]byte(b)); !errors.As(err, &format) {
			t.Errorf("%q: %v, want a FormatError", b, err)
		}
	}
}

func TestIndexSpacesHoldImportsFirst(t *testing.T) {
	m := bodyModule([]byte{byte(OpUnreachable), byte(OpEnd)})
	m.Reindex()
	if m.NumFuncs() != 2 || m.NumImportedFuncs() != 1 || m.NumGlobals() != 2 || m.NumImportedGlobals() != 1 ||
		m.NumTables() != 2 || m.NumImportedTables() != 0 || m.NumMemories() != 1 || m.NumImportedMemories() != 0 {
		t.Errorf("numbers of functions, globals, tables, memories are wrong: %+v", m.space)
	}
	for index, want := range []*FuncType{&m.Types[3], &m.Types[1]} {
		if got, err := m.FuncType(uint32(index)); err != nil || got != want {
			t.Errorf("function %d has the type %v, %v, want %v", index, got, err, want)
		}
	}
	if _, err := m.FuncType(2); err == nil {
		t.Error("there is no function 2, but it has a type")
	}
	for index, want := range []GlobalType{{Type: I32}, {Type: I64, Mutable: true}, {}} {
		if got := m.GlobalAt(uint32(index)); got != want {
			t.Errorf("global %d is %+v, want %+v", index, got, want)
		}
	}
	if got := m.TableAt(1).Elem; got != ExternRef {
		t.Errorf("table 1 has elements of %v", got)
	}
	if got := m.TableAt(2); got != (TableType{}) {
		t.Errorf("there is no table 2, but it is %+v", got)
	}
	if got := m.MemoryAt(0).Min; got != 1 {
		t.Errorf("memory 0 has %d pages", got)
	}
}

func TestBlockSigDoesNotAllocate(t *testing.T) {
	m := bodyModule(nil)
	types := []BlockType{{}, {Kind: BlockValue, Value: F64}, {Kind: BlockIndex, Index: 3}}
	want := []FuncType{{}, {Results: []ValType{F64}}, m.Types[3]}
	for i, bt := range types {
		params, results, err := m.BlockSig(bt)
		if got := (FuncType{params, results}); err != nil || !got.Equal(want[i]) {
			t.Errorf("%+v is %v, %v, want %v", bt, got, err, want[i])
		}
	}
	if _, _, err := m.BlockSig(BlockType{Kind: BlockIndex, Index: 4}); err == nil {
		t.Error("block type 4 does not exist, but has a signature")
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, bt := range types {
			_, _, _ = m.BlockSig(bt) // checked above
		}
	}); n != 0 {
		t.Errorf("BlockSig allocates %v times", n)
	}
}

func TestFuncTypeKeysAreUnique(t *testing.T) {
	types := []FuncType{
		{}, {Params: []ValType{I32}}, {Results: []ValType{I32}}, {Params: []ValType{I32, I64}},
		{Params: []ValType{I32}, Results: []ValType{I64}}, {Results: []ValType{I32, I64}},
	}
	for i, a := range types {
		for j, b := range types {
			if (a.Key() == b.Key()) != (i == j) || a.Equal(b) != (i == j) {
				t.Errorf("%v and %v: equal keys %v, Equal %v", a, b, a.Key() == b.Key(), a.Equal(b))
			}
		}
	}
	if got, want := types[4].String(), "(i32) -> (i64)"; got != want {
		t.Errorf("String is %q, want %q", got, want)
	}
}

func TestMapFuncs(t *testing.T) {
	twice := func(f uint32) uint32 { return 2 * f }
	for _, c := range []struct{ in, want Instr }{
		{Instr{Op: OpRefFunc, X: 100}, Instr{Op: OpRefFunc, X: 200}},
		{Instr{Op: OpI32Const, Imm: 100}, Instr{Op: OpI32Const, Imm: 100}},
		{Instr{Op: OpGlobalGet, X: 7}, Instr{Op: OpGlobalGet, X: 7}},
	} {
		if got, err := ConstOf(c.in).MapFuncs(twice); err != nil || !bytes.Equal(got, ConstOf(c.want)) {
			t.Errorf("%v %d became % x, %v", c.in.Op, c.in.X, got, err)
		}
	}
	for _, bad := range []string{"", "\x0b\x0b", "\xd2", "\x41\x00", "\x6a\x0b", "\x20\x00\x0b"} {
		if got, err := ConstExpr(bad).MapFuncs(twice); err == nil {
			t.Errorf("% x became % x", bad, got)
		}
	}
}

// Both forms of element segments with the same functions are the same segment.
func TestElementFormsAreNormalised(t *testing.T) {
	m := bodyModule([]byte{byte(OpUnreachable), byte(OpEnd)})
	m.Elems = []Elem{{Mode: Passive, Type: FuncRef, Funcs: []uint32{1, 0}}}
	short := m.Encode()
	long := bytes.Replace(short, []byte{1, 1, 0, 2, 1, 0}, []byte{1, 5, 0x70, 2, 0xd2, 1, 0x0b, 0xd2, 0, 0x0b}, 1)
	at := bytes.IndexByte(short, byte(SectionElement))
	for at >= 0 && !bytes.HasPrefix(short[at+2:], []byte{1, 1, 0, 2, 1, 0}) {
		at += 1 + bytes.IndexByte(short[at+1:], byte(SectionElement))
	}
	long[at+1] += 4
	got, err := Decode(long)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Elems, m.Elems) {
		t.Errorf("got %+v, want %+v", got.Elems, m.Elems)
	}
	// One null makes the list of functions a list of expressions.
	null := ConstOf(Instr{Op: OpRefNull, Types: []ValType{FuncRef}})
	m.Elems = []Elem{{Mode: Active, Offset: ConstOf(Instr{Op: OpI32Const}), Type: FuncRef, Init: []ConstExpr{ConstOf(Instr{Op: OpRefFunc, X: 1}), null}}}
	if got, err = Decode(m.Encode()); err != nil || !reflect.DeepEqual(got.Elems, m.Elems) {
		t.Errorf("got %+v, %v, want %+v", got.Elems, err, m.Elems)
	}
}

func TestErrorsSayWhere(t *testing.T) {
	// local.get 0, local.get 1, i32.add: the second operand is an i64.
	m := bodyModule([]byte{0x20, 0, 0x20, 1, 0x6a, 0x0b})
	b := m.Encode()
	_, err := decodeAndValidate(b)
	var invalid *ValidationError
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v, want a ValidationError", err)
	}
	if invalid.Func != 1 || invalid.Pos != 4 || b[invalid.Offset] != 0x6a || !strings.Contains(invalid.What, "i32.add wants i32 i32, found i32 i64") {
		t.Errorf("got %+v: %v", *invalid, invalid)
	}
	m = bodyModule([]byte{0x20, 0, 0xfe, 0x03, 0, 0x0b})
	b = m.Encode()
	_, err = decodeAndValidate(b)
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) || unsupported.Feature != featureThreads || b[unsupported.Offset] != 0xfe {
		t.Errorf("got %v, want threads to be unsupported where they are used", err)
	}
	m = bodyModule([]byte{0x20, 0, 0x27, 0x0b})
	b = m.Encode()
	_, err = decodeAndValidate(b)
	var format *FormatError
	if !errors.As(err, &format) || b[format.Offset] != 0x27 {
		t.Errorf("got %v, want an unknown instruction where it is", err)
	}
}

// A module made by hand gets the checks that the binary format makes for one that is decoded.
func TestHandMadeMistakesAreFound(t *testing.T) {
	end := []byte{byte(OpUnreachable), byte(OpEnd)}
	if err := bodyModule(end).Validate(); err != nil {
		t.Fatalf("the module without a mistake: %v", err)
	}
	for what, spoil := range map[string]func(m *Module){
		"more functions than bodies": func(m *Module) { m.Funcs = append(m.Funcs, 0) },
		"more bodies than functions": func(m *Module) { m.Codes = append(m.Codes, m.Codes[0]) },
		"unknown function type":      func(m *Module) { m.Funcs[0] = 9 },
		"unknown parameter type":     func(m *Module) { m.Types[0].Params = []ValType{0} },
		"unknown local type":         func(m *Module) { m.Codes[0].Locals[0].Type = 1 },
		"unknown global type":        func(m *Module) { m.Imports[1].Global.Type = 1 },
		"unknown import kind":        func(m *Module) { m.Imports[0].Kind = 9 },
		"unknown export kind":        func(m *Module) { m.Exports[0].Kind = 9 },
		"unknown exported function":  func(m *Module) { m.Exports[0].Index = 9 },
		"two exports of a name":      func(m *Module) { m.Exports = append(m.Exports, m.Exports[0]) },
		"table of numbers":           func(m *Module) { m.Tables[0].Elem = I32 },
		"table that is too big":      func(m *Module) { m.Tables[0].Min = 1 << 32 },
		"memory that is too big":     func(m *Module) { m.Memories[0].Min = MaxMemoryPages + 1 },
		"memory with small maximum":  func(m *Module) { m.Memories[0].HasMax = true },
		"two memories":               func(m *Module) { m.Memories = append(m.Memories, m.Memories[0]) },
		"global without a value":     func(m *Module) { m.Globals[0].Init = nil },
		"global of two values":       func(m *Module) { m.Globals[0].Init = ConstExpr("\x42\x00\x42\x00\x0b") },
		"global of another type":     func(m *Module) { m.Globals[0].Init = ConstOf(Instr{Op: OpI32Const}) },
		"start function of a type":   func(m *Module) { m.Start = new(uint32) },
		"data count of one":          func(m *Module) { *m.DataCount = 1 },
		"segment for no memory":      func(m *Module) { m.Memories = nil },
		"segment for no table":       func(m *Module) { m.Elems[0] = Elem{Type: FuncRef, Table: 9} },
		"segment of numbers":         func(m *Module) { m.Elems[0].Type = I32 },
		"functions in externrefs":    func(m *Module) { m.Elems[0].Type = ExternRef },
		"unknown function in a list": func(m *Module) { m.Elems[0].Funcs[0] = 9 },
		"body without end":           func(m *Module) { m.Codes[0].Body = end[:1] },
		"body that goes on":          func(m *Module) { m.Codes[0].Body = append(end[:2:2], byte(OpNop)) },
		"too many locals":            func(m *Module) { m.Codes[0].Locals[0].Count = MaxLocals },
	} {
		m := bodyModule(end)
		spoil(m)
		if err := m.Validate(); !typedError(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestProposalsAreRecognisedInSections(t *testing.T) {
	for what, c := range map[string]struct {
		b    []byte
		want string
	}{
		"memory with 64-bit indices": {section(byte(SectionMemory), 1, 4, 1), featureMemory64},
		"table with 64-bit indices":  {section(byte(SectionTable), 1, 0x70, 5, 1, 1), featureMemory64},
		"shared memory":              {section(byte(SectionMemory), 1, 3, 1, 1), featureThreads},
		"memory with a page size":    {section(byte(SectionMemory), 1, 8, 1, 0), featureCustomPageSizes},
		"two memories":               {section(byte(SectionMemory), 2, 0, 1, 0, 1), featureMultiMemory},
		"table with a value":         {section(byte(SectionTable), 1, 0x40, 0, 0x70, 0, 1, 0xd0, 0x70, 0x0b), featureFunctionRefs},
		"table of typed references":  {section(byte(SectionTable), 1, 0x63, 0, 0, 1), featureFunctionRefs},
		"tags":                       {section(13, 1, 0, 0), featureExceptions},
		"import of a tag":            {section(byte(SectionImport), 1, 0, 0, 4, 0, 0), featureExceptions},
		"export of a tag":            {section(byte(SectionExport), 1, 0, 4, 0), featureExceptions},
		"exception as a parameter":   {section(byte(SectionType), 1, 0x60, 1, 0x69, 0), featureExceptions},
		"structure type":             {section(byte(SectionType), 1, 0x5f, 0), featureGC},
		"recursive types":            {section(byte(SectionType), 1, 0x4e, 0), featureGC},
		"i31 as a parameter":         {section(byte(SectionType), 1, 0x60, 1, 0x6c, 0), featureGC},
		"continuation type":          {section(byte(SectionType), 1, 0x5d, 0), featureStackSwitching},
		"sum as an initial value":    {section(byte(SectionGlobal), 1, 0x7f, 0, 0x41, 1, 0x41, 1, 0x6a, 0x0b), featureExtendedConst},
	} {
		_, err := Decode(c.b)
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || unsupported.Feature != c.want {
			t.Errorf("%s: %v, want %q to be unsupported", what, err, c.want)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the message %q does not name %q", what, err, c.want)
		}
	}
}
