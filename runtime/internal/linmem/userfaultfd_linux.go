package linmem

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// scanRegions is how many regions one PAGEMAP_SCAN can report; more dirty regions take more calls.
const scanRegions = 512

// userfaultfdTracker lets the kernel note what is written: the range is registered with a userfaultfd in asynchronous
// write-protect mode, in which the kernel itself lifts the protection of a page at the first write, and PAGEMAP_SCAN
// reports and protects again, in one step per page, the pages that are not protected.
//
// Pages that were never touched are neither protected nor reported: Linux does not keep anything for them, and they
// are zero, which is what the caller has.
type userfaultfdTracker struct {
	space   *space
	uffd    int
	pagemap int

	// held are the pages of which the caller may have bytes other than zero.
	held pageSet
	// due are pages to be emitted whatever the kernel says: zeroed, or marked dirty by the caller.
	due pageSet
	// lost is set while a collect is at work and stays when it does not come to its end: nobody knows which pages it
	// cleaned.
	lost bool

	arg     pmScanArg // here and not on a stack, which may move while the kernel has its address
	regions []pageRegion
}

func newUserfaultfdTracker(s *space, limit uint64) (tracker, error) {
	uffd, err := openUserfaultfd()
	if err != nil {
		return nil, err
	}
	t := newUserfaultfdTrackerOn(uffd, s, limit)
	if err := t.start(limit); err != nil {
		_ = t.close()
		return nil, err
	}
	return t, nil
}

func newUserfaultfdTrackerOn(uffd int, s *space, limit uint64) *userfaultfdTracker {
	return &userfaultfdTracker{
		space:   s,
		uffd:    uffd,
		pagemap: -1,
		held:    newPageSet(limit / PageSize),
		due:     newPageSet(limit / PageSize),
		regions: make([]pageRegion, scanRegions),
	}
}

// openUserfaultfd opens a userfaultfd for faults of user space, which needs no privilege. Writes by system
// calls into the memory work nevertheless: in asynchronous mode no fault is ever delivered to anyone.
func openUserfaultfd() (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, uffdFlags, 0, 0)
	if errno == 0 {
		return int(fd), nil
	}
	// Some seccomp filters know the system call but not the device, which has permissions of its own.
	dev, err := openUserfaultfdDevice()
	if err != nil {
		return -1, fmt.Errorf("userfaultfd: %w; %w", errno, err)
	}
	return dev, nil
}

const uffdFlags = unix.O_CLOEXEC | unix.O_NONBLOCK | uffdUserModeOnly

func openUserfaultfdDevice() (int, error) {
	dev, err := unix.Open("/dev/userfaultfd", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/userfaultfd: %w", err)
	}
	defer func() { _ = unix.Close(dev) }() // nothing was written
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(dev), userfaultfdIOCNew, uffdFlags)
	if errno != 0 {
		return -1, fmt.Errorf("/dev/userfaultfd: %w", errno)
	}
	return int(fd), nil
}

// start registers the range that the memory may ever fill, and makes sure that tracking works.
func (t *userfaultfdTracker) start(limit uint64) error {
	const features = uffdFeatureWPAsync | uffdFeatureWPUnpopulated | uffdFeaturePagefaultFlagWP
	api := &uffdioAPI{api: uffdAPI, features: features}
	if err := ioctl(t.uffd, uffdioAPIIoctl, unsafe.Pointer(api)); err != nil {
		return fmt.Errorf("userfaultfd has no asynchronous write protection: %w", err)
	}
	if api.features&features != features {
		return fmt.Errorf("userfaultfd has no asynchronous write protection: features %#x", api.features)
	}
	var err error
	t.pagemap, err = unix.Open("/proc/self/pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc/self/pagemap: %w", err)
	}
	if limit == 0 {
		return nil
	}
	reg := &uffdioRegisterArg{
		rng:  uffdioRange{start: uint64(uintptr(t.space.base)), len: limit},
		mode: uffdioRegisterModeWP,
	}
	if err := ioctl(t.uffd, uffdioRegister, unsafe.Pointer(reg)); err != nil {
		return fmt.Errorf("register with userfaultfd: %w", err)
	}
	if err := t.prove(); err != nil {
		return fmt.Errorf("prove that tracking works: %w", err)
	}
	return nil
}

