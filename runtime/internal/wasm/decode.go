package wasm

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Decode reads a module in the binary format and checks all of it but the instructions in function bodies,
// which is what Validate adds: after a success, every index outside of function bodies is in range and every
// constant expression has the right type.
//
// The Module refers to b, which must not be changed as long as the Module is in use. The errors are
// ErrNotWasm, ErrComponent, *FormatError, *UnsupportedError and *ValidationError.
func Decode(b []byte) (*Module, error) {
	if len(b) < 4 || string(b[:4]) != "\x00asm" {
		return nil, ErrNotWasm
	}
	if len(b) < 8 {
		return nil, &FormatError{Offset: len(b), What: "unexpected end in the version"}
	}
	if b[6] == 1 && b[7] == 0 { // the second half of the version is the layer; components are layer 1
		return nil, ErrComponent
	}
	if v := binary.LittleEndian.Uint32(b[4:]); v != 1 {
		return nil, &FormatError{Offset: 4, What: fmt.Sprintf("unknown binary version %d", v)}
	}
	if len(b) > MaxModuleSize {
		return nil, &UnsupportedError{Feature: featureBigModule, Offset: -1}
	}
	d := decoder{b: b, m: &Module{}}
	if err := d.sections(); err != nil {
		return nil, err
	}
	m := d.m
	if len(m.Funcs) != len(m.Codes) {
		return nil, &FormatError{Offset: len(b), What: fmt.Sprintf(
			"function and code section have inconsistent lengths: %d and %d", len(m.Funcs), len(m.Codes))}
	}
	if m.DataCount != nil && int(*m.DataCount) != len(m.Datas) {
		return nil, &FormatError{Offset: len(b), What: fmt.Sprintf(
			"data count and data section have inconsistent lengths: %d and %d", *m.DataCount, len(m.Datas))}
	}
	m.settleCustoms()
	m.Reindex()
	if err := m.checkStructure(&m.space); err != nil {
		return nil, err
	}
	return m, nil
}

// settleCustoms moves each custom section that comes after an empty section to the one before that, because
// Encode does not write empty sections.
func (m *Module) settleCustoms() {
	settled := [len(sectionNames)]SectionID{}
	last := SectionCustom
	for _, id := range sectionOrder {
		if m.has(id) {
			last = id
		}
		settled[id] = last
	}
	for i := range m.Customs {
		m.Customs[i].After = settled[m.Customs[i].After]
	}
}

// has reports whether Encode writes the section.
func (m *Module) has(id SectionID) bool {
	switch id {
	case SectionType:
		return len(m.Types) > 0
	case SectionImport:
		return len(m.Imports) > 0
	case SectionFunction:
		return len(m.Funcs) > 0
	case SectionTable:
		return len(m.Tables) > 0
	case SectionMemory:
		return len(m.Memories) > 0
	case SectionGlobal:
		return len(m.Globals) > 0
	case SectionExport:
		return len(m.Exports) > 0
	case SectionStart:
		return m.Start != nil
	case SectionElement:
		return len(m.Elems) > 0
	case SectionDataCount:
		return m.DataCount != nil
	case SectionCode:
		return len(m.Codes) > 0
	case SectionData:
		return len(m.Datas) > 0
	}
	return false
}

// A decoder is a position in a module and the module as far as it is decoded.
type decoder struct {
	b   []byte // up to the end of what is being decoded: the whole module or one section
	pos int
	m   *Module

	types []ValType  // where lists of types are cut from, see list
	runs  []LocalRun // the same for the locals of functions
}

func (d *decoder) sections() error {
	rank := [len(sectionNames)]int{}
	for i, id := range sectionOrder {
		rank[id] = i + 1
	}
	whole := d.b
	last := SectionCustom
	d.pos = 8
	for d.pos < len(whole) {
		at := d.pos
		id := SectionID(whole[d.pos])
		d.pos++
		size, err := d.u32()
		if err != nil {
			return err
		}
		if int64(size) > int64(len(whole)-d.pos) {
			return d.errorf(at, "%v section of %d bytes is longer than the module", id, size)
		}
		switch {
		case id == 13:
			return &UnsupportedError{Feature: featureExceptions, Offset: at}
		case int(id) >= len(rank):
			return d.errorf(at, "malformed section id %d", id)
		case id != SectionCustom && rank[id] <= rank[last]:
			return d.errorf(at, "unexpected %v section behind the %v section", id, last)
		}
		d.b = whole[:d.pos+int(size)]
		if err := d.section(id, last); err != nil {
			return err
		}
		if d.pos != len(d.b) {
			return d.errorf(d.pos, "section size mismatch: %d bytes left in the %v section", len(d.b)-d.pos, id)
		}
		d.b = whole
		if id != SectionCustom {
			last = id
		}
	}
	return nil
}

