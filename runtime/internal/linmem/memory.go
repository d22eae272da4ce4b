package linmem

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/tetratelabs/wazero/experimental"
)

const (
	// PageSize is the unit of tracking in bytes, whatever the kernel's own page size is.
	PageSize = 4096
	// MaxRun is the most pages that Collect hands out in one call of its callback.
	MaxRun = 256
	// MaxLimit is the most bytes that a 32-bit WebAssembly memory can have, and the default of Options.Limit.
	MaxLimit = 1 << 32

	wasmPageSize = 65536
	// guardSize bytes beyond the limit stay inaccessible for ever: an access that slips past the end of
	// the memory must fault and never reach a neighbour.
	guardSize = wasmPageSize
)

// ErrBusy is returned by Track, Collect, Peek, Settle, MarkDirty, Zero and Close while another of them is at work, also when the
// callback of Collect calls one.
var ErrBusy = errors.New("linear memory is busy")

// ErrClosed is returned by Track, Collect, Peek, Settle, MarkDirty and Zero after Close.
var ErrClosed = errors.New("linear memory is closed")

// Tracker says how a Memory learns which pages were written.
type Tracker int

const (
	// Auto is Userfaultfd where the kernel has it and lets us, otherwise Hash.
	Auto Tracker = iota
	// Userfaultfd lets the kernel note the pages that are written.
	Userfaultfd
	// Hash compares a 128-bit hash of every page with the one of the time before.
	Hash
)

// String returns the name of the tracker in lower case.
func (t Tracker) String() string {
	switch t {
	case Auto:
		return "auto"
	case Userfaultfd:
		return "userfaultfd"
	case Hash:
		return "hash"
	}
	return fmt.Sprintf("tracker(%d)", int(t))
}

// Options are the settings of a Memory. The zero value is usable.
type Options struct {
	// Tracker chooses how dirty pages are found. New fails if Userfaultfd is asked for and impossible.
	Tracker Tracker
	// Limit is the most bytes the memory may grow to; it is rounded down to whole wasm pages (64 KiB).
	// Zero means MaxLimit. It is also, rounded, the address space that is reserved.
	Limit uint64
}

// Memory is the linear memory of one guest at an address that never changes, and knows its dirty pages.
//
// It implements experimental.MemoryAllocator. Bytes and Tracker may be called from any goroutine until Close.
// Track, Collect, Peek, Settle, MarkDirty, Zero and Close exclude each other (ErrBusy). The guest may run, write and grow
// the memory during Collect, Settle and MarkDirty, but not during Track, Peek, Zero and Close.
type Memory struct {
	space    *space  // fixed
	tracker  tracker // fixed; used by whoever set busy
	fallback error   // fixed: why Auto chose Hash
	limit    uint64  // fixed, bytes

	size     atomic.Uint64 // bytes
	attached atomic.Bool   // a LinearMemory is in use
	busy     atomic.Bool
	closed   atomic.Bool
}

var _ experimental.MemoryAllocator = (*Memory)(nil)

// tracker finds dirty pages. It is used by one goroutine at a time, beside a guest that writes.
type tracker interface {
	kind() Tracker
	// collect finds the pages below nPages that may have changed since the last collect, makes them clean
	// and, unless emit is nil, emits them. When it fails, or emit panics, the pages not emitted stay dirty.
	collect(nPages uint64, emit func(first uint64, data []byte)) error
	// peek is collect while the guest stands still. The pages that it emits may stay dirty, until settle.
	peek(nPages uint64, emit func(first uint64, data []byte)) error
	// settle makes those of the pages from first on clean that peek has left dirty and that still are as in data.
	settle(first uint64, data []byte) error
	// markDirty makes the pages [first, end) dirty.
	markDirty(first, end uint64)
	// zeroed says that the whole memory was set to zero by giving its pages back.
	zeroed()
	close() error
}

