package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"perdure/internal/durable"
	"perdure/memsnap"
)

// Copied says what was taken of a process by Export or Fork.
type Copied struct {
	Generation memsnap.Info      // as the process has it
	Skipped    []memsnap.Skipped // newer ones that are damaged, if the newest was asked for
	Bad        []error           // copies of pages that are damaged, and did no harm because there were others
}

// Fork makes a new process, in a directory that must not exist, from a generation of this
// one; 0 stands for the newest that is well. The two have nothing in common from then on but
// the world outside. The new process has this one generation, with number 1, and the program
// that belongs to it, and goes on from the moment of the generation: the journal of what came
// after it stays behind. It is wholly there or not at all. A worker may run this process
// meanwhile. Errors are ErrProcessExists, memsnap.ErrNotFound, and those of damage.
func (s *Saved) Fork(ctx context.Context, generation uint64, dir string, o memsnap.Options) (Copied, error) {
	from, c, err := s.take(ctx, generation)
	if err != nil {
		return c, err
	}
	program, err := s.programOf(from)
	if err != nil {
		return c, err
	}
	err = create(dir, func(dir string) error {
		if program != nil {
			if err := durable.WriteFile(durable.OS, filepath.Join(dir, programFile), program, 0o600); err != nil {
				return err
			}
		}
		store, err := memsnap.Open(filepath.Join(dir, generationsDir), o)
		if err != nil {
			return err
		}
		return from.copyTo(ctx, store)
	})
	c.Bad = from.generation.Bad()
	return c, err
}

// take opens a generation to be copied.
func (s *Saved) take(ctx context.Context, generation uint64) (*savedProcess, Copied, error) {
	// An export cannot begin again when it meets damage: the newest is read before.
	from, skipped, err := s.openIf(ctx, generation, func(g *memsnap.Generation) error { return g.Readable(ctx) })
	c := Copied{Skipped: skipped}
	if err != nil {
		return nil, c, err
	}
	c.Generation = from.generation.Info()
	return from, c, nil
}

// programOf returns the program that belongs to a generation. It is nil when the process has
// ended and does not need one any more.
func (s *Saved) programOf(p *savedProcess) ([]byte, error) {
	program, err := s.program(p.state.Program)
	if err != nil && p.state.Phase == phaseEnded {
		return nil, nil
	}
	return program, err
}

// export writes the generation as one that leans on no other, nor on a journal.
func (s *savedProcess) export(ctx context.Context, to io.Writer) error {
	process, err := s.state.alone()
	if err != nil {
		return err
	}
	return s.generation.ExportWith(ctx, to, map[string][]byte{sectionProcess: process})
}

// copyTo makes the generation one of another store.
func (s *savedProcess) copyTo(ctx context.Context, to *memsnap.Store) error {
	r, w := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		err := s.export(ctx, w)
		w.CloseWithError(err) // nil is the end of the stream
		exported <- err
	}()
	_, err := to.Import(ctx, r)
	r.CloseWithError(errStopped) // so that the export ends if the import did
	if eerr := <-exported; eerr != nil && !errors.Is(eerr, errStopped) {
		return eerr // the import's error follows from it
	}
	if err != nil {
		return fmt.Errorf("copy generation %d: %w", s.generation.Info().Number, err)
	}
	return nil
}

var errStopped = errors.New("nobody reads any more")
