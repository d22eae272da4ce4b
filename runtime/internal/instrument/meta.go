package instrument

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"

	"perdure/runtime/internal/wasm"
)

// Version changes whenever the code that Instrument generates or the numbering
// of sites does. What is cached of its output is valid for one version only;
// saved frames are not affected.
const Version = 3

// HostModule is the module name of the functions that generated code imports.
const HostModule = "perdure:suspend"

// The functions of HostModule. Push1 … Push8 take that many i64 and have no
// result.
const (
	HostPush1   = "push1"
	HostPush2   = "push2"
	HostPush4   = "push4"
	HostPush8   = "push8"
	HostFrame   = "frame"   // (i32 site): the words pushed since the last one are the frame of site
	HostYield   = "yield"   // () → i32: 1 to unwind from here, 0 to go on
	HostUnwound = "unwound" // (): the whole stack is with the host
	HostPop     = "pop"     // () → i64: the next word of the frame being resumed
	HostNext    = "next"    // () → i32: entry of the next inner frame; -1: none, HostPop gives the results of the call
)

// Meta is what has to be known of a module beside its hot code: to instantiate it,
// to read and set its state, to understand its frames and to generate cold code.
// It is plain data and may be stored; after decoding call Bind.
type Meta struct {
	Version int
	// Prefix starts the name of every export that Instrument added.
	Prefix string
	// EveryLoop is Options.EveryLoop.
	EveryLoop bool
	// NoRemainder says that the code has no instructions for remainders.
	NoRemainder bool
	// Suspendable has an entry for each defined function: it may be on a stack
	// that is taken out.
	Suspendable []bool
	// SiteBase has an entry for each defined function and one more: the number
	// of its first site.
	SiteBase []uint32
	// IndirectTypes has an entry for each type: a call_indirect of it can reach a
	// suspendable function.
	IndirectTypes []bool
	// Helpers are small functions that stand behind the original ones in the
	// table of all functions, for instructions that only the hot module can
	// execute.
	Helpers []Helper
	// Globals are the mutable globals: what has to be saved and set again.
	Globals []GlobalRef
	// Tables are the tables that the module can change.
	Tables []TableRef
	// Scratch is a table of one slot, if there are mutable funcref globals: their
	// getters put the reference there.
	Scratch uint32
	// Drops are the segments which the module can drop.
	Drops []DropRef
	// Roots are the functions that can be called from outside.
	Roots []Root

	src  *wasm.Module
	mu   sync.Mutex
	funs map[uint32]*function
}

// Helper is an instruction wrapped into a function of the hot module.
type Helper struct {
	Op wasm.Op // memory.init, data.drop, table.init or elem.drop
	X  uint32  // segment
	Y  uint32  // table, for table.init
}

// GlobalRef is a mutable global and the export by which it is reached. For a v128
// there are the functions Export+".get" (→ i64 i64) and Export+".set"; for a
// reference Export+".get" (→ i32: is it null? a funcref is then in the table
// Scratch) and Export+".set" (i32 function index or -1).
type GlobalRef struct {
	Index  uint32
	Type   wasm.ValType
	Export string
}

// TableRef is a table that changes at run time. The function Set (slot, function
// index or -1) changes an entry, Grow (n) → old size makes it larger.
type TableRef struct {
	Index  uint32
	Type   wasm.ValType
	Size   string // () → i32
	IsNull string // (i32 slot) → i32
	Set    string // (i32 slot, i32 function index or -1)
	Grow   string // (i32 n) → i32
}

// DropRef is a passive segment that the code can drop. The global Flag is set
// once that has happened; the function Drop does it.
type DropRef struct {
	Elem  bool // an element segment; else a data segment
	Index uint32
	Flag  string // exported mutable i32
	Drop  string // exported function () → ()
}

// Root is a function that may be called from outside, with the export of its
// wrapper: the wrapper has the same type and reports to HostUnwound.
type Root struct {
	Func   uint32
	Export string
}

// Names of exports, each behind Meta.Prefix.
const (
	ExportState  = "state" // mutable i32: not 0 while the stack unwinds
	ExportSoft   = "soft"  // mutable i32: not 0 when loops shall yield
	ExportAll    = "all"   // table of all functions by original index
	ExportMemory = "memory"
)