// New reserves the address space and prepares the tracker. The memory is empty; a guest sizes it through Allocate.
// It counts as tracked from the start, its first picture being all zero.
func New(o Options) (*Memory, error) {
	limit := o.Limit
	if limit == 0 {
		limit = MaxLimit
	}
	if limit > MaxLimit {
		return nil, fmt.Errorf("memory limit %d is more than %d bytes", limit, uint64(MaxLimit))
	}
	limit -= limit % wasmPageSize
	if limit+guardSize > uint64(^uint(0)>>1) {
		return nil, fmt.Errorf("memory limit %d does not fit this machine's address space", limit)
	}
	s, err := reserve(limit + guardSize)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes of address space: %w", limit+guardSize, err)
	}
	m := &Memory{space: s, limit: limit}
	switch o.Tracker {
	case Auto:
		m.tracker, m.fallback = newUserfaultfdTracker(s, limit)
		if m.fallback != nil {
			m.tracker, err = newHashTracker(s, limit)
		}
	case Userfaultfd:
		m.tracker, err = newUserfaultfdTracker(s, limit)
	case Hash:
		m.tracker, err = newHashTracker(s, limit)
	default:
		err = errors.New("unknown kind")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %v tracker: %w", o.Tracker, err), s.release())
	}
	return m, nil
}

// Tracker returns the name of the tracker in use: "userfaultfd" or "hash".
func (m *Memory) Tracker() string { return m.tracker.kind().String() }

// Fallback returns why Auto had to choose Hash, nil if it did not.
func (m *Memory) Fallback() error { return m.fallback }

// Bytes returns the current memory. The slice aliases the guest's memory, stays valid until Close and keeps its
// length when the guest grows the memory; the address of the first byte is the same in every call. It is
// empty before a guest is instantiated, and nil after Close.
func (m *Memory) Bytes() []byte {
	if m.closed.Load() {
		return nil
	}
	return m.space.bytes(m.size.Load())
}

// Size returns how many bytes Bytes has. It may be called from any goroutine, after Close too.
func (m *Memory) Size() uint64 { return m.size.Load() }

// Track makes the memory as it is now the picture that the next Collect compares with: every page is clean. The guest
// must stand still until the caller has that picture, too: the hash tracker cannot see that a page was other for a
// while. The cost is that of a Collect, without the copies.
func (m *Memory) Track() error { return m.collect("track", nil) }

// Collect calls emit for runs of pages that may have changed since Track or the last Collect (since New, all zero, if
// there was neither), and marks them clean. first is the index of the first page of the run; data is whole pages, at
// most MaxRun of them, and valid only during the call. Pages are emitted at most once, in no stated order.
//
// The guest may go on meanwhile. A page that it writes after the page was marked clean is dirty again, so data that
// was torn by such a write is put right by the next Collect; pages grown meanwhile are left to that, too. A caller
// who keeps what every Collect emitted, later over earlier, holds the memory exactly once the guest has stood still
// for one Collect.
//
// When Collect fails, or emit panics, nothing is lost: the pages not yet emitted are still dirty, also those of the call
// that panicked, and pages that were emitted may be so again.
func (m *Memory) Collect(emit func(first uint64, data []byte)) error {
	if emit == nil {
		return errors.New("collect dirty pages: no callback")
	}
	return m.collect("collect dirty pages", emit)
}

func (m *Memory) collect(op string, emit func(first uint64, data []byte)) error {
	return m.track(op, func(nPages uint64) error { return m.tracker.collect(nPages, emit) })
}

// Peek is Collect in less time, for a guest that stands still: to make a page clean takes much longer than to copy it,
// and that is left to Settle. Until then pages that Peek has emitted may be dirty.
func (m *Memory) Peek(emit func(first uint64, data []byte)) error {
	if emit == nil {
		return errors.New("look at dirty pages: no callback")
	}
	return m.track("look at dirty pages", func(nPages uint64) error { return m.tracker.peek(nPages, emit) })
}

