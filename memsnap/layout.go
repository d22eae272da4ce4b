package memsnap

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The structures of a generation's file, in the order and with the names of FORMAT.md, where each field is explained.
// They are encoded field by field, little-endian, without padding; a test compares them with the tables there.

// FileMagic begins the file of every generation.
const FileMagic = "\x89PDGEN\n\x1a"

// PageSize is the length of a page in bytes.
const PageSize = 4096

// FormatVersion is the version of the format in which generations are written.
const FormatVersion = formatVersion

const (
	formatVersion       = 1
	blockTableVersion   = 1
	archiveVersion      = 1
	sectionTableVersion = 1
	infoVersion         = 1

	headerSize       = 64
	footerSize       = 160
	tableHeadSize    = 8
	blockEntrySize   = 48
	archiveHeadSize  = 80
	archiveRefSize   = 16
	sectionEntrySize = 72
	infoSize         = 128
	crcSize          = 4
	rootOffset       = footerSize - crcSize - 32 // of the root hash in the footer

	pagesPerBlock = 16
	blockSize     = pagesPerBlock * PageSize

	// Bounds that hold for every file; a length beyond them is damage.
	maxPages         = 1 << 24 // 64 GiB of memory
	maxNumber        = 1<<40 - 1
	maxSections      = 4096
	maxSectionSize   = 1 << 30
	maxSectionName   = 255
	maxBacklinks     = 7
	maxBlocks        = maxPages / pagesPerBlock
	maxArchiveSize   = 1 << 30
	maxFileSize      = 1 << 40
	maxSectionsTable = tableHeadSize + maxSections*(sectionEntrySize+maxSectionName)
)

var (
	headerMagic = [8]byte([]byte(FileMagic))
	footerMagic = [8]byte{0x89, 'P', 'D', 'E', 'N', 'D', '\n', 0x1a}

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

type (
	hash256 [32]byte
	// tag is the beginning of a root hash: it tells whether a file is the one that an archive meant, not whether
	// content is unchanged.
	tag [8]byte
)

func (h hash256) tag() tag { return tag(h[:8]) }

type header struct {
	Magic         [8]byte
	Version       uint32
	HeaderSize    uint32
	Generation    uint64
	Base          uint64
	Flags         uint32
	PageSize      uint32
	PagesPerBlock uint32
	Line          uint64
	Reserved      [8]byte
	CRC           uint32
}

type footer struct {
	Magic            [8]byte
	Generation       uint64
	FileSize         uint64
	BlocksSize       uint64
	SectionsSize     uint64
	BlockTableSize   uint64
	BlockTableCRC    uint32
	ArchiveCRC       uint32
	ArchiveSize      uint64
	SectionTableSize uint64
	SectionTableCRC  uint32
	InfoCRC          uint32
	InfoSize         uint64
	Reserved         [36]byte
	Root             hash256
	CRC              uint32
}

type tableHead struct {
	Version uint32
	Count   uint32
}

type blockEntry struct {
	StoredSize uint32
	Method     uint8
	Pages      uint8
	Reserved   [2]byte
	StoredCRC  uint32
	ContentCRC uint32
	SHA256     hash256
}

// Methods of storing a block or a section.
const (
	methodRaw  = 0
	methodZstd = 1
)

type archiveHead struct {
	Version       uint32
	Generations   uint32
	Pages         uint64
	Previous      uint64
	PreviousRoot  hash256
	CompleteFirst uint64
	CompleteEnd   uint64
	Runs          uint32
	Flags         uint32
}

// headerKeyed is the flag of a file whose root hash is an HMAC.
const headerKeyed = 1

// archiveResized is the flag of an archive whose generation has another size than its base.
const archiveResized = 1

type archiveRef struct {
	Generation uint64
	Tag        tag
}

type sectionEntry struct {
	Generation uint64
	Offset     uint64
	StoredSize uint64
	RawSize    uint64
	StoredCRC  uint32
	Method     uint8
	NameSize   uint8
	Reserved   [2]byte
	SHA256     hash256
}

type infoRecord struct {
	Version        uint32
	Reserved       uint32
	Time           int64
	Pages          uint64
	PagesPut       uint64
	PagesNew       uint64
	PagesLinked    uint64
	PagesZero      uint64
	PagesCopied    uint64
	BytesRaw       uint64
	BytesStored    uint64
	Pause          int64
	Encode         int64
	PreviousSync   int64
	PreviousSyncOf uint64
	Reserved2      [16]byte
}

// appendFixed appends one of the structures above.
func appendFixed(b []byte, v any) []byte {
	b, err := binary.Append(b, binary.LittleEndian, v)
	if err != nil {
		panic(err) // a type that is not fixed-size: a bug
	}
	return b
}

// decodeFixed reads one of the structures above from the beginning of b, which the caller knows to be long enough.
func decodeFixed(b []byte, v any) {
	if _, err := binary.Decode(b, binary.LittleEndian, v); err != nil {
		panic(err) // b too short: a bug of the caller
	}
}

// sealCRC puts the CRC of all that goes before it into the last four bytes of b.
func sealCRC(b []byte) {
	at := len(b) - crcSize
	binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b[:at], castagnoli))
}