// prove writes to the first pages of the still unused range and compares what the tracker says. Kernels in
// sandboxes and emulators accept requests that they do not carry out, and a tracker that misses a write loses data.
func (t *userfaultfdTracker) prove() error {
	step := uint64(os.Getpagesize())
	if step%PageSize != 0 || step*4 > wasmPageSize {
		return fmt.Errorf("kernel page size %d", step)
	}
	memory := t.space.bytes(wasmPageSize)
	if err := unix.Mprotect(memory, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return fmt.Errorf("mprotect: %w", err)
	}
	// A page too many can be the kernel's moving of pages. If it is always one too many, tracking is of no use.
	excess := true
	for attempt := 0; excess && attempt < 3; attempt++ {
		var err error
		if excess, err = t.proveOnce(memory, step); err != nil {
			return err
		}
	}
	if excess {
		return errors.New("pages are reported that were not written")
	}
	if err := unix.Madvise(memory, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("madvise: %w", err)
	}
	if err := unix.Mprotect(memory, unix.PROT_NONE); err != nil {
		return fmt.Errorf("mprotect: %w", err)
	}
	clear(t.held)
	return nil
}

// proveOnce fails when a write to one of the kernel's pages of memory is missed; excess says that others were reported.
func (t *userfaultfdTracker) proveOnce(memory []byte, step uint64) (excess bool, err error) {
	for round, writes := range [][]uint64{{1}, {1, 3}, {}, {0, 1}} {
		want, got := uint64(0), uint64(0)
		for _, page := range writes {
			memory[page*step]++
			want |= 1 << page
		}
		err := t.collect(wasmPageSize/PageSize, func(first uint64, data []byte) {
			for n := range uint64(len(data)) / PageSize {
				got |= 1 << ((first + n) * PageSize / step)
			}
		})
		if err != nil {
			return false, err
		}
		if want&^got != 0 {
			return false, fmt.Errorf("round %d: pages %#b were written, %#b reported", round, want, got)
		}
		excess = excess || got != want
	}
	return excess, nil
}

func (t *userfaultfdTracker) kind() Tracker { return Userfaultfd }

func (t *userfaultfdTracker) collect(nPages uint64, emit func(first uint64, data []byte)) error {
	return t.collectAll(nPages, pmScanWPMatching, emit)
}

// peek does not protect: that is what takes the time.
func (t *userfaultfdTracker) peek(nPages uint64, emit func(first uint64, data []byte)) error {
	return t.collectAll(nPages, 0, emit)
}

func (t *userfaultfdTracker) collectAll(nPages, protect uint64, emit func(first uint64, data []byte)) error {
	// PAGE_IS_WRITTEN says "not protected". A page that is not there would be so, too, hence the second condition.
	t.arg.categoryMask = pageIsWritten
	if t.lost {
		t.arg.categoryMask = 0 // everything that is there
		t.due.addAll(t.held)   // and what is not
	}
	t.lost = true
	err := t.walk(0, nPages, protect, func(first, end uint64) {
		t.due.remove(first, end)
		if emit != nil {
			emitRuns(t.space.base, first, end, emit)
		}
	})
	if err != nil {
		return err
	}
	t.collectDue(nPages, emit)
	t.lost = false
	return nil
}

func (t *userfaultfdTracker) settle(first uint64, data []byte) error {
	if t.lost {
		return nil // the next collect emits everything
	}
	t.arg.categoryMask = pageIsWritten
	t.lost = true
	err := t.walk(first, first+uint64(len(data))/PageSize, pmScanWPMatching, func(run, end uint64) {
		// Protected by now: what is written from here on makes the page dirty again.
		for page := run; page < end; page++ {
			now := unsafe.Slice((*byte)(unsafe.Add(t.space.base, page*PageSize)), PageSize)
			if !bytes.Equal(now, data[(page-first)*PageSize:][:PageSize]) {
				t.due.add(page, page+1)
			}
		}
	})
	if err == nil {
		t.lost = false
	}
	return err
}

