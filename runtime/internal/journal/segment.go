package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FormatVersion is the version of the format in which journals are written.
const FormatVersion = formatVersion

// The layout of a segment; see FORMAT.md.
const (
	magic         = "PERDJRNL"
	formatVersion = 1

	headerSize  = 32 // magic 8, version 4, reserved 4, sequence 8, CRC 4, reserved 4
	recordAlign = 8
	// recordHeader is CRC 4, payload length 4, key 4, operation 2, errno 2.
	recordHeader = 16

	// maxPayload bounds a record; a listing of a directory is the largest.
	maxPayload = 128 << 20
	// reserve is the address space of a segment, and so the most that it can hold.
	reserve = 1 << 30
	// growth is how much room on the disk is taken at a time.
	growth = 1 << 20
	// firstGrowth is how much that is at first for a durable copy, whose room costs writing; then it doubles.
	firstGrowth = 64 << 10
	// spare is room that is always there behind the tail: for a record without payload, which
	// says why there is no other.
	spare = recordHeader

	pageSize = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum returns the checksum that a record of these bytes has: never one of a single bit or none,
// so that no flipped bit makes a record look like one that was not written.
func sum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	if bits.OnesCount32(c) < 2 {
		c = ^c
	}
	return c
}

// segment is one file of the journal, mapped. Its records are appended at tail.
type segment struct {
	seq  uint64
	path string
	f    *os.File
	mem  []byte // of which room have storage
	room int
	tail int          // where the next record begins
	copy *durableCopy // nil where records need not outlive the machine
}

const segmentSuffix = ".journal"

// segmentName returns the name of the file of a segment.
func segmentName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, segmentSuffix) }

// parseSegmentName is the reverse of segmentName.
func parseSegmentName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	seq, err := strconv.ParseUint(hex, 16, 64)
	return seq, err == nil && segmentName(seq) == name
}

// createSegment makes an empty segment. One of that number may be there: a crash between
// its making and the end of the one before leaves it.
func createSegment(dir string, seq uint64) (*segment, error) {
	if err := removeCopies(dir, seq); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, segmentName(seq))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{seq: seq, path: path, f: f}
	if err = s.mapFile(reserve, true); err == nil {
		err = s.grow(1)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make journal %s: %w", path, err), s.close(), os.Remove(path))
	}
	s.begin()
	return s, nil
}

// begin makes a segment of zeros an empty one.
func (s *segment) begin() {
	h := s.mem[:headerSize]
	copy(h, magic)
	binary.LittleEndian.PutUint32(h[8:], formatVersion)
	binary.LittleEndian.PutUint64(h[16:], s.seq)
	binary.LittleEndian.PutUint32(h[24:], crc32.Checksum(h[:24], castagnoli))
	s.tail = headerSize
}

// spareName is the name of the file of a segment that is none any more, and will be another one:
// what was written once has its pages and its place on the disk.
const spareName = "spare" + segmentSuffix

// maxSpare is how much of such a segment is kept, in bytes.
const maxSpare = 64 << 20

// empty makes a segment that is not needed any more a spare one, of zeros. Its name goes first: from
// then on it is no part of the journal. It fails where somebody reads the segment.
func (s *segment) empty(dir string) error {
	fd := int(s.f.Fd())
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	defer unix.Flock(fd, unix.LOCK_UN)
	path := filepath.Join(dir, spareName)
	if err := os.Rename(s.path, path); err != nil {
		return err
	}
	s.path = path
	if s.room > maxSpare {
		if err := s.f.Truncate(maxSpare); err != nil {
			return err
		}
		s.room = maxSpare
	}
	// Behind the tail may lie what was received and never became a record.
	clear(s.mem[:min(s.tail+recordHeader+8+maxRecv, s.room)])
	if s.copy == nil {
		return nil
	}
	if err := s.copy.move(filepath.Join(dir, spareCopyName)); err != nil {
		return err
	}
	return s.copy.empty()
}

