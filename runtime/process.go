package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"sync"
	"time"

	"perdure/internal/durable"
	"perdure/memsnap"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/journal"
	"perdure/runtime/internal/linmem"
	"perdure/runtime/internal/wasi"
	"perdure/runtime/internal/wasm"
)

// The files in a process's directory, beside the lock.
const (
	programFile    = "program.wasm"
	generationsDir = "generations"
)

// oldProgram names the copy of a program that the process ran before.
func oldProgram(sum string) string { return "program-" + sum + ".wasm" }

// Process is one persistent process. One goroutine calls Open, Run and Close; Snapshot Call, Status
// and Reconfigure may be called from others.
type Process struct {
	opt     Options
	opened  time.Time
	module  *wasm.Module
	sum     string
	copied  bool // the program is the copy in Dir, since its file is gone
	lock    *os.File
	store   *memsnap.Store
	cache   *machineCache // nil if there is none
	engine  *engine.Engine
	program *engine.Program
	mem     *linmem.Memory
	system  *wasi.System
	kernel  wasi.Kernel // what the guest has of it
	behind  wasi.Kernel // what the host calls: kernel, or the journal before it
	stdio   *[3]wasi.Handle
	keeper  SocketKeeper     // nil if there is none
	journal *journal.Journal // nil if there is none
	wasi    *wasi.Host
	inst    *engine.Instance

	// Fixed by Open, used by Run.
	saved   *savedProcess // to go on from; nil for a fresh start
	base    uint64        // generation that memory is tracked against
	state   processState
	before  StartedEvent
	endedAt uint64 // the generation in which the life before ended
	// Restarts of state, which changes.
	restarts uint64

	cutter cutter
	status status

	reactor bool          // fixed by Open
	calls   chan *call    // to Run
	over    chan struct{} // closed when Run has returned
	runErr  error         // of Run, once over is closed
	// uncovered tells that the journal has missed something in this life. It is of the guest's
	// goroutine.
	uncovered bool
	events    sync.Mutex // held while opt.Events is called
}

// Result is how a run ended.
type Result struct {
	// Suspended says that the process was cut and can go on; else it has ended with
	// ExitCode.
	Suspended bool
	ExitCode  uint32
	// Generation is the newest one.
	Generation uint64
}

// Open prepares a process to run: it goes on from its newest generation that verifies,
// or starts anew if there is none or if it has ended. The errors *LockedError,
// *RefusedError, *OtherProgramError and ErrNoProgram are those of the caller's making.
func Open(ctx context.Context, o Options) (p *Process, err error) {
	live := Live{Every: o.Every, MaxShare: o.MaxShare, Keep: o.Keep}
	if err := errors.Join(o.check(), live.check()); err != nil {
		return nil, err
	}
	p = &Process{opt: o, opened: time.Now()}
	p.cutter.init(live)
	p.calls, p.over = make(chan *call), make(chan struct{})
	opened := p // a return of nil sets p
	defer func() {
		if err != nil {
			p, err = nil, errors.Join(err, opened.Close())
		}
	}()
	if o.Source == nil {
		defer prepareHeap(o.Program)()
	}
	src, err := p.findProgram()
	if err != nil {
		return nil, err
	}
	if p.module, err = decode(p.opt.programName(), src); err != nil {
		if p.copied {
			err = p.badCopy(err)
		}
		return nil, err
	}
	if err := checkEntry(p.module, o.CommandOnly); err != nil {
		return nil, &RefusedError{Program: p.opt.programName(), Err: err}
	}
	p.reactor = kindOf(p.module) == KindReactor
	if p.module.NumMemories() > 0 {
		if need := p.module.MemoryAt(0).Min * wasmPageSize; need > p.memoryLimit() {
			return nil, &RefusedError{Program: p.opt.programName(),
				Err: fmt.Errorf("it needs %d bytes of memory, the limit is %d", need, p.memoryLimit())}
		}
	}
	p.engine, p.cache = newEngine(ctx, o.CacheDir, p.sum, p.memoryLimit(), p.event)
	if p.program, err = load(ctx, p.engine, p.module, p.sum, o.CacheDir, p.opt.programName(), o.hooks.poll != nil, p.event); err != nil {
		return nil, err
	}
	p.sealCache()
	if err := p.occupy(); err != nil {
		return nil, err
	}
	if p.store, err = memsnap.Open(filepath.Join(o.Dir, generationsDir), memsnap.Options{FS: o.hooks.fs, Policy: o.Keep, Key: o.Key}); err != nil {
		return nil, err
	}
	if p.system, err = wasi.OS(); err != nil {
		return nil, err
	}
	p.useKeeper()
	p.outside()
	if err := p.restoreNewest(ctx); err != nil {
		return nil, err
	}
	if err := p.keepProgram(src); err != nil {
		return nil, err
	}
	if p.saved == nil {
		return p, p.fresh(ctx)
	}
	return p, nil
}

