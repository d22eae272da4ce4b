package memsnap

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"strings"
	"time"
)

// The layout of a Snapper v2 store: a directory named by its time for each generation, in it the file "archive" and the
// directory "snapshot". All numbers are little-endian.
//
//	archive:       version u8 = 2, hash u32 of the records, count u64, records
//	record:        key u64, path char[512], length of the path with its zero u64
//	snapshot file: version u8 = 2, hash u32 of the data, reference count u8, data
const (
	snapperVersion     = 2
	snapperArchiveHead = 13
	snapperPathSize    = 512
	snapperRecord      = 8 + snapperPathSize + 8
	snapperFileHead    = 6
	snapperTime        = "2006-01-02 15:04:05"
	snapperMaxArchive  = snapperArchiveHead + 8*maxSections*snapperRecord
)

// SnapperSection is the name of the section that holds the component with the given key of an imported store.
func SnapperSection(key uint64) string { return fmt.Sprintf("snapper/%016x", key) }

// ImportSnapper makes a generation of each whole one of a Snapper v2 store, in the order of their names, each based on the one
// before it. A component becomes the section SnapperSection(key), taken from its first copy whose hash holds. A generation that
// is damaged is passed over, with its position in the order for its number; so are directories that are none.
func (s *Store) ImportSnapper(ctx context.Context, root fs.FS) ([]Info, []Skipped, error) {
	entries, err := fs.ReadDir(root, ".")
	if err != nil {
		return nil, nil, fmt.Errorf("import snapper store: %w", err)
	}
	var infos []Info
	var skipped []Skipped
	base, order := uint64(0), uint64(0)
	for _, e := range entries {
		at, err := time.Parse(snapperTime, e.Name())
		if !e.IsDir() || err != nil {
			continue
		}
		order++
		sections, err := snapperGeneration(root, e.Name())
		if IsDamage(err) || errors.Is(err, ErrVersion) {
			skipped = append(skipped, Skipped{order, err})
			continue
		}
		if err != nil {
			return infos, skipped, fmt.Errorf("import %s: %w", e.Name(), err)
		}
		w, err := s.Begin(base)
		if err != nil {
			return infos, skipped, fmt.Errorf("import %s: %w", e.Name(), err)
		}
		w.time = at
		for key, data := range sections {
			if err := w.PutSection(SnapperSection(key), data); err != nil {
				return infos, skipped, fmt.Errorf("import %s: %w", e.Name(), errors.Join(err, w.Abort()))
			}
		}
		info, err := w.Commit(ctx)
		if err != nil {
			return infos, skipped, fmt.Errorf("import %s: %w", e.Name(), err)
		}
		infos, base = append(infos, info), info.Number
	}
	return infos, skipped, nil
}

// snapperGeneration reads the components of one generation.
func snapperGeneration(root fs.FS, name string) (map[uint64][]byte, error) {
	path := name + "/archive"
	if st, err := fs.Stat(root, path); err == nil && st.Size() > snapperMaxArchive {
		return nil, &CorruptError{path, -1, "archive: too long"}
	}
	b, err := fs.ReadFile(root, path)
	if err != nil {
		return nil, readError(path, -1, "archive", true, err)
	}
	if len(b) < snapperArchiveHead {
		return nil, &CorruptError{path, 0, "archive: cut off"}
	}
	if b[0] != snapperVersion {
		return nil, &VersionError{path, "snapper archive", uint32(b[0])}
	}
	records := b[snapperArchiveHead:]
	if n := binary.LittleEndian.Uint64(b[5:]); n > maxSections*8 || uint64(len(records)) != n*snapperRecord {
		return nil, &CorruptError{path, 5, "archive: wrong count"}
	}
	if xxHash32(records) != binary.LittleEndian.Uint32(b[1:]) {
		return nil, &CorruptError{path, 1, "archive: hash mismatch"}
	}
	sections := map[uint64][]byte{}
	failed := map[uint64]error{}
	for ; len(records) > 0; records = records[snapperRecord:] {
		key := binary.LittleEndian.Uint64(records)
		if sections[key] != nil {
			continue
		}
		text, _, _ := bytes.Cut(records[8:8+snapperPathSize], []byte{0})
		data, err := snapperFile(root, string(text))
		switch {
		case err == nil:
			sections[key] = data
			delete(failed, key)
		case !IsDamage(err) && !errors.Is(err, ErrVersion):
			return nil, err
		default:
			failed[key] = err
		}
	}
	for key, err := range failed {
		return nil, fmt.Errorf("component %d: %w", key, err)
	}
	return sections, nil
}

// snapperFile reads and checks one snapshot file. Its path is that in the store's own file system, which may have begun
// anywhere above the store.
func snapperFile(root fs.FS, path string) ([]byte, error) {
	parts := strings.Split(path, "/")
	for len(parts) > 0 {
		if _, err := time.Parse(snapperTime, parts[0]); err == nil {
			break
		}
		parts = parts[1:]
	}
	name := strings.Join(parts, "/")
	if !fs.ValidPath(name) || name == "" {
		return nil, &CorruptError{path, -1, "archive: not the path of a snapshot file"}
	}
	st, err := fs.Stat(root, name)
	if err == nil && st.Size() > maxSectionSize+snapperFileHead {
		return nil, &CorruptError{name, -1, "snapshot file: too long"}
	}
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, readError(name, -1, "snapshot file", true, err)
	}
	if len(b) < snapperFileHead {
		return nil, &CorruptError{name, 0, "snapshot file: cut off"}
	}
	if b[0] != snapperVersion {
		return nil, &VersionError{name, "snapper snapshot file", uint32(b[0])}
	}
	data := b[snapperFileHead:]
	if xxHash32(data) != binary.LittleEndian.Uint32(b[1:]) {
		return nil, &CorruptError{name, 1, "snapshot file: hash mismatch"}
	}
	return data, nil
}

// xxHash32 is XXH32 with seed 0, which Snapper's stores are checked with. Nothing of ours relies on it.
func xxHash32(b []byte) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	round := func(acc, lane uint32) uint32 { return bits.RotateLeft32(acc+lane*p2, 13) * p1 }
	n := uint32(len(b))
	h := uint32(p5)
	if len(b) >= 16 {
		v := [4]uint32{(p1 + p2) & 0xffffffff, p2, 0, 1<<32 - p1}
		for ; len(b) >= 16; b = b[16:] {
			for i := range v {
				v[i] = round(v[i], binary.LittleEndian.Uint32(b[4*i:]))
			}
		}
		h = bits.RotateLeft32(v[0], 1) + bits.RotateLeft32(v[1], 7) + bits.RotateLeft32(v[2], 12) + bits.RotateLeft32(v[3], 18)
	}
	h += n
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(b)*p3, 17) * p4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*p5, 11) * p1
	}
	h ^= h >> 15
	h *= p2
	h ^= h >> 13
	h *= p3
	return h ^ h>>16
}
