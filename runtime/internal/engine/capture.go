package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental/table"

	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasm"
)

// Image is the state of an instance at a cut, but for its memory, in terms of the
// original module.
type Image struct {
	// Root is the function that was called from outside; it is that of Frames[0].
	Root uint32
	// Frames is the guest's stack, outermost first. It is empty when nothing runs.
	Frames []*instrument.Frame
	// Globals are the mutable globals that the module defines, by ascending index.
	Globals []Global
	// Tables are the tables which the module can change.
	Tables []Table
	// DroppedData and DroppedElems are the segments that were dropped.
	DroppedData, DroppedElems []uint32
}

// Global is a mutable global. A reference is the index of a function in Value.Lo, or
// NullRef.
type Global struct {
	Index uint32
	Value instrument.Value
}

// Table is the content of a table: the indexes of functions, -1 for null.
type Table struct {
	Index   uint32
	Entries []int32
}

// NullRef stands for a null reference in a Global.
const NullRef = ^uint64(0)

// InCall tells whether the guest waits for a host call.
func (im *Image) InCall() bool {
	return len(im.Frames) > 0 && im.Frames[len(im.Frames)-1].InCall
}

// Capture is what was taken at a cut. It is valid until the Cut hook returns, except
// for the result of Image.
type Capture struct {
	in    *Instance
	outer []*instrument.Frame // not put back yet since the stack was taken out before
	rawStack
	inCall bool
	root   uint32
	// Since is when the guest stopped to compute; in a guest that was forced, which computes while
	// it unwinds, when that was done.
	Since time.Time
}

// rawStack is a stack as the slow paths pushed it, innermost frame first.
type rawStack struct {
	sites []uint32
	ends  []int // of each frame's words in words
	words []uint64
}

func (r *rawStack) reset() {
	r.sites, r.ends, r.words = r.sites[:0], r.ends[:0], r.words[:0]
}

// Depth is the number of frames.
func (c *Capture) Depth() int { return len(c.outer) + len(c.sites) }

// Raw takes globals and tables and returns a function which makes the Image of it. That
// function may be called after the hook has returned, from any goroutine.
func (c *Capture) Raw() (func() (*Image, error), error) {
	im := &Image{Root: c.root}
	if err := c.in.captureGlobals(im); err != nil {
		return nil, err
	}
	if err := c.in.captureTables(im); err != nil {
		return nil, err
	}
	raw := rawStack{
		sites: append([]uint32(nil), c.sites...),
		ends:  append([]int(nil), c.ends...),
		words: append([]uint64(nil), c.words...),
	}
	meta, outer, inCall := c.in.program.meta, c.outer, c.inCall
	return func() (*Image, error) {
		var err error
		if im.Frames, err = raw.frames(meta, outer, inCall); err != nil {
			return nil, err
		}
		return im, nil
	}, nil
}

// frames returns the frames outer and, inside of them, those which were pushed.
func (r *rawStack) frames(meta *instrument.Meta, outer []*instrument.Frame, inCall bool) ([]*instrument.Frame, error) {
	n := len(outer) + len(r.sites)
	frames := append(make([]*instrument.Frame, 0, n), outer...)[:n]
	from := 0
	for i, site := range r.sites {
		// All but the innermost frame wait for the one that was pushed before.
		f, err := meta.Frame(site, r.words[from:r.ends[i]], i > 0 || inCall)
		if err != nil {
			return nil, err
		}
		frames[n-1-i] = f
		from = r.ends[i]
	}
	return frames, nil
}

// Image takes everything at once.
func (c *Capture) Image() (*Image, error) {
	f, err := c.Raw()
	if err != nil {
		return nil, err
	}
	return f()
}

// captureGlobals reads the mutable globals and the flags of dropped segments.
func (in *Instance) captureGlobals(im *Image) error {
	for _, g := range in.program.meta.Globals {
		v := instrument.Value{Type: g.Type}
		switch g.Type {
		case wasm.V128:
			r, err := in.hot.ExportedFunction(g.Export + ".get").Call(in.ctx)
			if err != nil {
				return fmt.Errorf("global %d: %w", g.Index, err)
			}
			v.Lo, v.Hi = r[0], r[1]
		case wasm.FuncRef, wasm.ExternRef:
			r, err := in.hot.ExportedFunction(g.Export + ".get").Call(in.ctx)
			if err != nil {
				return fmt.Errorf("global %d: %w", g.Index, err)
			}
			v.Lo = NullRef
			if uint32(r[0]) == 0 {
				if g.Type == wasm.ExternRef {
					return fmt.Errorf("global %d holds a reference to the host", g.Index)
				}
				f, err := in.lookup(in.program.meta.Scratch, 0)
				if err != nil {
					return fmt.Errorf("global %d: %w", g.Index, err)
				}
				v.Lo = uint64(f)
			}
		default:
			v.Lo = in.hot.ExportedGlobal(g.Export).Get()
			if g.Type == wasm.I32 || g.Type == wasm.F32 {
				v.Lo = uint64(uint32(v.Lo))
			}
		}
		im.Globals = append(im.Globals, Global{Index: g.Index, Value: v})
	}
	for _, d := range in.program.meta.Drops {
		if in.hot.ExportedGlobal(d.Flag).Get() == 0 {
			continue
		}
		if d.Elem {
			im.DroppedElems = append(im.DroppedElems, d.Index)
		} else {
			im.DroppedData = append(im.DroppedData, d.Index)
		}
	}
	return nil
}

