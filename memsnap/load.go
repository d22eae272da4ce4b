package memsnap

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// load reads a generation's archives and the metadata of all files that it needs.
func (s *Store) load(ctx context.Context, number uint64) (*Generation, error) {
	file, err := s.loadGenFile(number, false)
	if err != nil {
		return nil, err
	}
	g := &Generation{store: s, file: file, files: map[uint64]*genFile{number: file}, lost: map[uint64]error{}}
	if err := g.loadChain(ctx); err != nil {
		return nil, err
	}
	if err := g.loadFiles(ctx); err != nil {
		return nil, err
	}
	if err := g.doWithout(); err != nil {
		return nil, err
	}
	if err := g.checkFiles(); err != nil {
		return nil, err
	}
	for _, f := range g.files { // no longer needed; the generation may be kept open for long
		if f != file {
			f.archive, f.sections = nil, nil
		}
	}
	return g, nil
}

// loadOther loads a file that the generation needs.
func (g *Generation) loadOther(number uint64) (*genFile, error) {
	f, err := g.store.loadGenFile(number, true)
	if err != nil {
		return nil, fmt.Errorf("it needs generation %d: %w", number, err)
	}
	return f, nil
}

// loadBlocksOf is loadOther for one whose blocks or sections alone are needed.
func (g *Generation) loadBlocksOf(number uint64) (*genFile, error) {
	f, err := g.store.loadBlocks(number)
	if err != nil {
		return nil, fmt.Errorf("it needs generation %d: %w", number, err)
	}
	return f, nil
}

// loadChain goes along the chain of archives until all pages are known.
func (g *Generation) loadChain(ctx context.Context) error {
	loader := newMapLoader(g.file.archive.head.Pages)
	for part := g.file; ; {
		done, err := loader.add(part.path, part.number, part.footer.Root.tag(), part.archive)
		if err != nil {
			return err
		}
		if done {
			g.pages = loader.m
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		older, err := g.loadOther(part.archive.head.Previous)
		if err != nil {
			return err
		}
		g.files[older.number] = older
		if older.footer.Root != part.archive.head.PreviousRoot {
			return &CorruptError{older.path, -1, fmt.Sprintf("this is not the file that generation %d leans on", part.number)}
		}
		part = older
	}
}

// loadFiles loads the other files that backlinks and sections point to. There may be many, so it goes in parallel.
func (g *Generation) loadFiles(ctx context.Context) error {
	var missing []uint64
	for number := range g.pages.refs {
		if g.files[number] == nil {
			missing = append(missing, number)
		}
	}
	for _, sec := range g.file.sections {
		if g.files[sec.Generation] == nil {
			missing = append(missing, sec.Generation)
		}
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	loaded, bad := make([]*genFile, len(missing)), make([]error, len(missing))
	err := inParallel(ctx, g.store.restoreWorkers, len(missing), func(next func() (int, bool)) (err error) {
		for i, ok := next(); ok; i, ok = next() {
			if loaded[i], err = g.loadBlocksOf(missing[i]); err == nil {
				continue
			}
			if !IsDamage(err) || !g.pages.copies() {
				return err
			}
			bad[i] = err
		}
		return nil
	})
	for i, f := range loaded {
		if f != nil {
			g.files[missing[i]] = f
		}
		if bad[i] != nil {
			g.lost[missing[i]] = bad[i]
		}
	}
	return err
}

// checkFile checks that a file is the one that backlinks mean, and holds what they point to.
func (g *Generation) checkFile(f *genFile, ref *mapRef) error {
	if f.footer.Root.tag() != ref.tag {
		return &CorruptError{f.path, -1, fmt.Sprintf("this is not the file that generation %d leans on", g.file.number)}
	}
	if ref.last >= f.blocks.pages() {
		return &CorruptError{f.path, -1, fmt.Sprintf("a page is missing that generation %d needs", g.file.number)}
	}
	return nil
}

// doWithout takes the backlinks to files that are damaged out of the map. The error is the damage of a file that holds the
// only copy of something.
func (g *Generation) doWithout() error {
	if g.pages.copies() {
		for number, ref := range g.pages.refs {
			if f := g.files[number]; f != nil && number != g.file.number {
				if err := g.checkFile(f, ref); err != nil {
					g.lost[number] = err
				}
			}
		}
	}
	if len(g.lost) == 0 {
		return nil
	}
	for _, sec := range g.file.sections {
		if err := g.lost[sec.Generation]; err != nil {
			return err
		}
	}
	if only := g.pages.drop(g.lost); only != 0 {
		return g.lost[only]
	}
	return nil
}

// checkFiles checks that the files are those that were meant and hold what is pointed to.
func (g *Generation) checkFiles() error {
	for number, ref := range g.pages.refs {
		if err := g.checkFile(g.files[number], ref); err != nil {
			return err
		}
	}
	for _, sec := range g.file.sections {
		f := g.files[sec.Generation]
		if f.hurt != nil {
			continue // the entry of this generation has to do: it has place, length and SHA-256
		}
		if own, ok := f.sections.find(sec.name); !ok || own.sectionEntry != sec.sectionEntry {
			return &CorruptError{f.path, -1, fmt.Sprintf("a section is missing that generation %d needs", g.file.number)}
		}
	}
	return nil
}

// inParallel runs several workers that take the numbers from 0 up to n from next. It returns when all have ended, with
// the first error or that of ctx; after an error there is no next.
func inParallel(ctx context.Context, workers, n int, worker func(next func() (int, bool)) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var taken atomic.Int64
	next := func() (int, bool) {
		i := int(taken.Add(1)) - 1
		return i, i < n && ctx.Err() == nil
	}
	var running sync.WaitGroup
	for range min(workers, n) {
		running.Go(func() {
			if err := worker(next); err != nil {
				cancel(err)
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}
