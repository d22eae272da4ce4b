// Package linmem is linear memory for wazero that never moves and knows its dirty pages.
//
// # Contract
//
// New reserves address space once; a guest that is instantiated with the Memory as its experimental.MemoryAllocator
// starts at its beginning and grows in place, so pointers into Bytes stay good for the life of the Memory. Collect
// hands out the 4 KiB pages that may have changed since the time before and marks them clean. It may report too much,
// never too little: a caller who starts from all zero and keeps what every Collect emits, later over earlier, has the
// memory as it is, as soon as nothing was written during the last Collect.
//
// Two trackers keep that contract, and the same tests run against both:
//
//   - userfaultfd: the kernel notes what is written. Exact to the page: reported is what was written, also when it
//     was the same value again, and what Zero and MarkDirty ask for. (A written page that the kernel is moving to
//     another frame during a Collect is reported by the next one, too.) Collect costs about a microsecond per dirty
//     page and under a millisecond per GiB of memory in use, and the first write to a page after it was collected
//     costs the guest a fault of about a microsecond. In virtual machines both can be ten and more; Peek, which does
//     not protect, is not hit by that. Writes by system calls (read, preadv into the memory) count
//     like those of the guest.
//   - hash: a 128-bit hash of every page, with a random seed, is compared with the one of the time before. Exact to
//     the byte: a page that was changed and changed back is not reported. Collect costs 0.1 to 0.2 seconds per GiB
//     of memory in use, writing costs nothing, and the table of hashes takes 16 bytes per page.
//
// # Concurrency
//
// Bytes, Tracker and Fallback may be called by any goroutine. Track, Collect, Peek, Settle, MarkDirty, Zero and Close
// exclude each other by returning ErrBusy. The guest may run, write and grow its memory during Collect, Settle and
// MarkDirty; it must stand still during Track, Peek, Zero, Allocate and Close, and nothing may touch Bytes after Close. No goroutine is
// started, and no lock is held while the callback of Collect runs. The memory is outside of the Go heap: the garbage
// collector neither scans nor counts it, and the race detector does not see it.
//
// # Kernel
//
// The userfaultfd tracker needs Linux 6.7 (PAGEMAP_SCAN, asynchronous write protection) on amd64 or arm64, built with
// CONFIG_USERFAULTFD, /proc, and leave to call userfaultfd(2) with UFFD_USER_MODE_ONLY, which takes no privilege, or
// else to open /dev/userfaultfd. Seccomp filters of containers often forbid both; Auto then takes the hash tracker,
// and Fallback says why. New proves on the fresh mapping that writes are reported before it trusts the kernel. The
// registration belongs to this process: it does not follow a fork, and Go has none. On systems other than Linux there
// is only the hash tracker, over memory of the Go runtime.
package linmem
