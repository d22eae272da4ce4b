package memsnap

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"slices"

	"perdure/internal/durable"
)

// piece is consecutive pages that are wanted from consecutive positions of one block.
type piece struct {
	page     uint64 // the first, in the memory
	position uint64 // the first, in the file
	count    uint64
}

func (p piece) block() uint64 { return p.position / pagesPerBlock }

// fileWork is all that is wanted of one file, in the order of its blocks.
type fileWork struct {
	file   *genFile
	pieces []piece
}

// task is neighbouring blocks of a file that are read at once.
type task struct {
	file   *genFile
	pieces []piece
}

func (t *task) pages() uint64 {
	var n uint64
	for _, p := range t.pieces {
		n += p.count
	}
	return n
}

func pagesOf(work []task) uint64 {
	var n uint64
	for i := range work {
		n += work[i].pages()
	}
	return n
}

// readSize bounds what is read at once.
const readSize = 1 << 20

// gather collects what is wanted of the pages from page from up to page to: the first copy of each page or, with copies, all copies.
func (g *Generation) gather(from, to uint64, copies bool) []*fileWork {
	work := map[uint64]*fileWork{}
	var last *fileWork
	var lastNumber uint64
	add := func(page uint64, l backlink) {
		if number := l.generation(); last == nil || number != lastNumber {
			if last = work[number]; last == nil {
				last = &fileWork{file: g.files[number]}
				work[number] = last
			}
			lastNumber = number
		}
		position := l.position()
		if n := len(last.pieces); n > 0 {
			p := &last.pieces[n-1]
			if p.page+p.count == page && p.position+p.count == position && position%pagesPerBlock != 0 {
				p.count++
				return
			}
		}
		last.pieces = append(last.pieces, piece{page, position, 1})
	}
	var further []backlink
	for page := from; page < to; page++ {
		l := g.pages.links[page]
		if l == 0 {
			continue
		}
		add(page, l)
		if copies {
			further = g.pages.further(page, further[:0])
			for _, l := range further {
				add(page, l)
			}
		}
	}
	list := make([]*fileWork, 0, len(work))
	for _, w := range work {
		byPosition := func(a, b piece) int { return int(int64(a.position) - int64(b.position)) }
		if !slices.IsSortedFunc(w.pieces, byPosition) {
			slices.SortFunc(w.pieces, byPosition)
		}
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b *fileWork) int { return int(int64(a.file.number) - int64(b.file.number)) })
	return list
}

// tasks divides the work. A task's blocks follow each other without gaps.
func tasks(list []*fileWork) []task {
	var out []task
	for _, w := range list {
		offsets := w.file.blocks.offsets
		from := 0
		for i := 1; i <= len(w.pieces); i++ {
			if i < len(w.pieces) {
				block, before := w.pieces[i].block(), w.pieces[i-1].block()
				if block == before || block == before+1 && offsets[block+1]-offsets[w.pieces[from].block()] <= readSize {
					continue
				}
			}
			out = append(out, task{w.file, w.pieces[from:i]})
			from = i
		}
	}
	return out
}

// readAll reads all pages from page from up to page to into memory and checks them; without memory it only checks. With strong the SHA-256 of each block
// and further copies of pages are checked too, and the first damage ends it; else a damaged page is taken from its
// next copy.
func (g *Generation) readAll(ctx context.Context, memory []byte, from, to uint64, strong bool) error {
	return g.carryOut(ctx, tasks(g.gather(from, to, strong)), memory, from, strong, nil)
}

// carryOut is readAll with its tasks at hand.
func (g *Generation) carryOut(ctx context.Context, work []task, memory []byte, from uint64, strong bool, p *progress) error {
	return inParallel(ctx, g.store.restoreWorkers, len(work), func(next func() (int, bool)) error {
		r := blockReader{generation: g, memory: memory, from: from, copies: !strong, strong: strong || g.store.key != nil}
		defer r.close()
		for i, ok := next(); ok; i, ok = next() {
			if err := r.read(&work[i]); err != nil {
				return err
			}
			p.add(work[i].pages())
		}
		return nil
	})
}

// blockReader is one worker's state.
type blockReader struct {
	generation *Generation
	memory     []byte
	from       uint64                   // the page that memory begins with
	copies     bool                     // of a page are tried if the first is bad
	strong     bool                     // checks the SHA-256 of blocks
	bad        func(file, block uint64) // is told of damage, which then is no error

	file    *genFile
	handle  durable.File
	stored  []byte
	scratch []byte
}

func (r *blockReader) close() {
	if r.handle != nil {
		_ = r.handle.Close() // read only
		r.handle, r.file = nil, nil
	}
}