// captureTables reads the tables that the module can change.
func (in *Instance) captureTables(im *Image) error {
	for _, t := range in.program.meta.Tables {
		r, err := in.hot.ExportedFunction(t.Size).Call(in.ctx)
		if err != nil {
			return fmt.Errorf("table %d: %w", t.Index, err)
		}
		isNull := in.hot.ExportedFunction(t.IsNull)
		entries := make([]int32, uint32(r[0]))
		for i := range entries {
			entries[i] = -1
			r, err := isNull.Call(in.ctx, uint64(i))
			if err != nil {
				return fmt.Errorf("table %d: %w", t.Index, err)
			}
			if uint32(r[0]) != 0 {
				continue
			}
			if t.Type != wasm.FuncRef {
				return fmt.Errorf("table %d holds a reference to the host in slot %d", t.Index, i)
			}
			f, err := in.lookup(t.Index, uint32(i))
			if err != nil {
				return fmt.Errorf("table %d: %w", t.Index, err)
			}
			entries[i] = int32(f)
		}
		im.Tables = append(im.Tables, Table{Index: t.Index, Entries: entries})
	}
	return nil
}

// lookup returns the original index of the function in a slot, which is not null. The
// engine tells it only to whom names the right type: try them, the last one that fitted
// first.
func (in *Instance) lookup(tableIndex, slot uint32) (uint32, error) {
	types := in.program.src.Types
	try := func(i int) (f api.Function) {
		defer func() { _ = recover() }() // a type that does not fit
		return table.LookupFunction(in.hot, tableIndex, slot, apiTypes(types[i].Params), apiTypes(types[i].Results))
	}
	for k := range types {
		i := (in.lastType + k) % len(types)
		f := try(i)
		if f == nil {
			continue
		}
		in.lastType = i
		index, ok := in.program.meta.OriginalIndex(f.Definition().Index())
		if !ok {
			break
		}
		return index, nil
	}
	return 0, fmt.Errorf("slot %d holds a function of unknown origin", slot)
}

// restore sets globals, tables and dropped segments of a fresh instance.
func (in *Instance) restore(im *Image) error {
	meta := in.program.meta
	if len(im.Globals) != len(meta.Globals) {
		return fmt.Errorf("image has %d mutable globals, the program %d", len(im.Globals), len(meta.Globals))
	}
	for i, g := range meta.Globals {
		v := im.Globals[i]
		if v.Index != g.Index || v.Value.Type != g.Type {
			return fmt.Errorf("image has global %d of type %v, the program global %d of type %v", v.Index, v.Value.Type, g.Index, g.Type)
		}
		switch g.Type {
		case wasm.V128:
			if _, err := in.hot.ExportedFunction(g.Export+".set").Call(in.ctx, v.Value.Lo, v.Value.Hi); err != nil {
				return fmt.Errorf("global %d: %w", g.Index, err)
			}
		case wasm.FuncRef, wasm.ExternRef:
			f := v.Value.Lo
			if f != NullRef && (g.Type == wasm.ExternRef || f >= uint64(in.program.src.NumFuncs())) {
				return fmt.Errorf("global %d: no function %d", g.Index, f)
			}
			if _, err := in.hot.ExportedFunction(g.Export+".set").Call(in.ctx, uint64(uint32(f))); err != nil {
				return fmt.Errorf("global %d: %w", g.Index, err)
			}
		default:
			in.hot.ExportedGlobal(g.Export).(api.MutableGlobal).Set(v.Value.Lo)
		}
	}
	if len(im.Tables) != len(meta.Tables) {
		return fmt.Errorf("image has %d changeable tables, the program %d", len(im.Tables), len(meta.Tables))
	}
	for i, t := range meta.Tables {
		if err := in.restoreTable(t, im.Tables[i]); err != nil {
			return fmt.Errorf("table %d: %w", t.Index, err)
		}
	}
	nDropped := 0
	for _, d := range meta.Drops {
		list := im.DroppedData
		if d.Elem {
			list = im.DroppedElems
		}
		if !slices.Contains(list, d.Index) {
			continue
		}
		nDropped++
		if _, err := in.hot.ExportedFunction(d.Drop).Call(in.ctx); err != nil {
			return fmt.Errorf("drop segment %d: %w", d.Index, err)
		}
	}
	if n := len(im.DroppedData) + len(im.DroppedElems); nDropped != n {
		return fmt.Errorf("image has %d dropped segments, of which the program can drop %d", n, nDropped)
	}
	return nil
}

func (in *Instance) restoreTable(t instrument.TableRef, saved Table) error {
	if saved.Index != t.Index {
		return fmt.Errorf("image has table %d instead", saved.Index)
	}
	r, err := in.hot.ExportedFunction(t.Size).Call(in.ctx)
	if err != nil {
		return err
	}
	if n := len(saved.Entries) - int(uint32(r[0])); n > 0 {
		r, err := in.hot.ExportedFunction(t.Grow).Call(in.ctx, uint64(n))
		if err != nil {
			return err
		}
		if int32(r[0]) < 0 {
			return fmt.Errorf("cannot grow to %d entries", len(saved.Entries))
		}
	} else if n < 0 {
		return fmt.Errorf("image has %d entries, the program starts with %d", len(saved.Entries), uint32(r[0]))
	}
	set := in.hot.ExportedFunction(t.Set)
	nFuncs := in.program.src.NumFuncs()
	if t.Type != wasm.FuncRef {
		nFuncs = 0
	}
	for i, f := range saved.Entries {
		if int(f) >= nFuncs || f < -1 {
			return fmt.Errorf("slot %d: no function %d", i, f)
		}
		if _, err := set.Call(in.ctx, uint64(i), uint64(uint32(f))); err != nil {
			return err
		}
	}
	return nil
}
