package wasm

import "fmt"

// An ExternKind says what is imported or exported, in the binary encoding.
type ExternKind byte

// The kinds of imports and exports.
const (
	ExternFunc ExternKind = iota
	ExternTable
	ExternMemory
	ExternGlobal
)

// String returns the name of the kind, such as "memory".
func (k ExternKind) String() string {
	switch k {
	case ExternFunc:
		return "func"
	case ExternTable:
		return "table"
	case ExternMemory:
		return "memory"
	case ExternGlobal:
		return "global"
	}
	return fmt.Sprintf("externkind(%d)", byte(k))
}

// An Import is something that a module asks its host for.
type Import struct {
	Module, Name string
	Kind         ExternKind
	TypeIndex    uint32     // with ExternFunc: an index into Module.Types
	Table        TableType  // with ExternTable
	Memory       MemoryType // with ExternMemory
	Global       GlobalType // with ExternGlobal
}

// A Global is a global variable that the module defines.
type Global struct {
	Type GlobalType
	Init ConstExpr
}

// An Export gives a name to something in the index space of its kind.
type Export struct {
	Name  string
	Kind  ExternKind
	Index uint32
}

// A SegmentMode says when a segment is used.
type SegmentMode uint8

// The modes of element and data segments.
const (
	Active      SegmentMode = iota // copied when the module is instantiated
	Passive                        // copied by table.init or memory.init
	Declarative                    // element segments only: declares functions for ref.func
)

// An Elem is an element segment. The format has two forms for its items; here a list of functions is always
// in Funcs and every other list in Init, and the other one of the two is nil.
type Elem struct {
	Mode   SegmentMode
	Table  uint32    // with Active
	Offset ConstExpr // with Active
	Type   ValType
	Funcs  []uint32    // every item is a ref.func of the function with this index
	Init   []ConstExpr // some item is not
}

// Len returns the number of items in the segment.
func (e *Elem) Len() int { return len(e.Funcs) + len(e.Init) }

// A Data is a data segment.
type Data struct {
	Mode   SegmentMode // Active or Passive
	Memory uint32      // with Active
	Offset ConstExpr   // with Active
	Bytes  []byte      // part of the input of Decode
}

// A LocalRun declares Count locals of one type.
type LocalRun struct {
	Count uint32
	Type  ValType
}

// A Code is the body of a function that the module defines.
type Code struct {
	Locals []LocalRun // beside the parameters
	Body   []byte     // the instructions with the final end; part of the input of Decode
	Offset uint32     // of Body in the module that was decoded; no meaning elsewhere
}

// A SectionID identifies a section of the binary format.
type SectionID byte

// The sections. All but the custom ones appear at most once and in the order of sectionOrder.
const (
	SectionCustom SectionID = iota
	SectionType
	SectionImport
	SectionFunction
	SectionTable
	SectionMemory
	SectionGlobal
	SectionExport
	SectionStart
	SectionElement
	SectionCode
	SectionData
	SectionDataCount
)

// sectionOrder is the order of sections in a module.
var sectionOrder = [...]SectionID{
	SectionType, SectionImport, SectionFunction, SectionTable, SectionMemory, SectionGlobal, SectionExport,
	SectionStart, SectionElement, SectionDataCount, SectionCode, SectionData,
}

var sectionNames = [...]string{
	"custom", "type", "import", "function", "table", "memory", "global", "export",
	"start", "element", "code", "data", "data count",
}

// String returns the name of the section, such as "data count".
func (id SectionID) String() string {
	if int(id) < len(sectionNames) {
		return sectionNames[id]
	}
	return fmt.Sprintf("section(%d)", byte(id))
}

// A Custom is a custom section: a name and bytes that mean nothing to the module itself.
type Custom struct {
	Name  string
	Bytes []byte    // part of the input of Decode
	After SectionID // the last section in front of it that is neither custom nor empty; SectionCustom if there is none
}

// A Module is a WebAssembly module. Lists are nil when the module has nothing of the kind.
//
// The index space of functions, tables, memories and globals holds first what is imported, in the order of
// Imports, and then what is defined.
type Module struct {
	Types     []FuncType
	Imports   []Import
	Funcs     []uint32 // the index in Types of the signature of each function that the module defines
	Tables    []TableType
	Memories  []MemoryType // one at most
	Globals   []Global
	Exports   []Export
	Start     *uint32 // index of the start function, or nil
	Elems     []Elem
	DataCount *uint32 // number of data segments, if there is a data count section
	Codes     []Code  // as many as Funcs
	Datas     []Data
	Customs   []Custom

	space space // see Reindex
}