// occupy takes the directory of the process, and for a fresh start makes room for it.
func (p *Process) occupy() (err error) {
	if p.opt.Fresh {
		to, err := Retire(p.opt.Dir, p.opt.Name)
		if err != nil {
			return err
		}
		if to != "" {
			p.event(RetiredEvent{Dir: to})
		}
	}
	if err := os.MkdirAll(p.opt.Dir, 0o700); err != nil {
		return err
	}
	p.lock, err = lock(p.opt.Dir, p.opt.Name)
	return err
}

// sealCache makes what was compiled since last time good for the next start.
func (p *Process) sealCache() {
	if err := p.cache.seal(); err != nil {
		p.event(WarningEvent{fmt.Sprintf("machine code was not cached: %v", err)})
	}
}

func (o *Options) programName() string {
	if o.Program != "" {
		return o.Program
	}
	return o.Name
}

func (p *Process) event(e Event) {
	if p.opt.Events != nil {
		p.events.Lock()
		defer p.events.Unlock()
		p.opt.Events(e)
	}
}

// findProgram returns the program: the given one, or when its file is gone the copy that
// the process keeps.
func (p *Process) findProgram() ([]byte, error) {
	kept := filepath.Join(p.opt.Dir, programFile)
	src, err := p.opt.Source, error(nil)
	switch {
	case src != nil:
	case p.opt.Program == "":
		err = fmt.Errorf("%w: process %q keeps no copy of one", ErrNoProgram, p.opt.Name)
	default:
		src, err = readProgram(p.opt.Program)
	}
	if errors.Is(err, ErrNoProgram) {
		if b, kerr := os.ReadFile(kept); kerr == nil {
			if p.opt.Program != "" {
				p.event(WarningEvent{fmt.Sprintf("%s is gone, going on with the copy that the process keeps", p.opt.Program)})
			}
			src, err = b, nil
			p.copied = true
		}
	}
	if err != nil {
		return nil, err
	}
	p.sum = sumOf(src)
	return src, nil
}

// badCopy is the error of a process whose program is gone and whose copy is not what it
// was.
func (p *Process) badCopy(why error) error {
	if p.opt.Program == "" {
		return fmt.Errorf("%w: the copy that the process keeps is damaged: %v", ErrNoProgram, why)
	}
	return fmt.Errorf("%w: %s, and the copy that the process keeps is damaged: %v", ErrNoProgram, p.opt.Program, why)
}

// keepProgram stores the program beside the generations, so that the process can be
// restored, moved or examined though the file it came from is gone. A copy that was
// damaged is mended.
func (p *Process) keepProgram(src []byte) error {
	path := filepath.Join(p.opt.Dir, programFile)
	b, err := os.ReadFile(path)
	if p.copied || err == nil && bytes.Equal(b, src) {
		return nil
	}
	if err == nil {
		// Older generations may be of that program.
		if err := durable.OS.Rename(path, filepath.Join(p.opt.Dir, oldProgram(sumOf(b)))); err != nil {
			return err
		}
	}
	return durable.WriteFile(durable.OS, path, src, 0o600)
}

