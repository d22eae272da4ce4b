package memsnap

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"perdure/internal/durable"
)

func sameSHA(b []byte, want hash256) bool { return sha256.Sum256(b) == want }

// Import makes a new generation, based on none, from what Export wrote; of another store or of this one. Every byte is checked
// before anything is published. ErrCorrupt says that it is not what was exported, or leans on other files; the path in
// such an error is that of the file it was read into. In a store with a key the export must have been made with that key.
func (s *Store) Import(ctx context.Context, from io.Reader) (Info, error) {
	done, err := s.occupy()
	if err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	defer done()
	s.mu.Lock()
	number := s.highest + 1
	s.mu.Unlock()
	if number > maxNumber {
		return Info{}, fmt.Errorf("import: the numbers are used up: %w", ErrRange)
	}
	path := filepath.Join(s.dir, fileName(number))
	tempPath := path + durable.TempSuffix
	f, err := s.receive(ctx, tempPath, from)
	if err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	info, err := s.adopt(ctx, f, tempPath, number)
	if err != nil {
		return Info{}, fmt.Errorf("import: %w", errors.Join(err, durable.Discard(s.fsys, f, tempPath)))
	}
	s.mu.Lock()
	s.highest = number
	s.mu.Unlock()
	if err := durable.Publish(s.fsys, f, tempPath, path); err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	s.published(number, number)
	return info, nil
}

// receive reads a stream into a new temporary file. On an error the file is gone.
func (s *Store) receive(ctx context.Context, tempPath string, from io.Reader) (durable.File, error) {
	if err := s.fsys.Remove(tempPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove leftover temporary file: %w", err)
	}
	f, err := s.fsys.Create(tempPath, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create temporary file: %w", err)
	}
	fail := func(err error) (durable.File, error) {
		return nil, errors.Join(err, durable.Discard(s.fsys, f, tempPath))
	}
	out := &output{file: f}
	buffer := make([]byte, readSize)
	progress := s.progress(0)
	for {
		if ctx.Err() != nil {
			return fail(context.Cause(ctx))
		}
		n, err := io.ReadFull(from, buffer)
		if werr := out.write(buffer[:n]); werr != nil {
			return fail(werr)
		}
		if out.offset > maxFileSize {
			return fail(&CorruptError{tempPath, maxFileSize, "the file is too long"})
		}
		progress.add(uint64(n) / PageSize)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return f, nil
		}
		if err != nil {
			return fail(fmt.Errorf("read: %w", err))
		}
	}
}

// numberIn returns the number that the header of a file says.
func numberIn(f durable.File, path string) (uint64, error) {
	var b [headerSize]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return 0, readError(path, 0, "header", false, err)
	}
	var h header
	decodeFixed(b[:], &h)
	_, err := decodeHeader(path, b[:], h.Generation)
	return h.Generation, err
}

// adopt checks a received file and gives its content the number in this store.
func (s *Store) adopt(ctx context.Context, f durable.File, path string, number uint64) (Info, error) {
	old, err := numberIn(f, path)
	if err != nil {
		return Info{}, err
	}
	g, err := s.readGenFile(f, path, old, false)
	if err != nil {
		return Info{}, err
	}
	if g.archive.head.Previous != 0 || len(g.archive.refs) > 0 {
		return Info{}, &CorruptError{path, g.footer.archiveAt(), "archive: it leans on other generations, so it is not an export"}
	}
	for _, sec := range g.sections {
		if sec.Generation != old {
			return Info{}, &CorruptError{path, g.footer.sectionTableAt(), "section table: a section is in another file, so it is not an export"}
		}
	}
	if err := s.checkContent(ctx, f, g, false); err != nil {
		return Info{}, err
	}
	// Blocks, sections and archive stay as they are; what names the number is made anew.
	foot := g.footer
	at := foot.blockTableAt()
	m := metadataWriter{}
	rest := make([]byte, foot.sectionTableAt()-at)
	if _, err := f.ReadAt(rest, at); err != nil {
		return Info{}, readError(path, at, "metadata", false, err)
	}
	m.bytes = rest
	for i := range g.sections {
		g.sections[i].Generation = number
	}
	foot.SectionTableSize, foot.SectionTableCRC = m.part(appendSectionTable(nil, g.sections))
	foot.InfoSize, foot.InfoCRC = m.part(appendFixed(nil, g.info))
	foot.Generation = number
	head := s.fileHead(number, 0, number)
	m.seal(s.key, head, foot)
	if _, err := f.WriteAt(head, 0); err != nil {
		return Info{}, fmt.Errorf("write header: %w", err)
	}
	if _, err := f.WriteAt(m.bytes, at); err != nil {
		return Info{}, fmt.Errorf("write metadata: %w", err)
	}
	return g.info.info(number, 0), nil
}

