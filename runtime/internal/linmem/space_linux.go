package linmem

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// space is a fixed range of address space. Its beginning is accessible, the rest is not and costs nothing.
type space struct {
	base       unsafe.Pointer // outside of the Go heap
	length     uint64         // fixed, bytes, guard included
	accessible atomic.Uint64  // bytes; grows only, by the guest's goroutine
}

func reserve(length uint64) (*space, error) {
	base, err := unix.MmapPtr(-1, 0, nil, uintptr(length), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	s := &space{base: base, length: length}
	// Small pages only, but for what is expected. Huge ones would make one written byte 512 dirty pages and 2 MiB of
	// memory, the first write after a cut would have to split them, and what is written often ends up as small pages
	// anyway; what they save, an idle scan, takes less than a millisecond per GiB. BenchmarkHugePages measures it.
	// EINVAL: a kernel built without huge pages.
	if err := unix.Madvise(unsafe.Slice((*byte)(base), length), unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL {
		_ = s.release()
		return nil, fmt.Errorf("madvise huge pages: %w", err)
	}
	return s, nil
}

func (s *space) bytes(size uint64) []byte {
	return unsafe.Slice((*byte)(s.base), size)
}

func (s *space) grow(size uint64) error {
	old := s.accessible.Load()
	if size <= old {
		return nil
	}
	if size > s.length-guardSize {
		return unix.ENOMEM
	}
	fresh := unsafe.Slice((*byte)(unsafe.Add(s.base, old)), size-old)
	if err := unix.Mprotect(fresh, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return fmt.Errorf("mprotect: %w", err)
	}
	s.accessible.Store(size)
	return nil
}

// hugePage is the size of a huge page on amd64 and, with pages of 4 KiB, on arm64.
const hugePage = 2 << 20

// expect asks for huge pages where they lie within the bytes [from, to).
func (s *space) expect(from, to uint64) {
	base := uint64(uintptr(s.base))
	first, end := (base+from+hugePage-1)/hugePage*hugePage, (base+to)/hugePage*hugePage
	if first < end {
		_ = unix.Madvise(s.bytes(end - base)[first-base:], unix.MADV_HUGEPAGE) // small ones do, too
	}
}

func (s *space) zero() error {
	if n := s.accessible.Load(); n != 0 {
		if err := unix.Madvise(s.bytes(n), unix.MADV_DONTNEED); err != nil {
			return fmt.Errorf("madvise: %w", err)
		}
	}
	return nil
}

func (s *space) release() error {
	if err := unix.MunmapPtr(s.base, uintptr(s.length)); err != nil {
		return fmt.Errorf("munmap: %w", err)
	}
	return nil
}
