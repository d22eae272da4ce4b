package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	goruntime "runtime"
	"runtime/metrics"
	"sync"
	"time"

	"perdure/memsnap"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/journal"
)

// ErrEnded is the answer to a request for a generation of a guest that has ended.
var ErrEnded = errors.New("the program has ended")

// cutter decides when to cut, and makes the generations. Its loop is the only goroutine
// beside the guest's; the two meet in the Cut hook.
type cutter struct {
	requests chan cutRequest
	full     chan struct{}  // the journal asks for a cut
	taken    chan *takenCut // from the hook
	over     chan struct{}  // closed when the guest has returned
	done     chan struct{}  // closed when the loop has
	changed  chan struct{}  // live has
	idleCut  chan struct{}  // to a reactor that nobody calls: a cut is wanted
	awake    chan struct{}  // from a reactor: it is called
	err      error          // of the last, suspending cut; read after done

	// The loop's own, but for the time between a request to the engine and the answer
	// on taken, when it is the hook's.
	staging     staging
	still       int   // runs in staging that were copied before the guest stood still
	stillBytes  int   // that were copied while it did, the last time
	broken      error // why no generation can be made any more
	noRoom      int   // how many in a row could not be made for want of room
	idle        bool  // since the cut before, the guest only waited
	idleSince   time.Time
	lastCalls   uint64
	precompiler precompiler
	position    *journal.Position // of the newest generation

	mu     sync.Mutex
	wanted *wantedCut // what the hook shall do; nil: nothing, go on
	live   Live

	// The guest's goroutine only.
	heap      []metrics.Sample
	collected uint64 // bytes allocated until the last garbage collection
	calls     uint64 // calls of the host, and of a reactor, that were carried out
}

type cutRequest struct {
	suspend bool
	answers []chan<- cutAnswer // of those who wait; each has room for one
}

// join adds the requests that wait too: one generation answers them all.
func (r *cutRequest) join(requests <-chan cutRequest) {
	for {
		select {
		case o := <-requests:
			r.suspend = r.suspend || o.suspend
			r.answers = append(r.answers, o.answers...)
		default:
			return
		}
	}
}

type cutAnswer struct {
	info memsnap.Info
	err  error
}

type wantedCut struct {
	suspend bool
	discard bool // with suspend: the journal has all that is needed
}

// takenCut is what the hook took.
type takenCut struct {
	data  generationData
	image func() (*engine.Image, error)
	state processState
	waits bool   // the guest waits in a host call
	timed bool   // which ends by itself after some time
	calls uint64 // that were carried out before
	err   error
}

// generationData is all of a generation but the pages, which are in the staging.
type generationData struct {
	pages    uint64
	pause    time.Duration
	sections map[string][]byte
}

// init comes before anything else, so that a request may come before Run.
func (c *cutter) init(live Live) {
	c.live = live
	c.changed = make(chan struct{}, 1)
	c.idleCut = make(chan struct{}, 1)
	c.awake = make(chan struct{}, 1)
	c.requests = make(chan cutRequest)
	c.full = make(chan struct{}, 1)
	c.taken = make(chan *takenCut)
	c.over = make(chan struct{})
	c.done = make(chan struct{})
	c.heap = []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
}

func (c *cutter) start(ctx context.Context, p *Process) {
	go func() {
		defer close(c.done)
		c.loop(ctx, p)
	}()
}

// stop waits for the loop after the guest has returned.
func (c *cutter) stop() error {
	close(c.over)
	<-c.done
	return c.err
}

// Snapshot takes a generation now and returns when it is durable. It fails with
// ErrEnded when the guest ends first.
func (p *Process) Snapshot(ctx context.Context) (memsnap.Info, error) {
	answer := make(chan cutAnswer, 1)
	select {
	case p.cutter.requests <- cutRequest{answers: []chan<- cutAnswer{answer}}:
	case <-p.cutter.over:
		return memsnap.Info{}, ErrEnded
	case <-ctx.Done():
		return memsnap.Info{}, ctx.Err()
	}
	select {
	case a := <-answer:
		return a.info, a.err
	case <-ctx.Done():
		return memsnap.Info{}, ctx.Err()
	}
}

