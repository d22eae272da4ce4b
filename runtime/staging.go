package runtime

import (
	"fmt"

	"golang.org/x/sys/unix"

	"perdure/memsnap"
)

// stagingChunk is how much staging maps at a time, in bytes; stagingKeep is what it
// keeps mapped between cuts.
const (
	stagingChunk = 8 << 20
	stagingKeep  = 64 << 20
	// stagingReady is what is made ready for the copies of a pause, beyond twice what the last one took.
	stagingReady = 256 << 10
)

// staging holds copies of pages from when they are collected until they are durable.
// It lies outside of the Go heap, which is not collected while the guest runs.
type staging struct {
	chunks [][]byte
	used   int // chunks in use
	fill   int // bytes used of the last one in use
	runs   []pageRun
	err    error // some runs have no data

	// refuse, if not nil, makes mapping a chunk fail. It is for tests.
	refuse func() error
}

// pageRun is the copy of n consecutive pages. data is nil when there was no memory for it:
// whoever collected the pages still has to know which they were, since they count as clean.
type pageRun struct {
	first, n uint64
	data     []byte
}

// add copies pages. An error is kept in err.
func (s *staging) add(first uint64, data []byte) {
	for len(data) > 0 {
		run := s.room(len(data))
		if run == nil {
			s.runs = append(s.runs, pageRun{first: first, n: uint64(len(data)) / memsnap.PageSize})
			return
		}
		n := copy(run, data)
		pages := uint64(n) / memsnap.PageSize
		s.runs = append(s.runs, pageRun{first, pages, run})
		first += pages
		data = data[n:]
	}
}

// room returns some of the memory that n bytes need, nil if there is none.
func (s *staging) room(n int) []byte {
	if s.used == 0 || s.fill == stagingChunk {
		if s.used == len(s.chunks) && !s.mapChunk() {
			return nil
		}
		s.used++
		s.fill = 0
	}
	end := min(s.fill+n, stagingChunk)
	run := s.chunks[s.used-1][s.fill:end:end]
	s.fill = end
	return run
}

// ready makes n bytes ready to be copied to, so that it takes no page faults then. That it
// fails costs time and nothing else.
func (s *staging) ready(n int) {
	chunk, fill := max(s.used-1, 0), s.fill
	for n > 0 && s.err == nil {
		if chunk == len(s.chunks) && !s.mapChunk() {
			s.err = nil
			return
		}
		end := min(fill+n, stagingChunk)
		for at := fill; at < end; at += memsnap.PageSize {
			s.chunks[chunk][at] = 0
		}
		n -= end - fill
		chunk, fill = chunk+1, 0
	}
}

func (s *staging) mapChunk() bool {
	if s.err != nil {
		return false // the generation cannot be made any more
	}
	if s.refuse != nil {
		s.err = s.refuse()
	}
	var c []byte
	if s.err == nil {
		c, s.err = unix.Mmap(-1, 0, stagingChunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	}
	if s.err != nil {
		s.err = fmt.Errorf("no memory to copy pages to: %w", s.err)
		return false
	}
	s.chunks = append(s.chunks, c)
	return true
}

// reset forgets the copies and gives most of the memory back.
func (s *staging) reset() {
	keep := stagingKeep / stagingChunk
	for len(s.chunks) > keep {
		last := s.chunks[len(s.chunks)-1]
		s.chunks = s.chunks[:len(s.chunks)-1]
		_ = unix.Munmap(last) // nothing to be done about it: it is our own mapping
	}
	s.used, s.fill, s.err = 0, 0, nil
	clear(s.runs)
	s.runs = s.runs[:0]
}

// close gives all memory back.
func (s *staging) close() {
	s.reset()
	for _, c := range s.chunks {
		_ = unix.Munmap(c)
	}
	s.chunks = nil
}