// read carries out one task.
func (r *blockReader) read(t *task) error {
	err := r.fetch(t)
	if err != nil && (!r.copies && r.bad == nil || !IsDamage(err)) {
		return err
	}
	if err != nil && r.bad != nil && t.pieces[0].block() != t.pieces[len(t.pieces)-1].block() {
		return r.apart(t) // one bad sector is not the damage of all
	}
	offsets := t.file.blocks.offsets
	start := offsets[t.pieces[0].block()]
	for from := 0; from < len(t.pieces); {
		block := t.pieces[from].block()
		to := from + 1
		for to < len(t.pieces) && t.pieces[to].block() == block {
			to++
		}
		blockErr := err
		if blockErr == nil {
			blockErr = r.block(t.file, int(block), r.stored[offsets[block]-start:offsets[block+1]-start], t.pieces[from:to])
		}
		if blockErr != nil {
			if !IsDamage(blockErr) {
				return blockErr
			} else if r.bad != nil {
				r.bad(t.file.number, block)
			} else if !r.copies {
				return blockErr
			} else if err := r.fromCopies(t.pieces[from:to], blockErr); err != nil {
				return err
			}
		}
		from = to
	}
	return nil
}

// apart carries out a task block by block.
func (r *blockReader) apart(t *task) error {
	for from := 0; from < len(t.pieces); {
		to := from + 1
		for to < len(t.pieces) && t.pieces[to].block() == t.pieces[from].block() {
			to++
		}
		if err := r.read(&task{t.file, t.pieces[from:to]}); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// fetch reads the bytes of a task's blocks.
func (r *blockReader) fetch(t *task) error {
	if r.file != t.file {
		r.close()
		f, err := r.generation.store.open(t.file.number)
		if err != nil {
			return readError(t.file.path, -1, "file", true, err)
		}
		r.handle, r.file = f, t.file
	}
	at := t.file.blocks.offsets[t.pieces[0].block()]
	size := int(t.file.blocks.offsets[t.pieces[len(t.pieces)-1].block()+1] - at)
	if cap(r.stored) < size {
		r.stored = make([]byte, max(size, min(2*cap(r.stored), readSize)))
	}
	r.stored = r.stored[:size]
	if _, err := r.handle.ReadAt(r.stored, at); err != nil {
		return readError(t.file.path, at, "blocks", true, err)
	}
	return nil
}

// block checks one block and puts the wanted pages in their places.
func (r *blockReader) block(file *genFile, index int, stored []byte, pieces []piece) error {
	e := &file.blocks.entries[index]
	size := int(e.Pages) * PageSize
	whole := r.memory != nil && len(pieces) == 1 && pieces[0].count == uint64(e.Pages)
	var dst []byte
	if whole {
		dst = r.memory[(pieces[0].page-r.from)*PageSize:][:size:size]
	} else {
		if cap(r.scratch) < size {
			r.scratch = make([]byte, size)
		}
		dst = r.scratch[:size]
	}
	if r.strong && sha256.Sum256(stored) != e.SHA256 {
		return r.generation.store.forged(file, index, stored)
	}
	if err := decodeBlock(dst, stored, e); err != nil {
		return &CorruptError{file.path, file.blocks.offsets[index], "block: " + err.Error()}
	}
	if whole || r.memory == nil {
		return nil
	}
	for _, p := range pieces {
		from := p.position % pagesPerBlock
		copy(r.memory[(p.page-r.from)*PageSize:][:p.count*PageSize], dst[from*PageSize:])
	}
	return nil
}

// forged says what a block is whose SHA-256 does not hold: damaged, or, if the CRC holds in a store with a key, not authentic.
func (s *Store) forged(file *genFile, index int, stored []byte) error {
	if s.key != nil && crc32.Checksum(stored, castagnoli) == file.blocks.entries[index].StoredCRC {
		return &KeyError{file.path, fmt.Sprintf("the block at byte %d was tampered with", file.blocks.offsets[index])}
	}
	return &CorruptError{file.path, file.blocks.offsets[index], "block: SHA-256 mismatch"}
}

// fromCopies takes the pages, whose first copies failed with cause, from their further copies.
func (r *blockReader) fromCopies(pieces []piece, cause error) error {
	g := r.generation
	for _, p := range pieces {
		for page := p.page; page < p.page+p.count; page++ {
			err := cause
			for _, l := range g.pages.further(page, nil) {
				if err = g.readLink(l, r.memory[(page-r.from)*PageSize:][:PageSize]); err == nil || !IsDamage(err) {
					break
				}
			}
			if err != nil {
				return fmt.Errorf("page %d: %w", page, cause)
			}
			g.passedOver(fmt.Errorf("page %d: %w", page, cause))
		}
	}
	return nil
}

// verify checks everything that the generation needs, once more from disk.
func (g *Generation) verify(ctx context.Context) error {
	fresh, err := g.store.load(ctx, g.file.number)
	if err != nil {
		return err
	}
	if fresh.file.footer.Root != g.file.footer.Root {
		return &CorruptError{g.file.path, -1, "the file is another one than when it was opened"}
	}
	for _, err := range fresh.damagedFiles() {
		return err
	}
	for i := range fresh.file.sections {
		if _, err := fresh.readSection(&fresh.file.sections[i]); err != nil {
			return fmt.Errorf("section %q: %w", fresh.file.sections[i].name, err)
		}
	}
	work := tasks(fresh.gather(0, fresh.Pages(), true))
	return fresh.carryOut(ctx, work, nil, 0, true, g.store.progress(pagesOf(work)))
}
