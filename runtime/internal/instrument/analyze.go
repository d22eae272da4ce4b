package instrument

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"perdure/runtime/internal/wasm"
)

// Limits on what one function may make the analysis hold. Only functions made to
// exhaust us come near; compilers stay below a hundredth.
const (
	maxLabelWords = 8 << 20 // 64-bit words of live sets of labels and sites
	maxSiteValues = 4 << 20 // values saved by all sites of a function
	// Steps that finding the live locals of a whole module may take, for a start and for
	// each byte of code. A step is about a nanosecond.
	maxSteps        = 1 << 30
	maxStepsPerByte = 4096
)

// limitError says which limit of the analysis a function exceeds.
type limitError string

func (e limitError) Error() string { return string(e) }

type siteKind uint8

const (
	siteCall siteKind = iota
	siteLoop
)

// site is a suspend point of a function.
type site struct {
	kind    siteKind
	offset  uint32 // of the instruction in the original file
	node    int32
	ctl     int32          // innermost control instruction around it, the loop itself for a loop; -1 none
	live    []uint32       // locals that are read later, ascending
	stack   []wasm.ValType // operands of the whole function below the call's; for a loop all, with its parameters
	results []wasm.ValType // of the call
	types   []wasm.ValType // of the function's locals
}

// nWords is the number of words that the site's slow path pushes.
func (s *site) nWords() int {
	n := 0
	for _, l := range s.live {
		n += words(s.types[l])
	}
	for _, t := range s.stack {
		n += words(t)
	}
	for _, t := range s.results {
		n += words(t)
	}
	return n
}

// node is a reachable instruction.
type node struct {
	op       wasm.Op
	pos, end uint32
	x, y     uint32
	site     int32 // suspend point, or -1
	ctl      int32 // of block, loop, if, else, end: its control instruction; -1 for the function's end
	height   int32 // of the operand stack before it
}

// ctl is a block, loop or if.
type ctl struct {
	op              wasm.Op
	parent          int32
	loop            int32 // outermost loop that it is or that is around it; -1 none
	params, results []wasm.ValType
	block           wasm.BlockType
	base            int32          // height of the operand stack below the parameters
	outer           []wasm.ValType // operands of the enclosing control instruction, parameters and condition included
	firstSite       int32          // sites in it are firstSite … lastSite-1
	lastSite        int32
	elseSite        int32 // first site of the else arm
}

func (c *ctl) hasSite() bool { return c.lastSite > c.firstSite }

// function is the analysis of one function: its reachable code and its suspend points.
type function struct {
	index   uint32
	typ     *wasm.FuncType
	code    *wasm.Code
	locals  []wasm.ValType // parameters first
	nodes   []node
	ctls    []ctl
	sites   []site
	sets    []uint64 // by control instruction: the locals that it changes, see changed
	targets []uint32 // of all br_table; a node's are targets[x:y]
}

// analyzer analyzes functions one after the other and reuses its buffers.
type analyzer struct {
	meta  *Meta
	src   *wasm.Module
	typer *wasm.Typer
	live  liveness
}

// newAnalyzer returns an analyzer that takes the steps it makes from those left.
func newAnalyzer(m *Meta, left *atomic.Int64) *analyzer {
	return &analyzer{meta: m, src: m.src, typer: wasm.NewTyper(m.src), live: liveness{left: left}}
}

// stepsFor returns how many steps the analysis of a module may take.
func stepsFor(m *wasm.Module) *atomic.Int64 {
	n := int64(maxSteps)
	for i := range m.Codes {
		n += maxStepsPerByte * int64(len(m.Codes[i].Body))
	}
	left := &atomic.Int64{}
	left.Store(n)
	return left
}

// analyze reads a defined function. Code that cannot be reached is left out.
func (a *analyzer) analyze(index uint32) (*function, error) {
	fn := &function{index: index}
	err := a.read(fn)
	if err == nil && len(fn.sites) > 0 {
		err = a.live.run(fn)
	}
	var limit limitError
	switch {
	case errors.As(err, &limit):
		return nil, &RefusedError{Reasons: []string{fmt.Sprintf("function %d has %s", index, limit)}}
	case err != nil:
		return nil, fmt.Errorf("function %d: %w", index, err)
	}
	return fn, nil
}

