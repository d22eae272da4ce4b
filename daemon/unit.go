package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"perdure/config"
	"perdure/daemon/metrics"
	"perdure/daemon/worker"
)

// unit is one process under supervision: a machine, and the shell that carries out its actions. One goroutine, run, owns
// the machine; all others talk to it by messages, and read what it has published.
type unit struct {
	d      *Daemon
	name   string
	dir    string
	log    zerolog.Logger
	client *worker.Client
	inbox  chan message

	// Of run alone.
	m       machine
	timer   *time.Timer
	abort   context.CancelFunc // of the start under way; nil if there is none
	config  config.Process     // that applies now
	started *config.Process    // that the worker was started with; nil if not known

	mu      sync.Mutex
	view    view
	worker  *worker.Handle // nil if there is none
	status  worker.Status  // of that worker, as seen last
	asked   time.Time      // when that was
	tally   metrics.Tally
	changed chan struct{} // closed when any of these change
}

// message is an input for the machine, and what the shell has to know with it.
type message struct {
	in     input
	worker *worker.Handle  // with inUp, and with inGone
	config *config.Process // with inSettings
	status *worker.Status  // with inUp, of a worker that was found
	done   chan struct{}   // closed when it has been dealt with; may be nil
}

// view is what others see of a unit.
type view struct {
	rec             record
	phase           phase
	runs            string
	ready           bool
	goal            target
	file            *file
	problem         string // with its file
	confErr         string // with its configuration
	since           time.Time
	notBefore       time.Time
	config          config.Process
	pending         []string
	persistErr      error
	suspendErr      string // of the last try
	failedToSuspend int    // how often
	restart, held   bool
	unsaved         string // see machine
}

func newUnit(d *Daemon, name string, rec record) *unit {
	u := &unit{
		d: d, name: name, dir: d.dirOf(name), log: d.log.With().Str("process", name).Logger(),
		client: worker.NewClient(d.dirOf(name)), inbox: make(chan message, 16), changed: make(chan struct{}),
	}
	u.m.rec = rec
	u.timer = time.NewTimer(time.Hour)
	u.timer.Stop()
	u.view = view{rec: rec}
	return u
}

// run is the goroutine of the unit. It ends with ctx, and leaves the worker alone.
func (u *unit) run(ctx context.Context) {
	defer u.timer.Stop()
	for {
		var msg message
		select {
		case <-ctx.Done():
			return
		case msg = <-u.inbox:
		case <-u.timer.C:
			msg.in = inTime{}
		}
		u.prepare(ctx, msg)
		for _, a := range u.m.step(time.Now(), msg.in) {
			u.act(ctx, a)
		}
		u.publish()
		if msg.done != nil {
			close(msg.done)
		}
	}
}

// send hands an input over and waits until it has been dealt with. The error is that of ctx, or errClosed.
func (u *unit) send(ctx context.Context, msg message) error {
	msg.done = make(chan struct{})
	select {
	case u.inbox <- msg:
	case <-ctx.Done():
		return ctx.Err()
	case <-u.d.over:
		return errClosed
	}
	select {
	case <-msg.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-u.d.over:
		return errClosed
	}
}

// post hands an input over.
func (u *unit) post(msg message) {
	select {
	case u.inbox <- msg:
	case <-u.d.over:
	}
}

// prepare does what has to be done before the machine sees a message.
func (u *unit) prepare(ctx context.Context, msg message) {
	switch in := msg.in.(type) {
	case inUp:
		u.abort = nil
		u.mu.Lock()
		u.worker = msg.worker
		u.status = worker.Status{PID: msg.worker.PID(), Phase: worker.PhaseStarting, Started: time.Now(), Generation: u.status.Generation}
		if msg.status != nil {
			u.status = *msg.status
		}
		u.mu.Unlock()
		if in.adopted {
			u.started = nil
			u.d.group.Go(func() {
				if err := u.noteSettings(ctx); err != nil {
					u.log.Warn().Err(err).Msg("its worker did not take the settings of now")
				}
			})
		}
		u.d.group.Go(func() { u.watch(ctx, msg.worker) })
	case inNotUp:
		u.abort = nil
	case inGone:
		u.mu.Lock()
		u.worker = nil
		if in.outcome != nil {
			u.status.Generation = max(u.status.Generation, in.outcome.Generation)
		}
		u.mu.Unlock()
	case inSettings:
		u.config = *msg.config
	case inNotSuspended:
		u.mu.Lock()
		u.view.suspendErr = in.err.Error()
		u.view.failedToSuspend++
		u.mu.Unlock()
	}
}

// act carries out an action. It does not wait for anything but the disk, with a record.
func (u *unit) act(ctx context.Context, a action) {
	switch a := a.(type) {
	case actPersist:
		err := u.persist()
		u.mu.Lock()
		u.view.persistErr = err
		u.mu.Unlock()
		if err != nil {
			u.log.Error().Err(err).Msg("the record could not be written; what was asked for is forgotten when the daemon ends")
		}
	case actWait:
		u.timer.Reset(time.Until(a.until))
	case actTell:
		u.d.tell(u, Event{Kind: a.kind, Text: a.text})
	case actCheck:
		limit := u.config.Limits.Memory
		u.d.group.Go(func() { u.check(ctx, a, limit) })
	case actStart:
		if a.fresh {
			u.mu.Lock()
			u.status.Generation, u.status.MemoryBytes = 0, 0
			u.mu.Unlock()
		}
		c := u.config
		u.started = &c
		ctx, cancel := context.WithCancel(ctx)
		u.abort = cancel
		u.d.group.Go(func() { u.start(ctx, a, c) })
	case actAbort:
		if u.abort != nil {
			u.abort()
		}
	case actSuspend:
		u.mu.Lock()
		w := u.worker
		u.mu.Unlock()
		u.d.group.Go(func() { u.suspend(ctx, w) })
	}
}

