package memsnap

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"perdure/internal/durable"
)

// restSuffix ends the name of what is left of a purged generation because kept ones need it.
const restSuffix = ".rest"

func restName(number uint64) string {
	return strings.TrimSuffix(fileName(number), fileSuffix) + restSuffix
}

func parseRestName(name string) (uint64, bool) {
	stem, ok := strings.CutSuffix(name, restSuffix)
	if !ok {
		return 0, false
	}
	return parseFileName(stem + fileSuffix)
}

// fileSet is what a store's directory holds; the numbers ascend.
type fileSet struct {
	live []uint64        // generations, well or not
	rest []uint64        // what is left of purged ones
	pins map[uint64]bool // of live generations; others mean nothing
}

func (f *fileSet) isLive(number uint64) bool {
	_, ok := slices.BinarySearch(f.live, number)
	return ok
}

// highest returns the highest number that a file bears.
func (f *fileSet) highest() uint64 {
	var n uint64
	if len(f.live) > 0 {
		n = f.live[len(f.live)-1]
	}
	if len(f.rest) > 0 {
		n = max(n, f.rest[len(f.rest)-1])
	}
	return n
}

func (s *Store) files() (fileSet, error) {
	set := fileSet{pins: map[uint64]bool{}}
	entries, err := s.fsys.ReadDir(s.dir)
	if err != nil {
		return set, fmt.Errorf("list generations: %w", err)
	}
	for _, e := range entries {
		if number, ok := parseFileName(e.Name); ok {
			set.live = append(set.live, number)
		} else if number, ok := parseRestName(e.Name); ok {
			set.rest = append(set.rest, number)
		} else if number, ok := parsePinName(e.Name); ok {
			set.pins[number] = true
		}
	}
	slices.Sort(set.live)
	slices.Sort(set.rest)
	return set, nil
}

// open opens a generation's file, purged or not. A purge that goes on at the same time may rename it, so the names are tried
// twice.
func (s *Store) open(number uint64) (durable.File, error) {
	names := [2]string{fileName(number), restName(number)}
	var first error
	for i := range 4 {
		f, err := s.fsys.Open(filepath.Join(s.dir, names[i%2]))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// unlessPurged turns an error of reading a generation into ErrNotFound if the generation is not there, or not any more.
func (s *Store) unlessPurged(number uint64, err error) error {
	if err == nil || !errors.Is(err, fs.ErrNotExist) && !IsDamage(err) {
		return err
	}
	f, openErr := s.fsys.Open(filepath.Join(s.dir, fileName(number)))
	if openErr == nil {
		_ = f.Close() // read only
		return err
	}
	if errors.Is(openErr, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotFound, openErr)
	}
	return err
}

// occupy takes the place of the one session, for work that must not go on beside one. The caller ends it with the
// function that is returned.
func (s *Store) occupy() (func(), error) {
	w := &Session{store: s, over: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != nil {
		return nil, ErrBusy
	}
	s.session = w
	return func() { s.release(w, nil) }, nil
}

// published notes a generation that has its name now.
func (s *Store) published(number, line uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.highest, s.newest = max(s.highest, number), max(s.newest, number)
	s.lines[number] = line
}

// lineOf returns the line of a generation, or 0 if its header cannot be read because it is damaged.
func (s *Store) lineOf(number uint64) (uint64, error) {
	s.mu.Lock()
	line, ok := s.lines[number]
	s.mu.Unlock()
	if ok {
		return line, nil
	}
	f, err := s.open(number)
	if err != nil {
		return 0, fmt.Errorf("open generation %d: %w", number, err)
	}
	defer f.Close() // read only
	var b [headerSize]byte
	path := filepath.Join(s.dir, fileName(number))
	if _, err := f.ReadAt(b[:], 0); err != nil {
		err = readError(path, 0, "header", false, err)
		if IsDamage(err) {
			return 0, nil
		}
		return 0, err
	}
	h, err := decodeHeader(path, b[:], number)
	if err != nil {
		return 0, nil // also of another version: what it needs is unknown
	}
	s.mu.Lock()
	s.lines[number] = h.Line
	s.mu.Unlock()
	return h.Line, nil
}
