package instrument

import (
	"math/bits"
	"sync/atomic"

	"perdure/runtime/internal/wasm"
)

// liveness finds the locals that are live at each site, by passes backward over the
// structured code until the sets at the loop headers stand still. A set grows only,
// and a pass carries it out of one more nested loop, so there are few passes.
type liveness struct {
	fn    *function
	words int
	label []uint64 // by control instruction: live at its label
	sites []uint64 // by site
	saved []uint64 // by control instruction: live at the start of an else arm
	elsed []bool
	cur   []uint64
	open  []int32
	left  *atomic.Int64 // steps that may still be taken
}

func (l *liveness) run(fn *function) error {
	l.fn = fn
	l.words = (len(fn.locals) + 63) / 64
	if l.words*(2*len(fn.ctls)+len(fn.sites)) > maxLabelWords {
		return limitError("too many locals and blocks")
	}
	l.label = resize(l.label, l.words*len(fn.ctls))
	l.saved = resize(l.saved, l.words*len(fn.ctls))
	l.sites = resize(l.sites, l.words*len(fn.sites))
	l.cur = resize(l.cur, l.words)
	l.elsed = resize(l.elsed, len(fn.ctls))
	steps := int64(len(fn.nodes) + len(fn.targets)*l.words + l.words*(4*len(fn.ctls)+len(fn.sites)))
	for again := true; again; again = l.pass() {
		if l.left.Add(-steps) < 0 {
			return limitError("loops nested too deep for its number of locals")
		}
	}
	total := 0
	for i := range fn.sites {
		for _, w := range l.at(l.sites, int32(i)) {
			total += bits.OnesCount64(w)
		}
	}
	if total > maxSiteValues {
		return limitError("too many live locals to save")
	}
	all := make([]uint32, 0, total)
	for i := range fn.sites {
		from := len(all)
		for w, set := range l.at(l.sites, int32(i)) {
			for ; set != 0; set &= set - 1 {
				all = append(all, uint32(w*64+bits.TrailingZeros64(set)))
			}
		}
		fn.sites[i].live = all[from:len(all):len(all)]
	}
	return nil
}

// resize returns a zeroed slice of length n.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

func (l *liveness) at(sets []uint64, i int32) []uint64 {
	return sets[int(i)*l.words : (int(i)+1)*l.words]
}

// labelSet is what is live where a branch of the given depth goes; nil for none.
func (l *liveness) labelSet(depth uint32) []uint64 {
	if int(depth) >= len(l.open) {
		return nil
	}
	return l.at(l.label, l.open[len(l.open)-1-int(depth)])
}

func or(dst, src []uint64) {
	for i, w := range src {
		dst[i] |= w
	}
}

// pass goes over the code once and reports whether a loop header changed.
func (l *liveness) pass() (changed bool) {
	fn, cur := l.fn, l.cur
	clear(cur)
	l.open = l.open[:0]
	for i := len(fn.nodes) - 1; i >= 0; i-- {
		n := &fn.nodes[i]
		switch n.op {
		case wasm.OpLocalGet:
			cur[n.x/64] |= 1 << (n.x % 64)
		case wasm.OpLocalSet, wasm.OpLocalTee:
			cur[n.x/64] &^= 1 << (n.x % 64)
		case wasm.OpCall, wasm.OpCallIndirect:
			if n.site >= 0 {
				copy(l.at(l.sites, n.site), cur)
			}
		case wasm.OpEnd:
			if n.ctl < 0 {
				continue
			}
			l.open = append(l.open, n.ctl)
			l.elsed[n.ctl] = false
			if fn.ctls[n.ctl].op != wasm.OpLoop {
				copy(l.at(l.label, n.ctl), cur)
			}
		case wasm.OpElse:
			copy(l.at(l.saved, n.ctl), cur)
			l.elsed[n.ctl] = true
			copy(cur, l.at(l.label, n.ctl))
		case wasm.OpBlock, wasm.OpIf, wasm.OpLoop:
			l.open = l.open[:len(l.open)-1]
			switch {
			case n.op == wasm.OpIf && l.elsed[n.ctl]:
				or(cur, l.at(l.saved, n.ctl))
			case n.op == wasm.OpIf:
				or(cur, l.at(l.label, n.ctl))
			case n.op == wasm.OpLoop:
				header := l.at(l.label, n.ctl)
				for w := range header {
					if header[w]|cur[w] != header[w] {
						header[w] |= cur[w]
						changed = true
					}
				}
				copy(cur, header)
				if n.site >= 0 {
					copy(l.at(l.sites, n.site), header)
				}
			}
		case wasm.OpBr:
			clear(cur)
			or(cur, l.labelSet(n.x))
		case wasm.OpBrIf:
			or(cur, l.labelSet(n.x))
		case wasm.OpBrTable:
			clear(cur)
			for _, d := range fn.targets[n.x:n.y] {
				or(cur, l.labelSet(d))
			}
		case wasm.OpReturn, wasm.OpUnreachable:
			clear(cur)
		}
	}
	return changed
}