// persist writes the record, but leaves no directory for a process of which there is nothing to say.
func (u *unit) persist() error {
	if u.m.file == nil && u.m.phase == phaseNone && u.m.rec == newRecord() {
		return clearEmpty(u.dir)
	}
	return writeRecord(u.dir, u.m.rec)
}

// publish lets others see what the machine has decided.
func (u *unit) publish() {
	v := view{
		rec: u.m.rec, phase: u.m.phase, runs: u.m.runs, ready: u.m.ready, goal: u.m.goal(), file: u.m.file, problem: u.m.problem, confErr: u.m.settings.err, since: u.m.since,
		notBefore: u.m.notBefore, config: u.config, unsaved: u.m.unsaved, restart: u.m.restart, held: u.m.held > 0,
	}
	if u.m.phase != phaseNone && u.started != nil {
		for _, c := range config.DiffProcess(*u.started, u.config) {
			if c.When != config.Now {
				v.pending = append(v.pending, c.String())
			}
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	v.persistErr, v.suspendErr, v.failedToSuspend = u.view.persistErr, u.view.suspendErr, u.view.failedToSuspend
	u.view = v
	u.changedLocked()
}

func (u *unit) changedLocked() {
	close(u.changed)
	u.changed = make(chan struct{})
}

// look returns what is published, and a channel that is closed when that changes.
func (u *unit) look() (view, *worker.Handle, worker.Status, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.view, u.worker, u.status, u.changed
}

// until waits until ok says that it has seen what it waits for, or an error. The error is that, that of ctx, or errClosed.
func (u *unit) until(ctx context.Context, ok func(view) (bool, error)) (view, error) {
	for {
		v, _, _, changed := u.look()
		if done, err := ok(v); done || err != nil {
			return v, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return v, ctx.Err()
		case <-u.d.over:
			return v, errClosed
		}
	}
}

// start waits for its turn and starts a worker.
func (u *unit) start(ctx context.Context, a actStart, c config.Process) {
	if err := u.d.slots.acquire(ctx); err != nil {
		u.post(message{in: inNotUp{}})
		return
	}
	if a.path == "" {
		a.path = filepath.Join(u.dir, programFile)
	}
	if c.UsesSockets() {
		u.d.guardKeeper()
	}
	w, err := worker.Start(u.d.opt.Executable, worker.Spec{
		Version: worker.SpecVersion, Name: u.name, Dir: u.dir,
		CacheDir: u.d.config().Daemon.CacheDir, Log: u.d.logOf(u.name),
		Program: a.path, SHA256: a.sha256, Fresh: a.fresh, Keeper: u.d.config().Daemon.Keeper, Settings: c,
	})
	if err != nil {
		u.d.slots.release()
		u.post(message{in: inNotUp{err}})
		return
	}
	u.post(message{in: inUp{}, worker: w})
	// The slot is kept while the worker loads, but not by one that takes very long.
	wait, cancel := context.WithTimeout(ctx, maxLoading)
	defer cancel()
	_, _ = u.until(wait, func(v view) (bool, error) { // whatever comes of it
		return v.phase == phaseUp && v.ready || v.phase == phaseNone || v.phase == phaseStopping, nil
	})
	u.d.slots.release()
}

// maxLoading is how long a worker that loads its program keeps others from starting.
const maxLoading = 10 * time.Second

// check finds out whether a program would be refused.
func (u *unit) check(ctx context.Context, a actCheck, limit config.Size) {
	refusal, err := u.d.opt.Check(ctx, a.path, limit)
	if err != nil {
		u.log.Warn().Err(err).Str("file", a.path).Msg("the new program could not be checked, and is tried")
	}
	u.post(message{in: inChecked{a.sha256, refusal}})
}

// suspend asks the worker to suspend. When it did, watch sees it go.
func (u *unit) suspend(ctx context.Context, w *worker.Handle) {
	if w == nil {
		return // it has gone meanwhile, and its inGone is on its way
	}
	var err error
	for limit := time.Now().Add(socketTime); ; {
		_, err = u.client.Suspend(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		// One that was just started has no socket yet.
		wait := againTime
		if !errors.Is(err, worker.ErrNoWorker) || time.Now().After(limit) {
			wait = goingTime // it may be that it went before it could answer
		}
		select {
		case <-w.Done():
			return
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if wait == goingTime {
			break
		}
	}
	u.post(message{in: inNotSuspended{err}})
}

// socketTime is how long a worker may take to have its socket.
const socketTime = 10 * time.Second

// goingTime is how long a worker that has failed to answer may take to go.
const goingTime = time.Second

var errClosed = errors.New("the daemon is stopping")
