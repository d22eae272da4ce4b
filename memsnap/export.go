package memsnap

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"

	"perdure/internal/durable"
)

// exportWindow is how many pages are read into memory at once for an export.
const exportWindow = 4096

// Export writes the generation as one self-contained file, which leans on no other. It is a generation's file as of
// FORMAT.md, with base 0. Everything that is read is checked; of a page with several copies the first good one is taken, and Bad tells the
// others. After an error what was written is useless, and Import refuses it.
func (g *Generation) Export(ctx context.Context, to io.Writer) error {
	return g.ExportWith(ctx, to, nil)
}

// ExportWith is Export with other contents for some of the sections. Those that the generation does not have are left out.
func (g *Generation) ExportWith(ctx context.Context, to io.Writer, sections map[string][]byte) error {
	if err := g.usable(); err != nil {
		return err
	}
	if err := g.export(ctx, to, sections); err != nil {
		return fmt.Errorf("export generation %d: %w", g.file.number, err)
	}
	return nil
}

// stream lets an output write to an io.Writer.
type stream struct {
	durable.File
	to io.Writer
}

func (s stream) WriteAt(p []byte, _ int64) (int, error) { return s.to.Write(p) }
func (stream) StartWriteback(int64, int64)              {}

func (g *Generation) export(ctx context.Context, to io.Writer, instead map[string][]byte) error {
	number := g.file.number
	out := &output{file: stream{to: to}}
	head := g.store.fileHead(number, 0, number)
	if err := out.write(head); err != nil {
		return err
	}
	foot := footer{Magic: footerMagic, Generation: number}
	entries, changes, stored, err := g.exportBlocks(ctx, out)
	if err != nil {
		return err
	}
	foot.BlocksSize = uint64(out.offset) - headerSize
	sectionsAt := out.offset
	table := make(sectionTable, 0, len(g.file.sections))
	raw := stored * PageSize
	for i := range g.file.sections {
		data, ok := instead[g.file.sections[i].name]
		if !ok {
			var err error
			if data, err = g.readSection(&g.file.sections[i]); err != nil {
				return fmt.Errorf("section %q: %w", g.file.sections[i].name, err)
			}
		} else if len(data) > maxSectionSize {
			return fmt.Errorf("section %q of %d bytes: %w", g.file.sections[i].name, len(data), ErrRange)
		}
		packed, entry := encodeSection(data)
		entry.Generation, entry.Offset = number, uint64(out.offset)
		raw += entry.RawSize
		table = append(table, section{g.file.sections[i].name, entry})
		if err := out.write(packed); err != nil {
			return err
		}
	}
	foot.SectionsSize = uint64(out.offset - sectionsAt)

	m := metadataWriter{}
	foot.BlockTableSize, foot.BlockTableCRC = m.part(appendBlockTable(nil, entries))
	all := archiveBudget{bytes: maxArchiveSize, pages: maxPages}
	archive := encodeArchive(number, archiveHead{Pages: g.Pages(), Flags: archiveResized}, newPageMap(), changes, 0, all)
	foot.ArchiveSize, foot.ArchiveCRC = m.part(archive)
	foot.SectionTableSize, foot.SectionTableCRC = m.part(appendSectionTable(nil, table))
	info := g.file.info
	info.PagesNew, info.PagesLinked, info.PagesCopied = stored, 0, 0
	info.PagesZero = g.Pages() - stored
	info.PreviousSync, info.PreviousSyncOf = 0, 0
	info.BytesRaw = raw
	info.BytesStored = uint64(out.offset) + uint64(len(m.bytes)) + infoSize + footerSize
	foot.InfoSize, foot.InfoCRC = m.part(appendFixed(nil, info))
	foot.FileSize = info.BytesStored
	m.seal(g.store.key, head, foot)
	return out.write(m.bytes)
}

