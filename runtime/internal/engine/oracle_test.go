package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasm"
)

// simHost is a host whose answers depend on the calls so far only. Some calls wait.
type simHost struct {
	funcs   []Func
	log     uint64
	n       int
	waits   func() bool // whether the call waits (again)
	pending *simCall
}

type simCall struct {
	i    int
	args []uint64
}

var _ Host = (*simHost)(nil)

func mix(h, v uint64) uint64 {
	h = (h ^ v) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func (h *simHost) Call(i int, stack []uint64) error {
	c := &simCall{i, slices.Clone(stack[:len(h.funcs[i].Params)])}
	if h.pending != nil {
		return errors.New("a call while another one waits")
	}
	if h.waits != nil && h.waits() {
		h.pending = c
		return ErrInterrupted
	}
	h.answer(c, stack)
	return nil
}

func (h *simHost) Resume(stack []uint64) error {
	if h.pending == nil {
		return errors.New("no call waits")
	}
	if h.waits() {
		return ErrInterrupted
	}
	c := h.pending
	h.pending = nil
	if len(stack) != len(h.funcs[c.i].Results) {
		return fmt.Errorf("room for %d results", len(stack))
	}
	h.answer(c, stack)
	return nil
}

func (h *simHost) answer(c *simCall, stack []uint64) {
	h.n++
	h.log = mix(mix(h.log, uint64(c.i)), uint64(h.n))
	for k, t := range h.funcs[c.i].Params {
		v := c.args[k]
		if t == api.ValueTypeI32 || t == api.ValueTypeF32 {
			v = uint64(uint32(v))
		}
		h.log = mix(h.log, v)
	}
	for k, t := range h.funcs[c.i].Results {
		v := mix(h.log, uint64(k))
		switch t {
		case api.ValueTypeI32:
			v = uint64(uint32(v) & 0xff)
		case api.ValueTypeF32:
			v = uint64(uint32(v)) | 0x7f800000 // mostly a NaN
		}
		stack[k] = v
	}
}

// outcome is all that can be seen of a run.
type outcome struct {
	Steps  []string // results or trap of start function, main, dump
	Memory uint64
	Pages  uint32
	Log    uint64
	Calls  int
}

func hashOf(b []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(b)
	return h.Sum64()
}

func (o *outcome) step(results []uint64, err error) {
	if err == nil {
		o.Steps = append(o.Steps, fmt.Sprintf("%x", results))
		return
	}
	s := err.Error()
	if i := strings.Index(s, "wasm error: "); i >= 0 {
		s = s[i:]
	}
	s, _, _ = strings.Cut(s, "\n")
	s, _, _ = strings.Cut(s, " (recovered")
	o.Steps = append(o.Steps, s)
}

func (o *outcome) end(m api.Memory, h *simHost) {
	b, _ := m.Read(0, m.Size())
	o.Memory, o.Pages = hashOf(b), m.Size()/65536
	o.Log, o.Calls = h.log, h.n
}

// resultsOf cuts 32-bit results to what they are.
func resultsOf(g *genModule, f uint32, r []uint64) []uint64 {
	t, _ := g.mod.FuncType(f)
	var out []uint64
	for _, rt := range t.Results {
		switch {
		case len(r) == 0:
		case rt == wasm.I32 || rt == wasm.F32:
			out, r = append(out, uint64(uint32(r[0]))), r[1:]
		case rt == wasm.V128:
			out, r = append(out, r[0], r[1]), r[2:]
		default:
			out, r = append(out, r[0]), r[1:]
		}
	}
	return out
}

// runPlain runs the module uninstrumented.
func runPlain(e *Engine, g *genModule) (o outcome, err error) {
	ctx := context.Background()
	h := &simHost{funcs: g.host}
	mods := map[string]api.Module{}
	for _, name := range []string{"env", "env2"} {
		b := e.rt.NewHostModuleBuilder(name)
		for i, f := range g.host {
			if f.Module == name {
				b = b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, s []uint64) { _ = h.Call(i, s) }), f.Params, f.Results).Export(f.Name)
			}
		}
		c, err := b.Compile(ctx)
		if err != nil {
			return o, err
		}
		defer c.Close(ctx)
		if mods[name], err = e.rt.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("")); err != nil {
			return o, err
		}
		defer mods[name].Close(ctx)
	}
	ctx = experimental.WithImportResolver(ctx, func(name string) api.Module { return mods[name] })
	bare := *g.mod
	bare.Start = nil
	bare.Exports = slices.Clone(bare.Exports)
	if g.start {
		bare.Exports = append(bare.Exports, wasm.Export{Name: "start", Kind: wasm.ExternFunc, Index: *g.mod.Start})
	}
	c, err := e.rt.CompileModule(ctx, bare.Encode())
	if err != nil {
		return o, err
	}
	defer c.Close(ctx)
	in, err := e.rt.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return o, err
	}
	defer in.Close(ctx)
	for _, s := range g.steps() {
		r, err := in.ExportedFunction(s.name).Call(ctx)
		o.step(resultsOf(g, s.f, r), err)
	}
	o.end(in.Memory(), h)
	return o, nil
}

