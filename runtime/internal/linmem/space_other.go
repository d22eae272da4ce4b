//go:build !linux

package linmem

import (
	"errors"
	"unsafe"
)

// space is a fixed range of memory. Without Linux's mappings it is one allocation of the Go runtime: it does not
// move either, and what is never touched is not populated on the systems that we know.
type space struct {
	memory []byte
	base   unsafe.Pointer
}

func reserve(length uint64) (*space, error) {
	memory := make([]byte, length)
	return &space{memory: memory, base: unsafe.Pointer(unsafe.SliceData(memory))}, nil
}

func (s *space) bytes(size uint64) []byte { return s.memory[:size:size] }

func (s *space) grow(size uint64) error {
	if size > uint64(len(s.memory))-guardSize {
		return errors.New("out of memory")
	}
	return nil
}

func (s *space) expect(uint64, uint64) {}

func (s *space) zero() error {
	clear(s.memory)
	return nil
}

func (s *space) release() error { return nil }

func newUserfaultfdTracker(*space, uint64) (tracker, error) {
	return nil, errors.ErrUnsupported
}

// residency knows nothing here: every page counts as present.
type residency struct{}

func openResidency(*space) *residency { return &residency{} }

func (r *residency) absent(uint64, uint64, pageSet) {}

func (r *residency) close() error { return nil }
