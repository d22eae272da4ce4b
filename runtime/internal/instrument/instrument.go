package instrument

import (
	"fmt"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"perdure/runtime/internal/wasm"
)

// Options are the choices of Instrument; the zero value is good.
type Options struct {
	// Workers is how many functions are rewritten at once; 0 means one for each
	// processor.
	Workers int
	// Progress, if set, is called now and then with the number of functions done,
	// from any goroutine.
	Progress func(done, total int)
	// EveryLoop makes loops set the soft flag again after each poll, so that the host
	// is asked at every loop header. It is for tests.
	EveryLoop bool
	// NoRemainder makes code without the instructions for remainders, as is always done
	// where the engine computes them wrong. It is for tests elsewhere.
	NoRemainder bool
}

// maxGrowth bounds the size of the code that Instrument makes, as a multiple of the
// module and a constant: a module can be built whose live sets grow with the square
// of its size.
const (
	maxGrowth      = 24
	maxGrowthConst = 32 << 20
)

// Instrument rewrites a module, which must be valid, into hot code. The error is a
// *RefusedError when the module uses what cannot be made persistent.
func Instrument(src *wasm.Module, o Options) (hot []byte, meta *Meta, err error) {
	for i := range src.Imports {
		if n := src.Imports[i].Module; n == HostModule || n == HotModule {
			return nil, nil, &RefusedError{Reasons: []string{"imports from " + n + ", which is for code that was made suspendable"}}
		}
	}
	s, err := scanModule(src)
	if err != nil {
		return nil, nil, err
	}
	m := &Meta{Version: Version, Prefix: freePrefix(src), EveryLoop: o.EveryLoop, NoRemainder: o.NoRemainder || wrongRemainder}
	m.Suspendable, m.IndirectTypes = s.suspendable(src)
	m.Helpers = s.helpers
	m.SiteBase = make([]uint32, len(src.Codes)+1)
	m.src, m.funs = src, make(map[uint32]*function)
	b := newHotBuilder(m, s)
	if err := b.code(o); err != nil {
		return nil, nil, err
	}
	b.thunks()
	b.exports()
	if err := b.customs(); err != nil {
		return nil, nil, err
	}
	return b.mod.Encode(), m, nil
}

// freePrefix returns a prefix that no export of the module has.
func freePrefix(m *wasm.Module) string {
	p := "__perdure_"
	for {
		taken := false
		for i := range m.Exports {
			taken = taken || strings.HasPrefix(m.Exports[i].Name, p)
		}
		if !taken {
			return p
		}
		p += "_"
	}
}

// nHostFuncs is how many functions hot code imports from HostModule.
const nHostFuncs = 7

// hotBuilder puts the hot module together.
type hotBuilder struct {
	meta      *Meta
	scan      *scan
	src       *wasm.Module
	mod       *wasm.Module
	layout    layout
	all       uint32 // table of all functions
	scratch   uint32 // table of one slot, to look at references in globals
	typeByKey map[string]uint32
}

