package instrument

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"perdure/runtime/internal/wasm"
)

// HotModule is the module name under which a resume module imports from the hot one.
const HotModule = "perdure:hot"

// Resume generates the module that takes a saved stack up again: cold code for the
// given points. Any piece of the stack can be put back with it, by the export that
// ResumeExport names for the outermost frame of the piece. The module imports from
// HotModule, HostModule and from where the original imports its functions.
func (m *Meta) Resume(points []Point) ([]byte, error) {
	b := &resumeBuilder{meta: m, src: m.src, mod: &wasm.Module{}, typeByKey: map[string]uint32{}}
	return b.build(normalPoints(points))
}

// ResumeExport names what a resume module exports to put frames back of which the
// outermost is of function f: () → results of f.
func (m *Meta) ResumeExport(f uint32) (string, error) {
	t, err := m.src.FuncType(f)
	if err != nil {
		return "", err
	}
	return resumeExport(t.Results), nil
}

func resumeExport(results []wasm.ValType) string {
	name := "resume"
	for _, t := range results {
		name += "." + t.String()
	}
	return name
}

// resumeBuilder puts a resume module together. Its function indexes are: imports of the
// original in their order, host functions, hot functions that are called, cold functions, what
// is exported.
type resumeBuilder struct {
	meta      *Meta
	src       *wasm.Module
	mod       *wasm.Module
	typeByKey map[string]uint32
	nImports  uint32
	layout    layout
	cold      coldLayout
}

func (b *resumeBuilder) typeIndex(t wasm.FuncType) uint32 {
	k := t.Key()
	if i, ok := b.typeByKey[k]; ok {
		return i
	}
	i := uint32(len(b.mod.Types))
	b.mod.Types = append(b.mod.Types, t)
	b.typeByKey[k] = i
	return i
}

func (b *resumeBuilder) imports() {
	m, src := b.meta, b.src
	b.mod.Types = append(b.mod.Types, src.Types...)
	for i := range b.mod.Types {
		if _, ok := b.typeByKey[b.mod.Types[i].Key()]; !ok {
			b.typeByKey[b.mod.Types[i].Key()] = uint32(i)
		}
	}
	for i := range src.Imports {
		if src.Imports[i].Kind == wasm.ExternFunc {
			b.mod.Imports = append(b.mod.Imports, src.Imports[i])
			b.nImports++
		}
	}
	host := func(name string, t wasm.FuncType) uint32 {
		b.mod.Imports = append(b.mod.Imports, wasm.Import{Module: HostModule, Name: name, Kind: wasm.ExternFunc, TypeIndex: b.typeIndex(t)})
		b.nImports++
		return b.nImports - 1
	}
	l, c := &b.layout, &b.cold
	l.importHost(host)
	c.pop = host(HostPop, wasm.FuncType{Results: []wasm.ValType{wasm.I64}})
	c.next = host(HostNext, wasm.FuncType{Results: oneI32})

	hot := func(name string, im wasm.Import) {
		im.Module, im.Name = HotModule, m.Prefix+name
		b.mod.Imports = append(b.mod.Imports, im)
	}
	if src.NumMemories() > 0 {
		hot(ExportMemory, wasm.Import{Kind: wasm.ExternMemory})
	}
	for i := 0; i < src.NumTables(); i++ {
		hot("t"+strconv.Itoa(i), wasm.Import{Kind: wasm.ExternTable, Table: wasm.TableType{Elem: src.TableAt(uint32(i)).Elem}})
	}
	hot(ExportAll, wasm.Import{Kind: wasm.ExternTable, Table: wasm.TableType{Elem: wasm.FuncRef}})
	c.all = uint32(src.NumTables())
	c.frames = c.all + 1
	for i := 0; i < src.NumGlobals(); i++ {
		hot("g"+strconv.Itoa(i), wasm.Import{Kind: wasm.ExternGlobal, Global: src.GlobalAt(uint32(i))})
	}
	flag := wasm.GlobalType{Type: wasm.I32, Mutable: true}
	hot(ExportState, wasm.Import{Kind: wasm.ExternGlobal, Global: flag})
	hot(ExportSoft, wasm.Import{Kind: wasm.ExternGlobal, Global: flag})
	l.state = uint32(src.NumGlobals())
	l.soft = l.state + 1

	l.cold = c
	c.types = b.typeIndex
	c.helper = map[Helper]int32{}
	for i, h := range m.Helpers {
		c.helper[h] = int32(src.NumFuncs() + i)
	}
}

