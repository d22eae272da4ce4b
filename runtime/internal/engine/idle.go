package engine

import "time"

// CutIdle calls the Cut hook between two calls, with a capture whose stack is empty; a cut that was requested has
// begun with it. It is called on the goroutine that calls Run, and returns what the hook did.
func (in *Instance) CutIdle() (goOn bool) {
	in.mu.Lock()
	in.wanted, in.hard = false, false
	in.soft.Set(0)
	in.state.Set(0)
	in.mu.Unlock()
	in.raw.reset()
	return in.cfg.Cut == nil || in.cfg.Cut(&Capture{in: in, Since: time.Now()})
}
