package memsnap

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"perdure/internal/durable"
)

// A pin is a small file beside the generation's: FORMAT.md, "Pins".
const (
	pinSuffix  = ".pin"
	pinVersion = 1
	pinMagic   = "perdure pin"
	maxPinNote = 1024
)

func pinName(number uint64) string {
	return strings.TrimSuffix(fileName(number), fileSuffix) + pinSuffix
}

func parsePinName(name string) (uint64, bool) {
	stem, ok := strings.CutSuffix(name, pinSuffix)
	if !ok {
		return 0, false
	}
	return parseFileName(stem + fileSuffix)
}

// Pin makes a generation stay until Unpin, whatever the policy says. The note, one line of at most 1,024 bytes, is for
// people. A pin that is there is replaced. ErrNotFound says that there is no such generation.
func (s *Store) Pin(number uint64, note string) error {
	if strings.ContainsAny(note, "\n\r\x00") || len(note) > maxPinNote {
		return fmt.Errorf("pin generation %d: the note is not one line of at most %d bytes: %w", number, maxPinNote, ErrRange)
	}
	done, err := s.occupy()
	if err != nil {
		return fmt.Errorf("pin generation %d: %w", number, err)
	}
	defer done()
	files, err := s.files()
	if err != nil {
		return err
	}
	if !files.isLive(number) {
		return fmt.Errorf("pin generation %d: %w", number, ErrNotFound)
	}
	if err := durable.WriteFile(s.fsys, filepath.Join(s.dir, pinName(number)), encodePin(note), 0o600); err != nil {
		return fmt.Errorf("pin generation %d: %w", number, err)
	}
	return nil
}

// Unpin ends a pin. It is no error if there is none.
func (s *Store) Unpin(number uint64) error {
	done, err := s.occupy()
	if err != nil {
		return fmt.Errorf("unpin generation %d: %w", number, err)
	}
	defer done()
	err = s.fsys.Remove(filepath.Join(s.dir, pinName(number)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.fsys.SyncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("unpin generation %d: %w", number, err)
	}
	return nil
}

// PinNote returns the note of a pin. ErrNotFound says that the generation is not pinned. A damaged note is ErrCorrupt;
// the pin holds all the same.
func (s *Store) PinNote(number uint64) (string, error) {
	path := filepath.Join(s.dir, pinName(number))
	f, err := s.fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("pin of generation %d: %w", number, ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("pin of generation %d: %w", number, err)
	}
	defer f.Close() // read only
	size, err := f.Size()
	if err != nil {
		return "", readError(path, -1, "length", false, err)
	}
	if size > int64(len(encodePin("")))+maxPinNote {
		return "", &CorruptError{path, -1, "pin: too long"}
	}
	b := make([]byte, size)
	if size > 0 {
		if _, err := f.ReadAt(b, 0); err != nil {
			return "", readError(path, 0, "pin", false, err)
		}
	}
	return decodePin(path, b)
}

// encodePin makes three lines: what it is and its version, the note, the CRC of both.
func encodePin(note string) []byte {
	b := fmt.Appendf(nil, "%s %d\n%s\n", pinMagic, pinVersion, note)
	return fmt.Appendf(b, "%08x\n", crc32.Checksum(b, castagnoli))
}

func decodePin(path string, b []byte) (string, error) {
	lines := bytes.SplitAfter(b, []byte("\n"))
	if len(lines) != 4 || len(lines[3]) != 0 {
		return "", &CorruptError{path, -1, "pin: not three lines"}
	}
	body := b[:len(lines[0])+len(lines[1])]
	if string(lines[2]) != fmt.Sprintf("%08x\n", crc32.Checksum(body, castagnoli)) {
		return "", &CorruptError{path, int64(len(body)), "pin: CRC mismatch"}
	}
	version, ok := strings.CutPrefix(strings.TrimSuffix(string(lines[0]), "\n"), pinMagic+" ")
	if !ok {
		return "", &CorruptError{path, 0, "pin: wrong magic"}
	}
	v, err := strconv.ParseUint(version, 10, 32)
	if err != nil {
		return "", &CorruptError{path, 0, "pin: no version"}
	}
	if v != pinVersion {
		return "", &VersionError{path, "pin", uint32(v)}
	}
	return strings.TrimSuffix(string(lines[1]), "\n"), nil
}