// loop takes generations at intervals and on request, until the guest has returned. A
// cut begins only when the last one is durable.
func (c *cutter) loop(ctx context.Context, p *Process) {
	if p.opt.offline != nil {
		select {
		case <-ctx.Done():
			// To be asked to leave is all that can come.
			_, c.err = c.ask(p, wantedCut{suspend: true, discard: true})
		case <-c.over:
		}
		return
	}
	var took time.Duration // of the last cut, which ended then
	ended := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	arm := func() {
		timer.Stop()
		if l := c.settings(); l.Every > 0 {
			timer.Reset(max(c.pauseBetween(&l, took)-time.Since(ended), time.Millisecond))
		}
	}
	arm()
	c.purge(p, (*memsnap.Store).Sweep)
wait:
	select {
	case <-p.replayed():
	case <-c.over:
		return
	case <-ctx.Done():
		select {
		case <-p.replayed(): // both at once: what there is has to be saved, below
			break wait
		default:
		}
		// The generation and the journal are the process: nothing is lost by leaving at once.
		_, c.err = c.ask(p, wantedCut{suspend: true, discard: true})
		if errors.Is(c.err, ErrEnded) {
			c.err = nil
		}
		return
	}
	for {
		var req cutRequest
		select {
		case <-c.over:
			return
		case <-ctx.Done():
			req.suspend = true
		case req = <-c.requests:
			req.join(c.requests)
		case <-timer.C:
		case <-c.full:
		case <-c.awake:
			if c.idle { // the next cut may be far
				c.idle = false
				arm()
			}
			continue
		case <-c.changed:
			arm()
			c.purge(p, (*memsnap.Store).PurgeExpired)
			continue
		}
		began := time.Now()
		info, err := c.one(p, req)
		ended = time.Now()
		took = ended.Sub(began)
		for _, a := range req.answers {
			a <- cutAnswer{info, err}
		}
		switch {
		case errors.Is(err, ErrEnded):
			return
		case err != nil && req.suspend:
			c.err = err
		default:
			c.tell(p, info, err)
		}
		if req.suspend {
			return
		}
		arm()
	}
}

// one takes one generation. When it fails, memory is as dirty as before.
func (c *cutter) one(p *Process, req cutRequest) (memsnap.Info, error) {
	s := &c.staging
	s.reset()
	err := c.broken
	if err == nil {
		// Before the guest stops: copy what is dirty now. What it writes meanwhile is
		// dirty again and is copied once more at the cut.
		err = p.mem.Collect(s.add)
	}
	if err == nil {
		err = s.err
	}
	c.still = len(s.runs)
	s.ready(2*c.stillBytes + stagingReady)
	var taken *takenCut
	if err == nil || req.suspend { // who shall stop does so although it cannot be saved
		var asked error
		if taken, asked = c.ask(p, wantedCut{suspend: req.suspend}); err == nil {
			err = asked
		}
	}
	if err == nil && !req.suspend {
		err = c.settle(p)
	}
	if err != nil {
		c.undo(p)
		return memsnap.Info{}, err
	}
	if taken.waits && len(s.runs) == 0 && taken.calls == c.lastCalls && p.base != 0 {
		if !c.idle {
			c.idle, c.idleSince = true, time.Now()
		}
	} else {
		c.idle = false
	}
	if c.idle && !taken.timed && !req.suspend && req.answers == nil {
		return memsnap.Info{}, nil // the newest generation still is the process
	}
	info, err := c.finish(p, taken, req.suspend)
	if err != nil {
		c.undo(p)
		return memsnap.Info{}, err
	}
	c.lastCalls = taken.calls
	c.purge(p, (*memsnap.Store).PurgeExpired)
	return info, nil
}

// settle makes the pages clean that the hook has copied, while the guest runs on: those which
// it has changed by now stay dirty.
func (c *cutter) settle(p *Process) error {
	c.stillBytes = 0
	for _, r := range c.staging.runs[c.still:] {
		c.stillBytes += len(r.data)
		if err := p.mem.Settle(r.first, r.data); err != nil {
			return err
		}
	}
	return nil
}

// purge removes what need not be kept. That it fails costs space and nothing else, so that
// the operator is told and the process goes on.
func (c *cutter) purge(p *Process, do func(*memsnap.Store, context.Context) (memsnap.PurgeReport, error)) {
	if c.settings().Keep == (memsnap.Policy{}) {
		return
	}
	if _, err := do(p.store, context.Background()); err != nil {
		p.event(WarningEvent{fmt.Sprintf("old generations could not be removed: %v", err)})
	}
}

// pauseBetween is how long to wait after a cut that took so long. A guest that only waits
// is cut less and less often: all that changes is how long it has waited, and a small part
// of that may be lost.
func (c *cutter) pauseBetween(l *Live, took time.Duration) time.Duration {
	every := l.Every
	if c.idle {
		every = max(every, min(time.Since(c.idleSince)/idleShare, idleEvery))
	}
	return max(every-took, time.Duration(float64(took)*(1/l.MaxShare-1)))
}

// undo makes the pages dirty again whose copies are thrown away.
func (c *cutter) undo(p *Process) {
	for _, r := range c.staging.runs {
		if err := p.mem.MarkDirty(r.first, r.n); err != nil {
			// Without the mark every later generation would be wrong: let there be none.
			c.broken = fmt.Errorf("no more snapshots: pages cannot be marked as dirty: %w", err)
			return
		}
	}
}

// ask makes the guest cut and waits for it.
func (c *cutter) ask(p *Process, wanted wantedCut) (*takenCut, error) {
	c.mu.Lock()
	c.wanted = &wanted
	c.mu.Unlock()
	p.inst.Request()
	p.wasi.Interrupt()
	select {
	case c.idleCut <- struct{}{}:
	default: // it has not looked at the last one, and will
	}
	force := time.NewTimer(forceAfter)
	defer force.Stop()
	for {
		select {
		case t := <-c.taken:
			return t, t.err
		case <-c.over:
			return nil, ErrEnded
		case <-force.C:
			p.inst.Force()
		}
	}
}

