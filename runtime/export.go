package runtime

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"perdure/internal/durable"
	"perdure/memsnap"
)

// An export is one file that holds a process: FORMAT.md, "Export".
const (
	exportVersion = 1
	exportSize    = 64 // of the head
	maxExportName = 255
)

var exportMagic = [8]byte{0x89, 'P', 'D', 'E', 'X', 'P', '\n', 0x1a}

// exportHead is the fixed part at the beginning of an export.
type exportHead struct {
	Magic       [8]byte
	Version     uint32
	HeadSize    uint32
	ProgramSize uint64
	Program     [32]byte
	NameSize    uint8
	Reserved    [3]byte
	CRC         uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeExportHead makes the beginning of an export: the head and the name.
func encodeExportHead(name string, program []byte) ([]byte, error) {
	if name == "" || len(name) > maxExportName {
		return nil, fmt.Errorf("the name of a process has 1 to %d bytes, not %d", maxExportName, len(name))
	}
	h := exportHead{Magic: exportMagic, Version: exportVersion, HeadSize: exportSize, NameSize: uint8(len(name)), ProgramSize: uint64(len(program))}
	if program != nil {
		h.Program = sha256.Sum256(program)
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		return nil, err // not for a struct of fixed size
	}
	head := append(b.Bytes(), name...)
	binary.LittleEndian.PutUint32(head[exportSize-4:], exportCRC(head))
	return head, nil
}

// exportCRC is over the head without the CRC itself, and the name.
func exportCRC(head []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[:exportSize-4], castagnoli), castagnoli, head[exportSize:])
}

// readExportHead reads and checks the beginning of an export.
func readExportHead(r io.Reader) (h exportHead, name string, err error) {
	head := make([]byte, exportSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return h, "", exportReadError("head", err)
	}
	if err := binary.Read(bytes.NewReader(head), binary.LittleEndian, &h); err != nil {
		return h, "", err // not for a struct of fixed size
	}
	switch {
	case h.Magic != exportMagic:
		return h, "", fmt.Errorf("%w: it does not begin like one", ErrBadExport)
	case h.Version != exportVersion:
		return h, "", unknownVersion("export", int(h.Version), exportVersion)
	}
	head = append(head, make([]byte, h.NameSize)...)
	if _, err := io.ReadFull(r, head[exportSize:]); err != nil {
		return h, "", exportReadError("name", err)
	}
	switch {
	case h.CRC != exportCRC(head):
		return h, "", fmt.Errorf("%w: CRC mismatch of the head", ErrBadExport)
	case h.HeadSize != exportSize || h.Reserved != [3]byte{} || h.NameSize == 0 || h.ProgramSize > maxProgram ||
		(h.ProgramSize == 0) != (h.Program == [32]byte{}):
		return h, "", fmt.Errorf("%w: impossible values in the head", ErrBadExport)
	}
	return h, string(head[exportSize:]), nil
}

// exportReadError tells an export that is cut off from a reader that fails.
func exportReadError(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends within the %s", ErrBadExport, what)
	}
	return fmt.Errorf("read the %s of the export: %w", what, err)
}

// Export writes a generation of the process, and the program that belongs to it, as one
// self-contained stream, from which ImportProcess makes a process on any machine; 0 stands for the
// newest generation that is well. Name is the one that the new process gets unless it is
// given another; it goes on from the moment of the generation, without the journal of what came
// after. Everything that is read is checked. After an error what was written is
// useless, and ImportProcess refuses it.
func (s *Saved) Export(ctx context.Context, generation uint64, name string, to io.Writer) (Copied, error) {
	from, c, err := s.take(ctx, generation)
	if err != nil {
		return c, err
	}
	program, err := s.programOf(from)
	if err != nil {
		return c, err
	}
	head, err := encodeExportHead(name, program)
	if err != nil {
		return c, err
	}
	for _, b := range [][]byte{head, program} {
		if _, err := to.Write(b); err != nil {
			return c, err
		}
	}
	err = from.export(ctx, to)
	c.Bad = from.generation.Bad()
	return c, err
}

