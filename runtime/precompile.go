package runtime

import (
	"context"
	"time"

	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/instrument"
)

// precompileShare is the part of the time that precompiling may take: it uses the
// processor that the guest does not.
const precompileShare = 0.1

// maxPrecompiled is how many stacks are remembered as done. It is less than what the cache
// keeps, so that what counts as done is there.
const maxPrecompiled = maxMachineFiles / 2

// precompiler compiles, after a generation, the cold code that its restore will need,
// into the compilation cache. That code depends only on where the guest's frames stand,
// and a guest is mostly found at the same places.
type precompiler struct {
	done  map[string]bool
	after time.Time
}

func (c *precompiler) run(p *engine.Program, cache *machineCache, im *engine.Image) {
	now := time.Now()
	if now.Before(c.after) {
		return
	}
	key := instrument.PointsKey(engine.Points(im))
	if c.done[key] {
		return
	}
	if c.done == nil || len(c.done) == maxPrecompiled {
		c.done = map[string]bool{}
	}
	c.done[key] = true
	if err := p.Precompile(context.Background(), im); err != nil {
		return // the restore will meet the same error and tell it
	}
	if err := cache.seal(); err != nil {
		return // the restore compiles it again
	}
	took := time.Since(now)
	c.after = time.Now().Add(time.Duration(float64(took) * (1/precompileShare - 1)))
}
