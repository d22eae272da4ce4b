package memsnap

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"sort"
)

// section is a named section of a generation: where it is and what it holds.
type section struct {
	name string
	sectionEntry
}

// sectionTable is the sections of a generation, sorted by name.
type sectionTable []section

func (t sectionTable) find(name string) (section, bool) {
	i := sort.Search(len(t), func(i int) bool { return t[i].name >= name })
	if i < len(t) && t[i].name == name {
		return t[i], true
	}
	return section{}, false
}

func appendSectionTable(b []byte, t sectionTable) []byte {
	b = appendFixed(b, tableHead{sectionTableVersion, uint32(len(t))})
	for _, s := range t {
		s.NameSize = uint8(len(s.name))
		b = append(appendFixed(b, s.sectionEntry), s.name...)
	}
	return b
}

// decodeSectionTable decodes the table b, found at offset at of the file of generation own, whose footer is f.
func decodeSectionTable(path string, at int64, b []byte, own uint64, f *footer) (sectionTable, error) {
	corrupt := func(offset int, what string) (sectionTable, error) {
		return nil, &CorruptError{path, at + int64(offset), "section table: " + what}
	}
	var head tableHead
	decodeFixed(b, &head) // its length was checked with the footer
	if head.Version != sectionTableVersion {
		return nil, &VersionError{path, "section table", head.Version}
	}
	if head.Count > maxSections || uint64(head.Count) > uint64(len(b)-tableHeadSize)/sectionEntrySize {
		return corrupt(0, "wrong count")
	}
	t := make(sectionTable, head.Count)
	offset, stored := tableHeadSize, uint64(f.sectionsAt())
	for i := range t {
		s := &t[i]
		if len(b)-offset < sectionEntrySize {
			return corrupt(offset, "an entry is cut off")
		}
		decodeFixed(b[offset:], &s.sectionEntry)
		nameAt := offset + sectionEntrySize
		if s.NameSize == 0 || len(b)-nameAt < int(s.NameSize) {
			return corrupt(offset, "a name is empty or cut off")
		}
		s.name = string(b[nameAt : nameAt+int(s.NameSize)])
		switch {
		case i > 0 && s.name <= t[i-1].name:
			return corrupt(offset, "the names are not in order")
		case s.Reserved != [2]byte{}:
			return corrupt(offset, "reserved bytes are not zero")
		case s.Generation == 0 || s.Generation > own:
			return corrupt(offset, fmt.Sprintf("a section is said to be in generation %d", s.Generation))
		case s.RawSize > maxSectionSize || s.Offset > maxFileSize,
			s.Method == methodRaw && s.StoredSize != s.RawSize,
			s.Method == methodZstd && (s.StoredSize == 0 || s.StoredSize >= s.RawSize),
			s.Method > methodZstd:
			return corrupt(offset, "wrong size or method")
		}
		if s.Generation == own {
			if s.Offset != stored {
				return corrupt(offset, "the sections do not follow each other")
			}
			stored += s.StoredSize
		}
		offset = nameAt + int(s.NameSize)
	}
	if offset != len(b) {
		return corrupt(offset, "bytes are left over")
	}
	if stored != uint64(f.blockTableAt()) {
		return corrupt(offset, "the sections do not fill their part")
	}
	return t, nil
}

// encodeSection returns the stored form of data and its entry, but for the place. The stored form may be data itself.
func encodeSection(data []byte) ([]byte, sectionEntry) {
	e := sectionEntry{RawSize: uint64(len(data)), SHA256: sha256.Sum256(data), Method: methodRaw}
	stored := data
	if packed := compress(nil, data); packed != nil {
		stored, e.Method = packed, methodZstd
	}
	e.StoredSize = uint64(len(stored))
	e.StoredCRC = crc32.Checksum(stored, castagnoli)
	return stored, e
}

// decodeSection checks the stored bytes against the entry and returns the section's content.
func decodeSection(path string, stored []byte, e *sectionEntry) ([]byte, error) {
	corrupt := func(what string) ([]byte, error) {
		return nil, &CorruptError{path, int64(e.Offset), "section: " + what}
	}
	if crc32.Checksum(stored, castagnoli) != e.StoredCRC {
		return corrupt("CRC mismatch")
	}
	data := stored
	if e.Method == methodZstd {
		data = make([]byte, e.RawSize)
		if err := decompress(data, stored); err != nil {
			return corrupt(err.Error())
		}
	}
	if sha256.Sum256(data) != e.SHA256 {
		return corrupt("SHA-256 mismatch")
	}
	return data, nil
}