// Settle makes the pages of a run that the last Peek has emitted clean, but for those that have changed since. data is
// what was emitted. The guest may go on meanwhile. It may be left out, or fail: then the next Collect emits pages that have
// not changed.
func (m *Memory) Settle(first uint64, data []byte) error {
	return m.track("settle pages", func(nPages uint64) error {
		if n := uint64(len(data)) / PageSize; first > nPages || n > nPages-first {
			return fmt.Errorf("%d pages from %d are beyond the size of %d", n, first, nPages)
		}
		return m.tracker.settle(first, data)
	})
}

func (m *Memory) track(op string, do func(nPages uint64) error) error {
	if err := m.enter(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	defer m.busy.Store(false)
	if err := do(m.size.Load() / PageSize); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// MarkDirty makes n pages, counted from page first, dirty whether they were written or not: a caller who had to throw
// away what Collect emitted gets it from the next Collect. Pages beyond the limit of the memory are an error, pages
// beyond its size count once it has grown over them.
func (m *Memory) MarkDirty(first, n uint64) error {
	if err := m.enter(); err != nil {
		return fmt.Errorf("mark pages dirty: %w", err)
	}
	defer m.busy.Store(false)
	if nPages := m.limit / PageSize; first > nPages || n > nPages-first {
		return fmt.Errorf("mark pages dirty: %d pages from %d are beyond the limit of %d", n, first, nPages)
	}
	m.tracker.markDirty(first, first+n)
	return nil
}

// Zero makes every byte zero and gives the pages back to the kernel; the size stays. Pages that the caller of Collect
// may hold as something else are dirty afterwards and will be emitted as zeros. No other way of giving pages back
// (madvise on Bytes) is noticed by every tracker, so none may be used. The guest must stand still.
func (m *Memory) Zero() error {
	if err := m.enter(); err != nil {
		return fmt.Errorf("zero memory: %w", err)
	}
	defer m.busy.Store(false)
	return m.zero()
}

func (m *Memory) zero() error {
	// Said before it happens: pages that were zeroed although an error came back must be reported, too.
	m.tracker.zeroed()
	if err := m.space.zero(); err != nil {
		return fmt.Errorf("zero memory: %w", err)
	}
	return nil
}

// Expect says that n pages, counted from page first, are about to be written, all of them, so that the kernel may back
// them by huge pages: one fault then, where there would be hundreds. Once they are tracked, a write dirties a page of
// PageSize bytes as ever. It is advice; what is beyond the size is left out.
func (m *Memory) Expect(first, n uint64) {
	nPages := m.size.Load() / PageSize
	first = min(first, nPages)
	m.space.expect(first*PageSize, (first+min(n, nPages-first))*PageSize)
}

// Close gives everything back: the mapping, which no slice from Bytes and no guest may touch afterwards, and the
// descriptors. A second Close does nothing.
func (m *Memory) Close() error {
	if !m.busy.CompareAndSwap(false, true) {
		return fmt.Errorf("close memory: %w", ErrBusy)
	}
	defer m.busy.Store(false)
	if m.closed.Swap(true) {
		return nil
	}
	// The tracker first: it looks at the mapping.
	return errors.Join(m.tracker.close(), m.space.release())
}

// enter makes the caller the one who uses tracker and space; it must clear busy.
func (m *Memory) enter() error {
	if !m.busy.CompareAndSwap(false, true) {
		return ErrBusy
	}
	if m.closed.Load() {
		m.busy.Store(false)
		return ErrClosed
	}
	return nil
}

// emitRuns cuts the pages [first, end) of the memory at base into runs and emits them.
func emitRuns(base unsafe.Pointer, first, end uint64, emit func(first uint64, data []byte)) {
	for first < end {
		n := min(end-first, MaxRun)
		emit(first, unsafe.Slice((*byte)(unsafe.Add(base, first*PageSize)), n*PageSize))
		first += n
	}
}

// zeros is a run of zero pages. Nobody writes it.
var zeros [MaxRun * PageSize]byte

// emitZeros emits the pages [first, end) as zeros without touching them: reading a page that is not there costs a fault.
func emitZeros(first, end uint64, emit func(first uint64, data []byte)) {
	for first < end {
		n := min(end-first, MaxRun)
		emit(first, zeros[:n*PageSize:n*PageSize])
		first += n
	}
}
