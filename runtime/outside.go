package runtime

import (
	"errors"
	goruntime "runtime"
	"sync/atomic"

	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/wasi"
)

// outside makes what the guest has of the system, and its standard streams.
func (p *Process) outside() {
	p.kernel = p.system
	p.stdio = &[3]wasi.Handle{0, 1, 2}
	if p.opt.hooks.stdio != nil {
		*p.stdio = *p.opt.hooks.stdio
	}
	if p.opt.Stdin != nil {
		p.stdio[0] = wasi.Handle(p.opt.Stdin.Fd())
	}
	if p.opt.Output != nil {
		p.kernel, p.stdio[1], p.stdio[2] = wasi.WithOutput(p.kernel, p.opt.Output)
	}
	p.kernel = watchedKernel{p.kernel, &p.status.waiting}
	if p.opt.hooks.kernel != nil {
		p.kernel = p.opt.hooks.kernel(p.kernel)
	}
}

func (p *Process) wasiConfig() wasi.Config {
	c := wasi.Config{Args: p.opt.Args, Env: p.opt.Env, Stdio: p.stdio, Limits: wasi.Limits{Descriptors: p.opt.OpenFiles}}
	for _, d := range p.opt.Preopens {
		c.Preopens = append(c.Preopens, wasi.Preopen{Host: d.Host, Guest: d.Guest, ReadOnly: d.ReadOnly})
	}
	for _, l := range p.opt.Listeners {
		c.Listeners = append(c.Listeners, wasi.Listener{Network: l.Network, Address: l.Address})
	}
	c.AllowConnect, c.AllowBind = p.opt.AllowConnect, p.opt.AllowBind
	return c
}

// wasiCalls joins the engine with the WASI host.
type wasiCalls Process

func (w *wasiCalls) Call(i int, stack []uint64) error {
	r, err := w.call(i, stack)
	return w.result(r, stack, err)
}

func (w *wasiCalls) Resume(stack []uint64) error {
	r, err := w.call(resumeCall, nil)
	return w.result(r, stack, err)
}

func (w *wasiCalls) result(r uint32, stack []uint64, err error) error {
	switch {
	case err == nil:
		if w.cutter.calls++; w.cutter.calls%collectEvery == 0 {
			w.cutter.collectGarbage()
		}
		if w.cutter.calls%yieldEvery == 0 {
			goruntime.Gosched()
		}
		if len(stack) > 0 {
			stack[0] = uint64(r)
		}
		return nil
	case errors.Is(err, wasi.ErrInterrupted):
		return engine.ErrInterrupted
	}
	if off := w.opt.offline; off != nil && errors.As(err, &off.stopped) {
		return engine.ErrInterrupted // so that its stack is taken
	}
	return err
}

// watchedKernel notes while the guest waits.
type watchedKernel struct {
	wasi.Kernel
	waiting *atomic.Bool
}

func (k watchedKernel) Poll(fds []wasi.PollFD, deadline int64) (int, wasi.Errno) {
	k.waiting.Store(true)
	defer k.waiting.Store(false)
	return k.Kernel.Poll(fds, deadline)
}
