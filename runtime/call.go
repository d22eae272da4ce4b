package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/wasi"
)

// ErrNotReactor is the answer to a call of a program that runs from its _start.
var ErrNotReactor = errors.New("the program is a command: it runs by itself and cannot be called")

// ErrSuspended is the answer to a call that did not begin, since the process is suspended.
var ErrSuspended = errors.New("the process is suspended")

// ErrCallSuspended is the answer to a call that had begun when the process was suspended.
var ErrCallSuspended = errors.New("the process was suspended during the call, and finishes it when it goes on")

// CallExitError says that the program ended in a call.
type CallExitError struct {
	Export   string
	ExitCode uint32
}

func (e *CallExitError) Error() string {
	return fmt.Sprintf("the program ended with status %d in %s", e.ExitCode, plain(e.Export))
}

// Unwrap returns ErrEnded.
func (e *CallExitError) Unwrap() error { return ErrEnded }

// NotSavedError says that a call was carried out but is in no generation: if the process dies
// now, it has not been. Results are those of the call, Trap is its error.
type NotSavedError struct {
	Results []Value
	Trap    *TrapError
	Err     error // why
}

func (e *NotSavedError) Error() string {
	return fmt.Sprintf("the call was carried out, but what it did could not be saved: %v", e.Err)
}
func (e *NotSavedError) Unwrap() error { return e.Err }

// call is a call on its way to the guest.
type call struct {
	*callable
	args   []uint64
	answer chan callAnswer // has room for the one that comes
}

type callAnswer struct {
	results []Value
	err     error
	covered bool // by the journal, so that no generation is needed to keep what it did
	known   bool // of the past, in which it was answered
}

