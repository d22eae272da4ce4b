package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"perdure/memsnap"
	"perdure/runtime/internal/linmem"
	"perdure/runtime/internal/wasm"
)

// A page whose copy finds no memory is dirty again afterwards.
func TestNoMemoryForCopies(t *testing.T) {
	s := named(t, "tree")
	for fails := 1; fails <= 2; fails++ {
		b := newBench(t, s, s.Args)
		p := b.open()
		defer p.Close()
		if _, ok := p.inst.Module().Memory().Grow(2 * stagingChunk / wasmPageSize); !ok {
			t.Fatal("memory does not grow")
		}
		memory := p.mem.Bytes()
		for i := 0; i < len(memory); i += memsnap.PageSize {
			memory[i] |= 1
		}
		c, maps := &p.cutter, 0
		c.staging.refuse = func() error {
			if maps++; maps == fails {
				return errors.New("none")
			}
			return nil
		}
		if _, err := c.one(p, cutRequest{}); err == nil {
			t.Fatal("a generation without memory for it")
		}
		c.staging.reset()
		if err := p.mem.Collect(c.staging.add); err != nil || c.staging.err != nil {
			t.Fatal(err, c.staging.err)
		}
		got := make([]byte, len(memory))
		for _, r := range c.staging.runs {
			copy(got[r.first*memsnap.PageSize:], r.data)
		}
		if !bytes.Equal(got, memory) {
			t.Errorf("after failure %d to map memory, pages are missing", fails)
		}
	}
}

// endless are arguments of the guest tree with which it does not end while a test runs.
var endless = []string{"100000000", "/copy"}

// A guest that shall stop does so when no generation can be made, and the caller is told.
func TestSuspendUnsaved(t *testing.T) {
	s := named(t, "tree")
	b := newBench(t, s, endless)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	broken := errors.New("broken")
	r, err := b.life(ctx, func(p *Process) { p.cutter.broken = broken })
	if !r.Suspended || !errors.Is(err, broken) {
		t.Errorf("got %+v, %v", r, err)
	}
}

// A generation that a newer program wrote is not passed over: what it holds would be lost.
func TestUnknownVersions(t *testing.T) {
	s := named(t, "tree")
	for _, section := range []string{sectionProcess, sectionStack, sectionWASI} {
		b := newBench(t, s, endless)
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if r, err := b.life(ctx, nil); err != nil || !r.Suspended {
				t.Fatal(r, err)
			}
			cancel()
		}
		rewrite(t, b.opt.Dir, section, func(old []byte) []byte {
			if section == sectionStack {
				return append([]byte{99}, old[1:]...)
			}
			var v map[string]any
			if err := json.Unmarshal(old, &v); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(map[string]any{"version": 99, "phase": v})
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
		p, err := Open(t.Context(), b.opt)
		if !errors.Is(err, memsnap.ErrVersion) {
			t.Errorf("%s: got %v", section, err)
		}
		if p != nil {
			p.Close()
		}
		if l := all[SkippedEvent](b.rec); len(l) > 0 {
			t.Errorf("%s: passed over %v", section, l)
		}
	}
}

// rewrite makes a generation that is the newest one but for a section.
func rewrite(t testing.TB, dir, section string, change func([]byte) []byte) {
	t.Helper()
	store, err := memsnap.Open(filepath.Join(dir, generationsDir), memsnap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := store.OpenNewest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	w, err := store.Begin(g.Info().Number)
	if err != nil {
		t.Fatal(err)
	}
	w.SetPages(g.Pages())
	for _, name := range g.Sections() {
		b, err := g.Section(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == section {
			b = change(b)
		}
		if err := w.PutSection(name, b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Only a size that the program's memory cannot have is damage.
func TestGrowTo(t *testing.T) {
	s := named(t, "tree")
	b := newBench(t, s, s.Args)
	p := b.open()
	defer p.Close()
	have := uint64(len(p.mem.Bytes()))
	for _, size := range []uint64{have - wasmPageSize, have + 1, linmem.MaxLimit + wasmPageSize} {
		if err := p.growTo(size); !errors.Is(err, ErrBadState) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if err := p.growTo(have + wasmPageSize); err != nil {
		t.Error(err)
	}
	// A memory that is closed refuses to grow, as it does when the machine has no room.
	if err := p.mem.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.growTo(have + 2*wasmPageSize); err == nil || errors.Is(err, ErrBadState) {
		t.Errorf("without room: %v", err)
	}
	p.module = &wasm.Module{}
	if err := p.growTo(have + 2*wasmPageSize); !errors.Is(err, ErrBadState) {
		t.Errorf("without a memory: %v", err)
	}
}