func newHotBuilder(m *Meta, s *scan) *hotBuilder {
	src := m.src
	b := &hotBuilder{meta: m, scan: s, src: src, typeByKey: map[string]uint32{}}
	mod := *src // sections that are not touched are shared
	b.mod = &mod
	mod.Types = append([]wasm.FuncType(nil), src.Types...)
	for i := range mod.Types {
		if _, ok := b.typeByKey[mod.Types[i].Key()]; !ok {
			b.typeByKey[mod.Types[i].Key()] = uint32(i)
		}
	}
	mod.Imports = append([]wasm.Import(nil), src.Imports...)
	mod.Funcs = append([]uint32(nil), src.Funcs...)
	mod.Tables = append([]wasm.TableType(nil), src.Tables...)
	mod.Globals = append([]wasm.Global(nil), src.Globals...)
	mod.Exports = append([]wasm.Export(nil), src.Exports...)
	mod.Elems = append([]wasm.Elem(nil), src.Elems...)
	mod.Start = nil
	mod.Customs = nil

	nImports := uint32(src.NumImportedFuncs())
	b.layout.funcs = func(i uint32) uint32 {
		if i < nImports {
			return i
		}
		return i + nHostFuncs
	}
	b.layout.refs = func(i uint32) uint32 {
		if i < uint32(src.NumImportedFuncs()) {
			return uint32(src.NumFuncs()) + nHostFuncs + i
		}
		return i + nHostFuncs
	}
	hostFunc := func(name string, t wasm.FuncType) uint32 {
		mod.Imports = append(mod.Imports, wasm.Import{Module: HostModule, Name: name, Kind: wasm.ExternFunc, TypeIndex: b.typeIndex(t)})
		nImports++
		return nImports - 1
	}
	shift := nImports
	b.layout.importHost(hostFunc)
	nImports = shift

	b.layout.state = b.flag(ExportState)
	b.layout.soft = b.flag(ExportSoft)
	b.layout.dropFlag = map[Helper]uint32{}
	for _, h := range m.Helpers {
		if h.Op == wasm.OpDataDrop || h.Op == wasm.OpElemDrop {
			kind := "data"
			if h.Op == wasm.OpElemDrop {
				kind = "elem"
			}
			name := "dropped." + kind + strconv.Itoa(int(h.X))
			b.layout.dropFlag[h] = b.flag(name)
			m.Drops = append(m.Drops, DropRef{Elem: h.Op == wasm.OpElemDrop, Index: h.X,
				Flag: m.Prefix + name, Drop: m.Prefix + "drop." + kind + strconv.Itoa(int(h.X))})
		}
	}
	return b
}

func i64s(n int) []wasm.ValType {
	t := make([]wasm.ValType, n)
	for i := range t {
		t[i] = wasm.I64
	}
	return t
}

func (b *hotBuilder) typeIndex(t wasm.FuncType) uint32 {
	k := t.Key()
	if i, ok := b.typeByKey[k]; ok {
		return i
	}
	i := uint32(len(b.mod.Types))
	b.mod.Types = append(b.mod.Types, t)
	b.typeByKey[k] = i
	return i
}

// flag adds an exported mutable i32 global that is 0.
func (b *hotBuilder) flag(name string) uint32 {
	i := uint32(b.src.NumImportedGlobals() + len(b.mod.Globals))
	b.mod.Globals = append(b.mod.Globals, wasm.Global{Type: wasm.GlobalType{Type: wasm.I32, Mutable: true},
		Init: wasm.ConstOf(wasm.Instr{Op: wasm.OpI32Const})})
	b.export(name, wasm.ExternGlobal, i)
	return i
}

func (b *hotBuilder) export(name string, kind wasm.ExternKind, index uint32) string {
	name = b.meta.Prefix + name
	b.mod.Exports = append(b.mod.Exports, wasm.Export{Name: name, Kind: kind, Index: index})
	return name
}

// add appends a function and returns its index.
func (b *hotBuilder) add(t wasm.FuncType, locals []wasm.LocalRun, body []byte) uint32 {
	b.mod.Funcs = append(b.mod.Funcs, b.typeIndex(t))
	b.mod.Codes = append(b.mod.Codes, wasm.Code{Locals: locals, Body: body})
	return uint32(b.src.NumImportedFuncs() + nHostFuncs + len(b.mod.Funcs) - 1)
}