// Call calls a function of a reactor and returns its results. It may be called from any
// goroutine; calls are carried out one at a time, once Run serves them. Arguments are text, as
// Value describes.
//
// What a call does to the program's state lasts, also if it traps: then it is all that was done
// until then. With Options.DurableCalls the answer comes when that is in a generation or in the
// journal, else before.
//
// The error is ErrNotReactor, a *NoExportError or *ArgumentError before anything was done; a
// *TrapError if the function did what it must not, and can be called again; a *CallExitError
// if it ended the program, a *NotSavedError if the generation could not be made. ErrEnded and
// ErrSuspended say that the call did not begin, ErrCallSuspended that it goes on after
// a restore. When ctx is done Call returns; a call that has begun is carried out all the same.
func (p *Process) Call(ctx context.Context, export string, args []string) ([]Value, error) {
	if !p.reactor {
		return nil, ErrNotReactor
	}
	f, err := findCallable(p.module, export)
	if err != nil {
		return nil, err
	}
	k := &call{callable: f, answer: make(chan callAnswer, 1)}
	if k.args, err = f.arguments(args); err != nil {
		return nil, err
	}
	select {
	case p.calls <- k:
	case <-p.over:
		return nil, p.closedFor()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var a callAnswer
	select {
	case a = <-k.answer:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var exit *CallExitError
	var trap *TrapError
	switch {
	case errors.As(a.err, &exit):
		<-p.over
		if p.runErr != nil {
			return nil, p.runErr
		}
		return nil, exit
	case a.err != nil && !errors.As(a.err, &trap):
		return nil, a.err
	}
	if p.opt.DurableCalls && !a.covered {
		if err := p.saveNow(ctx); err != nil {
			return nil, &NotSavedError{Results: a.results, Trap: trap, Err: err}
		}
	}
	return a.results, a.err
}

// closedFor is why a call did not begin, when Run has returned.
func (p *Process) closedFor() error {
	switch {
	case p.runErr != nil:
		return fmt.Errorf("the process has stopped: %w", p.runErr)
	case p.state.Phase == phaseEnded:
		return ErrEnded
	}
	return ErrSuspended
}

// saveNow returns when what was done until now is in a generation.
func (p *Process) saveNow(ctx context.Context) error {
	_, err := p.Snapshot(ctx)
	if !errors.Is(err, ErrEnded) {
		return err
	}
	<-p.over // the last generation has it
	return p.runErr
}

// runReactor takes a reactor through its beginning, finishes a call that a restore found
// under way, and serves calls until the process is suspended or a call ends it.
func (p *Process) runReactor() error {
	resume := p.saved != nil
	run := func(f uint32) error {
		var err error
		if resume {
			_, err = p.inst.Resume(p.saved.image)
		} else {
			_, err = p.inst.Run(f)
		}
		resume = false
		return err
	}
	if p.state.Phase == phaseStart {
		if err := run(*p.module.Start); err != nil {
			return err
		}
		p.state.Phase = phaseInit
	}
	if p.state.Phase == phaseInit {
		if f, ok, _ := initializer(p.module); ok { // Open has seen its error
			if err := run(f); err != nil {
				return err
			}
		}
		p.state.Phase = phaseIdle
	}
	if p.state.Phase == phaseCall {
		f, err := findCallable(p.module, p.state.Call)
		if err != nil {
			return err
		}
		words, err := p.inst.Resume(p.saved.image)
		if err := p.calledBefore(&call{callable: f, answer: make(chan callAnswer, 1)}, words, err); err != nil {
			return err
		}
	}
	return p.serve()
}

// calledBefore ends a call that was begun in a life before. It is told, unless it was
// answered then.
func (p *Process) calledBefore(k *call, words []uint64, err error) error {
	if err := p.called(k, words, err); err != nil {
		return err
	}
	if a := <-k.answer; !a.known {
		p.event(CallFinishedEvent{Export: k.name, Results: a.results, Err: a.err})
	}
	return nil
}

// serve carries out calls. Between them no code of the guest runs, so cuts are made here.
func (p *Process) serve() error {
	c := &p.cutter
	rest := time.NewTicker(idleEvery)
	defer rest.Stop()
	for {
		p.status.waiting.Store(true)
		select {
		case <-c.idleCut: // before the calls, of which there may always be one
			if !p.inst.CutIdle() {
				return engine.ErrUnwound
			}
			continue
		default:
		}
		past, err := p.pastCall()
		if err != nil {
			return err
		}
		if past != nil {
			words, err := p.begin(past)
			if err := p.calledBefore(past, words, err); err != nil {
				return err
			}
			continue
		}
		select {
		case <-c.idleCut:
			if !p.inst.CutIdle() {
				return engine.ErrUnwound
			}
		case k := <-p.calls:
			p.status.waiting.Store(false)
			select {
			case c.awake <- struct{}{}:
			default:
			}
			p.recordCall(k)
			words, err := p.begin(k)
			if err := p.called(k, words, err); err != nil {
				return err
			}
		case <-rest.C:
			c.collectGarbage() // others in this process make some
		}
	}
}

// begin calls the function.
func (p *Process) begin(k *call) (words []uint64, err error) {
	p.state.Phase, p.state.Call = phaseCall, k.name
	return p.inst.Run(k.index, k.args...)
}

// called answers a call that has returned. Its error is one that ends the run.
func (p *Process) called(k *call, words []uint64, err error) error {
	p.cutter.calls++ // something may have changed
	var exit *wasi.ExitError
	switch {
	case errors.Is(err, engine.ErrUnwound):
		k.answer <- callAnswer{err: ErrCallSuspended}
		return err
	case errors.As(err, &exit):
		p.state.Call = ""
		k.answer <- callAnswer{err: &CallExitError{Export: k.name, ExitCode: exit.Code}}
		return err
	case err != nil && !isTrap(err):
		k.answer <- callAnswer{err: err}
		return err
	}
	p.state.Phase, p.state.Call = phaseIdle, ""
	p.cutter.collectGarbage()
	var a callAnswer
	if err != nil {
		a.err = newTrapError(err, p.program.Meta().OriginalIndex)
	} else {
		a.results = k.values(words)
	}
	if a.known, a.covered, err = p.recordReturn(words, err != nil); err != nil {
		k.answer <- callAnswer{err: err}
		return err
	}
	k.answer <- a
	return nil
}

// isTrap tells whether an error of the engine is of the guest's making, so that the instance
// is as good as before. The engine has no other sign of it than the text.
func isTrap(err error) bool {
	return strings.HasPrefix(err.Error(), "wasm error: ") || err.Error() == "stack overflow"
}
