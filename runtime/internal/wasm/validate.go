package wasm

import (
	"fmt"
	"io"
	"math"
	"slices"
)

// Validate checks the whole module by the rules of the core specification 2.0, the body of every function
// included. It does not rely on Reindex and may be called for a Module made by hand. The errors are
// *ValidationError, *FormatError and *UnsupportedError.
func (m *Module) Validate() error {
	t := NewTyper(m)
	if err := m.checkStructure(&t.space); err != nil {
		return err
	}
	r := NewReader(nil)
	in := new(Instr)
	first := t.space.imported[ExternFunc]
	for i := range m.Codes {
		if err := t.checkBody(uint32(first+i), r, in); err != nil {
			return err
		}
	}
	return nil
}

// checkBody checks the body of one function, with a Reader and an Instr that all functions share.
func (t *Typer) checkBody(index uint32, r *Reader, in *Instr) error {
	if err := t.Begin(index); err != nil {
		return err
	}
	r.Reset(t.code.Body)
	for {
		err := r.Next(in)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("function %d: %w", index, shift(err, int(t.code.Offset)))
		}
		if err := t.Step(in); err != nil {
			return err
		}
	}
	if t.Depth() > 0 {
		return t.errorf("function body without end")
	}
	return nil
}

// checkStructure checks all of the module but function bodies; s is its index space.
func (m *Module) checkStructure(s *space) error {
	checks := []func(*space) error{
		m.checkTypes, m.checkTables, m.checkMemories, m.checkGlobals, m.checkExports, m.checkStart, m.checkElems, m.checkDatas,
	}
	for _, check := range checks {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

// invalid returns a ValidationError for a numbered part of the module.
func invalid(part string, index int, format string, args ...any) error {
	return &ValidationError{Where: fmt.Sprintf("%s %d", part, index), Func: -1, What: fmt.Sprintf(format, args...)}
}

func (m *Module) checkTypes(s *space) error {
	for i := range m.Types {
		t := &m.Types[i]
		if !inLimits(t) {
			return &UnsupportedError{Feature: featureManyParams, Offset: -1}
		}
		if !allKnown(t.Params) || !allKnown(t.Results) {
			return invalid("type", i, "%v has an unknown value type", t)
		}
	}
	for i := range m.Imports {
		if k := m.Imports[i].Kind; k > ExternGlobal {
			return invalid("import", i, "%v is no kind of import", k)
		}
	}
	for i, t := range s.funcs {
		if uint64(t) >= uint64(len(m.Types)) {
			return invalid("function", i, "unknown type %d", t)
		}
	}
	if len(m.Codes) != len(m.Funcs) {
		return invalid("code", len(m.Codes), "%d function bodies for %d functions", len(m.Codes), len(m.Funcs))
	}
	return nil
}

func allKnown(types []ValType) bool {
	return !slices.ContainsFunc(types, func(t ValType) bool { return !t.known() })
}

func (m *Module) checkTables(s *space) error {
	for i := range s.tables {
		t := &s.tables[i]
		switch {
		case !t.Elem.IsRef():
			return invalid("table", i, "%v is not a reference type", t.Elem)
		case t.HasMax && t.Min > t.Max:
			return invalid("table", i, "size minimum %d must not be greater than maximum %d", t.Min, t.Max)
		case t.Min > math.MaxUint32 || t.Max > math.MaxUint32:
			return invalid("table", i, "size of more than 2^32-1 elements")
		}
	}
	return nil
}

func (m *Module) checkMemories(s *space) error {
	for i, t := range s.memories {
		switch {
		case t.Min > MaxMemoryPages || t.Max > MaxMemoryPages:
			return invalid("memory", i, "memory size must be at most %d pages (4 GiB)", MaxMemoryPages)
		case t.HasMax && t.Min > t.Max:
			return invalid("memory", i, "size minimum %d must not be greater than maximum %d", t.Min, t.Max)
		}
	}
	if len(s.memories) > 1 {
		return &UnsupportedError{Feature: featureMultiMemory, Offset: -1}
	}
	return nil
}

func (m *Module) checkGlobals(s *space) error {
	for i := range s.globals {
		if t := s.globals[i].Type; !t.known() {
			return invalid("global", i, "%v is no value type", t)
		}
	}
	for i := range m.Globals {
		g := &m.Globals[i]
		if err := s.checkConst(g.Init, g.Type.Type); err != nil {
			return invalid("global", s.imported[ExternGlobal]+i, "%v", err)
		}
	}
	return nil
}

func (m *Module) checkExports(s *space) error {
	names := make(map[string]struct{}, len(m.Exports))
	have := [...]int{ExternFunc: len(s.funcs), ExternTable: len(s.tables), ExternMemory: len(s.memories), ExternGlobal: len(s.globals)}
	for i := range m.Exports {
		e := &m.Exports[i]
		if e.Kind > ExternGlobal {
			return invalid("export", i, "%v is no kind of export", e.Kind)
		}
		if uint64(e.Index) >= uint64(have[e.Kind]) {
			return invalid("export", i, "unknown %v %d", e.Kind, e.Index)
		}
		if _, ok := names[e.Name]; ok {
			return invalid("export", i, "duplicate export name %.100q", e.Name)
		}
		names[e.Name] = struct{}{}
	}
	return nil
}

func (m *Module) checkStart(s *space) error {
	if m.Start == nil {
		return nil
	}
	index := *m.Start
	if uint64(index) >= uint64(len(s.funcs)) {
		return invalid("start function", int(index), "unknown function")
	}
	if t := &m.Types[s.funcs[index]]; len(t.Params) > 0 || len(t.Results) > 0 {
		return invalid("start function", int(index), "it has the signature %v", t)
	}
	return nil
}

func (m *Module) checkElems(s *space) error {
	for i := range m.Elems {
		e := &m.Elems[i]
		if !e.Type.IsRef() {
			return invalid("element segment", i, "%v is not a reference type", e.Type)
		}
		if len(e.Funcs) > 0 && e.Type != FuncRef {
			return invalid("element segment", i, "functions in a segment of %v", e.Type)
		}
		if e.Mode == Active {
			if uint64(e.Table) >= uint64(len(s.tables)) {
				return invalid("element segment", i, "unknown table %d", e.Table)
			}
			if t := s.tables[e.Table].Elem; t != e.Type {
				return invalid("element segment", i, "type mismatch: %v for a table of %v", e.Type, t)
			}
			if err := s.checkConst(e.Offset, I32); err != nil {
				return invalid("element segment", i, "offset: %v", err)
			}
		}
		for _, f := range e.Funcs {
			if uint64(f) >= uint64(len(s.funcs)) {
				return invalid("element segment", i, "unknown function %d", f)
			}
		}
		for _, item := range e.Init {
			if err := s.checkConst(item, e.Type); err != nil {
				return invalid("element segment", i, "%v", err)
			}
		}
	}
	return nil
}

func (m *Module) checkDatas(s *space) error {
	if m.DataCount != nil && uint64(*m.DataCount) != uint64(len(m.Datas)) {
		return invalid("data count", int(*m.DataCount), "there are %d data segments", len(m.Datas))
	}
	for i := range m.Datas {
		d := &m.Datas[i]
		if d.Mode != Active {
			continue
		}
		if uint64(d.Memory) >= uint64(len(s.memories)) {
			return invalid("data segment", i, "unknown memory %d", d.Memory)
		}
		if err := s.checkConst(d.Offset, I32); err != nil {
			return invalid("data segment", i, "offset: %v", err)
		}
	}
	return nil
}
