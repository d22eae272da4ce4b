package spectest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/linmem"
	"perdure/runtime/internal/wasm"
)

// engineMachine runs hot code on the engine. With a source of stops it stops, takes out and puts back the instances
// that can be (see captureRules); without one it lets all of them run through.
type engineMachine struct {
	engine  *engine.Engine
	plain   *plainMachine // modules of the host, in the engine's runtime
	version *plainMachine // wazero with the features of the suite, nil if those are the engine's
	rng     *rand.Rand    // nil: no stops
	stops   stops
	// running is the instance whose polls count, nil if none does.
	running *engineInstance
	// refused collects why modules cannot be made persistent. They run as they are.
	refused  []string
	memories []*linmem.Memory // of instances that stay
	tb       testing.TB
}

var _ machine = (*engineMachine)(nil)

func newEngine(ctx context.Context, tb testing.TB, features api.CoreFeatures, rng *rand.Rand) *engineMachine {
	e := engine.New(ctx, engine.Config{})
	m := &engineMachine{
		engine: e,
		plain:  &plainMachine{runtime: e.Runtime(), features: api.CoreFeaturesV2},
		rng:    rng,
		tb:     tb,
	}
	if features != api.CoreFeaturesV2 {
		m.version = newPlain(ctx, features)
	}
	return m
}

func (m *engineMachine) host(ctx context.Context, binary []byte) (instance, error) {
	return m.plain.host(ctx, binary)
}

func (m *engineMachine) version2() bool { return true }

func (m *engineMachine) close(ctx context.Context) error {
	errs := []error{m.engine.Close(ctx)}
	for _, memory := range m.memories {
		errs = append(errs, memory.Close())
	}
	if m.version != nil {
		errs = append(errs, m.version.close(ctx))
	}
	return errors.Join(errs...)
}

// load reports it as a failure of the test when a valid module does not become valid hot code.
func (m *engineMachine) load(ctx context.Context, binary []byte) (program, error) {
	if m.version != nil {
		if _, err := m.version.load(ctx, binary); err != nil {
			return nil, err
		}
	}
	module, err := decode(binary)
	if err != nil {
		return nil, err
	}
	hot, meta, err := instrument.Instrument(module, instrument.Options{Workers: 1, EveryLoop: m.rng != nil, NoRemainder: m.rng != nil})
	if refusal := (*instrument.RefusedError)(nil); errors.As(err, &refusal) {
		m.refused = append(m.refused, refusal.Reasons...)
		return m.plain.load(ctx, binary)
	}
	if err == nil {
		_, err = decode(hot)
	}
	var p *engine.Program
	if err == nil {
		if m.rng != nil {
			ctx = listen(ctx, &hotPolls{m})
		}
		p, err = m.engine.LoadInstrumented(ctx, hot, meta)
	}
	if err != nil {
		m.tb.Errorf("hot code: %v", err)
		return nil, err
	}
	return &engineProgram{machine: m, program: p, module: module}, nil
}

// decode reads and validates a module.
func decode(binary []byte) (*wasm.Module, error) {
	module, err := wasm.Decode(binary)
	if err != nil {
		return nil, err
	}
	return module, module.Validate()
}

type engineProgram struct {
	machine *engineMachine
	program *engine.Program
	module  *wasm.Module // the original
}

func (p *engineProgram) instantiate(ctx context.Context, l linkage) (instance, error) {
	stop := p.machine.rng != nil && ruleFor(p.module, l.shared).capture
	fresh, err := p.fresh(ctx, l, stop)
	if err != nil {
		return nil, err
	}
	var i startable = fresh
	if stop {
		i = &stoppedInstance{current: fresh, rng: p.machine.rng, stops: &p.machine.stops}
	} else if fresh.memory != nil {
		p.machine.memories = append(p.machine.memories, fresh.memory)
	}
	if p.module.Start != nil {
		if _, err := i.callFunction(ctx, *p.module.Start, nil); err != nil {
			return nil, fmt.Errorf("start: %w", err)
		}
	}
	return i, nil
}

// fresh makes an instance whose start function was not called. One that is to be stopped gets its functions through a
// host of its own.
func (p *engineProgram) fresh(ctx context.Context, l linkage, stop bool) (*engineInstance, error) {
	i := &engineInstance{program: p, link: l}
	config := engine.InstanceConfig{
		Resolve: func(name string) api.Module {
			if found := l.resolve(name); found != nil {
				return found.linked()
			}
			return nil
		},
	}
	if stop {
		i.host = newHost(i, &config)
		config.Cut, config.Poll = i.cut, i.pollLoop
	}
	if p.machine.rng != nil {
		config.Piece = p.machine.rng.IntN(4)
		ctx = listen(ctx, &coldPolls{p.machine}) // the engine compiles cold code with the instance's context
	}
	var err error
	if len(p.module.Memories) > 0 {
		// The specification's memories grow to 4 GiB at most, which is what there is room for.
		if i.memory, err = linmem.New(linmem.Options{}); err != nil {
			return nil, err
		}
		config.Memory = i.memory
	}
	i.in, err = p.program.Instantiate(ctx, config)
	if err != nil && i.memory != nil {
		err = errors.Join(err, i.memory.Close())
	}
	return i, err
}

// engineInstance is an instance of the engine.
type engineInstance struct {
	program *engineProgram
	link    linkage
	host    *spectestHost // nil: never stopped
	memory  *linmem.Memory
	in      *engine.Instance
	polls   uint64        // until the next stop; 0: it is due
	detours int           // how often the guest may still be stopped and go on at once
	image   *engine.Image // of the last stop, or that which the instance was restored from
	err     error         // of taking the image
}

var (
	_ startable = (*engineInstance)(nil)
	_ stoppable = (*engineInstance)(nil)
)

// function returns the index of an exported function.
func (i *engineInstance) function(export string) (uint32, error) {
	for _, e := range i.program.module.Exports {
		if e.Kind == wasm.ExternFunc && e.Name == export {
			return e.Index, nil
		}
	}
	return 0, fmt.Errorf("no exported function %q", export)
}

func (i *engineInstance) call(ctx context.Context, export string, args []uint64) ([]uint64, error) {
	f, err := i.function(export)
	if err != nil {
		return nil, err
	}
	return i.callFunction(ctx, f, args)
}

func (i *engineInstance) callFunction(_ context.Context, f uint32, args []uint64) ([]uint64, error) {
	return i.in.Run(f, args...)
}

func (i *engineInstance) global(name string) ([]uint64, error) {
	return (&plainInstance{i.in.Module()}).global(name)
}

func (i *engineInstance) linked() api.Module { return i.in.Module() }

func (i *engineInstance) close(context.Context) error {
	err := i.in.Close()
	if i.memory != nil {
		err = errors.Join(err, i.memory.Close())
	}
	return err
}