type genStep struct {
	name string
	f    uint32
}

func (g *genModule) steps() []genStep {
	var s []genStep
	if g.start {
		s = append(s, genStep{"start", *g.mod.Start})
	}
	s = append(s, genStep{"main", g.mainF})
	if g.dump != 0 {
		s = append(s, genStep{"dump", g.dump})
	}
	return s
}

// genMode says how a run is disturbed.
type genMode struct {
	name        string
	cuts        bool // PollCut at random loop headers, and calls that wait
	force       bool // PollForce at random loop headers
	restore     int  // in percent: how many cuts end in a fresh instance
	every       int  // a poll is answered so every so many times, about
	changeOther bool // fresh instances are at times of the program without EveryLoop
}

var genModes = []genMode{
	{name: "polls"},
	{name: "go on", cuts: true, every: 9},
	{name: "force", force: true, every: 9},
	{name: "restore", cuts: true, restore: 100, every: 14},
	{name: "restore forced", force: true, restore: 100, every: 14},
	{name: "mixed", cuts: true, force: true, restore: 40, every: 5, changeOther: true},
	{name: "everywhere", cuts: true, restore: 15, every: 1},
}

// counted is what a test has done.
type counted struct{ modules, cuts, restores, forced, waits, depth, traps int }

// runMode runs an instrumented module. Programs are the one with EveryLoop and the
// normal one.
func runMode(programs [2]*Program, g *genModule, mode genMode, rnd *rand.Rand, n *counted) (o outcome, err error) {
	ctx := context.Background()
	h := &simHost{funcs: g.host}
	left, cuts := 0, 0
	const maxCuts = 40
	again := func() {
		if left = rnd.IntN(mode.every*2 + 1); mode.every == 1 {
			left = rnd.IntN(2)
		}
	}
	if mode.every > 0 {
		again()
	}
	h.waits = func() bool {
		if !mode.cuts || cuts >= maxCuts || rnd.IntN(4) != 0 {
			return false
		}
		n.waits++
		return true
	}
	var image *Image
	var memory []byte
	var in *Instance
	var cutErr error
	cfg := InstanceConfig{Host: h, Funcs: g.host, Piece: rnd.IntN(4)}
	cfg.Poll = func() PollAnswer {
		if left--; mode.every == 0 || left >= 0 || cuts >= maxCuts {
			return PollGo
		}
		again()
		if mode.force && (!mode.cuts || rnd.IntN(2) == 0) {
			n.forced++
			return PollForce
		}
		if !mode.cuts {
			return PollGo
		}
		return PollCut
	}
	cfg.Cut = func(c *Capture) bool {
		cuts++
		n.cuts++
		n.depth = max(n.depth, c.Depth())
		im, err := c.Image()
		if err != nil {
			cutErr = err
			return false
		}
		b := EncodeImage(im)
		again, err := DecodeImage(b)
		if err == nil && !reflect.DeepEqual(EncodeImage(again), b) {
			err = errors.New("encoded again the image is another")
		}
		if err != nil {
			cutErr = err
			return false
		}
		if rnd.IntN(100) >= mode.restore {
			return true
		}
		m := in.Module().Memory()
		mb, _ := m.Read(0, m.Size())
		image, memory = again, slices.Clone(mb)
		return false
	}
	fresh := func(p *Program) error {
		c := cfg
		if !p.meta.EveryLoop {
			c.Poll = nil
		}
		var err error
		in, err = p.Instantiate(ctx, c)
		return err
	}
	if err := fresh(programs[0]); err != nil {
		return o, err
	}
	defer func() { _ = in.Close() }()
	for _, s := range g.steps() {
		r, err := in.Run(s.f)
		for err == ErrUnwound && cutErr == nil {
			n.restores++
			if err := in.Close(); err != nil {
				return o, err
			}
			p := programs[0]
			if mode.changeOther && rnd.IntN(8) == 0 {
				p = programs[1]
			}
			if err := fresh(p); err != nil {
				return o, err
			}
			if grow := len(memory)/65536 - int(in.Module().Memory().Size())/65536; grow > 0 {
				in.Module().Memory().Grow(uint32(grow))
			}
			in.Module().Memory().Write(0, memory)
			if err := in.Restore(image); err != nil {
				return o, fmt.Errorf("restore: %w", err)
			}
			r, err = in.Resume(image)
		}
		if cutErr != nil {
			return o, fmt.Errorf("cut: %w", cutErr)
		}
		o.step(resultsOf(g, s.f, r), err)
	}
	o.end(in.Module().Memory(), h)
	return o, nil
}

