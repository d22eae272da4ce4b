package linmem

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// residency knows which pages the kernel keeps for us, in memory or in swap. The others are zero, and even reading them
// would cost a fault and a page table each. It is an optimisation: where it does not work, every page counts as present.
type residency struct {
	fd       int // of /proc/self/pagemap, -1 without
	base     uint64
	pageSize uint64
	entries  []byte
}

func openResidency(s *space) *residency {
	fd, err := unix.Open("/proc/self/pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	return &residency{
		fd:       fd,
		base:     uint64(uintptr(s.base)),
		pageSize: uint64(os.Getpagesize()),
		entries:  make([]byte, residencyBatch*pagemapEntrySize),
	}
}

// absent adds to set, counted from first, those of the pages [first, end) that are zero because they are not there.
// It may say too few. The range must not be longer than residencyBatch.
func (r *residency) absent(first, end uint64, set pageSet) {
	if r.fd < 0 || r.pageSize < PageSize {
		return
	}
	perEntry := r.pageSize / PageSize // 1 unless the kernel's pages are larger than ours
	entries := r.entries[:(end-first)/perEntry*pagemapEntrySize]
	offset := (r.base + first*PageSize) / r.pageSize * pagemapEntrySize
	n, err := unix.Pread(r.fd, entries, int64(offset))
	if err != nil {
		return
	}
	for i := range uint64(n / pagemapEntrySize) {
		if binary.NativeEndian.Uint64(entries[i*pagemapEntrySize:])&(pagemapPresent|pagemapSwapped) == 0 {
			set.add(i*perEntry, (i+1)*perEntry)
		}
	}
}

func (r *residency) close() error {
	if r.fd < 0 {
		return nil
	}
	return unix.Close(r.fd)
}