// reuse makes a spare segment the one of that number.
func (s *segment) reuse(dir string, seq uint64, boot bootID) error {
	path := filepath.Join(dir, segmentName(seq))
	if err := os.Rename(s.path, path); err != nil {
		return err
	}
	s.seq, s.path = seq, path
	s.begin()
	if s.copy == nil {
		return nil
	}
	return s.copy.move(filepath.Join(dir, copyName(seq, boot)))
}

// removeSpare removes the spare segment that a life has left.
func removeSpare(dir string) (err error) {
	for _, name := range []string{spareName, spareCopyName, newCopyName} {
		if e := os.Remove(filepath.Join(dir, name)); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// openSegment opens a segment for reading its records, from where they outlived what came between them and this
// boot. To write to it is to go on with it.
func openSegment(dir string, seq uint64, boot bootID, write bool) (*segment, error) {
	path := filepath.Join(dir, segmentName(seq))
	how := os.O_RDONLY
	if write {
		how = os.O_RDWR
		if err := recoverSegment(dir, seq, boot); err != nil {
			return nil, err
		}
	} else if from, err := durableSource(dir, seq, boot); err != nil {
		return nil, err
	} else if from != "" {
		path = from
	}
	f, err := os.OpenFile(path, how, 0)
	if err != nil {
		return nil, err
	}
	s := &segment{seq: seq, path: path, f: f}
	st, err := f.Stat()
	if err == nil && !write {
		err = s.share(st)
	}
	if err == nil {
		s.room = int(min(st.Size(), reserve))
		err = s.checkSize()
	}
	if err == nil {
		err = s.mapFile(s.room, false)
	}
	if err == nil {
		err = onFault(s.checkHeader)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", path, err), s.close())
	}
	s.tail = headerSize
	return s, nil
}

// share keeps a segment, which is that file, from being made another one while it is read.
func (s *segment) share(mine fs.FileInfo) error {
	if err := unix.Flock(int(s.f.Fd()), unix.LOCK_SH); err != nil {
		return &os.PathError{Op: "lock", Path: s.path, Err: err}
	}
	if now, err := os.Stat(s.path); err != nil || !os.SameFile(mine, now) {
		return &os.PathError{Op: "open", Path: s.path, Err: fs.ErrNotExist} // it is another one already
	}
	return nil
}

func (s *segment) checkSize() error {
	if s.room < headerSize {
		return fmt.Errorf("%w: %d bytes", ErrDamaged, s.room)
	}
	return nil
}

func (s *segment) checkHeader() error {
	h := s.mem[:headerSize]
	if string(h[:8]) != magic {
		return fmt.Errorf("%w: no journal", ErrDamaged)
	}
	sumOK := crc32.Checksum(h[:24], castagnoli) == binary.LittleEndian.Uint32(h[24:])
	if v := binary.LittleEndian.Uint32(h[8:]); v != formatVersion && sumOK {
		return fmt.Errorf("%w: version %d, this program knows %d", ErrVersion, v, formatVersion)
	}
	if !sumOK || binary.LittleEndian.Uint32(h[12:]) != 0 || binary.LittleEndian.Uint64(h[16:]) != s.seq ||
		binary.LittleEndian.Uint32(h[28:]) != 0 {
		return fmt.Errorf("%w: its header", ErrDamaged)
	}
	return nil
}

func (s *segment) mapFile(size int, write bool) (err error) {
	how := unix.PROT_READ
	if write {
		how |= unix.PROT_WRITE
	}
	s.mem, err = unix.Mmap(int(s.f.Fd()), 0, size, how, unix.MAP_SHARED)
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
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = s.fill(n)
		}
		switch {
		case err == nil:
			if s.room > 0 { // it may never need more than the first
				// All pages at once cost less than one by one when they are written to.
				_ = unix.Madvise(s.mem[s.room:s.room+n], unix.MADV_POPULATE_WRITE) // else they come one by one
			}
			s.room += n
			return nil
		case !errors.Is(err, unix.EINTR):
			return &os.PathError{Op: "extend", Path: s.path, Err: err}
		}
	}
}

// fill writes the n bytes of storage behind the room, where it cannot be had otherwise.
func (s *segment) fill(n int) error {
	_, err := s.f.WriteAt(make([]byte, n), int64(s.room))
	return err
}

