package runtime

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasm"
)

// Report is what Check finds out about a program.
type Report struct {
	SHA256 string // in hexadecimal
	Bytes  int
	// Refused are the reasons why the program cannot be run persistently; there are none if it
	// can. The fields below are as far filled in as the program could be read.
	Refused []string
	Kind    ProgramKind
	// Calls are the functions of a reactor that can be called, with their types.
	Calls   []string
	Imports []Import
	Memory  *MemoryNeeds // nil if it has none
	// Features are those beyond WebAssembly 1.0 that it uses, sorted.
	Features []string
	// Functions counts those that it defines, and Suspendable those of them that can be on a
	// stack which is saved; the others are left as they are.
	Functions, Suspendable int
	// HotBytes is the size of the program when it has been made suspendable.
	HotBytes int
}

// ProgramKind says how a program is to be used.
type ProgramKind string

// The kinds of programs.
const (
	KindCommand ProgramKind = "command" // runs from its _start
	KindReactor ProgramKind = "reactor" // has functions to be called
)

// Import is something that a program wants from outside.
type Import struct {
	Module, Name string
	Provided     bool
}

// MemoryNeeds are the bounds of a program's memory in bytes. Max is 0 if it states none.
type MemoryNeeds struct{ Min, Max uint64 }

// Check finds out whether a program can be run persistently, and does not run it. That a
// program is refused is not an error but a Report. events, if not nil, is told of progress, from
// any goroutine. The error is ErrNoProgram or one of reading the file.
func Check(path string, events func(Event)) (*Report, error) {
	src, err := readProgram(path)
	var refused *RefusedError
	if errors.As(err, &refused) {
		return &Report{Refused: []string{refused.Err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	return check(src, events), nil
}

func check(src []byte, events func(Event)) *Report {
	r := &Report{SHA256: sumOf(src), Bytes: len(src)}
	refuse := func(err error) { r.Refused = append(r.Refused, err.Error()) }
	m, err := wasm.Decode(src)
	if err == nil {
		err = m.Validate()
	}
	if err != nil {
		refuse(err)
		return r
	}
	r.Functions = len(m.Codes)
	r.Features = features(m)
	if m.NumMemories() > 0 {
		mt := m.MemoryAt(0)
		r.Memory = &MemoryNeeds{Min: mt.Min * wasmPageSize}
		if mt.HasMax {
			r.Memory.Max = mt.Max * wasmPageSize
		}
	}
	r.Imports = imports(m)
	if err := engine.Missing(m, wasiFuncs(m)); err != nil {
		refuse(err)
	}
	r.Kind = kindOf(m)
	if err := checkEntry(m, false); err != nil {
		refuse(err)
	}
	if r.Kind == KindReactor {
		for _, c := range callables(m) {
			r.Calls = append(r.Calls, c.String())
		}
	}
	hot, meta, err := instrument.Instrument(m, instrument.Options{Progress: func(done, total int) {
		if events != nil {
			events(ProgressEvent{What: "instrumenting", Done: done, Total: total})
		}
	}})
	var cannot *instrument.RefusedError
	switch {
	case errors.As(err, &cannot):
		r.Refused = append(r.Refused, cannot.Reasons...)
	case err != nil:
		refuse(err)
	default:
		r.HotBytes = len(hot)
		for _, s := range meta.Suspendable {
			if s {
				r.Suspendable++
			}
		}
	}
	return r
}

func imports(m *wasm.Module) []Import {
	var list []Import
	for i := range m.Imports {
		im := &m.Imports[i]
		one := wasm.Module{Types: m.Types, Imports: m.Imports[i : i+1]}
		name := im.Name
		if im.Kind != wasm.ExternFunc {
			name = fmt.Sprintf("%s (%v)", name, im.Kind)
		}
		list = append(list, Import{Module: im.Module, Name: name, Provided: engine.Missing(&one, wasiFuncs(m)) == nil})
	}
	return list
}

// Features beyond WebAssembly 1.0, by the names of their proposals.
const (
	featureBulk       = "bulk memory"
	featureMultiValue = "multi-value"
	featureMutable    = "mutable globals"
	featureReferences = "reference types"
	featureSaturating = "saturating conversions"
	featureSign       = "sign extension"
	featureSIMD       = "SIMD"
)

// features finds what a valid module uses.
func features(m *wasm.Module) []string {
	found := map[string]bool{}
	for _, t := range m.Types {
		found[featureMultiValue] = found[featureMultiValue] || len(t.Results) > 1
	}
	for i := range m.Imports {
		im := &m.Imports[i]
		found[featureMutable] = found[featureMutable] || im.Kind == wasm.ExternGlobal && im.Global.Mutable
	}
	for _, e := range m.Exports {
		found[featureMutable] = found[featureMutable] || e.Kind == wasm.ExternGlobal && m.GlobalAt(e.Index).Mutable
	}
	for i := range m.Elems {
		found[featureBulk] = found[featureBulk] || m.Elems[i].Mode != wasm.Active
	}
	for i := range m.Datas {
		found[featureBulk] = found[featureBulk] || m.Datas[i].Mode != wasm.Active
	}
	found[featureReferences] = m.NumTables() > 1
	for i := range m.Codes {
		for _, l := range m.Codes[i].Locals {
			found[featureReferences] = found[featureReferences] || l.Type.IsRef()
		}
		r := wasm.NewReader(m.Codes[i].Body)
		var in wasm.Instr
		for r.Next(&in) == nil {
			if f := featureOf(m, &in); f != "" {
				found[f] = true
			}
		}
	}
	maps.DeleteFunc(found, func(_ string, yes bool) bool { return !yes })
	return slices.Sorted(maps.Keys(found))
}

// featureOf returns the feature that an instruction belongs to.
func featureOf(m *wasm.Module, in *wasm.Instr) string {
	switch op := in.Op; {
	case op>>16 == 0xFD:
		return featureSIMD
	case op >= wasm.OpI32Extend8S && op <= wasm.OpI64Extend32S:
		return featureSign
	case op >= wasm.OpI32TruncSatF32S && op <= wasm.OpI64TruncSatF64U:
		return featureSaturating
	case op >= wasm.OpMemoryInit && op <= wasm.OpTableCopy:
		return featureBulk
	case op >= wasm.OpTableGrow && op <= wasm.OpTableFill, op == wasm.OpTableGet, op == wasm.OpTableSet,
		op == wasm.OpRefNull, op == wasm.OpRefIsNull, op == wasm.OpRefFunc, op == wasm.OpSelectT:
		return featureReferences
	case (op == wasm.OpBlock || op == wasm.OpLoop || op == wasm.OpIf) && in.Block.Kind == wasm.BlockIndex:
		if params, results, err := m.BlockSig(in.Block); err == nil && len(params)+len(results) > 1 {
			return featureMultiValue
		}
	}
	return ""
}