// ImportArchive puts a generation's own file, as ExportArchive wrote it, back in its place, where it is damaged or missing. Every
// byte is checked before. ErrDenied says that another file is in that place and is well; ErrCorrupt that the copy is
// damaged itself, is not the file that newer generations lean on, or leans on others than those that are here.
func (s *Store) ImportArchive(ctx context.Context, from io.Reader) (uint64, error) {
	done, err := s.occupy()
	if err != nil {
		return 0, fmt.Errorf("import archive: %w", err)
	}
	defer done()
	s.mu.Lock()
	tempPath := filepath.Join(s.dir, fileName(s.highest+1)) + durable.TempSuffix
	s.mu.Unlock()
	f, err := s.receive(ctx, tempPath, from)
	if err != nil {
		return 0, fmt.Errorf("import archive: %w", err)
	}
	number, target, err := s.fits(ctx, f, tempPath)
	if err != nil {
		return 0, fmt.Errorf("import archive: %w", errors.Join(err, durable.Discard(s.fsys, f, tempPath)))
	}
	// Not durable.Publish: what is replaced must never be missing, not even after an error.
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("import archive: sync: %w", errors.Join(err, durable.Discard(s.fsys, f, tempPath)))
	}
	if err := f.Close(); err != nil {
		return 0, fmt.Errorf("import archive: close: %w", errors.Join(err, s.fsys.Remove(tempPath)))
	}
	if err := s.fsys.Rename(tempPath, target); err != nil {
		return 0, fmt.Errorf("import archive: %w", errors.Join(err, s.fsys.Remove(tempPath)))
	}
	s.mu.Lock()
	s.highest, s.newest, s.head = max(s.highest, number), max(s.newest, number), nil
	delete(s.lines, number)
	s.mu.Unlock()
	if err := s.fsys.SyncDir(s.dir); err != nil {
		return 0, fmt.Errorf("import archive: sync directory: %w", err)
	}
	return number, nil
}

// belongs says why a file is not one of this store: what it leans on is another file here.
func (s *Store) belongs(g *genFile, path string) error {
	check := func(number uint64, same func(hash256) bool) error {
		f, err := s.loadGenFile(number, true)
		if err == nil && !same(f.footer.Root) {
			return &CorruptError{path, -1, fmt.Sprintf("it leans on another generation %d than the one here", number)}
		}
		return nil // one that is missing or damaged cannot say anything
	}
	if a := g.archive.head; a.Previous != 0 {
		if err := check(a.Previous, func(h hash256) bool { return h == a.PreviousRoot }); err != nil {
			return err
		}
	}
	for _, ref := range g.archive.refs {
		if err := check(ref.Generation, func(h hash256) bool { return h.tag() == ref.Tag }); err != nil {
			return err
		}
	}
	return nil
}

// fits checks a received archive and says where it belongs.
func (s *Store) fits(ctx context.Context, f durable.File, path string) (number uint64, target string, err error) {
	if number, err = numberIn(f, path); err != nil {
		return 0, "", err
	}
	g, err := s.readGenFile(f, path, number, false)
	if err != nil {
		return 0, "", err
	}
	if err := s.checkContent(ctx, f, g, true); err != nil {
		return 0, "", err
	}
	files, err := s.files()
	if err != nil {
		return 0, "", err
	}
	target = filepath.Join(s.dir, fileName(number))
	for _, n := range files.rest {
		if n == number {
			target = filepath.Join(s.dir, restName(number))
		}
	}
	switch there, err := s.loadGenFile(number, true); {
	case err == nil && there.footer.Root != g.footer.Root:
		return 0, "", &DeniedError{number, DeniedOther}
	case err != nil && !IsDamage(err):
		return 0, "", err
	}
	if err := s.belongs(g, path); err != nil {
		return 0, "", err
	}
	// Whoever leans on the file says which one it was.
	for _, n := range files.live {
		if n == number {
			continue
		}
		newer, err := s.loadGenFile(n, false)
		if err != nil {
			continue // it cannot say anything
		}
		if a := newer.archive.head; a.Previous == number && a.PreviousRoot != g.footer.Root {
			return 0, "", &CorruptError{path, -1, fmt.Sprintf("this is not the file that generation %d leans on", n)}
		}
		for _, ref := range newer.archive.refs {
			if ref.Generation == number && ref.Tag != g.footer.Root.tag() {
				return 0, "", &CorruptError{path, -1, fmt.Sprintf("this is not the file that generation %d leans on", n)}
			}
		}
	}
	return number, target, nil
}
