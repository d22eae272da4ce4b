package memsnap

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"time"

	"perdure/internal/durable"
)

const fileSuffix = ".gen"

// fileName returns the name of a generation's file: 16 hexadecimal digits, so that a listing is in order.
func fileName(number uint64) string { return fmt.Sprintf("%016x%s", number, fileSuffix) }

// parseFileName is the inverse of fileName; it takes nothing else.
func parseFileName(name string) (uint64, bool) {
	if len(name) != 16+len(fileSuffix) || name[16:] != fileSuffix {
		return 0, false
	}
	number, err := strconv.ParseUint(name[:16], 16, 64)
	return number, err == nil && number > 0 && number <= maxNumber && fileName(number) == name
}

// genFile is the checked metadata of one generation's file: all of it but the blocks and the sections' bytes.
type genFile struct {
	path     string
	number   uint64
	header   header
	footer   footer
	blocks   blockTable
	archive  *archivePart
	sections sectionTable
	info     infoRecord
	hurt     error // what is damaged of the metadata; then only header, footer and block table are there
}

// tailSize is how much of the end of a file is read at first: for most generations that is all their metadata.
const tailSize = 8192

// minFileSize is the length of a file without blocks and sections.
const minFileSize = headerSize + tableHeadSize + archiveHeadSize + tableHeadSize + infoSize + footerSize

// fileEnds is what is read of a file first: its checked header and footer and the bytes before the footer.
type fileEnds struct {
	header header
	footer footer
	head   [headerSize]byte
	tail   []byte // ends with the footer
	tailAt int64  // where in the file tail begins
}

// readEnds reads and checks header and footer. needed says that a newer generation leans on the file.
func readEnds(f durable.File, path string, number uint64, needed bool) (*fileEnds, error) {
	size, err := f.Size()
	if err != nil {
		return nil, readError(path, -1, "length", needed, err)
	}
	if size < minFileSize {
		return nil, &CorruptError{path, size, "the file ends too early"}
	}
	e := &fileEnds{tailAt: max(headerSize, size-tailSize)}
	if _, err := f.ReadAt(e.head[:], 0); err != nil {
		return nil, readError(path, 0, "header", needed, err)
	}
	if e.header, err = decodeHeader(path, e.head[:], number); err != nil {
		return nil, err
	}
	e.tail = make([]byte, size-e.tailAt)
	if _, err := f.ReadAt(e.tail, e.tailAt); err != nil {
		return nil, readError(path, e.tailAt, "footer", needed, err)
	}
	e.footer, err = decodeFooter(path, e.tail[len(e.tail)-footerSize:], size, number)
	return e, err
}

// part returns a part that lies within the tail, checked against its CRC.
func (e *fileEnds) part(path, name string, offset int64, size uint64, crc uint32) ([]byte, error) {
	b := e.tail[offset-e.tailAt:][:size]
	if crc32.Checksum(b, castagnoli) != crc {
		return nil, &CorruptError{path, offset, name + ": CRC mismatch"}
	}
	return b, nil
}

// loadGenFile reads the metadata of a generation's file and checks all of it, up to the root hash.
//
// needed says that a newer generation leans on it: then it may be what is left of a purged one.
func (s *Store) loadGenFile(number uint64, needed bool) (*genFile, error) {
	path := filepath.Join(s.dir, fileName(number))
	var f durable.File
	var err error
	if needed {
		f, err = s.open(number)
	} else {
		f, err = s.fsys.Open(path)
	}
	if err != nil {
		return nil, readError(path, -1, "file", needed, err)
	}
	defer f.Close() // read only
	return s.readGenFile(f, path, number, needed)
}

// readGenFile is loadGenFile with an open file.
func (s *Store) readGenFile(f durable.File, path string, number uint64, needed bool) (*genFile, error) {
	e, err := readEnds(f, path, number, needed)
	if err != nil {
		return nil, err
	}
	if err := s.checkKeyed(path, &e.header); err != nil {
		return nil, err
	}
	foot := &e.footer
	if at := foot.blockTableAt(); at < e.tailAt {
		// The lengths were checked against that of the file, so this is no more than the file has.
		e.tail, e.tailAt = make([]byte, foot.footerAt()+footerSize-at), at
		if _, err := f.ReadAt(e.tail, at); err != nil {
			return nil, readError(path, at, "metadata", needed, err)
		}
	}
	table, err := e.part(path, "block table", foot.blockTableAt(), foot.BlockTableSize, foot.BlockTableCRC)
	if err != nil {
		return nil, err
	}
	archive, err := e.part(path, "archive", foot.archiveAt(), foot.ArchiveSize, foot.ArchiveCRC)
	if err != nil {
		return nil, err
	}
	sections, err := e.part(path, "section table", foot.sectionTableAt(), foot.SectionTableSize, foot.SectionTableCRC)
	if err != nil {
		return nil, err
	}
	info, err := e.part(path, "info", foot.infoAt(), foot.InfoSize, foot.InfoCRC)
	if err != nil {
		return nil, err
	}
	metadata := e.tail[foot.blockTableAt()-e.tailAt:]
	if root := rootHash(s.key, e.head[:], metadata[:len(metadata)-footerSize+rootOffset]); !hmac.Equal(root[:], foot.Root[:]) {
		if s.key != nil {
			return nil, &KeyError{path, "its root hash was made with another key, or it was tampered with"}
		}
		return nil, &CorruptError{path, foot.footerAt() + rootOffset, "footer: the root hash does not match"}
	}
	g := &genFile{path: path, number: number, header: e.header, footer: e.footer}
	if g.blocks, err = decodeBlockTable(path, foot.blockTableAt(), table, foot.BlocksSize); err != nil {
		return nil, err
	}
	if g.archive, err = decodeArchive(path, foot.archiveAt(), archive, number, g.blocks.pages()); err != nil {
		return nil, err
	}
	if g.sections, err = decodeSectionTable(path, foot.sectionTableAt(), sections, number, foot); err != nil {
		return nil, err
	}
	g.info, err = decodeInfo(path, foot.infoAt(), info)
	return g, err
}

