package runtime

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"perdure/memsnap"
)

// Contents is what a generation consists of.
type Contents struct {
	Generation memsnap.Info
	Skipped    []memsnap.Skipped // newer ones that are damaged, if the newest was asked for
	// State is what the generation says of its process. Unread says why it could not be read.
	State  SavedState
	Unread error
	// Sections are sorted by their names, Runs are the archive, in the order of the memory.
	Sections []memsnap.SectionInfo
	Runs     []memsnap.PageRun
}

// Contents tells of what a generation consists; 0 stands for the newest that is well. The
// pages themselves are not read.
func (s *Saved) Contents(ctx context.Context, generation uint64) (*Contents, error) {
	g, skipped, err := s.openGeneration(ctx, generation)
	if err != nil {
		return nil, err
	}
	c := &Contents{Generation: g.Info(), Skipped: skipped, Sections: g.SectionInfos()}
	for r := range g.Runs() {
		c.Runs = append(c.Runs, r)
	}
	saved, err := readGeneration(g)
	if err != nil {
		c.Unread = err
		return c, nil
	}
	c.State = saved.summary()
	return c, nil
}

// Section reads and checks a section of a generation; 0 stands for the newest that is well.
// memsnap.ErrNoSection says that it has none of that name.
func (s *Saved) Section(ctx context.Context, generation uint64, name string) ([]byte, error) {
	g, _, err := s.openGeneration(ctx, generation)
	if err != nil {
		return nil, err
	}
	return g.Section(name)
}

// Memory writes the linear memory of a generation, as it was; 0 stands for the newest that
// is well. Every page is checked before it is written.
func (s *Saved) Memory(ctx context.Context, generation uint64, to io.Writer) error {
	g, _, err := s.openGeneration(ctx, generation)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(to, 1<<20)
	var page [memsnap.PageSize]byte
	for i := range g.Pages() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := g.ReadPage(i, page[:]); err != nil {
			return err
		}
		if _, err := w.Write(page[:]); err != nil {
			return fmt.Errorf("write page %d: %w", i, err)
		}
	}
	return w.Flush()
}

// Diff compares two generations.
func (s *Saved) Diff(ctx context.Context, before, after uint64) (*memsnap.Difference, error) {
	return s.store.Diff(ctx, before, after)
}
