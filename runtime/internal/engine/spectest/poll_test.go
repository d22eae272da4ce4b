package spectest

import (
	"context"
	"errors"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"perdure/runtime/internal/engine"
)

// maxDetours bounds how often a guest goes on at once between two stops: once forced out it needs a compilation.
const maxDetours = 4

func (i *engineInstance) begin(_ context.Context, f uint32, args []uint64, polls uint64) ([]uint64, bool, error) {
	if int(f) < i.program.module.NumImportedFuncs() {
		results, err := i.in.Run(f, args...) // a function of the host, exported again: no guest is on the stack
		return results, false, err
	}
	return i.counted(polls, func() ([]uint64, error) { return i.in.Run(f, args...) })
}

func (i *engineInstance) proceed(_ context.Context, polls uint64) ([]uint64, bool, error) {
	return i.counted(polls, func() ([]uint64, error) { return i.in.Resume(i.image) })
}

// counted runs the guest with its polls counted.
func (i *engineInstance) counted(polls uint64, run func() ([]uint64, error)) ([]uint64, bool, error) {
	m := i.program.machine
	m.running = i
	defer func() { m.running = nil }()
	i.polls, i.detours, i.err = polls, maxDetours, nil
	results, err := run()
	if errors.Is(err, engine.ErrUnwound) {
		return nil, true, i.err
	}
	return results, false, err
}

// poll counts a place at which the guest can be asked to stop, and says whether it shall be, for good or for a detour.
func (i *engineInstance) poll() (stop bool) {
	if i.polls > 0 {
		i.polls--
	}
	if i.polls == 0 {
		return true
	}
	if i.detours > 0 && i.program.machine.rng.IntN(8) == 0 {
		i.detours--
		return true
	}
	return false
}

// pollLoop is asked at each loop header.
func (i *engineInstance) pollLoop() engine.PollAnswer {
	if i.program.machine.running != i || !i.poll() {
		return engine.PollGo
	}
	if i.program.machine.rng.IntN(4) == 0 {
		return engine.PollForce
	}
	return engine.PollCut
}

// pollCall is told about calls and returns, at which the flags are set for the places that follow: the next loop
// header, or also the next return.
func (i *engineInstance) pollCall() {
	if i == nil || !i.poll() {
		return
	}
	i.in.Request()
	if i.polls == 0 || i.program.machine.rng.IntN(2) == 0 {
		i.in.Force()
	}
}

// cut is called where the guest was stopped. It goes on within the same instance until its polls are used up: in hot
// code after a loop header, through cold code after it was forced out.
func (i *engineInstance) cut(c *engine.Capture) bool {
	m := i.program.machine
	if i.polls > 0 {
		m.stops.goneOn++
		return true
	}
	m.running = nil // taking the image calls functions of the module
	i.image, i.err = c.Image()
	if i.err == nil && i.image.InCall() {
		m.stops.inCall++
	}
	return false
}

// hotPolls counts the calls and returns of hot code. The engine has polls at loop headers only and tests behind a call
// whether it was forced; there is no other way to force it just then.
type hotPolls struct{ machine *engineMachine }

func (l *hotPolls) Before(context.Context, api.Module, api.FunctionDefinition, []uint64, experimental.StackIterator) {
	l.machine.running.pollCall()
}

func (l *hotPolls) After(context.Context, api.Module, api.FunctionDefinition, []uint64) {
	l.machine.running.pollCall()
}

func (l *hotPolls) Abort(context.Context, api.Module, api.FunctionDefinition, error) {}

// coldPolls counts the returns of cold code; a guest is called there to be put back, which is no progress and would let
// deep stacks never get on. Now and then such a call counts, for a guest may be forced out while it is put back.
type coldPolls struct{ machine *engineMachine }

func (l *coldPolls) Before(context.Context, api.Module, api.FunctionDefinition, []uint64, experimental.StackIterator) {
	if l.machine.rng.IntN(64) == 0 {
		l.machine.running.pollCall()
	}
}

func (l *coldPolls) After(context.Context, api.Module, api.FunctionDefinition, []uint64) {
	l.machine.running.pollCall()
}

func (l *coldPolls) Abort(context.Context, api.Module, api.FunctionDefinition, error) {}

// listen lets the functions that are compiled with the context report to a listener.
func listen(ctx context.Context, l experimental.FunctionListener) context.Context {
	return experimental.WithFunctionListenerFactory(ctx, experimental.FunctionListenerFactoryFunc(
		func(def api.FunctionDefinition) experimental.FunctionListener {
			if def.GoFunction() != nil {
				return nil // a function of the host is no suspend point of the guest
			}
			return l
		},
	))
}