// section decodes the content of one section; last is the one in front of it.
func (d *decoder) section(id, last SectionID) error {
	switch id {
	case SectionCustom:
		return d.customSection(last)
	case SectionStart:
		index, err := d.u32()
		d.m.Start = &index
		return err
	case SectionDataCount:
		count, err := d.u32()
		d.m.DataCount = &count
		return err
	case SectionType:
		return sectionList(d, &d.m.Types, 2, d.funcType)
	case SectionImport:
		return sectionList(d, &d.m.Imports, 4, d.importEntry)
	case SectionFunction:
		return sectionList(d, &d.m.Funcs, 1, d.index)
	case SectionTable:
		return sectionList(d, &d.m.Tables, 3, d.tableEntry)
	case SectionMemory:
		return sectionList(d, &d.m.Memories, 2, d.limits)
	case SectionGlobal:
		return sectionList(d, &d.m.Globals, 5, d.global)
	case SectionExport:
		return sectionList(d, &d.m.Exports, 3, d.export)
	case SectionElement:
		return sectionList(d, &d.m.Elems, 2, d.elem)
	case SectionCode:
		return sectionList(d, &d.m.Codes, 3, d.code)
	case SectionData:
		return sectionList(d, &d.m.Datas, 2, d.data)
	}
	return nil
}

// sectionList decodes a section that is a list.
func sectionList[T any](d *decoder, list *[]T, minSize int, item func(*T) error) error {
	if n, next := readU32(d.b, d.pos); next != 0 && n > MaxItems && int64(n)*int64(minSize) <= int64(len(d.b)-next) {
		return &UnsupportedError{Feature: featureManyItems, Offset: d.pos}
	}
	return vector(d, list, minSize, item)
}

// vector decodes a list of at least minSize bytes for each item. Its length is compared with the bytes that
// are left before anything is allocated for it. An empty list is nil.
func vector[T any](d *decoder, list *[]T, minSize int, item func(*T) error) error {
	n, err := d.count(minSize)
	if err != nil || n == 0 {
		return err
	}
	*list = make([]T, n)
	for i := range *list {
		if err := item(&(*list)[i]); err != nil {
			return err
		}
	}
	return nil
}

// count reads the length of a list with at least minSize bytes for each item.
func (d *decoder) count(minSize int) (int, error) {
	at := d.pos
	n, err := d.u32()
	if err != nil {
		return 0, err
	}
	if int64(n)*int64(minSize) > int64(len(d.b)-d.pos) {
		return 0, d.errorf(at, "unexpected end: a list of %d items is longer than its section", n)
	}
	return int(n), nil
}

func (d *decoder) u32() (uint32, error) {
	v, next := readU32(d.b, d.pos)
	if next == 0 {
		return 0, d.errorf(d.pos, "%s", lebFault(d.b, d.pos, 32))
	}
	d.pos = next
	return v, nil
}

func (d *decoder) index(v *uint32) (err error) {
	*v, err = d.u32()
	return err
}

func (d *decoder) byte() (byte, error) {
	if d.pos >= len(d.b) {
		return 0, d.errorf(d.pos, "unexpected end")
	}
	d.pos++
	return d.b[d.pos-1], nil
}

// bytes reads a length and that many bytes, which stay part of the input.
func (d *decoder) bytes() ([]byte, error) {
	n, err := d.count(1)
	if err != nil {
		return nil, err
	}
	b := d.b[d.pos : d.pos+n : d.pos+n]
	d.pos += n
	return b, nil
}

func (d *decoder) name() (string, error) {
	at := d.pos
	b, err := d.bytes()
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		return "", d.errorf(at, "malformed UTF-8 encoding of a name")
	}
	return string(b), nil
}

func (d *decoder) valType() (ValType, error) {
	t, err := valType(d.b, d.pos)
	d.pos++
	return t, err
}

func (d *decoder) refType() (ValType, error) {
	at := d.pos
	t, err := d.valType()
	if err == nil && !t.IsRef() {
		err = d.errorf(at, "%v is not a reference type", t)
	}
	return t, err
}

func (d *decoder) constExpr(e *ConstExpr) error {
	n, err := scanConstExpr(d.b[d.pos:])
	if err != nil {
		return shift(err, d.pos)
	}
	*e = ConstExpr(d.b[d.pos : d.pos+n : d.pos+n])
	d.pos += n
	return nil
}

func (d *decoder) errorf(offset int, format string, args ...any) error {
	return &FormatError{Offset: offset, What: fmt.Sprintf(format, args...)}
}

// shift adds to the offset of an error from a Reader the offset of what it read.
func shift(err error, by int) error {
	switch e := err.(type) {
	case *FormatError:
		e.Offset += by
	case *UnsupportedError:
		e.Offset += by
	}
	return err
}