// loadBlocks is loadGenFile for a file of which only blocks and sections are needed. If what else its metadata holds is damaged
// it does without, and says so in hurt: the pages are covered by the block table, that by its own CRC, and whether the file is
// the one that was meant the caller sees by the root hash in the footer. With a key nothing is believed without the root hash.
func (s *Store) loadBlocks(number uint64) (*genFile, error) {
	g, err := s.loadGenFile(number, true)
	if err == nil || !IsDamage(err) || s.key != nil {
		return g, err
	}
	path := filepath.Join(s.dir, fileName(number))
	f, openErr := s.open(number)
	if openErr != nil {
		return nil, err
	}
	defer f.Close() // read only
	e, endsErr := readEnds(f, path, number, true)
	if endsErr != nil || s.checkKeyed(path, &e.header) != nil {
		return nil, err
	}
	table := make([]byte, e.footer.BlockTableSize) // no more than the file has
	at := e.footer.blockTableAt()
	if _, readErr := f.ReadAt(table, at); readErr != nil || crc32.Checksum(table, castagnoli) != e.footer.BlockTableCRC {
		return nil, err
	}
	g = &genFile{path: path, number: number, header: e.header, footer: e.footer, hurt: err}
	if g.blocks, endsErr = decodeBlockTable(path, at, table, e.footer.BlocksSize); endsErr != nil {
		return nil, err
	}
	s.mu.Lock()
	s.moves[number] = true // what is needed of it is better kept elsewhere
	s.mu.Unlock()
	return g, nil
}

// rootHash is the strong hash over a whole generation: over its header and its metadata up to the hash itself. The
// metadata holds the SHA-256 of each block and of each section.
//
// With a key it is an HMAC of them.
func rootHash(key, head, metadata []byte) hash256 {
	h := sha256.New()
	if key != nil {
		h = hmac.New(sha256.New, key)
	}
	h.Write(head)
	h.Write(metadata)
	return hash256(h.Sum(nil))
}

// checkKeyed wants a keyed file where the store has a key, and only there.
func (s *Store) checkKeyed(path string, h *header) error {
	switch keyed := h.Flags&headerKeyed != 0; {
	case keyed && s.key == nil:
		return &KeyError{path, "it was written with a key, and the store has none"}
	case !keyed && s.key != nil:
		return &KeyError{path, "it was written without a key"}
	}
	return nil
}

// readInfo reads only what a listing shows.
func readInfo(fsys durable.FS, dir string, number uint64) (infoRecord, uint64, error) {
	path := filepath.Join(dir, fileName(number))
	f, err := fsys.Open(path)
	if err != nil {
		return infoRecord{}, 0, readError(path, -1, "file", false, err)
	}
	defer f.Close() // read only
	e, err := readEnds(f, path, number, false)
	if err != nil {
		return infoRecord{}, 0, err
	}
	b, err := e.part(path, "info", e.footer.infoAt(), e.footer.InfoSize, e.footer.InfoCRC)
	if err != nil {
		return infoRecord{}, 0, err
	}
	r, err := decodeInfo(path, e.footer.infoAt(), b)
	return r, e.header.Base, err
}

func decodeInfo(path string, at int64, b []byte) (infoRecord, error) {
	var r infoRecord
	if version := binary.LittleEndian.Uint32(b); version != infoVersion {
		return r, &VersionError{path, "info", version}
	}
	decodeFixed(b, &r)
	if r.Reserved != 0 || !zero(r.Reserved2[:]) {
		return r, &CorruptError{path, at, "info: reserved bytes are not zero"}
	}
	return r, nil
}

// info returns the record in the terms of callers.
func (r *infoRecord) info(number, base uint64) Info {
	return Info{
		Number: number, Base: base, Time: time.Unix(0, r.Time),
		Pages: r.Pages, PagesPut: r.PagesPut, PagesNew: r.PagesNew, PagesLinked: r.PagesLinked,
		PagesZero: r.PagesZero, PagesCopied: r.PagesCopied,
		BytesRaw: r.BytesRaw, BytesStored: r.BytesStored,
		Pause: time.Duration(r.Pause), Encode: time.Duration(r.Encode),
	}
}
