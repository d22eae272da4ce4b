package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"perdure/runtime/internal/instrument"
)

// ErrUnwound is what Run and Resume return when the Cut hook said not to go on.
var ErrUnwound = errors.New("unwound")

// InstanceConfig is what an instance needs from outside.
type InstanceConfig struct {
	Host  Host
	Funcs []Func
	// Memory, if not nil, provides the linear memory.
	Memory experimental.MemoryAllocator
	// Resolve, if not nil, is asked first for modules to import from.
	Resolve func(module string) api.Module
	// Cut is called with each capture, on the guest's goroutine, while the guest stands
	// still. It returns whether the guest shall go on. It may not call the instance but
	// for the methods of Capture.
	Cut func(*Capture) (goOn bool)
	// Poll, if not nil, is asked what to do at every loop header of a program that was
	// instrumented with EveryLoop. It is how tests stop a guest at chosen places.
	Poll func() PollAnswer
	// Piece is how many frames of a stack are put back at once; 0 means as many as is good.
	// Tests make it small.
	Piece int
}

// PollAnswer is what happens at a loop header under InstanceConfig.Poll.
type PollAnswer uint8

// The answers of Poll.
const (
	PollGo    PollAnswer = iota // nothing
	PollCut                     // a cut, as after Request
	PollForce                   // the guest goes on and unwinds at the next return from a call, as after Force
)

// Instance is a program with its state. One goroutine runs it; Request and Force may
// be called from others.
type Instance struct {
	program *Program
	cfg     InstanceConfig
	ctx     context.Context // with allocator, resolver and snapshotter
	hot     api.Module
	modules map[string]api.Module // by import name
	hosts   []wazero.CompiledModule
	state   api.MutableGlobal
	soft    api.MutableGlobal

	mu     sync.Mutex // guards the two flags in the guest, too
	wanted bool       // a cut was requested and has not begun
	hard   bool       // and it is forced

	// The guest's goroutine only.
	root     uint32
	maxDepth int // of the stack, in frames
	raw      rawStack
	snapshot experimental.Snapshot // of the native stack; nil when the guest was forced
	parked   parkedAt
	since    time.Time // when that was taken, or else when the stack was out
	waiting  []uint64  // results of a host call that waits
	hostErr  error
	forced   bool // unwound without a picture of the native stack, to go on in cold code
	stopped  bool // unwound for good
	lastType int
	incoming incoming
	cold     coldCache
}

// parkedAt is where the picture of the native stack was taken.
type parkedAt uint8

const (
	atLoop parkedAt = iota
	atHostCall
	atNext // in cold code that waits for the innermost host call
)

// Instantiate makes an instance in its initial state, active segments copied, start
// function not called.
func (p *Program) Instantiate(ctx context.Context, cfg InstanceConfig) (*Instance, error) {
	if cfg.Piece <= 0 {
		cfg.Piece = defaultPiece
	}
	in := &Instance{program: p, cfg: cfg, modules: map[string]api.Module{}, maxDepth: maxDepth}
	in.ctx = experimental.WithImportResolver(experimental.WithSnapshotter(ctx), in.resolve)
	if err := in.hostModules(); err != nil {
		_ = in.Close()
		return nil, err
	}
	hotCtx := in.ctx
	if cfg.Memory != nil {
		hotCtx = experimental.WithMemoryAllocator(hotCtx, cfg.Memory)
	}
	var err error
	in.hot, err = p.engine.rt.InstantiateModule(hotCtx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		_ = in.Close()
		return nil, err
	}
	in.modules[instrument.HotModule] = in.hot
	global := func(name string) api.MutableGlobal {
		g, _ := in.hot.ExportedGlobal(p.meta.Prefix + name).(api.MutableGlobal)
		return g
	}
	in.state, in.soft = global(instrument.ExportState), global(instrument.ExportSoft)
	if cfg.Poll != nil {
		in.soft.Set(1)
	}
	return in, nil
}

func (in *Instance) resolve(name string) api.Module {
	if in.cfg.Resolve != nil {
		if m := in.cfg.Resolve(name); m != nil {
			return m
		}
	}
	return in.modules[name]
}