// code rewrites all functions. First every function is read, since site numbers depend
// on the functions before; then each is emitted.
func (b *hotBuilder) code(o Options) error {
	n := len(b.src.Codes)
	b.mod.Codes = make([]wasm.Code, n)
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	base := uint32(b.src.NumImportedFuncs())
	limit := int64(maxGrowthConst)
	for i := range b.src.Codes {
		limit += maxGrowth * int64(len(b.src.Codes[i].Body))
	}
	var (
		size    atomic.Int64
		done    atomic.Int64
		mu      sync.Mutex
		reasons = map[int][]string{}
		firstAt = n
		first   error
	)
	fail := func(i int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if i < firstAt {
			first, firstAt = err, i
		}
	}
	// Site numbers: count call sites and loops without typing anything.
	total := uint32(0)
	var in wasm.Instr
	r := wasm.NewReader(nil)
	for i := range b.src.Codes {
		b.meta.SiteBase[i] = total
		if !b.meta.Suspendable[i] {
			continue
		}
		r.Reset(b.src.Codes[i].Body)
		for r.Next(&in) == nil {
			if in.Op == wasm.OpLoop || b.meta.suspends(&in) {
				total++ // sites in dead code leave gaps
			}
		}
	}
	b.meta.SiteBase[n] = total

	next, left := atomic.Int64{}, stepsFor(b.src)
	var wg sync.WaitGroup
	for w := 0; w < workers; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			a := newAnalyzer(b.meta, left)
			e := &emitter{meta: b.meta, out: &b.layout}
			for {
				i := int(next.Add(1) - 1)
				if i >= n {
					return
				}
				fn, err := a.analyze(base + uint32(i))
				if err != nil {
					fail(i, err)
					return
				}
				if rs := fn.refused(); rs != nil {
					mu.Lock()
					reasons[i] = rs
					mu.Unlock()
				}
				e.reset(fn, b.meta.SiteBase[i])
				e.function()
				if why := e.tooLarge(); why != "" {
					fail(i, &RefusedError{[]string{fmt.Sprintf("function %d has %s", fn.index, why)}})
					return
				}
				if size.Add(int64(len(e.buf))) > limit {
					fail(i, &RefusedError{[]string{fmt.Sprintf("the suspendable code would be larger than %d MiB", limit>>20)}})
					return
				}
				b.mod.Codes[i] = wasm.Code{Locals: e.localRuns(len(fn.typ.Params)), Body: append([]byte(nil), e.buf...)}
				if d := done.Add(1); o.Progress != nil && d%256 == 0 {
					o.Progress(int(d), n)
				}
			}
		}()
	}
	wg.Wait()
	if first != nil {
		return first
	}
	if len(reasons) > 0 {
		return refusal(reasons)
	}
	return nil
}

func refusal(byFunc map[int][]string) error {
	var order []int
	for i := range byFunc {
		order = append(order, i)
	}
	sort.Ints(order)
	e := &RefusedError{}
	for _, i := range order {
		for _, r := range byFunc[i] {
			if len(e.Reasons) == 8 {
				e.Reasons = append(e.Reasons, "and more")
				return e
			}
			e.Reasons = append(e.Reasons, r)
		}
	}
	return e
}

