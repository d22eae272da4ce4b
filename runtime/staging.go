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
)

// staging holds copies of pages from when they are collected until they are durable.
// It lies outside of the Go heap, which is not collected while the guest runs.
type staging struct {
	chunks [][]byte
	used   int // chunks in use
	fill   int // bytes used of the last one in use
	runs   []pageRun
	err    error
}

// pageRun is the copy of consecutive pages.
type pageRun struct {
	first uint64
	data  []byte
}

// add copies pages. An error is kept for finish.
func (s *staging) add(first uint64, data []byte) {
	for len(data) > 0 && s.err == nil {
		if s.used == 0 || s.fill == stagingChunk {
			if s.used == len(s.chunks) {
				c, err := unix.Mmap(-1, 0, stagingChunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
				if err != nil {
					s.err = fmt.Errorf("no memory to copy pages to: %w", err)
					return
				}
				s.chunks = append(s.chunks, c)
			}
			s.used++
			s.fill = 0
		}
		chunk := s.chunks[s.used-1]
		n := copy(chunk[s.fill:], data)
		run := chunk[s.fill : s.fill+n : s.fill+n]
		s.fill += n
		s.runs = append(s.runs, pageRun{first, run})
		first += uint64(n / memsnap.PageSize)
		data = data[n:]
	}
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