// A space holds the index spaces of a module.
type space struct {
	funcs    []uint32 // index in Module.Types
	tables   []TableType
	memories []MemoryType
	globals  []GlobalType
	imported [4]int // how many of each ExternKind are imported
}

func (m *Module) buildSpace() space {
	var s space
	for i := range m.Imports {
		if k := m.Imports[i].Kind; k <= ExternGlobal {
			s.imported[k]++
		}
	}
	s.funcs = make([]uint32, 0, s.imported[ExternFunc]+len(m.Funcs))
	for i := range m.Imports {
		im := &m.Imports[i]
		switch im.Kind {
		case ExternFunc:
			s.funcs = append(s.funcs, im.TypeIndex)
		case ExternTable:
			s.tables = append(s.tables, im.Table)
		case ExternMemory:
			s.memories = append(s.memories, im.Memory)
		case ExternGlobal:
			s.globals = append(s.globals, im.Global)
		}
	}
	s.funcs = append(s.funcs, m.Funcs...)
	s.tables = append(s.tables, m.Tables...)
	s.memories = append(s.memories, m.Memories...)
	for i := range m.Globals {
		s.globals = append(s.globals, m.Globals[i].Type)
	}
	return s
}

// Reindex brings the methods of Module that look into index spaces up to date. Decode has called it; call it
// again after a change to Imports, Funcs, Tables, Memories or Globals, and once for a Module made by hand.
func (m *Module) Reindex() { m.space = m.buildSpace() }

// NumImportedFuncs returns the number of imported functions, which is the index of the first defined one.
func (m *Module) NumImportedFuncs() int { return m.space.imported[ExternFunc] }

// NumImportedTables returns the number of imported tables.
func (m *Module) NumImportedTables() int { return m.space.imported[ExternTable] }

// NumImportedMemories returns the number of imported memories.
func (m *Module) NumImportedMemories() int { return m.space.imported[ExternMemory] }

// NumImportedGlobals returns the number of imported globals.
func (m *Module) NumImportedGlobals() int { return m.space.imported[ExternGlobal] }

// NumFuncs returns the number of functions, imported and defined.
func (m *Module) NumFuncs() int { return len(m.space.funcs) }

// NumTables returns the number of tables, imported and defined.
func (m *Module) NumTables() int { return len(m.space.tables) }

// NumMemories returns the number of memories, imported and defined.
func (m *Module) NumMemories() int { return len(m.space.memories) }

// NumGlobals returns the number of globals, imported and defined.
func (m *Module) NumGlobals() int { return len(m.space.globals) }

// FuncType returns the signature of the function with the given index, imported or defined. The result
// points into Module.Types. It is an error if there is no such function.
func (m *Module) FuncType(index uint32) (*FuncType, error) {
	if uint64(index) >= uint64(len(m.space.funcs)) {
		return nil, fmt.Errorf("unknown function %d", index)
	}
	t := m.space.funcs[index]
	if uint64(t) >= uint64(len(m.Types)) {
		return nil, fmt.Errorf("function %d has the unknown type %d", index, t)
	}
	return &m.Types[t], nil
}

// TableAt returns the type of the table with the given index, imported or defined, and the zero TableType
// if there is none.
func (m *Module) TableAt(index uint32) TableType {
	if uint64(index) >= uint64(len(m.space.tables)) {
		return TableType{}
	}
	return m.space.tables[index]
}

// MemoryAt returns the type of the memory with the given index, imported or defined, and the zero MemoryType
// if there is none.
func (m *Module) MemoryAt(index uint32) MemoryType {
	if uint64(index) >= uint64(len(m.space.memories)) {
		return MemoryType{}
	}
	return m.space.memories[index]
}

// GlobalAt returns the type of the global with the given index, imported or defined, and the zero GlobalType
// if there is none.
func (m *Module) GlobalAt(index uint32) GlobalType {
	if uint64(index) >= uint64(len(m.space.globals)) {
		return GlobalType{}
	}
	return m.space.globals[index]
}

// BlockSig returns the parameters and results of a block type. The lists are shared: they must not be changed.
func (m *Module) BlockSig(t BlockType) (params, results []ValType, err error) {
	switch t.Kind {
	case BlockEmpty:
		return nil, nil, nil
	case BlockValue:
		return nil, listOf(t.Value), nil
	}
	if uint64(t.Index) >= uint64(len(m.Types)) {
		return nil, nil, fmt.Errorf("unknown type %d", t.Index)
	}
	ft := &m.Types[t.Index]
	return ft.Params, ft.Results, nil
}