// importCallees imports the functions of the hot module that cold functions call. Through
// the table of all functions it would work too, but a loop that stays in cold code would pay
// for it in every call.
func (b *resumeBuilder) importCallees(cold []*function) {
	nImports := uint32(b.src.NumImportedFuncs())
	imported := map[uint32]uint32{}
	for _, fn := range cold {
		for i := range fn.nodes {
			n := &fn.nodes[i]
			if n.op != wasm.OpCall || n.x < nImports {
				continue
			}
			if _, ok := imported[n.x]; ok {
				continue
			}
			imported[n.x] = b.nImports
			b.nImports++
			b.mod.Imports = append(b.mod.Imports, wasm.Import{Module: HotModule, Name: b.meta.Prefix + exportedFunc(n.x),
				Kind: wasm.ExternFunc, TypeIndex: b.src.Funcs[n.x-nImports]})
		}
	}
	b.layout.funcs = func(i uint32) uint32 {
		if i < nImports {
			return i
		}
		return imported[i]
	}
}

func (b *resumeBuilder) build(points []Point) ([]byte, error) {
	b.imports()
	type group struct {
		f      uint32
		points []Point
	}
	var groups []group
	for _, p := range points {
		if n := len(groups); n == 0 || groups[n-1].f != p.Func {
			groups = append(groups, group{f: p.Func})
		}
		g := &groups[len(groups)-1]
		g.points = append(g.points, p)
	}
	if len(groups) == 0 {
		return nil, errors.New("nothing to resume")
	}
	cold := make([]*function, len(groups))
	for i, g := range groups {
		var err error
		if cold[i], err = b.meta.function(g.f); err != nil {
			return nil, err
		}
	}
	b.importCallees(cold)
	entries := make([]uint32, len(groups))
	for i, g := range groups {
		plan, err := b.meta.plan(g.points)
		if err != nil {
			return nil, err
		}
		fn := cold[i]
		e := &emitter{meta: b.meta, out: &b.layout}
		e.reset(fn, b.meta.SiteBase[int(g.f)-b.src.NumImportedFuncs()])
		e.resume = plan
		e.function()
		if why := e.tooLarge(); why != "" {
			return nil, fmt.Errorf("resume function %d: %s", g.f, why)
		}
		b.mod.Funcs = append(b.mod.Funcs, b.typeIndex(wasm.FuncType{Results: fn.typ.Results}))
		b.mod.Codes = append(b.mod.Codes, wasm.Code{Locals: e.localRuns(0), Body: e.buf})
		entries[i] = b.nImports + uint32(i)
	}
	for _, fn := range cold {
		b.entry(fn.typ.Results)
	}
	b.mod.Tables = []wasm.TableType{{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: uint64(len(entries))}}}
	b.mod.Elems = []wasm.Elem{{Mode: wasm.Active, Table: b.cold.frames, Type: wasm.FuncRef,
		Offset: wasm.ConstOf(wasm.Instr{Op: wasm.OpI32Const}), Funcs: entries}}
	return b.mod.Encode(), nil
}

// entry exports a function that resumes the frame which the host names next, of a function
// with these results, and like a root tells the host when the stack has been unwound.
func (b *resumeBuilder) entry(results []wasm.ValType) {
	name := resumeExport(results)
	for i := range b.mod.Exports {
		if b.mod.Exports[i].Name == name {
			return
		}
	}
	typ := b.typeIndex(wasm.FuncType{Results: results})
	b.mod.Exports = append(b.mod.Exports, wasm.Export{Name: name, Kind: wasm.ExternFunc, Index: b.nImports + uint32(len(b.mod.Funcs))})
	b.mod.Funcs = append(b.mod.Funcs, typ)
	b.mod.Codes = append(b.mod.Codes, wasm.Code{Body: body(opX(wasm.OpCall, b.cold.next), wasm.Instr{Op: wasm.OpCallIndirect, X: typ, Y: b.cold.frames},
		opX(wasm.OpGlobalGet, b.layout.state), ifBlock(wasm.BlockType{}), opX(wasm.OpCall, b.layout.unwound), op(wasm.OpEnd))})
}

// Entries returns what HostNext answers for a frame of each function, in the resume module
// of the points.
func Entries(points []Point) map[uint32]int32 {
	entries := map[uint32]int32{}
	for _, p := range normalPoints(points) {
		if _, ok := entries[p.Func]; !ok {
			entries[p.Func] = int32(len(entries))
		}
	}
	return entries
}

// PointsKey returns a string that is the same for stacks which need the same cold code,
// and only for those.
func PointsKey(points []Point) string {
	var b []byte
	for _, p := range normalPoints(points) {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(p.Func)), uint64(p.Offset))
		if p.InCall {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return string(b)
}