// hostModules instantiates what the guest's code imports from the host.
func (in *Instance) hostModules() error {
	byModule := map[string][]hostFunc{
		instrument.HostModule: {
			{instrument.HostPush1, i64s(1), nil, in.push},
			{instrument.HostPush2, i64s(2), nil, in.push2},
			{instrument.HostPush4, i64s(4), nil, in.push4},
			{instrument.HostPush8, i64s(8), nil, in.push8},
			{instrument.HostFrame, []api.ValueType{api.ValueTypeI32}, nil, in.frame},
			{instrument.HostYield, nil, []api.ValueType{api.ValueTypeI32}, in.yield},
			{instrument.HostUnwound, nil, nil, in.unwound},
			{instrument.HostPop, nil, i64s(1), in.pop},
			{instrument.HostNext, nil, []api.ValueType{api.ValueTypeI32}, in.next},
		},
	}
	for i, f := range in.cfg.Funcs {
		byModule[f.Module] = append(byModule[f.Module], hostFunc{f.Name, f.Params, f.Results, in.hostCall(i, len(f.Results))})
	}
	for name, funcs := range byModule {
		b := in.program.engine.rt.NewHostModuleBuilder(name)
		for _, f := range funcs {
			b = b.NewFunctionBuilder().WithGoFunction(f.call, f.params, f.results).Export(f.name)
		}
		compiled, err := b.Compile(in.ctx)
		if err != nil {
			return fmt.Errorf("host module %s: %w", name, err)
		}
		in.hosts = append(in.hosts, compiled)
		m, err := in.program.engine.rt.InstantiateModule(in.ctx, compiled, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			return fmt.Errorf("host module %s: %w", name, err)
		}
		in.modules[name] = m
	}
	return nil
}

type hostFunc struct {
	name            string
	params, results []api.ValueType
	call            api.GoFunc
}

func i64s(n int) []api.ValueType {
	t := make([]api.ValueType, n)
	for i := range t {
		t[i] = api.ValueTypeI64
	}
	return t
}

// Close frees the instance. The program stays.
func (in *Instance) Close() error {
	var errs []error
	errs = append(errs, in.cold.close(in.ctx))
	if in.hot != nil {
		errs = append(errs, in.hot.Close(in.ctx))
	}
	for name, m := range in.modules {
		if name != instrument.HotModule {
			errs = append(errs, m.Close(in.ctx))
		}
	}
	// The engine knows compiled host modules by their address: one that stays behind would
	// be taken for a later one at the same place.
	for _, c := range in.hosts {
		errs = append(errs, c.Close(in.ctx))
	}
	in.hosts = nil
	return errors.Join(errs...)
}

// Module returns the hot module's instance.
func (in *Instance) Module() api.Module { return in.hot }

// Request asks for a cut at the next loop header, or at the next host call that waits
// (which the host must be made to leave by other means).
func (in *Instance) Request() {
	in.mu.Lock()
	in.wanted = true
	in.soft.Set(1)
	in.mu.Unlock()
}

// Force makes the guest unwind at the next return from a call too, if the cut that was
// requested has not begun. It then goes on in cold code.
func (in *Instance) Force() {
	in.mu.Lock()
	if in.wanted {
		in.hard = true
		in.state.Set(1)
	}
	in.mu.Unlock()
}

// begun notes that a cut has begun: the guest unwinds.
func (in *Instance) begun() {
	in.mu.Lock()
	in.wanted, in.hard = false, false
	in.state.Set(1)
	in.mu.Unlock()
}

// goOn lets the guest's code run again; it stops soon if another cut was requested
// meanwhile.
func (in *Instance) goOn() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.wanted {
		in.soft.Set(0)
	}
	if !in.hard {
		in.state.Set(0)
	}
}

// idle forgets what is left of a call that has ended, but for a request that came too late
// for it: that is for the next call.
func (in *Instance) idle() {
	in.mu.Lock()
	in.hard = in.hard && in.wanted
	if !in.hard {
		in.state.Set(0)
	}
	in.mu.Unlock()
	in.raw.reset()
	in.snapshot, in.hostErr, in.forced, in.stopped = nil, nil, false, false
	in.incoming = incoming{}
}

// rootFunc returns the wrapper of a function that can be called from outside.
func (in *Instance) rootFunc(f uint32) (api.Function, error) {
	name, ok := in.program.meta.RootOf(f)
	if !ok {
		return nil, fmt.Errorf("function %d is not exported", f)
	}
	return in.hot.ExportedFunction(name), nil
}

// Run calls a function of the program that is exported or its start function. It
// returns ErrUnwound when the Cut hook has stopped the guest; the instance can then be
// continued with Resume.
func (in *Instance) Run(funcIndex uint32, params ...uint64) ([]uint64, error) {
	f, err := in.rootFunc(funcIndex)
	if err != nil {
		return nil, err
	}
	in.root = funcIndex
	return in.finish(f.Call(in.ctx, params...))
}

// finish goes on in cold code for as long as the guest was forced or a part of its stack is
// not put back yet.
func (in *Instance) finish(results []uint64, err error) ([]uint64, error) {
	for {
		hostErr, stopped := in.hostErr, in.stopped
		if hostErr == nil && err == nil && !stopped {
			if in.forced {
				in.forced = false
				results, err = in.rewindForced()
				continue
			}
			if len(in.incoming.outer) > 0 {
				results, err = in.putBack(results)
				continue
			}
		}
		in.idle()
		switch {
		case hostErr != nil:
			return nil, hostErr
		case err != nil:
			return nil, err
		case stopped:
			return nil, ErrUnwound
		}
		return results, nil
	}
}