// walk calls found for those of the pages [first, last) that the kernel reports and of which the caller may have or need
// something else than zeros. With protect they are protected before.
func (t *userfaultfdTracker) walk(first, last, protect uint64, found func(first, end uint64)) error {
	base := uint64(uintptr(t.space.base))
	end := base + last*PageSize
	for start := base + first*PageSize; start < end; {
		n, walked, err := t.scan(start, end, protect)
		if err != nil {
			return err
		}
		for i := range t.regions[:n] {
			r := &t.regions[i]
			t.report((r.start-base)/PageSize, (r.end-base)/PageSize, r.categories&pageIsPFNZero != 0, found)
		}
		if walked <= start {
			return fmt.Errorf("PAGEMAP_SCAN stopped at %#x", walked)
		}
		start = walked
	}
	return nil
}

// scan reports the unprotected pages of [start, end), and with pmScanWPMatching protects them. It returns the number of
// regions and where it stopped, which is before end when there is no room for more regions.
func (t *userfaultfdTracker) scan(start, end, protect uint64) (n int, walked uint64, err error) {
	t.arg.size = pmScanArgSize
	t.arg.flags = protect | pmScanCheckWPAsync
	t.arg.start = start
	t.arg.end = end
	t.arg.walkEnd = 0
	t.arg.vec = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(t.regions))))
	t.arg.vecLen = uint64(len(t.regions))
	t.arg.categoryAnyofMask = pageIsPresent | pageIsSwapped
	t.arg.returnMask = pageIsPFNZero
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(t.pagemap), pagemapScan, uintptr(unsafe.Pointer(&t.arg)))
	if errno != 0 {
		return 0, 0, fmt.Errorf("PAGEMAP_SCAN: %w", errno)
	}
	if r > uintptr(len(t.regions)) {
		return 0, 0, fmt.Errorf("PAGEMAP_SCAN reported %d regions in room for %d", r, len(t.regions))
	}
	return int(r), t.arg.walkEnd, nil
}

// report passes on the pages [first, end), which the kernel has reported. zero says that they are the kernel's shared page
// of zeros: read but never written, or merged. The caller needs those only if it has something else.
func (t *userfaultfdTracker) report(first, end uint64, zero bool, found func(first, end uint64)) {
	if !zero {
		t.hold(first, end)
	}
	for {
		run, runEnd, ok := t.held.nextRun(first, end)
		if !ok {
			return
		}
		found(run, runEnd)
		first = runEnd
	}
}

// hold adds pages to those that may be something else than zeros. A kernel may give a page of its own to who reads where
// nothing was written, so that only a look tells. The guest either stands still or the page is protected by now: what it
// writes later is reported again.
func (t *userfaultfdTracker) hold(first, end uint64) {
	for first < end {
		first = t.held.next(first, end, ^uint64(0))
		for runEnd := t.held.next(first, end, 0); first < runEnd; first++ {
			if !bytes.Equal(unsafe.Slice((*byte)(unsafe.Add(t.space.base, first*PageSize)), PageSize), zeros[:PageSize]) {
				t.held.add(first, first+1)
			}
		}
	}
}

// collectDue emits the pages that are due and were not found. What is not held has not been written since
// it was zero: reading it would only cost a fault.
func (t *userfaultfdTracker) collectDue(nPages uint64, emit func(first uint64, data []byte)) {
	for from := uint64(0); ; {
		first, end, ok := t.due.nextRun(from, nPages)
		if !ok {
			return
		}
		for from = first; from < end; {
			if runEnd := t.held.next(from, end, ^uint64(0)); runEnd > from {
				if emit != nil {
					emitRuns(t.space.base, from, runEnd, emit)
				}
				from = runEnd
				continue
			}
			runEnd := t.held.next(from, end, 0)
			if emit != nil {
				emitZeros(from, runEnd, emit)
			}
			from = runEnd
		}
		t.due.remove(first, end)
	}
}

func (t *userfaultfdTracker) markDirty(first, end uint64) { t.due.add(first, end) }

func (t *userfaultfdTracker) zeroed() {
	t.due.addAll(t.held)
	clear(t.held)
}

func (t *userfaultfdTracker) close() error {
	err := unix.Close(t.uffd)
	if t.pagemap >= 0 {
		err = errors.Join(err, unix.Close(t.pagemap))
	}
	return err
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