func (p *Process) memoryLimit() uint64 {
	if p.opt.MemoryLimit == 0 || p.opt.MemoryLimit > linmem.MaxLimit {
		return linmem.MaxLimit
	}
	return p.opt.MemoryLimit / wasmPageSize * wasmPageSize
}

// restoreNewest goes on from the newest generation that can be used, and leaves saved nil
// when there is none or when the process had ended.
func (p *Process) restoreNewest(ctx context.Context) error {
	limit := ^uint64(0)
	var why error // the newest that could be opened was given up
	for {
		g, skipped, err := p.store.OpenNewestBelow(ctx, limit)
		for _, s := range skipped {
			p.event(SkippedEvent{Generation: s.Number, Err: s.Err})
		}
		if errors.Is(err, memsnap.ErrNotFound) && limit == ^uint64(0) {
			if p.copied {
				return p.badCopy(errors.New("no generation says what it was"))
			}
			return nil
		}
		if errors.Is(err, memsnap.ErrNotFound) {
			return fmt.Errorf("no generation can be used: %w", why)
		}
		if err != nil {
			return err
		}
		err = p.restore(ctx, g)
		if err == nil {
			return nil
		}
		number := g.Info().Number
		if cerr := g.Close(); cerr != nil {
			return errors.Join(err, cerr)
		}
		if !damaged(err) {
			return err
		}
		p.closeGuest()
		p.event(SkippedEvent{Generation: number, Err: err})
		limit, why = number, err
	}
}

// restorePages fills the memory, which is all zero and has the size for it.
func (p *Process) restorePages(ctx context.Context, g *memsnap.Generation) error {
	for first, n := range g.Stored() {
		p.mem.Expect(first, n)
	}
	return g.Restore(ctx, p.mem.Bytes()[:g.Pages()*memsnap.PageSize])
}

// restore prepares the guest from one generation.
func (p *Process) restore(ctx context.Context, g *memsnap.Generation) error {
	saved, err := readGeneration(g)
	if err != nil {
		return err
	}
	if saved.state.Program != p.sum && p.copied {
		return p.badCopy(fmt.Errorf("SHA-256 %.12s…, was %.12s…", p.sum, saved.state.Program))
	}
	if saved.state.Phase == phaseEnded {
		p.before, p.endedAt = StartedEvent{Ended: true, ExitCode: saved.state.ExitCode}, g.Info().Number
		return g.Close()
	}
	if saved.state.Program != p.sum {
		return &OtherProgramError{Name: p.opt.Name, Have: saved.state.Program, Want: p.sum}
	}
	if err := saved.fits(p.module); err != nil {
		return err
	}
	if err := p.instantiate(ctx); err != nil {
		return err
	}
	size := g.Pages() * memsnap.PageSize
	if size > p.memoryLimit() {
		// Not damage: an older generation may fit, but what came after it would be lost.
		return &RefusedError{Program: p.opt.programName(),
			Err: fmt.Errorf("it has %d bytes of memory by now, the limit is %d", size, p.memoryLimit())}
	}
	if err := p.growTo(size); err != nil {
		return fmt.Errorf("generation %d: %w", g.Info().Number, err)
	}
	if err := p.mem.Zero(); err != nil {
		return err
	}
	if err := p.restorePages(ctx, g); err != nil {
		return err
	}
	if err := p.mem.Track(); err != nil {
		return err
	}
	if err := p.inst.Restore(saved.image); err != nil {
		return fmt.Errorf("%w: generation %d: %w", ErrBadState, g.Info().Number, err)
	}
	if saved.state.Phase != phaseIdle { // which has no stack
		if _, _, err := p.program.Meta().CheckStack(saved.image.Root, saved.image.Frames); err != nil {
			return fmt.Errorf("%w: generation %d: %w", ErrBadState, g.Info().Number, err)
		}
		if err := p.inst.Prepare(saved.image); err != nil {
			return fmt.Errorf("generation %d: %w", g.Info().Number, err) // of compiling: no damage
		}
	}
	p.sealCache()
	err = p.restoreHost(saved.wasi, saved.state.Journal)
	if errors.Is(err, wasi.ErrState) {
		return fmt.Errorf("%w: generation %d: %w", ErrBadState, g.Info().Number, err)
	}
	if err != nil {
		return err
	}
	p.saved, p.base, p.state = saved, g.Info().Number, saved.state
	p.state.Restarts++
	p.restarts = p.state.Restarts
	p.status.generation.Store(p.base)
	return nil
}

