package faultfs

import (
	"math/rand/v2"
	"slices"
)

// node is a file or a directory.
type node struct {
	dir bool

	data    []byte // of a file
	synced  []byte
	pending []write // since the last sync
	holes   []span  // punched; what was written into them later counts as a hole still

	entries       map[string]*node // of a directory
	syncedEntries map[string]*node
	changes       []entryChange // since the last sync
}

// span is a range of bytes.
type span struct{ from, to int64 }

// hole returns how many bytes of the file are holes.
func (n *node) hole() int64 {
	var total int64
	for _, h := range n.holes {
		total += h.to - h.from
	}
	return total
}

// punch adds a hole, in whole units of holeSize as file systems do.
func (n *node) punch(from, to int64) {
	from, to = (from+holeSize-1)/holeSize*holeSize, to/holeSize*holeSize
	if from >= to {
		return
	}
	kept := n.holes[:0:0]
	for _, h := range n.holes {
		if h.to < from || h.from > to {
			kept = append(kept, h)
		} else {
			from, to = min(from, h.from), max(to, h.to)
		}
	}
	n.holes = append(kept, span{from, to})
}

// holeSize is the least that a hole gives back.
const holeSize = 512

type write struct {
	offset int64
	data   []byte
}

// entryChange gives a name a node, or none, and takes it from another name in the same step.
type entryChange struct {
	name, from string
	node       *node
}

func (c entryChange) apply(entries map[string]*node, n *node) {
	delete(entries, c.from)
	if n == nil {
		delete(entries, c.name)
	} else {
		entries[c.name] = n
	}
}

func newDir() *node {
	return &node{dir: true, entries: map[string]*node{}, syncedEntries: map[string]*node{}}
}

// set changes a directory.
func (n *node) set(c entryChange) {
	c.apply(n.entries, c.node)
	n.changes = append(n.changes, c)
}

func (n *node) size() int64 {
	total := int64(len(n.data)) - n.hole()
	for _, e := range n.entries {
		total += e.size()
	}
	return total
}

func (n *node) clone() *node {
	if !n.dir {
		return &node{data: slices.Clone(n.data), synced: slices.Clone(n.data), holes: slices.Clone(n.holes)}
	}
	c := newDir()
	for name, e := range n.entries {
		e = e.clone()
		c.entries[name], c.syncedEntries[name] = e, e
	}
	return c
}

func (n *node) survivor(r *rand.Rand, known map[*node]*node) *node {
	if s := known[n]; s != nil {
		return s
	}
	if !n.dir {
		data := slices.Clone(n.synced)
		if r != nil {
			for _, w := range n.pending {
				if r.IntN(2) == 0 {
					data = overwrite(data, w.data[:r.IntN(len(w.data)+1)], w.offset)
				}
			}
		}
		s := &node{data: data, synced: slices.Clone(data)}
		known[n] = s
		return s
	}
	s := newDir()
	known[n] = s
	for name, e := range n.syncedEntries {
		s.entries[name] = e.survivor(r, known)
	}
	if r != nil {
		for _, c := range n.changes[:r.IntN(len(n.changes)+1)] {
			var e *node
			if c.node != nil {
				e = c.node.survivor(r, known)
			}
			c.apply(s.entries, e)
		}
	}
	for name, e := range s.entries {
		s.syncedEntries[name] = e
	}
	return s
}

func overwrite(data, p []byte, offset int64) []byte {
	if grow := offset + int64(len(p)) - int64(len(data)); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	copy(data[offset:], p)
	return data
}
