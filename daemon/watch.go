package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"perdure/daemon/worker"
	"perdure/runtime"
)

// askTime bounds what a worker is asked beside its guest's work.
const askTime = 5 * time.Second

// watch follows a worker until it has ended: what it tells, and how it ends.
func (u *unit) watch(ctx context.Context, w *worker.Handle) {
	listening, stop := context.WithCancel(ctx)
	var told sync.WaitGroup
	told.Go(func() { u.listen(listening, w) })
	told.Go(func() { u.awaitReady(listening, w) })
	select {
	case <-w.Done():
	case <-ctx.Done():
	}
	stop()
	told.Wait()
	if ctx.Err() != nil {
		return // it lives on
	}
	out, err := w.Outcome()
	var locked *runtime.LockedError
	switch {
	case err == nil:
		in := inGone{outcome: &out}
		if out.Kind == worker.OutcomeRefused || out.Kind == worker.OutcomeError {
			in.saved, in.looked = u.savedProgram()
		}
		u.post(message{in: in})
		return
	case errors.As(err, &locked):
		// An earlier daemon has started one, which had not locked the directory yet when this one looked for it.
		if found, ok := u.adopt(ctx); ok {
			u.post(found)
			return
		}
	}
	u.post(message{in: inGone{why: err.Error()}})
}

// listen hands on the events of a worker. It returns when the worker is gone or ctx is done.
func (u *unit) listen(ctx context.Context, w *worker.Handle) {
	for ctx.Err() == nil {
		// A worker takes a moment to have its socket.
		err := u.client.Events(ctx, func(e worker.Event) error {
			u.heard(w, e)
			return nil
		})
		if err != nil && !errors.Is(err, worker.ErrNoWorker) && ctx.Err() == nil {
			u.log.Debug().Err(err).Msg("the events of its worker have ended")
		}
		select {
		case <-ctx.Done():
		case <-w.Done():
			return
		case <-time.After(againTime):
		}
	}
}

// awaitReady asks the worker until it has loaded its program, and says so.
func (u *unit) awaitReady(ctx context.Context, w *worker.Handle) {
	for wait := againTime; ctx.Err() == nil; wait = min(2*wait, againMost) {
		if u.ask(ctx, w) {
			u.post(message{in: inReady{}})
			return
		}
		select {
		case <-ctx.Done():
		case <-w.Done():
			return
		case <-time.After(wait):
		}
	}
}

// againTime is after how long a worker that is not ready is asked again at first, againMost later.
const (
	againTime = 5 * time.Millisecond
	againMost = 250 * time.Millisecond
)

// heard takes in an event of the worker.
func (u *unit) heard(w *worker.Handle, e worker.Event) {
	out := Event{Time: e.Time, Process: u.name, Kind: EventKind(e.Kind), Text: e.Text}
	if e.Kind == worker.EventFailed {
		out.Kind = EventNotSaved
	}
	u.mu.Lock()
	u.tallyLocked(e)
	if u.worker == w && e.Generation != nil {
		out.Generation = e.Generation.Number
		u.status.Generation = e.Generation.Number
		if e.Kind == worker.EventCommitted {
			u.status.Last, u.status.LastFailure = e.Generation, ""
		}
	}
	u.mu.Unlock()
	switch e.Kind {
	case worker.EventStarted, worker.EventRestored:
		u.log.Info().Msg(e.Text)
	case worker.EventCommitted:
		if u.verbose() {
			u.log.Info().Msg(e.Text)
		}
	case worker.EventWarning, worker.EventSkipped, worker.EventFailed, worker.EventLowSpace, worker.EventRoomAgain, worker.EventLost:
		u.log.Warn().Msg(e.Text)
	default:
		u.log.Debug().Msg(e.Text)
	}
	u.d.events.publish(out)
}

func (u *unit) verbose() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.view.config.Memsnap.Verbose
}

// ask asks the worker how it is, and tells whether it has loaded its program.
func (u *unit) ask(ctx context.Context, w *worker.Handle) (ready bool) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	st, err := u.client.Status(ctx)
	if err != nil || st.PID != w.PID() {
		return false // it has no socket yet, or none any more
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.worker == w {
		u.status, u.asked = st, time.Now()
	}
	return st.Phase != worker.PhaseStarting
}

// adopt looks for a worker of an earlier daemon.
func (u *unit) adopt(ctx context.Context) (message, bool) {
	w, err := worker.Find(u.dir)
	if err != nil {
		if !errors.Is(err, worker.ErrNoWorker) {
			u.log.Warn().Err(err).Msg("cannot tell whether it runs")
		}
		return message{}, false
	}
	for {
		ask, cancel := context.WithTimeout(ctx, askTime)
		st, err := u.client.Status(ask)
		cancel()
		if err == nil && st.PID == w.PID() {
			return message{
				in:     inUp{adopted: true, program: st.Program, started: st.Started, ready: st.Phase != worker.PhaseStarting},
				worker: w, status: &st,
			}, true
		}
		select {
		case <-w.Done():
			return message{}, false
		case <-ctx.Done():
			return message{}, false
		case <-time.After(againTime):
		}
		if err != nil && !errors.Is(err, worker.ErrNoWorker) {
			u.log.Warn().Err(err).Int("pid", w.PID()).Msg("its worker does not answer")
		}
	}
}

// noteSettings tells the worker what may change while it runs.
func (u *unit) noteSettings(ctx context.Context) error {
	u.mu.Lock()
	up, c := u.worker != nil, u.view.config
	u.mu.Unlock()
	if !up {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if err := u.client.Settings(ctx, c.Reloadable()); err != nil && !errors.Is(err, worker.ErrNoWorker) {
		return fmt.Errorf("%s: %w", u.name, err)
	}
	return nil
}

// savedProgram returns the SHA-256 of the program of the state that there is, if that can be told.
func (u *unit) savedProgram() (sum string, ok bool) {
	st, err := u.savedState()
	return st.Program, err == nil
}
