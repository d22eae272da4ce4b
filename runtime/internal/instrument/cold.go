package instrument

import (
	"sort"

	"perdure/runtime/internal/wasm"
)

// coldLayout is what cold code needs beyond layout.
type coldLayout struct {
	all, frames uint32 // tables: all functions of the hot module; cold functions
	pop, next   uint32 // host functions
	helper      map[Helper]int32
	types       func(wasm.FuncType) uint32
}

// resultBlock is the type of a block that only has results.
func (c *coldLayout) resultBlock(results []wasm.ValType) wasm.BlockType {
	switch len(results) {
	case 0:
		return wasm.BlockType{}
	case 1:
		return wasm.BlockType{Kind: wasm.BlockValue, Value: results[0]}
	}
	return wasm.BlockType{Kind: wasm.BlockIndex, Index: c.types(wasm.FuncType{Results: results})}
}

// coldPlan is what can be resumed in a function: ordinal i+1 stands for points[i]. The
// local r holds the ordinal until its place is reached, and 0 from then on.
type coldPlan struct {
	points []coldPoint // sorted by site
	r      uint32
	entry  uint32 // local for the next inner frame's entry in the table of cold functions
	steps  int    // that finding the ways to them has taken
}

// maxColdSteps bounds what the cold code of one function may cost: the ways to its places
// can grow with the square of its size. Stacks of real programs need a thousandth.
const maxColdSteps = 8 << 20

type coldPoint struct {
	site   int32
	inCall bool
}

// before returns how many points are at sites before s.
func (p *coldPlan) before(s int32) int {
	if p == nil {
		return 0
	}
	return sort.Search(len(p.points), func(i int) bool { return p.points[i].site >= s })
}

// wanted tells whether a point is at sites first … last-1.
func (p *coldPlan) wanted(first, last int32) bool { return p.before(first) < p.before(last) }

// within returns the ordinals of the points at sites first … last-1. They follow
// each other.
func (p *coldPlan) within(first, last int32) (ordinals []int) {
	for i, n := p.before(first), p.before(last); i < n; i++ {
		ordinals = append(ordinals, i+1)
	}
	return ordinals
}

// tooLarge tells that no good code is made any more.
func (p *coldPlan) tooLarge() bool { return p != nil && p.steps > maxColdSteps }

func (p *coldPlan) ordinalsOf(s int32) []int { return p.within(s, s+1) }

// prologue emits the start of a cold function: it takes the ordinal and the saved
// values from the host.
func (e *emitter) prologue() {
	p := e.resume
	p.r, p.entry = e.newLocal(wasm.I32), e.newLocal(wasm.I32)
	e.popWord(p.r, wasm.I32)
	for i, pt := range p.points {
		if len(p.points) > 1 {
			e.opX(wasm.OpLocalGet, p.r)
			e.i32Const(int32(i + 1))
			e.op(wasm.OpI32Eq)
			e.block(wasm.OpIf, wasm.BlockType{})
		}
		s := &e.fn.sites[pt.site]
		for _, l := range s.live {
			e.popWord(l, e.fn.locals[l])
		}
		for h, t := range s.stack {
			e.popWord(e.spill(h, t), t)
		}
		if !pt.inCall {
			for h, t := range s.results {
				e.popWord(e.spill(len(s.stack)+h, t), t)
			}
		}
		if len(p.points) > 1 {
			e.end()
		}
	}
}

// popWord sets a local to the next value from the host.
func (e *emitter) popWord(local uint32, t wasm.ValType) {
	e.opX(wasm.OpCall, e.out.cold.pop)
	switch t {
	case wasm.I32:
		e.op(wasm.OpI32WrapI64)
	case wasm.F32:
		e.op(wasm.OpI32WrapI64)
		e.op(wasm.OpF32ReinterpretI32)
	case wasm.F64:
		e.op(wasm.OpF64ReinterpretI64)
	case wasm.V128:
		e.op(wasm.OpI64x2Splat)
		e.opX(wasm.OpCall, e.out.cold.pop)
		e.op(wasm.OpI64x2ReplaceLane)
		e.buf = append(e.buf, 1)
	}
	e.opX(wasm.OpLocalSet, local)
}