// exports adds what the host needs to reach: functions, globals, tables, memory.
func (b *hotBuilder) exports() {
	m := b.meta
	for i := range b.mod.Exports[:len(b.src.Exports)] {
		if e := &b.mod.Exports[i]; e.Kind == wasm.ExternFunc {
			e.Index = b.layout.funcs(e.Index)
		}
	}
	b.mapRefs()
	entries := make([]uint32, 0, b.src.NumFuncs()+len(m.Helpers))
	for i := 0; i < b.src.NumFuncs(); i++ {
		entries = append(entries, b.layout.refs(uint32(i)))
	}
	for _, h := range m.Helpers {
		f := b.helper(h)
		entries = append(entries, f)
		for _, d := range m.Drops {
			if h.X == d.Index && (h.Op == wasm.OpElemDrop && d.Elem || h.Op == wasm.OpDataDrop && !d.Elem) {
				b.mod.Exports = append(b.mod.Exports, wasm.Export{Name: d.Drop, Kind: wasm.ExternFunc, Index: f})
			}
		}
	}
	b.all = b.table(wasm.FuncRef, uint64(len(entries)))
	b.export(ExportAll, wasm.ExternTable, b.all)
	b.mod.Elems = append(b.mod.Elems, wasm.Elem{Mode: wasm.Active, Table: b.all, Type: wasm.FuncRef,
		Offset: wasm.ConstOf(wasm.Instr{Op: wasm.OpI32Const}), Funcs: entries})

	roots := map[uint32]bool{}
	if b.src.Start != nil {
		roots[*b.src.Start] = true
	}
	for i := range b.src.Exports {
		if e := &b.src.Exports[i]; e.Kind == wasm.ExternFunc {
			roots[e.Index] = true
		}
	}
	for i := 0; i < b.src.NumFuncs(); i++ {
		if roots[uint32(i)] {
			b.root(uint32(i))
		}
	}
	b.callees()
	if b.src.NumMemories() > 0 {
		b.export(ExportMemory, wasm.ExternMemory, 0)
	}
	for i := 0; i < b.src.NumGlobals(); i++ {
		name := b.export("g"+strconv.Itoa(i), wasm.ExternGlobal, uint32(i))
		if t := b.src.GlobalAt(uint32(i)); t.Mutable && i >= b.src.NumImportedGlobals() {
			m.Globals = append(m.Globals, GlobalRef{Index: uint32(i), Type: t.Type, Export: name})
			b.globalAccess(uint32(i), t.Type, name)
		}
	}
	for i := 0; i < b.src.NumTables(); i++ {
		b.export("t"+strconv.Itoa(i), wasm.ExternTable, uint32(i))
		if b.scan.tableUsed[i] && i >= b.src.NumImportedTables() {
			b.tableAccess(uint32(i))
		}
	}
}

// callees exports the functions that cold code may call: those which suspendable functions
// call.
func (b *hotBuilder) callees() {
	nImports := uint32(b.src.NumImportedFuncs())
	called := make([]bool, b.src.NumFuncs())
	for i, calls := range b.scan.calls {
		if b.meta.Suspendable[i] {
			for _, f := range calls {
				called[f] = f >= nImports
			}
		}
	}
	for f, ok := range called {
		if ok {
			b.export(exportedFunc(uint32(f)), wasm.ExternFunc, b.layout.funcs(uint32(f)))
		}
	}
}

// exportedFunc names the export of a function, behind the prefix.
func exportedFunc(f uint32) string { return "f" + strconv.Itoa(int(f)) }

// mapRefs gives functions their new indexes in element segments and globals.
func (b *hotBuilder) mapRefs() {
	for i := range b.mod.Elems {
		e := &b.mod.Elems[i]
		if e.Funcs != nil {
			fs := make([]uint32, len(e.Funcs))
			for j, f := range e.Funcs {
				fs[j] = b.layout.refs(f)
			}
			e.Funcs = fs
		}
		if e.Init != nil {
			es := make([]wasm.ConstExpr, len(e.Init))
			for j, c := range e.Init {
				es[j] = b.mapExpr(c)
			}
			e.Init = es
		}
	}
	for i := range b.src.Globals {
		b.mod.Globals[i].Init = b.mapExpr(b.src.Globals[i].Init)
	}
}

func (b *hotBuilder) mapExpr(c wasm.ConstExpr) wasm.ConstExpr {
	mapped, err := c.MapFuncs(b.layout.refs)
	if err != nil {
		return c // cannot happen: scanModule has parsed it
	}
	return mapped
}

func (b *hotBuilder) table(t wasm.ValType, size uint64) uint32 {
	b.mod.Tables = append(b.mod.Tables, wasm.TableType{Elem: t, Limits: wasm.Limits{Min: size}})
	return uint32(b.src.NumImportedTables() + len(b.mod.Tables) - 1)
}

// customs keeps the names of functions, for backtraces, and drops all else: debug
// information would be wrong.
func (b *hotBuilder) customs() error {
	names := FuncNames(b.src)
	if len(names) == 0 {
		return nil
	}
	mapped := make(map[uint32]string, len(names))
	for i, n := range names {
		mapped[b.layout.funcs(i)] = n
	}
	b.mod.Customs = []wasm.Custom{{Name: "name", Bytes: encodeNames(mapped), After: wasm.SectionData}}
	return nil
}
