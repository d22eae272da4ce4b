package instrument

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"perdure/runtime/internal/wasm"
)

// RefusedError says why a valid module cannot be made persistent.
type RefusedError struct {
	Reasons []string
}

func (e *RefusedError) Error() string {
	return "cannot be made persistent: " + strings.Join(e.Reasons, "; ")
}

// scan is what one pass over all bodies tells.
type scan struct {
	calls     [][]uint32 // by defined function: functions called, without repeats
	indirect  [][]uint32 // by defined function: types called indirectly
	hasLoop   []bool
	helpers   []Helper
	tableUsed []bool // by table: changed by some instruction
	dropData  map[uint32]bool
	dropElem  map[uint32]bool
	refd      map[uint32]bool // functions that may be called indirectly
}

// scanModule reads every body once.
func scanModule(m *wasm.Module) (*scan, error) {
	n := len(m.Codes)
	s := &scan{
		calls: make([][]uint32, n), indirect: make([][]uint32, n), hasLoop: make([]bool, n),
		tableUsed: make([]bool, m.NumTables()),
		dropData:  map[uint32]bool{}, dropElem: map[uint32]bool{}, refd: map[uint32]bool{},
	}
	helpers := map[Helper]bool{}
	helper := func(h Helper) {
		if !helpers[h] {
			helpers[h] = true
			s.helpers = append(s.helpers, h)
		}
	}
	seenFunc := make([]int, m.NumFuncs())
	seenType := make([]int, len(m.Types))
	for i := range m.Codes {
		r := wasm.NewReader(m.Codes[i].Body)
		var in wasm.Instr
		for {
			if err := r.Next(&in); err == io.EOF {
				break
			} else if err != nil {
				return nil, fmt.Errorf("function %d: %w", i+m.NumImportedFuncs(), err)
			}
			switch in.Op {
			case wasm.OpLoop:
				s.hasLoop[i] = true
			case wasm.OpCall:
				if seenFunc[in.X] != i+1 {
					seenFunc[in.X] = i + 1
					s.calls[i] = append(s.calls[i], in.X)
				}
			case wasm.OpCallIndirect:
				if seenType[in.X] != i+1 {
					seenType[in.X] = i + 1
					s.indirect[i] = append(s.indirect[i], in.X)
				}
			case wasm.OpRefFunc:
				s.refd[in.X] = true
			case wasm.OpTableSet, wasm.OpTableGrow, wasm.OpTableFill, wasm.OpTableCopy:
				s.tableUsed[in.X] = true
			case wasm.OpTableInit:
				s.tableUsed[in.Y] = true
				helper(Helper{Op: in.Op, X: in.X, Y: in.Y})
			case wasm.OpMemoryInit:
				helper(Helper{Op: in.Op, X: in.X})
			case wasm.OpDataDrop:
				s.dropData[in.X] = true
				helper(Helper{Op: in.Op, X: in.X})
			case wasm.OpElemDrop:
				s.dropElem[in.X] = true
				helper(Helper{Op: in.Op, X: in.X})
			}
		}
	}
	refs := func(e wasm.ConstExpr) error {
		ins, err := e.Parse()
		if err != nil {
			return err
		}
		for i := range ins {
			if ins[i].Op == wasm.OpRefFunc {
				s.refd[ins[i].X] = true
			}
		}
		return nil
	}
	var errs []error
	for i := range m.Elems {
		for _, f := range m.Elems[i].Funcs {
			s.refd[f] = true
		}
		for _, e := range m.Elems[i].Init {
			errs = append(errs, refs(e))
		}
	}
	for i := range m.Globals {
		errs = append(errs, refs(m.Globals[i].Init))
	}
	for i := range m.Exports {
		if m.Exports[i].Kind == wasm.ExternFunc {
			s.refd[m.Exports[i].Index] = true
		}
	}
	return s, errors.Join(errs...)
}

