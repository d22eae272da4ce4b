package memsnap

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"time"

	"perdure/internal/durable"
)

// Commit publishes the generation; when it returns without error, the generation is durable. On an error nothing is
// published, the store is as before, and the caller may begin again. The session is over in either case. A cancelled
// context ends the commit early.
func (w *Session) Commit(ctx context.Context) (Info, error) {
	if w.over {
		return Info{}, w.overError("commit")
	}
	info, head, err := w.commit(ctx)
	w.end(head)
	if err != nil {
		return Info{}, fmt.Errorf("commit generation %d: %w", w.number, err)
	}
	return info, nil
}

func (w *Session) commit(ctx context.Context) (Info, *baseline, error) {
	s := w.store
	start := time.Now()
	runs := w.merged()
	if w.pages > maxPages || len(runs) > 0 && runs[len(runs)-1].end() > w.pages {
		return Info{}, nil, fmt.Errorf("pages were put beyond the memory of %d pages: %w", w.pages, ErrRange)
	}
	if err := ctx.Err(); err != nil {
		return Info{}, nil, context.Cause(ctx)
	}
	if err := s.makeRoom(ctx, w.base.number); err != nil {
		return Info{}, nil, err
	}
	w.cursor = w.base.copyCursor
	if !w.repair {
		w.requests = w.due(runs)
	}
	runs, copied, err := w.withCopies(ctx, runs, w.requests)
	if err != nil {
		return Info{}, nil, fmt.Errorf("read pages that are due for a copy: %w", err)
	}
	path := filepath.Join(s.dir, fileName(w.number))
	tempPath := path + durable.TempSuffix
	// An earlier attempt that could not clear up after itself.
	if err := s.fsys.Remove(tempPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Info{}, nil, fmt.Errorf("remove leftover temporary file: %w", err)
	}
	f, err := s.fsys.Create(tempPath, 0o600)
	if err != nil {
		return Info{}, nil, fmt.Errorf("create temporary file: %w", err)
	}
	built, err := w.write(ctx, f, runs, copied, start)
	if err != nil {
		return Info{}, nil, errors.Join(err, durable.Discard(s.fsys, f, tempPath))
	}
	// From here on a file may come to bear the number, whatever is reported: it is not used again.
	s.mu.Lock()
	s.highest = w.number
	s.mu.Unlock()
	syncStart := time.Now()
	if err := durable.Publish(s.fsys, f, tempPath, path); err != nil {
		return Info{}, nil, err
	}

	head := w.base // nobody else uses it: it is brought to the new generation in place
	head.pages.apply(w.number, built.root.tag(), w.pages, built.changes)
	head.previous, head.prevRoot = built.archive.Previous, built.archive.PreviousRoot
	head.number, head.line, head.root, head.inChain = w.number, w.line, built.root, built.inChain
	head.cursor, head.copyCursor, head.sections = built.archive.CompleteEnd, w.cursor, built.sections
	head.sync, head.runs = time.Since(syncStart), len(w.runs)
	s.published(w.number, w.line)
	info := built.info.info(w.number, built.baseNumber)
	info.Sync = head.sync
	return info, head, nil
}

// built is what a written but unpublished generation comes to.
type built struct {
	baseNumber uint64
	root       hash256
	changes    []change
	archive    archiveHead
	inChain    bool
	sections   sectionTable
	info       infoRecord
}

// write writes the whole file.
func (w *Session) write(ctx context.Context, f durable.File, runs []run, copied uint64, start time.Time) (*built, error) {
	stored, changes, put := w.split(runs)
	b := &built{baseNumber: w.base.number, changes: changes}
	foot := footer{Magic: footerMagic, Generation: w.number}
	out := &output{file: f}

	head := w.store.fileHead(w.number, w.base.number, w.line)
	if err := out.write(head); err != nil {
		return nil, err
	}
	entries, err := w.writeBlocks(ctx, out, stored)
	if err != nil {
		return nil, err
	}
	foot.BlocksSize = uint64(out.offset) - headerSize
	sectionsAt := uint64(out.offset)
	var rawSections uint64
	if b.sections, rawSections, err = w.tableOfSections(sectionsAt, out.write); err != nil {
		return nil, err
	}
	foot.SectionsSize = uint64(out.offset) - sectionsAt

	var storedPages uint64
	for _, r := range stored {
		storedPages += r.end() - r.first
	}
	m := metadataWriter{}
	foot.BlockTableSize, foot.BlockTableCRC = m.part(appendBlockTable(nil, entries))
	foot.ArchiveSize, foot.ArchiveCRC = m.part(w.encodeArchive(b, storedPages))
	foot.SectionTableSize, foot.SectionTableCRC = m.part(appendSectionTable(nil, b.sections))

	zeroPages := w.zeroPages(changes)
	b.info = infoRecord{
		Version: infoVersion, Time: w.commitTime().UnixNano(),
		Pages: w.pages, PagesPut: put, PagesNew: storedPages, PagesZero: zeroPages,
		PagesLinked: w.pages - storedPages - zeroPages, PagesCopied: copied,
		BytesRaw: storedPages*PageSize + rawSections, BytesStored: uint64(out.offset) + uint64(len(m.bytes)) + infoSize + footerSize,
		Pause: int64(w.pause), Encode: int64(time.Since(start)),
		PreviousSync: int64(w.base.sync), PreviousSyncOf: w.base.number,
	}
	foot.InfoSize, foot.InfoCRC = m.part(appendFixed(nil, b.info))
	foot.FileSize = b.info.BytesStored
	b.root = m.seal(w.store.key, head, foot)
	return b, out.write(m.bytes)
}