// fresh prepares the guest for the beginning of its life.
func (p *Process) fresh(ctx context.Context) error {
	if err := p.instantiate(ctx); err != nil {
		return err
	}
	if err := p.beginLife(p.endedAt); err != nil {
		return err
	}
	p.state = processState{Version: 1, Program: p.sum, Phase: phaseMain}
	if p.reactor {
		p.state.Version, p.state.Phase = reactorVersion, phaseInit
	}
	if p.module.Start != nil {
		p.state.Phase = phaseStart
	}
	return nil
}

// instantiate makes the memory and the instance.
func (p *Process) instantiate(ctx context.Context) error {
	var err error
	if p.mem, err = linmem.New(linmem.Options{Limit: p.memoryLimit()}); err != nil {
		return err
	}
	p.status.memory.Store(p.mem)
	if err := p.mem.Fallback(); err != nil {
		p.event(WarningEvent{fmt.Sprintf("this kernel does not track written pages, so that snapshots read all memory: %v", err)})
	}
	p.inst, err = p.program.Instantiate(ctx, engine.InstanceConfig{
		Host: (*wasiCalls)(p), Funcs: wasiFuncs(p.module), Memory: p.mem, Cut: p.cut, Poll: p.opt.hooks.poll,
	})
	return err
}

// growTo makes the guest's memory as large as it was. Only a size that the program cannot
// have is ErrBadState: where the machine lacks memory for now, going back to a generation
// that needs less would lose what came after it.
func (p *Process) growTo(size uint64) error {
	have, most := uint64(len(p.mem.Bytes())), uint64(0)
	if p.module.NumMemories() > 0 {
		most = linmem.MaxLimit
		if t := p.module.MemoryAt(0); t.HasMax {
			most = t.Max * wasmPageSize
		}
	}
	if size < have || size > most || size%wasmPageSize != 0 {
		return fmt.Errorf("%w: memory has %d bytes, the program's has %d to %d", ErrBadState, size, have, most)
	}
	if size == have {
		return nil
	}
	if _, ok := p.inst.Module().Memory().Grow(uint32((size - have) / wasmPageSize)); !ok {
		return fmt.Errorf("this machine has no room for its memory of %d bytes", size)
	}
	return nil
}

// Restored tells whether Run will go on from a generation, and which.
func (p *Process) Restored() (generation uint64, ok bool) { return p.base, p.saved != nil }

// Run runs the guest until it ends or is suspended. When ctx is done the process is
// suspended. The error is a *TrapError when the guest did what it must not. Run may be
// called once. A reactor does not end by itself: Run serves Call until ctx is done.
func (p *Process) Run(ctx context.Context) (r Result, err error) {
	defer func() {
		p.runErr = err
		close(p.over)
	}()
	// A guest owns a processor while it runs; the goroutine that asks it for cuts needs
	// another. All of this stops the world, so it comes before the guest. Setting the number
	// of processors, even to what it is, keeps the runtime from following that of a container;
	// a memory limit, which comes from the environment, would start collections.
	goruntime.GOMAXPROCS(max(2, goruntime.GOMAXPROCS(0)))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	goruntime.GC() // also waits for the end of a collection that had begun

	if p.saved != nil {
		p.event(RestoredEvent{Generation: p.saved.generation.Info(), Took: time.Since(p.opened)})
	} else {
		p.event(p.before)
	}
	p.cutter.start(ctx, p)
	err = p.runGuest()
	cutErr := p.cutter.stop()

	if p.opt.offline != nil {
		return Result{Generation: p.base}, err
	}
	if p.journal != nil && !errors.Is(err, engine.ErrUnwound) {
		if left := p.journal.Left(); left != nil && !IsDivergence(err) {
			err = left
		}
	}
	var exit *wasi.ExitError
	var live *journal.LiveError
	switch {
	case IsDivergence(err):
		return Result{Generation: p.base}, p.diverged(err)
	case errors.As(err, &live):
		return Result{Generation: p.base}, live
	case errors.Is(err, engine.ErrUnwound):
		p.park(cutErr)
		return Result{Suspended: true, Generation: p.base}, cutErr
	case errors.As(err, &exit):
		p.state.ExitCode = exit.Code
	case errors.Is(err, engine.ErrRewind), err != nil && p.reactor && !isTrap(err):
		return Result{Generation: p.base}, err
	case err != nil:
		// To repeat all that led here would lead here again.
		return Result{Generation: p.base}, errors.Join(newTrapError(err, p.program.Meta().OriginalIndex), p.dropJournal())
	}
	p.state.Phase = phaseEnded
	err = p.commitEnd(ctx)
	return Result{ExitCode: p.state.ExitCode, Generation: p.base}, err
}