// checkModule runs one module in all ways and returns the first difference.
func checkModule(e *Engine, g *genModule, s uint64, few bool, n *counted) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	ctx := context.Background()
	if err := g.mod.Validate(); err != nil {
		return fmt.Errorf("the generator makes what is not valid: %w", err)
	}
	want, err := runPlain(e, g)
	if err != nil {
		return fmt.Errorf("plain: %w", err)
	}
	if slices.ContainsFunc(want.Steps, func(s string) bool { return strings.HasPrefix(s, "wasm error") }) {
		n.traps++
	}
	var programs [2]*Program
	for i, every := range []bool{true, false} {
		if programs[i], err = e.Load(ctx, g.bytes, instrument.Options{EveryLoop: every, NoRemainder: every, Workers: 1}); err != nil {
			return err
		}
		defer programs[i].Close(ctx)
	}
	rnd := rand.New(rand.NewPCG(s, 99))
	for i, mode := range genModes {
		if few && rnd.IntN(2) == 0 {
			continue
		}
		got, err := runMode(programs, g, mode, rand.New(rand.NewPCG(s, uint64(i))), n)
		if err != nil {
			return fmt.Errorf("%s: %w", mode.name, err)
		}
		if !reflect.DeepEqual(got, want) {
			return fmt.Errorf("%s:\n got %+v\nwant %+v", mode.name, got, want)
		}
	}
	return nil
}

// seedNumber returns PERDURE_SEED, or a random seed.
func seedNumber(t testing.TB) uint64 {
	s := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("PERDURE_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("PERDURE_SEED=%d", s)
	return s
}

// TestRandomModules holds that a random program, stopped at random places and gone on
// with in every way that there is, does what it does when nobody disturbs it.
func TestRandomModules(t *testing.T) {
	s := seedNumber(t)
	ctx := context.Background()
	e := New(ctx, Config{})
	t.Cleanup(func() { _ = e.Close(ctx) })
	var n counted
	// A slow machine makes few modules of it, and chance need not stop those in every way: then it takes some more.
	enough := func() bool { return n.modules > 0 && min(n.cuts, n.restores, n.forced, n.waits) >= n.modules }
	until := time.Now().Add(genTime)
	limit := until.Add(patience)
	for i := uint64(0); n.modules < genModules && time.Now().Before(until) || !enough() && time.Now().Before(limit); i++ {
		c := &choices{rnd: rand.New(rand.NewPCG(s, i))}
		g := generate(c)
		if err := checkModule(e, g, s+i, genFew, &n); err != nil {
			t.Errorf("module %d of PERDURE_SEED=%d: %v", i, s, err)
			small, err := shrink(e, c.made, s+i)
			path := filepath.Join(os.TempDir(), "perdure-random.wasm")
			_ = os.WriteFile(path, small.bytes, 0o600)
			t.Fatalf("smaller, %d bytes, in %s: %v", len(small.bytes), path, err)
		}
		n.modules++
	}
	t.Logf("%+v", n)
	if !enough() {
		t.Errorf("too little was tried: %+v", n)
	}
}

// shrink looks for a smaller module that fails too, by leaving out choices.
func shrink(e *Engine, made []uint32, s uint64) (*genModule, error) {
	try := func(list []uint32) (*genModule, []uint32, error) {
		c := &choices{replay: list}
		g := generate(c)
		for k := uint64(0); k < 3; k++ {
			if err := checkModule(e, g, s+k, false, &counted{}); err != nil {
				return g, c.made, err
			}
		}
		return g, c.made, nil
	}
	best, list, err := try(made)
	if err == nil {
		return best, errors.New("not seen again")
	}
	until := time.Now().Add(shrinkTime)
	better := func(candidate []uint32) bool {
		g, made, e := try(candidate)
		for len(made) > 0 && made[len(made)-1] == 0 {
			made = made[:len(made)-1]
		}
		if e == nil || len(g.bytes) > len(best.bytes) || len(g.bytes) == len(best.bytes) && slices.Compare(made, list) >= 0 {
			return false
		}
		best, list, err = g, made, e
		return true
	}
	for size := len(list) / 2; size > 0; {
		shrunk := false
		for at := 0; at < len(list) && time.Now().Before(until); {
			end := min(at+size, len(list))
			zeroed := slices.Clone(list)
			clear(zeroed[at:end])
			if better(slices.Delete(slices.Clone(list), at, end)) || better(zeroed) {
				shrunk = true
				continue
			}
			at += size
		}
		if !shrunk || size > 1 {
			size /= 2
		}
		if time.Now().After(until) {
			break
		}
	}
	return best, err
}