func sealed(b []byte) bool {
	at := len(b) - crcSize
	return binary.LittleEndian.Uint32(b[at:]) == crc32.Checksum(b[:at], castagnoli)
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// decodeHeader checks and decodes the first headerSize bytes of the file of generation number.
func decodeHeader(path string, b []byte, number uint64) (header, error) {
	var h header
	decodeFixed(b, &h)
	switch {
	case h.Magic != headerMagic:
		return h, &CorruptError{path, 0, "header: wrong magic"}
	case !sealed(b[:headerSize]):
		return h, &CorruptError{path, headerSize - crcSize, "header: CRC mismatch"}
	case h.Version != formatVersion:
		return h, &VersionError{path, "file", h.Version}
	case h.HeaderSize != headerSize || h.PageSize != PageSize || h.PagesPerBlock != pagesPerBlock:
		return h, &CorruptError{path, 0, "header: wrong sizes"}
	case h.Flags&^headerKeyed != 0 || !zero(h.Reserved[:]):
		return h, &CorruptError{path, 0, "header: reserved bytes are not zero"}
	case h.Generation != number:
		return h, &CorruptError{path, 0, fmt.Sprintf("header: this is generation %d", h.Generation)}
	case h.Base >= h.Generation || h.Generation > maxNumber:
		return h, &CorruptError{path, 0, fmt.Sprintf("header: generation %d on base %d", h.Generation, h.Base)}
	case h.Line == 0 || h.Line > h.Generation || h.Base < h.Line && h.Line != h.Generation:
		return h, &CorruptError{path, 0, fmt.Sprintf("header: generation %d on base %d in line %d", h.Generation, h.Base, h.Line)}
	}
	return h, nil
}

// decodeFooter checks and decodes the last footerSize bytes of the file of generation number.
func decodeFooter(path string, b []byte, fileSize int64, number uint64) (footer, error) {
	var f footer
	decodeFixed(b, &f)
	at := fileSize - footerSize
	corrupt := func(what string) (footer, error) { return f, &CorruptError{path, at, "footer: " + what} }
	switch {
	case f.Magic != footerMagic:
		return corrupt("wrong magic")
	case !sealed(b[:footerSize]):
		return corrupt("CRC mismatch")
	case !zero(f.Reserved[:]):
		return corrupt("reserved bytes are not zero")
	case f.Generation != number:
		return corrupt(fmt.Sprintf("this is generation %d", f.Generation))
	case f.FileSize != uint64(fileSize):
		return corrupt(fmt.Sprintf("the file has %d bytes, not %d", fileSize, f.FileSize))
	}
	rest := f.FileSize - headerSize - footerSize // the caller read both, so the file holds them
	for _, part := range []struct {
		size, min, max uint64
	}{
		{f.BlocksSize, 0, maxPages * PageSize},
		{f.SectionsSize, 0, maxSections * maxSectionSize},
		{f.BlockTableSize, tableHeadSize, tableHeadSize + maxBlocks*blockEntrySize},
		{f.ArchiveSize, archiveHeadSize, maxArchiveSize},
		{f.SectionTableSize, tableHeadSize, maxSectionsTable},
		{f.InfoSize, infoSize, infoSize},
	} {
		if part.size < part.min || part.size > part.max || part.size > rest {
			return corrupt("the lengths of the parts do not fit")
		}
		rest -= part.size
	}
	if rest != 0 {
		return corrupt("the parts do not fill the file")
	}
	return f, nil
}

// Offsets of the parts; they follow each other without gaps.
func (f *footer) sectionsAt() int64     { return headerSize + int64(f.BlocksSize) }
func (f *footer) blockTableAt() int64   { return f.sectionsAt() + int64(f.SectionsSize) }
func (f *footer) archiveAt() int64      { return f.blockTableAt() + int64(f.BlockTableSize) }
func (f *footer) sectionTableAt() int64 { return f.archiveAt() + int64(f.ArchiveSize) }
func (f *footer) infoAt() int64         { return f.sectionTableAt() + int64(f.SectionTableSize) }
func (f *footer) footerAt() int64       { return f.infoAt() + int64(f.InfoSize) }
