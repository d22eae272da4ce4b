package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The layout of a segment; see FORMAT.md.
const (
	magic         = "PERDJRNL"
	formatVersion = 1

	headerSize  = 32 // magic 8, version 4, reserved 4, sequence 8, CRC 4, lost 4
	lostOffset  = 28
	recordAlign = 8
	// recordHeader is CRC 4, payload length 4, key 4, operation 2, errno 2.
	recordHeader = 16

	// maxPayload bounds a record; a listing of a directory is the largest.
	maxPayload = 128 << 20
	// reserve is the address space of a segment, and so the most that it can hold.
	reserve = 1 << 30
	// growth is how much room on the disk is taken at a time.
	growth = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment is one file of the journal, mapped. Its records are appended at tail.
type segment struct {
	seq  uint64
	path string
	f    *os.File
	mem  []byte // reserve bytes, of which room have storage
	room int
	tail int // where the next record begins
}

// segmentName returns the name of the file of a segment.
func segmentName(seq uint64) string { return fmt.Sprintf("%016x.journal", seq) }

// parseSegmentName is the reverse of segmentName.
func parseSegmentName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, ".journal")
	if !ok || len(hex) != 16 {
		return 0, false
	}
	seq, err := strconv.ParseUint(hex, 16, 64)
	return seq, err == nil && segmentName(seq) == name
}

// createSegment makes an empty segment. One of that number may be there: a crash between
// its making and the end of the one before leaves it.
func createSegment(dir string, seq uint64) (*segment, error) {
	path := filepath.Join(dir, segmentName(seq))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{seq: seq, path: path, f: f}
	if err = s.mapFile(); err == nil {
		err = s.grow(growth)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make journal %s: %w", path, err), s.close(), os.Remove(path))
	}
	h := s.mem[:headerSize]
	copy(h, magic)
	binary.LittleEndian.PutUint32(h[8:], formatVersion)
	binary.LittleEndian.PutUint64(h[16:], seq)
	binary.LittleEndian.PutUint32(h[24:], crc32.Checksum(h[:24], castagnoli))
	s.tail = headerSize
	return s, nil
}

// openSegment opens a segment for reading its records, and for appending once they have
// been read.
func openSegment(dir string, seq uint64) (*segment, error) {
	path := filepath.Join(dir, segmentName(seq))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s := &segment{seq: seq, path: path, f: f}
	st, err := f.Stat()
	if err == nil {
		s.room = int(min(st.Size(), reserve))
		err = s.mapFile()
	}
	if err == nil {
		err = s.checkHeader()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", path, err), s.close())
	}
	s.tail = headerSize
	return s, nil
}

func (s *segment) checkHeader() error {
	if s.room < headerSize || string(s.mem[:8]) != magic {
		return fmt.Errorf("%w: no journal", ErrDamaged)
	}
	h := s.mem[:headerSize]
	if v := binary.LittleEndian.Uint32(h[8:]); v != formatVersion {
		return fmt.Errorf("%w: version %d, this program knows %d", ErrVersion, v, formatVersion)
	}
	if crc32.Checksum(h[:24], castagnoli) != binary.LittleEndian.Uint32(h[24:]) ||
		binary.LittleEndian.Uint32(h[12:]) != 0 || binary.LittleEndian.Uint64(h[16:]) != s.seq {
		return fmt.Errorf("%w: its header", ErrDamaged)
	}
	return nil
}

func (s *segment) mapFile() (err error) {
	s.mem, err = unix.Mmap(int(s.f.Fd()), 0, reserve, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map it: %w", err)
	}
	return nil
}

// grow takes room for n bytes more on the disk. Storage is taken before it is touched: a
// store to a mapped page for which the disk has no room would end this process.
func (s *segment) grow(n int) error {
	n = (n + growth - 1) / growth * growth
	if s.room+n > reserve {
		return fmt.Errorf("journal %s is full: %w", s.path, unix.EFBIG)
	}
	for {
		err := unix.Fallocate(int(s.f.Fd()), 0, int64(s.room), int64(n))
		switch {
		case err == nil:
			s.room += n
			return nil
		case !errors.Is(err, unix.EINTR):
			return &os.PathError{Op: "extend", Path: s.path, Err: err}
		}
	}
}

// ensure makes room for n bytes at the tail.
func (s *segment) ensure(n int) error {
	if missing := s.tail + n - s.room; missing > 0 {
		return s.grow(missing)
	}
	return nil
}

// record is one record of a segment.
type record struct {
	op      op
	errno   uint16
	key     uint32
	payload []byte // in the mapping
	end     int    // where the next record begins
}

// at reads the record at an offset, and false if there is no whole one.
func (s *segment) at(offset int) (record, bool) {
	if offset%recordAlign != 0 || offset < headerSize || s.room-offset < recordHeader {
		return record{}, false
	}
	h := s.mem[offset:]
	n := binary.LittleEndian.Uint32(h[4:])
	r := record{
		key:   binary.LittleEndian.Uint32(h[8:]),
		op:    op(binary.LittleEndian.Uint16(h[12:])),
		errno: binary.LittleEndian.Uint16(h[14:]),
	}
	if r.op == 0 || n > maxPayload || int(n) > s.room-offset-recordHeader {
		return record{}, false
	}
	r.payload = h[recordHeader : recordHeader+n : recordHeader+n]
	if crc32.Checksum(h[4:recordHeader+n], castagnoli) != binary.LittleEndian.Uint32(h) {
		return record{}, false
	}
	r.end = align(offset + recordHeader + int(n))
	return r, true
}

func align(n int) int { return (n + recordAlign - 1) &^ (recordAlign - 1) }

// seal writes the header of a record whose payload of n bytes lies at the tail, and makes it
// part of the segment: the checksum is what makes it valid.
func (s *segment) seal(o op, key uint32, errno uint16, n int) {
	h := s.mem[s.tail : s.tail+recordHeader+n]
	binary.LittleEndian.PutUint32(h[4:], uint32(n))
	binary.LittleEndian.PutUint32(h[8:], key)
	binary.LittleEndian.PutUint16(h[12:], uint16(o))
	binary.LittleEndian.PutUint16(h[14:], errno)
	binary.LittleEndian.PutUint32(h, crc32.Checksum(h[4:], castagnoli))
	s.tail = align(s.tail + recordHeader + n)
}

// cut removes what lies behind the tail, such as a torn record.
func (s *segment) cut() error {
	if err := s.f.Truncate(int64(s.tail)); err != nil {
		return err
	}
	s.room = s.tail
	return s.ensure(1)
}

// lose notes that answers were given which the segment does not have.
func (s *segment) lose() { binary.LittleEndian.PutUint32(s.mem[lostOffset:], 1) }

// lost tells whether that was noted.
func (s *segment) lost() bool { return binary.LittleEndian.Uint32(s.mem[lostOffset:]) != 0 }

// sync makes the records durable.
func (s *segment) sync() error {
	for {
		err := unix.Fdatasync(int(s.f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			if err != nil {
				return &os.PathError{Op: "sync", Path: s.path, Err: err}
			}
			return nil
		}
	}
}

func (s *segment) close() error {
	var errs []error
	if s.mem != nil {
		errs = append(errs, unix.Munmap(s.mem))
		s.mem = nil
	}
	return errors.Join(append(errs, s.f.Close())...)
}

// segments lists the segments in a directory, ascending.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir) // sorted by name, which is by number
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []uint64
	for _, e := range entries {
		if seq, ok := parseSegmentName(e.Name()); ok && e.Type().IsRegular() {
			list = append(list, seq)
		}
	}
	return list, nil
}