// ensure makes room for n bytes at the tail, and the spare behind them.
func (s *segment) ensure(n int) error {
	if missing := s.tail + align(n) + spare - s.room; missing > 0 {
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

// found tells what there is at a place in a segment.
type found uint8

const (
	foundRecord found = iota
	foundEnd          // nothing was written there, or not to its end
	foundDamage
)

// at reads the record at an offset, and checks it.
func (s *segment) at(offset int) (record, found) {
	if offset%recordAlign != 0 || offset < headerSize || offset > s.room {
		return record{}, foundDamage
	}
	if s.room-offset < recordHeader {
		if len(bytes.Trim(s.mem[offset:s.room], "\x00")) > 0 {
			return record{}, foundDamage
		}
		return record{}, foundEnd
	}
	c := binary.LittleEndian.Uint32(s.mem[offset:])
	if c == 0 {
		return record{}, foundEnd
	}
	n := binary.LittleEndian.Uint32(s.mem[offset+4:])
	if n > maxPayload || int(n) > s.room-offset-recordHeader {
		return record{}, foundDamage
	}
	if sum(s.mem[offset+4:offset+recordHeader+int(n)]) != c {
		return record{}, foundDamage
	}
	r := s.read(offset)
	if r.end > s.room {
		return record{}, foundDamage
	}
	return r, foundRecord
}

// read reads a record that has been checked.
func (s *segment) read(offset int) record {
	h := s.mem[offset:]
	n := int(binary.LittleEndian.Uint32(h[4:]))
	return record{
		key:     binary.LittleEndian.Uint32(h[8:]),
		op:      op(binary.LittleEndian.Uint16(h[12:])),
		errno:   binary.LittleEndian.Uint16(h[14:]),
		payload: h[recordHeader : recordHeader+n : recordHeader+n],
		end:     align(offset + recordHeader + n),
	}
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
	binary.LittleEndian.PutUint32(h, sum(h[4:]))
	s.tail = align(s.tail + recordHeader + n)
}

// land says that a call is about to receive what the record at the tail is for: whoever finds no record there, but this,
// may look for it.
func (s *segment) land() {
	binary.LittleEndian.PutUint16(s.mem[s.tail+12:], uint16(opRecv))
}

// landing tells whether something may have been received for the record that is missing at an offset. The record of an early
// one that was being made of it may be there in part.
func (s *segment) landing(offset int) bool {
	o := op(binary.LittleEndian.Uint16(s.mem[offset+12:]))
	return o == opRecv || o == opEarly
}

// append makes the segment, which was opened for reading, ready for new records behind the
// offset. What lay there is gone, such as a record that was never sealed: whatever it holds must
// not be met again. Before that, first may make a record of what lies there.
func (s *segment) append(offset int, first func()) error {
	if err := unix.Munmap(s.mem); err != nil {
		return err
	}
	s.mem = nil
	if err := s.mapFile(reserve, true); err != nil {
		return err
	}
	s.tail = offset
	first()
	// What has storage keeps it, since the disk may be full.
	room := min(s.room, (s.tail+spare+pageSize-1)/pageSize*pageSize)
	clear(s.mem[s.tail:room])
	if err := s.f.Truncate(int64(room)); err != nil {
		return err
	}
	s.room = room
	return nil
}

func (s *segment) close() error {
	var errs []error
	if s.mem != nil {
		errs = append(errs, unix.Munmap(s.mem))
		s.mem = nil
	}
	if s.copy != nil {
		errs = append(errs, s.copy.f.Close())
	}
	return errors.Join(append(errs, s.f.Close())...)
}

// segments lists the segments in a directory, ascending. One may be there as its durable copy only.
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
		seq, ok := parseSegmentName(e.Name())
		if !ok {
			seq, _, ok = parseCopyName(e.Name())
		}
		if ok && e.Type().IsRegular() && (len(list) == 0 || list[len(list)-1] != seq) {
			list = append(list, seq)
		}
	}
	return list, nil
}