// suspendable finds the functions which can be on a stack that is taken out: those
// which have a loop, reach an import, or recurse. A table or function reference that
// came from outside can reach anything of its type.
func (s *scan) suspendable(m *wasm.Module) (funcs, types []bool) {
	nImports := m.NumImportedFuncs()
	funcs = make([]bool, len(m.Codes))
	types = make([]bool, len(m.Types))
	byKey := map[string][]uint32{} // type indexes that are the same type
	for i := range m.Types {
		k := m.Types[i].Key()
		byKey[k] = append(byKey[k], uint32(i))
	}
	// Callers by callee, where a type is a callee too.
	callers := make([][]uint32, len(m.Codes))
	typeCallers := map[string][]uint32{}
	typeOf := func(f uint32) string {
		t, err := m.FuncType(f)
		if err != nil {
			return ""
		}
		return t.Key()
	}
	var work []uint32
	mark := func(i uint32) {
		if !funcs[i] {
			funcs[i] = true
			work = append(work, i)
		}
	}
	markType := func(key string) {
		for _, t := range byKey[key] {
			types[t] = true
		}
		for _, c := range typeCallers[key] {
			mark(c)
		}
	}
	for i := range m.Codes {
		for _, c := range s.calls[i] {
			if int(c) >= nImports {
				callers[int(c)-nImports] = append(callers[int(c)-nImports], uint32(i))
			}
		}
		for _, t := range s.indirect[i] {
			k := m.Types[t].Key()
			typeCallers[k] = append(typeCallers[k], uint32(i))
		}
	}
	propagate := func() {
		for len(work) > 0 {
			i := work[len(work)-1]
			work = work[:len(work)-1]
			for _, c := range callers[i] {
				mark(c)
			}
			if f := i + uint32(nImports); s.refd[f] {
				markType(typeOf(f))
			}
		}
	}
	for i := range m.Codes {
		if s.hasLoop[i] {
			mark(uint32(i))
		}
		for _, c := range s.calls[i] {
			if int(c) < nImports {
				mark(uint32(i))
			}
		}
	}
	foreign := m.NumImportedTables() > 0
	for i := 0; i < m.NumImportedGlobals(); i++ {
		foreign = foreign || m.GlobalAt(uint32(i)).Type == wasm.FuncRef
	}
	for i := range m.Exports {
		e := &m.Exports[i]
		foreign = foreign || e.Kind == wasm.ExternTable
		if e.Kind == wasm.ExternGlobal {
			t := m.GlobalAt(e.Index)
			foreign = foreign || t.Type == wasm.FuncRef && t.Mutable
		}
	}
	for i := range m.Types {
		t := &m.Types[i]
		foreign = foreign || slices.Contains(t.Params, wasm.FuncRef) || slices.Contains(t.Results, wasm.FuncRef)
	}
	if foreign {
		for i := range m.Types {
			markType(m.Types[i].Key())
		}
	}
	for f := range s.refd {
		if int(f) < nImports {
			markType(typeOf(f))
		}
	}
	propagate()
	for _, i := range s.recursive(m, funcs) {
		mark(i)
	}
	propagate()
	return funcs, types
}

// recursive returns the functions on a cycle of calls among those not marked.
func (s *scan) recursive(m *wasm.Module, marked []bool) []uint32 {
	nImports := m.NumImportedFuncs()
	byKey := map[string][]uint32{}
	for f := range s.refd {
		if i := int(f) - nImports; i >= 0 && !marked[i] {
			if t, err := m.FuncType(f); err == nil {
				byKey[t.Key()] = append(byKey[t.Key()], uint32(i))
			}
		}
	}
	callees := func(i uint32) []uint32 {
		var out []uint32
		for _, c := range s.calls[i] {
			if j := int(c) - nImports; j >= 0 && !marked[j] {
				out = append(out, uint32(j))
			}
		}
		for _, t := range s.indirect[i] {
			out = append(out, byKey[m.Types[t].Key()]...)
		}
		return out
	}
	// Depth-first search with an explicit stack: a function met again while it is
	// open closes a cycle, and all that is open above it is on that cycle or
	// calls into it. Marking a few too many costs only their checks.
	const (
		unseen = iota
		open
		done
	)
	state := make([]byte, len(m.Codes))
	type visit struct {
		f    uint32
		next []uint32
	}
	var out []uint32
	for root := range m.Codes {
		if marked[root] || state[root] != unseen {
			continue
		}
		state[root] = open
		stack := []visit{{uint32(root), callees(uint32(root))}}
		for len(stack) > 0 {
			v := &stack[len(stack)-1]
			if len(v.next) == 0 {
				state[v.f] = done
				stack = stack[:len(stack)-1]
				continue
			}
			c := v.next[0]
			v.next = v.next[1:]
			switch state[c] {
			case unseen:
				state[c] = open
				stack = append(stack, visit{c, callees(c)})
			case open:
				out = append(out, c)
			}
		}
	}
	return out
}