// exportBlocks writes the blocks of all pages that are not zero.
func (g *Generation) exportBlocks(ctx context.Context, out *output) (entries []blockEntry, changes []change, stored uint64, err error) {
	memory := make([]byte, min(exportWindow, g.Pages())*PageSize)
	var waiting []byte // pages that do not fill a block yet
	block := make([]byte, 0, blockSize)
	scratch := make([]byte, 0, blockSize+blockSize/8)
	flush := func(n int) error {
		var e blockEntry
		block, e = encodeBlock(append(block[:0], waiting[:n]...), 0, scratch)
		waiting = append(waiting[:0], waiting[n:]...)
		entries = append(entries, e)
		return out.write(block)
	}
	progress := g.store.progress(g.Pages())
	for first := uint64(0); first < g.Pages(); first += exportWindow {
		if ctx.Err() != nil {
			return nil, nil, 0, context.Cause(ctx)
		}
		end := min(first+exportWindow, g.Pages())
		if err := g.readAll(ctx, memory, first, end, false); err != nil {
			return nil, nil, 0, err
		}
		for page := first; page < end; page++ {
			if g.pages.links[page] == 0 {
				continue
			}
			if n := len(changes); n > 0 && changes[n-1].end() == page {
				changes[n-1].count++
			} else {
				changes = append(changes, change{first: page, count: 1, link: makeBacklink(g.file.number, stored)})
			}
			stored++
			waiting = append(waiting, memory[(page-first)*PageSize:][:PageSize]...)
			if len(waiting) == blockSize {
				if err := flush(blockSize); err != nil {
					return nil, nil, 0, err
				}
			}
		}
		progress.add(end - first)
	}
	if len(waiting) > 0 {
		err = flush(len(waiting))
	}
	return entries, changes, stored, err
}

// Readable reads everything that the generation needs and says whether all of it can be had, each page from one of its
// copies. Bad tells of the others.
func (g *Generation) Readable(ctx context.Context) error {
	if err := g.usable(); err != nil {
		return err
	}
	memory := make([]byte, min(exportWindow, g.Pages())*PageSize)
	for first := uint64(0); first < g.Pages(); first += exportWindow {
		if err := g.readAll(ctx, memory, first, min(first+exportWindow, g.Pages()), false); err != nil {
			return fmt.Errorf("read generation %d: %w", g.file.number, err)
		}
	}
	for i := range g.file.sections {
		if _, err := g.readSection(&g.file.sections[i]); err != nil {
			return fmt.Errorf("read generation %d: section %q: %w", g.file.number, g.file.sections[i].name, err)
		}
	}
	return nil
}

// ExportArchive writes the generation's own file as it is, from which ImportArchive can put it back in its place if it
// is damaged there. Only its metadata is checked.
func (s *Store) ExportArchive(ctx context.Context, number uint64, to io.Writer) error {
	wrap := func(err error) error { return fmt.Errorf("export archive %d: %w", number, err) }
	if _, err := s.loadGenFile(number, false); err != nil {
		return wrap(s.unlessPurged(number, err))
	}
	f, err := s.open(number)
	if err != nil {
		return wrap(err)
	}
	defer f.Close() // read only
	size, err := f.Size()
	if err != nil {
		return wrap(err)
	}
	buffer := make([]byte, min(size, readSize))
	progress := s.progress(uint64(size) / PageSize)
	for at := int64(0); at < size; {
		if ctx.Err() != nil {
			return wrap(context.Cause(ctx))
		}
		n := min(int64(len(buffer)), size-at)
		if _, err := f.ReadAt(buffer[:n], at); err != nil {
			return wrap(readError(fileName(number), at, "file", false, err))
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return wrap(err)
		}
		at += n
		progress.add(uint64(n) / PageSize)
	}
	return nil
}

// checkContent reads all blocks and sections that are in the file and checks them. holes allows blocks that are zero
// throughout, as those are that nobody needed any more.
func (s *Store) checkContent(ctx context.Context, f durable.File, g *genFile, holes bool) error {
	dst := make([]byte, blockSize)
	stored := make([]byte, blockSize)
	for i := range g.blocks.entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := &g.blocks.entries[i]
		at := g.blocks.offsets[i]
		b := stored[:e.StoredSize]
		if _, err := f.ReadAt(b, at); err != nil {
			return readError(g.path, at, "block", false, err)
		}
		err := decodeBlock(dst[:int(e.Pages)*PageSize], b, e)
		if err == nil && !sameSHA(b, e.SHA256) {
			return s.forged(g, i, b)
		}
		if err != nil && !(holes && zero(b)) {
			return &CorruptError{g.path, at, "block: " + err.Error()}
		}
	}
	for i := range g.sections {
		sec := &g.sections[i]
		if sec.Generation != g.number {
			continue
		}
		b := make([]byte, sec.StoredSize)
		if _, err := f.ReadAt(b, int64(sec.Offset)); err != nil {
			return readError(g.path, int64(sec.Offset), "section", false, err)
		}
		if crc32.Checksum(b, castagnoli) != sec.StoredCRC && holes && zero(b) {
			continue
		}
		if _, err := decodeSection(g.path, b, &sec.sectionEntry); err != nil {
			return err
		}
	}
	return nil
}
