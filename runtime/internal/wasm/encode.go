package wasm

// Encode returns the module in the binary format, every integer in its shortest form and custom sections at
// their places. Decode of the result gives an equal Module, up to Code.Offset. Encode does not check the
// module: that is the work of Validate.
func (m *Module) Encode() []byte {
	e := encoder{b: make([]byte, 0, m.sizeHint())}
	e.b = append(e.b, "\x00asm\x01\x00\x00\x00"...)
	e.customs(m, SectionCustom)
	for _, id := range sectionOrder {
		e.section(m, id)
		e.customs(m, id)
	}
	return e.b
}

// sizeHint returns about what Encode needs; most of a module is code and data.
func (m *Module) sizeHint() int {
	n := 1 << 12
	for i := range m.Codes {
		n += len(m.Codes[i].Body) + 16
	}
	for i := range m.Datas {
		n += len(m.Datas[i].Bytes) + 16
	}
	for i := range m.Customs {
		n += len(m.Customs[i].Bytes) + 32
	}
	return n
}

type encoder struct{ b []byte }

func (e *encoder) customs(m *Module, after SectionID) {
	for i := range m.Customs {
		if c := &m.Customs[i]; c.After == after {
			e.sized(SectionCustom, func() {
				e.name(c.Name)
				e.b = append(e.b, c.Bytes...)
			})
		}
	}
}

func (e *encoder) section(m *Module, id SectionID) {
	switch id {
	case SectionType:
		list(e, id, m.Types, e.funcType)
	case SectionImport:
		list(e, id, m.Imports, e.importEntry)
	case SectionFunction:
		list(e, id, m.Funcs, func(t *uint32) { e.uint(*t) })
	case SectionTable:
		list(e, id, m.Tables, e.tableType)
	case SectionMemory:
		list(e, id, m.Memories, e.limits)
	case SectionGlobal:
		list(e, id, m.Globals, e.global)
	case SectionExport:
		list(e, id, m.Exports, e.export)
	case SectionStart:
		if m.Start != nil {
			e.sized(id, func() { e.uint(*m.Start) })
		}
	case SectionElement:
		list(e, id, m.Elems, e.elem)
	case SectionDataCount:
		if m.DataCount != nil {
			e.sized(id, func() { e.uint(*m.DataCount) })
		}
	case SectionCode:
		list(e, id, m.Codes, e.code)
	case SectionData:
		list(e, id, m.Datas, e.data)
	}
}

// list writes a section that is a list, unless it is empty.
func list[T any](e *encoder, id SectionID, items []T, item func(*T)) {
	if len(items) == 0 {
		return
	}
	e.sized(id, func() {
		e.uint(uint32(len(items)))
		for i := range items {
			item(&items[i])
		}
	})
}

// sized writes a section: its id, its size, and what content writes. The size comes in front but is known
// only afterwards, so the content is written behind the longest size and then moved up.
func (e *encoder) sized(id SectionID, content func()) {
	const longest = 5
	e.b = append(e.b, byte(id))
	at := len(e.b)
	e.b = append(e.b, make([]byte, longest)...)
	content()
	size := len(e.b) - at - longest
	n := len(AppendUleb(e.b[:at], uint64(size)))
	copy(e.b[n:], e.b[at+longest:])
	e.b = e.b[:n+size]
}

func (e *encoder) uint(v uint32) { e.b = AppendUleb(e.b, uint64(v)) }

func (e *encoder) name(s string) {
	e.uint(uint32(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) types(types []ValType) {
	e.uint(uint32(len(types)))
	for _, t := range types {
		e.b = append(e.b, byte(t))
	}
}

func (e *encoder) funcType(t *FuncType) {
	e.b = append(e.b, funcTypeForm)
	e.types(t.Params)
	e.types(t.Results)
}

func (e *encoder) importEntry(im *Import) {
	e.name(im.Module)
	e.name(im.Name)
	e.b = append(e.b, byte(im.Kind))
	switch im.Kind {
	case ExternFunc:
		e.uint(im.TypeIndex)
	case ExternTable:
		e.tableType(&im.Table)
	case ExternMemory:
		e.limits(&im.Memory)
	case ExternGlobal:
		e.globalType(&im.Global)
	}
}

func (e *encoder) limits(l *Limits) {
	if !l.HasMax {
		e.b = AppendUleb(append(e.b, 0), l.Min)
		return
	}
	e.b = AppendUleb(AppendUleb(append(e.b, 1), l.Min), l.Max)
}

func (e *encoder) tableType(t *TableType) {
	e.b = append(e.b, byte(t.Elem))
	e.limits(&t.Limits)
}

func (e *encoder) globalType(t *GlobalType) {
	mutable := byte(0)
	if t.Mutable {
		mutable = 1
	}
	e.b = append(e.b, byte(t.Type), mutable)
}

func (e *encoder) global(g *Global) {
	e.globalType(&g.Type)
	e.b = append(e.b, g.Init...)
}

func (e *encoder) export(x *Export) {
	e.name(x.Name)
	e.b = append(e.b, byte(x.Kind))
	e.uint(x.Index)
}

func (e *encoder) elem(s *Elem) {
	expressions := len(s.Init) > 0 || s.Type != FuncRef
	flags := uint32(0)
	if expressions {
		flags = 4
	}
	switch {
	case s.Mode == Passive:
		flags |= 1
	case s.Mode == Declarative:
		flags |= 3
	case s.Table != 0 || s.Type != FuncRef:
		flags |= 2
	}
	e.uint(flags)
	if s.Mode == Active {
		if flags&2 != 0 {
			e.uint(s.Table)
		}
		e.b = append(e.b, s.Offset...)
	}
	if flags&3 != 0 {
		if expressions {
			e.b = append(e.b, byte(s.Type))
		} else {
			e.b = append(e.b, elemKindFunc)
		}
	}
	e.uint(uint32(s.Len()))
	for _, index := range s.Funcs {
		if expressions { // only a Module made by hand has items in both lists
			e.b = append(AppendUleb(append(e.b, byte(OpRefFunc)), uint64(index)), byte(OpEnd))
		} else {
			e.uint(index)
		}
	}
	for _, item := range s.Init {
		e.b = append(e.b, item...)
	}
}

func (e *encoder) code(c *Code) {
	size := ulebSize(uint64(len(c.Locals))) + len(c.Body)
	for _, run := range c.Locals {
		size += ulebSize(uint64(run.Count)) + 1
	}
	e.uint(uint32(size))
	e.uint(uint32(len(c.Locals)))
	for _, run := range c.Locals {
		e.uint(run.Count)
		e.b = append(e.b, byte(run.Type))
	}
	e.b = append(e.b, c.Body...)
}

func (e *encoder) data(s *Data) {
	switch {
	case s.Mode == Passive:
		e.uint(1)
	case s.Memory != 0:
		e.uint(2)
		e.uint(s.Memory)
	default:
		e.uint(0)
	}
	if s.Mode == Active {
		e.b = append(e.b, s.Offset...)
	}
	e.uint(uint32(len(s.Bytes)))
	e.b = append(e.b, s.Bytes...)
}