// Restore sets a fresh instance to the state of an image, all but the memory.
func (in *Instance) Restore(im *Image) error {
	in.root = im.Root
	return in.restore(im)
}

// push and its kin take words of a frame from its slow path.
func (in *Instance) push(_ context.Context, s []uint64) { in.raw.words = append(in.raw.words, s[0]) }
func (in *Instance) push2(_ context.Context, s []uint64) {
	in.raw.words = append(in.raw.words, s[:2]...)
}
func (in *Instance) push4(_ context.Context, s []uint64) {
	in.raw.words = append(in.raw.words, s[:4]...)
}
func (in *Instance) push8(_ context.Context, s []uint64) {
	in.raw.words = append(in.raw.words, s[:8]...)
}

func (in *Instance) frame(_ context.Context, s []uint64) {
	if len(in.incoming.outer)+len(in.raw.sites) >= in.maxDepth || len(in.raw.words) > maxStackWords {
		in.exit(ErrTooDeep)
	}
	in.raw.sites = append(in.raw.sites, uint32(s[0]))
	in.raw.ends = append(in.raw.ends, len(in.raw.words))
}

// park takes a picture of the native stack and lets the guest unwind.
func (in *Instance) park(ctx context.Context, at parkedAt) {
	in.since = time.Now()
	in.snapshot = experimental.GetSnapshotter(ctx).Snapshot()
	in.parked = at
	in.begun()
}

// stillWanted tells whether a cut is due, and stops loops from asking when not.
func (in *Instance) stillWanted() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.wanted {
		in.soft.Set(0)
	}
	return in.wanted
}

// yield is called at loop headers while the soft flag is set.
func (in *Instance) yield(ctx context.Context, s []uint64) {
	wanted := in.stillWanted()
	if in.cfg.Poll != nil {
		in.mu.Lock()
		in.soft.Set(0) // the loop sets it again
		in.mu.Unlock()
		switch in.cfg.Poll() {
		case PollCut:
			wanted = true
		case PollForce:
			in.mu.Lock()
			in.hard = true
			in.state.Set(1)
			in.mu.Unlock()
		}
	}
	s[0] = 0
	if wanted {
		in.park(ctx, atLoop)
		s[0] = 1
	}
}

// hostCall makes the function for import i.
func (in *Instance) hostCall(i, nResults int) api.GoFunc {
	return func(ctx context.Context, s []uint64) {
		err := in.cfg.Host.Call(i, s)
		if err == nil {
			return
		}
		if err != ErrInterrupted {
			in.exit(err)
		}
		in.park(ctx, atHostCall)
		in.waiting = resizeWords(in.waiting, nResults)
		clear(s[:nResults])
	}
}

func resizeWords(w []uint64, n int) []uint64 {
	if cap(w) < n {
		return make([]uint64, n)
	}
	return w[:n]
}

// exit ends the guest: Run returns err.
func (in *Instance) exit(err error) {
	in.hostErr = err
	panic(sys.NewExitError(1))
}

// unwound is called by the outermost function when the stack is out.
func (in *Instance) unwound(context.Context, []uint64) {
	if len(in.raw.sites) == 0 {
		if in.snapshot != nil {
			in.exit(errors.New("a function of the host that was called from outside waits"))
		}
		return // forced, but the guest had just finished
	}
	in.begun()
	if in.snapshot == nil {
		in.since = time.Now()
	}
	snapshot := in.snapshot
	in.snapshot = nil
	inCall := snapshot != nil && in.parked != atLoop
	for {
		goOn := in.cfg.Cut == nil || in.cfg.Cut(&Capture{in: in, outer: in.incoming.outer, rawStack: in.raw, inCall: inCall, root: in.root, Since: in.since})
		if !goOn {
			in.raw.reset()
			in.stopped = true
			return // state stays set: callers outside see dummy results
		}
		in.goOn()
		if snapshot == nil {
			in.forced = true // finish takes the stack from raw
			return
		}
		if !inCall {
			break
		}
		err := in.cfg.Host.Resume(in.waiting)
		if err == nil {
			break
		}
		if err != ErrInterrupted {
			in.exit(err)
		}
		in.since = time.Now()
		in.begun()
	}
	in.raw.reset()
	switch in.parked {
	case atLoop:
		snapshot.Restore([]uint64{0})
	case atHostCall:
		snapshot.Restore(in.waiting)
	case atNext:
		in.incoming.words = append([]uint64(nil), in.waiting...)
		snapshot.Restore([]uint64{uint64(api.EncodeI32(-1))})
	}
}

// Points returns the suspend points of an image's frames, sorted and each once.
func Points(im *Image) []instrument.Point { return instrument.NormalPoints(im.Frames) }