// cut is the engine's hook: it runs on the guest's goroutine while the guest stands
// still.
func (p *Process) cut(capture *engine.Capture) (goOn bool) {
	c := &p.cutter
	// First of all: an interrupt that comes from now on is left for the host call that the
	// guest makes next, since the wish that it belongs to may be too late for this cut.
	p.wasi.ClearInterrupt()
	if off := p.opt.offline; off != nil && off.stopped != nil {
		image, err := capture.Raw()
		if err != nil {
			image = func() (*engine.Image, error) { return nil, err }
		}
		off.image = image
		return false
	}
	c.mu.Lock()
	wanted := c.wanted
	c.wanted = nil
	c.mu.Unlock()
	if wanted == nil {
		return true
	}
	if wanted.discard {
		c.taken <- &takenCut{}
		return false
	}
	t := p.take(capture)
	c.taken <- t
	return !wanted.suspend
}

// journalFull asks for a cut, since much was recorded since the last one.
func (c *cutter) journalFull() {
	select {
	case c.full <- struct{}{}:
	default: // asked already
	}
}

// take takes everything that must be of one instant.
func (p *Process) take(capture *engine.Capture) *takenCut {
	c := &p.cutter
	t := &takenCut{state: p.state, calls: c.calls}
	if p.journal != nil {
		if t.err = p.journal.GoLive(); t.err != nil {
			return t
		}
	}
	if pending, ok := p.wasi.Pending(); ok {
		t.waits, t.timed = true, pending.Deadline >= 0
	}
	t.waits = t.waits || p.state.Phase == phaseIdle
	if t.err = p.mem.Peek(c.staging.add); t.err != nil {
		return t
	}
	if t.image, t.err = capture.Raw(); t.err != nil {
		return t
	}
	if t.err = p.saveHost(t); t.err != nil {
		return t
	}
	t.data.pages = uint64(len(p.mem.Bytes())) / memsnap.PageSize
	c.collectGarbage()
	t.data.pause = time.Since(capture.Since)
	return t
}

// collectGarbage runs the garbage collector if enough was allocated: the guest stands
// still, so that nothing has to wait for it.
func (c *cutter) collectGarbage() {
	metrics.Read(c.heap)
	if n := c.heap[0].Value.Uint64(); n-c.collected > collectAfter {
		c.collected = n
		goruntime.GC()
	}
}

// finish makes the generation of what was taken, while the guest runs on, or of the last
// moment.
func (c *cutter) finish(p *Process, t *takenCut, last bool) (memsnap.Info, error) {
	image, err := t.image()
	if err != nil {
		return memsnap.Info{}, err
	}
	t.data.sections[sectionStack] = engine.EncodeImage(image)
	p.syncJournal(&t.state)
	if t.data.sections[sectionProcess], err = json.Marshal(t.state); err != nil {
		return memsnap.Info{}, err
	}
	commit := p.commit
	if last {
		commit = p.commitLast
	}
	info, err := commit(context.Background(), t.data)
	if err == nil {
		p.retireJournal(t.state.Journal)
		c.precompiler.run(p.program, p.cache, image)
	}
	return info, err
}

// commitLast makes the last generation of a run. On a full disk it tries again for a while:
// what is not stored by then is lost.
func (p *Process) commitLast(ctx context.Context, d generationData) (memsnap.Info, error) {
	wait := p.opt.hooks.lastFor
	if wait == 0 {
		wait = lastFor
	}
	told := false
	for until := time.Now().Add(wait); ; {
		info, err := p.commit(ctx, d)
		if _, full := lowSpace(err); !full || !time.Now().Before(until) {
			return info, err
		}
		if !told {
			told = true
			p.event(WarningEvent{fmt.Sprintf("the last moment cannot be saved yet, trying again for %v: %v", wait, err)})
		}
		p.cutter.purge(p, (*memsnap.Store).PurgeExpired)
		timer := time.NewTimer(lastEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return info, err
		}
	}
}

// commit makes a generation of the staged pages and the sections.
func (p *Process) commit(ctx context.Context, d generationData) (memsnap.Info, error) {
	if err := p.cutter.staging.err; err != nil {
		return memsnap.Info{}, err
	}
	w, err := p.store.Begin(p.base)
	if err != nil {
		return memsnap.Info{}, err
	}
	fail := func(err error) (memsnap.Info, error) { return memsnap.Info{}, errors.Join(err, w.Abort()) }
	w.SetPages(d.pages)
	w.SetPause(d.pause)
	for _, r := range p.cutter.staging.runs {
		if err := w.PutPages(r.first, r.data); err != nil {
			return fail(err)
		}
	}
	for name, b := range d.sections {
		if err := w.PutSection(name, b); err != nil {
			return fail(err)
		}
	}
	info, err := w.Commit(ctx)
	if err != nil {
		return memsnap.Info{}, err
	}
	p.base = info.Number
	p.status.generation.Store(p.base)
	return info, nil
}

var _ engine.Host = (*wasiCalls)(nil)