// Bind gives the original module back to a Meta that was stored. The module must be
// the one that was instrumented.
func (m *Meta) Bind(src *wasm.Module) error {
	if m.Version != Version {
		return fmt.Errorf("instrumented by version %d, this is version %d", m.Version, Version)
	}
	if wrongRemainder && !m.NoRemainder {
		return errors.New("instrumented for another machine, where the engine computes remainders right")
	}
	if len(m.Suspendable) != len(src.Codes) || len(m.SiteBase) != len(src.Codes)+1 || len(m.IndirectTypes) != len(src.Types) {
		return fmt.Errorf("tables are of another module: %d functions, want %d", len(m.Suspendable), len(src.Codes))
	}
	m.src = src
	m.funs = make(map[uint32]*function)
	return nil
}

// Module returns the original module.
func (m *Meta) Module() *wasm.Module { return m.src }

// RootOf returns the export of the wrapper of a function.
func (m *Meta) RootOf(funcIndex uint32) (string, bool) {
	for _, r := range m.Roots {
		if r.Func == funcIndex {
			return r.Export, true
		}
	}
	return "", false
}

// function returns the analysis of a defined function, by original index.
func (m *Meta) function(index uint32) (*function, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if fn := m.funs[index]; fn != nil {
		return fn, nil
	}
	a := newAnalyzer(m, stepsFor(m.src))
	fn, err := a.analyze(index)
	if err != nil {
		return nil, err
	}
	m.funs[index] = fn
	return fn, nil
}

// site finds a site by its module-wide number.
func (m *Meta) site(n uint32) (*function, *site, error) {
	i := sort.Search(len(m.SiteBase), func(i int) bool { return m.SiteBase[i] > n }) - 1
	if i < 0 || i >= len(m.Suspendable) {
		return nil, nil, fmt.Errorf("no site %d", n)
	}
	fn, err := m.function(uint32(i + m.src.NumImportedFuncs()))
	if err != nil {
		return nil, nil, err
	}
	s := int(n - m.SiteBase[i])
	if s >= len(fn.sites) {
		return nil, nil, fmt.Errorf("no site %d in function %d", n, fn.index)
	}
	return fn, &fn.sites[s], nil
}

// at finds the site of a point.
func (m *Meta) at(p Point) (*function, *site, error) {
	i := int(p.Func) - m.src.NumImportedFuncs()
	if i < 0 || i >= len(m.Suspendable) || !m.Suspendable[i] {
		return nil, nil, fmt.Errorf("function %d cannot be on a saved stack", p.Func)
	}
	fn, err := m.function(p.Func)
	if err != nil {
		return nil, nil, err
	}
	j := sort.Search(len(fn.sites), func(j int) bool { return fn.sites[j].offset >= p.Offset })
	if j == len(fn.sites) || fn.sites[j].offset != p.Offset {
		return nil, nil, fmt.Errorf("function %d has no suspend point at offset %#x", p.Func, p.Offset)
	}
	s := &fn.sites[j]
	if p.InCall && s.kind != siteCall {
		return nil, nil, fmt.Errorf("function %d: no call at offset %#x", p.Func, p.Offset)
	}
	return fn, s, nil
}

// suspends tells whether a call instruction can unwind.
func (m *Meta) suspends(in *wasm.Instr) bool {
	switch in.Op {
	case wasm.OpCall:
		i := int(in.X) - m.src.NumImportedFuncs()
		return i < 0 || m.Suspendable[i]
	case wasm.OpCallIndirect:
		return m.IndirectTypes[in.X]
	}
	return false
}

// compare orders points by function, offset, and those not in the call first.
func (p Point) compare(q Point) int {
	if c := cmp.Compare(p.Func, q.Func); c != 0 {
		return c
	}
	if c := cmp.Compare(p.Offset, q.Offset); c != 0 || p.InCall == q.InCall {
		return c
	}
	if q.InCall {
		return -1
	}
	return 1
}

// normalPoints returns the points sorted and each once.
func normalPoints(points []Point) []Point {
	if slices.IsSortedFunc(points, Point.compare) {
		return slices.Compact(slices.Clone(points))
	}
	m := make(map[Point]bool) // of a deep stack, most frames stand at the same few points
	for _, p := range points {
		m[p] = true
	}
	return slices.SortedFunc(maps.Keys(m), Point.compare)
}

// OriginalIndex turns the index which a referred function has in the hot module into that
// of the original. It fails for functions that Instrument added.
func (m *Meta) OriginalIndex(hot uint32) (index uint32, ok bool) {
	nImports, nFuncs := uint32(m.src.NumImportedFuncs()), uint32(m.src.NumFuncs())
	if hot < nImports+nHostFuncs {
		return 0, false
	}
	if hot -= nHostFuncs; hot < nFuncs {
		return hot, true
	}
	return hot - nFuncs, hot < nFuncs+nImports // the thunk of an import
}