// sequence emits the jump at the start of a body: to the call or the nested control
// instruction, directly in this body, in which the wanted place lies. Each of them
// has a block around all that is before it; it ends there (see enter and
// suspendableCall), with an empty stack.
func (e *emitter) sequence(ci, first, last int32) {
	if !e.resume.wanted(first, last) || e.resume.tooLarge() {
		return
	}
	ordinals := e.resume.within(first, last)
	var places []int32 // site of a direct call, or first site of a nested control instruction
	placeOf := []int{} // by ordinal in ordinals
	for _, o := range ordinals {
		s := &e.fn.sites[e.resume.points[o-1].site]
		if s.kind == siteLoop && s.ctl == ci {
			placeOf = append(placeOf, -1) // atHeader has cleared it
			continue
		}
		place := e.resume.points[o-1].site
		e.resume.steps++
		for c := s.ctl; c != ci; c = e.fn.ctls[c].parent {
			e.resume.steps++
			if e.fn.ctls[c].parent == ci {
				place = -2 - c
			}
		}
		if n := len(places); n == 0 || places[n-1] != place {
			places = append(places, place)
		}
		placeOf = append(placeOf, len(places)-1)
	}
	if len(places) == 0 {
		return
	}
	for range places {
		e.block(wasm.OpBlock, wasm.BlockType{})
	}
	innermost := e.depth // the block of places[0]
	if len(places) == 1 {
		e.opX(wasm.OpLocalGet, e.resume.r)
		e.opX(wasm.OpBrIf, 0)
		return
	}
	e.block(wasm.OpBlock, wasm.BlockType{})
	e.opX(wasm.OpLocalGet, e.resume.r)
	e.op(wasm.OpBrTable)
	lastOrdinal := ordinals[len(ordinals)-1]
	e.resume.steps += lastOrdinal
	e.buf = wasm.AppendUleb(e.buf, uint64(lastOrdinal+1))
	for o := 0; o <= lastOrdinal; o++ {
		i := o - ordinals[0]
		if i < 0 || placeOf[i] < 0 {
			e.buf = wasm.AppendUleb(e.buf, 0)
			continue
		}
		e.buf = wasm.AppendUleb(e.buf, uint64(e.to(innermost-placeOf[i])))
	}
	e.buf = wasm.AppendUleb(e.buf, 0)
	e.end()
}

// atHeader emits, in front of a loop, what happens when the place is its header: nothing but
// entering it. It is not done inside, where every iteration would do it.
func (e *emitter) atHeader(c *ctl) {
	p := e.resume
	for _, o := range p.ordinalsOf(c.firstSite) {
		e.opX(wasm.OpLocalGet, p.r)
		e.i32Const(int32(o))
		e.op(wasm.OpI32Eq)
		e.block(wasm.OpIf, wasm.BlockType{})
		e.clearOrdinal()
		e.end()
	}
}

func (e *emitter) clearOrdinal() {
	e.i32Const(0)
	e.opX(wasm.OpLocalSet, e.resume.r)
}

// condition emits the condition of an if: the saved one, or on the way to a wanted place
// that of its arm.
func (e *emitter) condition(c *ctl) {
	lastThen := e.resume.before(c.lastSite)
	if c.elseSite >= 0 {
		lastThen = e.resume.before(c.elseSite)
	}
	e.opX(wasm.OpLocalGet, e.resume.r)
	e.i32Const(int32(lastThen))
	e.op(wasm.OpI32LeU)
	e.opX(wasm.OpLocalGet, e.spill(int(c.base)+len(c.params), wasm.I32))
	e.opX(wasm.OpLocalGet, e.resume.r)
	e.op(wasm.OpSelect)
}

// rewind emits what happens at a call when its place is reached on the way back: the
// next inner frame is resumed, or the results are there already.
func (e *emitter) rewind(s *site, wanted []int) {
	e.opX(wasm.OpLocalGet, e.resume.r)
	e.block(wasm.OpIf, wasm.BlockType{})
	for _, o := range wanted {
		if !e.resume.points[o-1].inCall {
			continue
		}
		if len(wanted) > 1 {
			e.opX(wasm.OpLocalGet, e.resume.r)
			e.i32Const(int32(o))
			e.op(wasm.OpI32Eq)
			e.block(wasm.OpIf, wasm.BlockType{})
		}
		e.resumeNext(s)
		if len(wanted) > 1 {
			e.end()
		}
	}
	e.clearOrdinal()
	e.end()
}

// resumeNext emits the resumption of the next inner frame, or takes the results of the
// innermost call from the host. They go to their spill locals. It is not a function of its
// own, which would need room on the native stack once for every frame.
func (e *emitter) resumeNext(s *site) {
	e.opX(wasm.OpCall, e.out.cold.next)
	e.opX(wasm.OpLocalTee, e.resume.entry)
	e.i32Const(-1)
	e.op(wasm.OpI32Eq)
	e.block(wasm.OpIf, wasm.BlockType{})
	for h, t := range s.results {
		e.popWord(e.spill(len(s.stack)+h, t), t)
	}
	e.op(wasm.OpElse)
	e.opX(wasm.OpLocalGet, e.resume.entry)
	e.opX(wasm.OpCallIndirect, e.out.cold.types(wasm.FuncType{Results: s.results}))
	e.buf = wasm.AppendUleb(e.buf, uint64(e.out.cold.frames))
	e.pop(len(s.stack), s.results)
	e.end()
}

// plan sorts the points of one function. It fails for a point that the function does
// not have.
func (m *Meta) plan(points []Point) (*coldPlan, error) {
	p := &coldPlan{}
	for _, pt := range points {
		fn, s, err := m.at(pt)
		if err != nil {
			return nil, err
		}
		i := sort.Search(len(fn.sites), func(i int) bool { return fn.sites[i].offset >= s.offset })
		p.points = append(p.points, coldPoint{site: int32(i), inCall: pt.InCall})
	}
	return p, nil
}