func (w *Session) commitTime() time.Time {
	if w.time.IsZero() {
		return w.store.now()
	}
	return w.time
}

// fileHead returns the header of a file.
func (s *Store) fileHead(number, base, line uint64) []byte {
	h := header{
		Magic: headerMagic, Version: formatVersion, HeaderSize: headerSize, Generation: number, Base: base,
		PageSize: PageSize, PagesPerBlock: pagesPerBlock, Line: line,
	}
	if s.key != nil {
		h.Flags = headerKeyed
	}
	b := appendFixed(nil, h)
	sealCRC(b)
	return b
}

// metadataWriter puts together what comes after blocks and sections.
type metadataWriter struct{ bytes []byte }

// part adds a part and returns its size and CRC.
func (m *metadataWriter) part(encoded []byte) (uint64, uint32) {
	m.bytes = append(m.bytes, encoded...)
	return uint64(len(encoded)), crc32.Checksum(encoded, castagnoli)
}

// seal adds the footer and returns the root hash.
func (m *metadataWriter) seal(key, head []byte, foot footer) hash256 {
	m.bytes = append(m.bytes, appendFixed(nil, foot)[:rootOffset]...)
	root := rootHash(key, head, m.bytes)
	m.bytes = append(append(m.bytes, root[:]...), 0, 0, 0, 0)
	sealCRC(m.bytes[len(m.bytes)-footerSize:])
	return root
}

// encodeArchive encodes the archive part and notes in b what later sessions need of it.
func (w *Session) encodeArchive(b *built, storedPages uint64) []byte {
	base := w.base
	head := archiveHead{Pages: w.pages}
	if base.pages.zero < uint64(len(base.pages.links)) { // else a reader needs nothing older, and nothing is to be kept for it
		head.Previous, head.PreviousRoot = base.chainEnd()
	}
	resized := w.pages != uint64(len(base.pages.links))
	if resized {
		head.Flags |= archiveResized
	}
	var encoded []byte
	if b.inChain = resized || len(b.changes) > 0; b.inChain {
		encoded = encodeArchive(w.number, head, base.pages, b.changes, base.cursor, w.store.budget(storedPages))
	} else {
		encoded = encodeIdleArchive(head, base.cursor)
	}
	decodeFixed(encoded, &b.archive)
	return encoded
}

// zeroPages counts the zero pages of the new generation.
func (w *Session) zeroPages(changes []change) uint64 {
	m := w.base.pages
	n := m.zero
	if had := uint64(len(m.links)); w.pages >= had {
		n += w.pages - had
	} else {
		for _, l := range m.links[w.pages:] {
			if l == 0 {
				n--
			}
		}
	}
	for _, c := range changes {
		if c.link == 0 {
			n += c.count // they were not zero
			continue
		}
		for page := c.first; page < c.end(); page++ {
			if m.at(page) == 0 {
				n--
			}
		}
	}
	return n
}

// output writes a file from its beginning to its end.
type output struct {
	file   durable.File
	offset int64
	behind int64 // up to here the kernel was told to write out
}

// writebackSize is how much is written before the kernel is told to begin writing it out.
const writebackSize = 4 << 20

func (o *output) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := o.file.WriteAt(b, o.offset); err != nil {
		return fmt.Errorf("write at byte %d: %w", o.offset, err)
	}
	o.offset += int64(len(b))
	if o.offset-o.behind >= writebackSize {
		o.file.StartWriteback(o.behind, o.offset-o.behind)
		o.behind = o.offset
	}
	return nil
}