// ExportArchive writes a generation's own file as it is, which leans on others. ImportArchive
// can put it back in its place if it is damaged there.
func (s *Saved) ExportArchive(ctx context.Context, generation uint64, to io.Writer) error {
	return s.store.ExportArchive(ctx, generation, to)
}

// IsArchive tells whether a stream begins like the file of a single generation, for
// ImportArchive, and not like an export, for ImportProcess. It takes nothing from the stream.
func IsArchive(r *bufio.Reader) bool {
	b, err := r.Peek(len(memsnap.FileMagic))
	return err == nil && string(b) == memsnap.FileMagic
}

// Imported says what ImportProcess has made.
type Imported struct {
	Name       string // in the export
	Dir        string
	Generation memsnap.Info
}

// ImportProcess makes a new process of what Export wrote. The function place says in which
// directory, which must not exist, by the name that the export bears. Every byte is checked
// before the process comes to be there; then it is there wholly, or not at all. Errors are
// ErrProcessExists, ErrBadExport, memsnap.ErrCorrupt, memsnap.ErrVersion and memsnap.ErrKey.
func ImportProcess(ctx context.Context, from io.Reader, place func(name string) (string, error), o memsnap.Options) (Imported, error) {
	h, name, err := readExportHead(from)
	if err != nil {
		return Imported{}, err
	}
	i := Imported{Name: name}
	if i.Dir, err = place(name); err != nil {
		return i, err
	}
	err = create(i.Dir, func(dir string) error {
		if h.ProgramSize > 0 {
			if err := receiveProgram(from, &h, filepath.Join(dir, programFile)); err != nil {
				return err
			}
		}
		store, err := memsnap.Open(filepath.Join(dir, generationsDir), o)
		if err != nil {
			return err
		}
		if i.Generation, err = store.Import(ctx, from); err != nil {
			return err
		}
		saved, _, err := (&Saved{dir: dir, store: store}).open(ctx, i.Generation.Number)
		if err != nil {
			return err
		}
		if saved.state.Journal != nil {
			return fmt.Errorf("%w: it leans on a journal", ErrBadExport)
		}
		if sum := fmt.Sprintf("%x", h.Program); h.ProgramSize > 0 && sum != saved.state.Program ||
			h.ProgramSize == 0 && saved.state.Phase != phaseEnded {
			return fmt.Errorf("%w: its program (SHA-256 %.12s…) is not the one that was saved (%.12s…)", ErrBadExport, sum, saved.state.Program)
		}
		return nil
	})
	return i, err
}

// receiveProgram reads the program of an export into a file of its own, and checks it. What a
// head says of its size is believed as far as bytes follow.
func receiveProgram(from io.Reader, h *exportHead, path string) error {
	f, err := durable.OS.Create(path, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.CopyN(io.MultiWriter(durable.NewWriter(f), sum), from, int64(h.ProgramSize))
	switch {
	case err != nil && n < int64(h.ProgramSize):
		err = exportReadError("program", err)
	case err == nil && [32]byte(sum.Sum(nil)) != h.Program:
		err = fmt.Errorf("%w: SHA-256 mismatch of the program", ErrBadExport)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ImportArchive puts a generation's own file back in its place in a process that nobody runs,
// where it is damaged or missing, and returns its number. Every byte is checked before.
// memsnap.ErrDenied says that another file is in that place and is well, memsnap.ErrCorrupt
// that the copy is damaged itself or is not the file that newer generations lean on.
func ImportArchive(ctx context.Context, dir, name string, from io.Reader, o memsnap.Options) (number uint64, err error) {
	err = Maintain(dir, name, o, func(store *memsnap.Store) error {
		number, err = store.ImportArchive(ctx, from)
		return err
	})
	return number, err
}