// read fills in everything but the live locals.
func (a *analyzer) read(fn *function) error {
	var err error
	if fn.typ, err = a.src.FuncType(fn.index); err != nil {
		return err
	}
	fn.code = &a.src.Codes[int(fn.index)-a.src.NumImportedFuncs()]
	if err := a.typer.Begin(fn.index); err != nil {
		return err
	}
	fn.locals = append([]wasm.ValType(nil), a.typer.Locals()...)

	nWords := (len(fn.locals) + 63) / 64
	nValues := 0
	open := []int32{} // enclosing control instructions
	dead := -1        // ≥ 0: in dead code, so many nested blocks deep
	r := wasm.NewReader(fn.code.Body)
	var in wasm.Instr
	for {
		if err := r.Next(&in); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		n := node{op: in.Op, pos: uint32(in.Pos), end: uint32(in.End), x: in.X, y: in.Y, site: -1, ctl: -1}
		if dead >= 0 {
			switch in.Op {
			case wasm.OpBlock, wasm.OpLoop, wasm.OpIf:
				dead++
			case wasm.OpElse:
				if dead == 0 {
					dead = -1
				}
			case wasm.OpEnd:
				if dead == 0 {
					dead = -1
				} else {
					dead--
				}
			}
			if dead >= 0 {
				if err := a.typer.Step(&in); err != nil {
					return err
				}
				continue
			}
		}
		stack := a.typer.Stack()
		n.height = int32(len(stack))
		parent, base := int32(-1), int32(0)
		if len(open) > 0 {
			parent = open[len(open)-1]
			base = fn.ctls[parent].base
		}
		switch in.Op {
		case wasm.OpBlock, wasm.OpLoop, wasm.OpIf:
			c := ctl{op: in.Op, parent: parent, loop: -1, block: in.Block, firstSite: int32(len(fn.sites)), elseSite: -1}
			if c.params, c.results, err = a.src.BlockSig(in.Block); err != nil {
				return err
			}
			top := len(stack)
			if in.Op == wasm.OpIf {
				top--
			}
			c.base = int32(top - len(c.params))
			if c.base < base {
				return fmt.Errorf("operand stack underflow at %d", in.Pos)
			}
			c.outer = append([]wasm.ValType(nil), stack[base:]...)
			n.ctl = int32(len(fn.ctls))
			if parent >= 0 {
				c.loop = fn.ctls[parent].loop
			}
			if c.loop < 0 && in.Op == wasm.OpLoop {
				c.loop = n.ctl
			}
			if in.Op == wasm.OpLoop && a.instrumented(fn.index) {
				n.site = int32(len(fn.sites))
				fn.sites = append(fn.sites, site{kind: siteLoop, offset: fn.code.Offset + n.pos, node: int32(len(fn.nodes)),
					ctl: n.ctl, types: fn.locals, stack: append([]wasm.ValType(nil), stack...)})
				nValues += len(stack)
			}
			fn.ctls = append(fn.ctls, c)
			open = append(open, n.ctl)
			nValues += len(c.outer)
			if len(fn.ctls)*nWords > maxLabelWords {
				return limitError("too many locals and blocks")
			}
			fn.sets = append(fn.sets, make([]uint64, nWords)...)
		case wasm.OpLocalSet, wasm.OpLocalTee:
			if parent >= 0 {
				fn.sets[int(parent)*nWords+int(in.X/64)] |= 1 << (in.X % 64)
			}
		case wasm.OpElse:
			n.ctl = parent
			fn.ctls[parent].elseSite = int32(len(fn.sites))
		case wasm.OpEnd:
			n.ctl = parent
			if parent >= 0 {
				fn.ctls[parent].lastSite = int32(len(fn.sites))
				open = open[:len(open)-1]
				if up := fn.ctls[parent].parent; up >= 0 {
					or(fn.sets[int(up)*nWords:int(up+1)*nWords], fn.sets[int(parent)*nWords:int(parent+1)*nWords])
				}
			}
		case wasm.OpCall, wasm.OpCallIndirect:
			if a.instrumented(fn.index) && a.meta.suspends(&in) {
				var typ *wasm.FuncType
				nArgs := 0
				if in.Op == wasm.OpCall {
					if typ, err = a.src.FuncType(in.X); err != nil {
						return err
					}
				} else {
					typ, nArgs = &a.src.Types[in.X], 1
				}
				nArgs += len(typ.Params)
				if nArgs > len(stack) {
					return fmt.Errorf("operand stack underflow at %d", in.Pos)
				}
				n.site = int32(len(fn.sites))
				fn.sites = append(fn.sites, site{kind: siteCall, offset: fn.code.Offset + n.pos, node: int32(len(fn.nodes)),
					ctl: parent, types: fn.locals, results: typ.Results,
					stack: append([]wasm.ValType(nil), stack[:len(stack)-nArgs]...)})
				nValues += len(stack)
			}
		case wasm.OpBr, wasm.OpReturn, wasm.OpUnreachable:
			dead = 0
		case wasm.OpBrTable:
			n.x = uint32(len(fn.targets))
			fn.targets = append(fn.targets, in.Targets...)
			n.y = uint32(len(fn.targets))
			dead = 0
		}
		if nValues > maxSiteValues {
			return limitError("too many operands to save")
		}
		if err := a.typer.Step(&in); err != nil {
			return err
		}
		fn.nodes = append(fn.nodes, n)
	}
	return nil
}

// changed tells whether a control instruction sets a local.
func (fn *function) changed(c *ctl, local uint32) bool {
	nWords := (len(fn.locals) + 63) / 64
	i := int(fn.nodes[fn.sites[c.firstSite].node].ctl) // a loop is its own first site
	return fn.sets[i*nWords+int(local/64)]&(1<<(local%64)) != 0
}

// changedAround tells whether a loop that is the control instruction c or encloses it sets
// a local. The outermost of these sets what the others do.
func (fn *function) changedAround(c int32, local uint32) bool {
	return c >= 0 && fn.ctls[c].loop >= 0 && fn.changed(&fn.ctls[fn.ctls[c].loop], local)
}

func (a *analyzer) instrumented(index uint32) bool {
	return a.meta.Suspendable[int(index)-a.src.NumImportedFuncs()]
}

// refused returns why a value that a site must save cannot be saved.
func (fn *function) refused() []string {
	var out []string
	for i := range fn.sites {
		s := &fn.sites[i]
		bad := ""
		for _, l := range s.live {
			if fn.locals[l].IsRef() {
				bad = fmt.Sprintf("local %d", l)
			}
		}
		for _, t := range s.stack {
			if t.IsRef() {
				bad = "an operand"
			}
		}
		for _, t := range s.results {
			if t.IsRef() {
				bad = "a result"
			}
		}
		if bad != "" {
			out = append(out, fmt.Sprintf("function %d holds a reference (%s) across the suspend point at offset %#x", fn.index, bad, s.offset))
		}
	}
	return out
}
