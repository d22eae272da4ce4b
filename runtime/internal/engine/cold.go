package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"perdure/runtime/internal/instrument"
)

// maxCold is how many resume modules an instance keeps. A guest that has to be forced
// again and again is found at a few places only.
const maxCold = 4

// coldCache holds the resume modules of an instance, most recently used first.
type coldCache struct {
	entries []*coldModule
}

type coldModule struct {
	points   []instrument.Point
	compiled wazero.CompiledModule
	module   api.Module
}

func (c *coldModule) close(ctx context.Context) error {
	var errs []error
	if c.module != nil {
		errs = append(errs, c.module.Close(ctx))
	}
	if c.compiled != nil {
		errs = append(errs, c.compiled.Close(ctx))
	}
	return errors.Join(errs...)
}

// get returns the module that resumes stacks with these points. No cold code may be
// on the native stack.
func (c *coldCache) get(in *Instance, points []instrument.Point) (*coldModule, error) {
	for i, m := range c.entries {
		if slices.Equal(m.points, points) {
			copy(c.entries[1:], c.entries[:i])
			c.entries[0] = m
			return m, nil
		}
	}
	code, err := in.program.meta.Resume(points)
	if err != nil {
		return nil, err
	}
	m := &coldModule{points: points}
	if m.compiled, err = in.program.engine.rt.CompileModule(in.ctx, code); err != nil {
		return nil, fmt.Errorf("compile resume module: %w", err)
	}
	m.module, err = in.program.engine.rt.InstantiateModule(in.ctx, m.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("instantiate resume module: %w", err), m.close(in.ctx))
	}
	c.entries = append([]*coldModule{m}, c.entries...)
	for len(c.entries) > maxCold {
		last := c.entries[len(c.entries)-1]
		c.entries = c.entries[:len(c.entries)-1]
		if err := last.close(in.ctx); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (c *coldCache) close(ctx context.Context) error {
	var errs []error
	for _, m := range c.entries {
		errs = append(errs, m.close(ctx))
	}
	c.entries = nil
	return errors.Join(errs...)
}

// Prepare makes ready what Resume needs for an image.
func (in *Instance) Prepare(im *Image) error {
	_, err := in.cold.get(in, Points(im))
	return err
}

// Precompile compiles the resume module for an image, so that the compilation cache has
// it when the image is restored. It may run beside a guest.
func (p *Program) Precompile(ctx context.Context, im *Image) error {
	if len(im.Frames) == 0 {
		return nil
	}
	code, err := p.meta.Resume(Points(im))
	if err != nil {
		return err
	}
	compiled, err := p.engine.rt.CompileModule(ctx, code)
	if err != nil {
		return err
	}
	return compiled.Close(ctx)
}