// runGuest takes the guest through the rest of its life.
func (p *Process) runGuest() error {
	if p.reactor {
		return p.runReactor()
	}
	resume := p.saved != nil
	run := func(f uint32) error {
		if resume {
			resume = false
			_, err := p.inst.Resume(p.saved.image)
			return err
		}
		_, err := p.inst.Run(f)
		return err
	}
	if p.state.Phase == phaseStart {
		if err := run(*p.module.Start); err != nil {
			return err
		}
		p.state.Phase = phaseMain
	}
	main, err := entry(p.module)
	if err != nil {
		return err
	}
	return run(main)
}

// commitEnd makes the last generation of a guest that has ended: how it ended, and the
// memory that it left.
func (p *Process) commitEnd(ctx context.Context) error {
	p.state.Journal = nil
	b, err := json.Marshal(p.state)
	if err != nil {
		return err
	}
	s := &p.cutter.staging
	s.reset()
	if err := p.mem.Collect(s.add); err != nil {
		return err
	}
	info, err := p.commitLast(context.WithoutCancel(ctx), generationData{
		pages:    uint64(len(p.mem.Bytes())) / memsnap.PageSize,
		sections: map[string][]byte{sectionProcess: b},
	})
	if err != nil {
		return fmt.Errorf("the program has ended with status %d, but that could not be saved: %w", p.state.ExitCode, err)
	}
	p.event(CommittedEvent{info})
	return errors.Join(p.dropJournal(), removeJournal(p.opt.Dir))
}

// closeGuest gives back what belongs to one attempt to restore.
func (p *Process) closeGuest() error {
	var errs []error
	if p.wasi != nil {
		if p.state.Phase != phaseEnded {
			p.system.Leave()
		}
		_ = p.quietly(func() error { p.wasi.Close(); return nil })
		p.wasi = nil
	}
	if p.journal != nil {
		errs = append(errs, p.journal.Release())
		p.journal = nil
	}
	if p.inst != nil {
		errs = append(errs, p.inst.Close())
		p.inst = nil
	}
	if p.mem != nil {
		errs = append(errs, p.mem.Close())
		p.mem = nil
	}
	return errors.Join(errs...)
}

// Close gives everything back. The state on disk stays.
func (p *Process) Close() error {
	ctx := context.Background()
	errs := []error{p.closeGuest()}
	p.cutter.staging.close()
	if p.saved != nil {
		errs = append(errs, p.saved.generation.Close())
	}
	if p.system != nil {
		errs = append(errs, p.system.Release())
	}
	if p.keeper != nil {
		errs = append(errs, p.keeper.Close())
	}
	if p.engine != nil {
		errs = append(errs, p.engine.Close(ctx))
	}
	if p.cache != nil {
		errs = append(errs, p.cache.Close(ctx))
	}
	if p.lock != nil {
		errs = append(errs, p.lock.Close())
	}
	// The cutter stays, for requests that come late.
	p.saved, p.system, p.keeper, p.engine, p.cache, p.lock = nil, nil, nil, nil, nil, nil
	return errors.Join(errs...)
}
