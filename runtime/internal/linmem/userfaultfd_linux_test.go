package linmem

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestNothingIsLostWhenAScanFails(t *testing.T) {
	g := userfaultfdGuest(t, 8*mib)
	tracker := g.tracker.(*userfaultfdTracker)
	g.write(1, 2000)
	g.wantCollect(1, 2000)
	if err := g.Zero(); err != nil {
		t.Fatal(err)
	}
	var every []uint64
	for page := uint64(4); page < 2000; page += 2 {
		every = append(every, page)
	}
	g.write(every...) // more than one scan holds
	pagemap := tracker.pagemap
	err := g.Collect(func(first uint64, data []byte) { tracker.pagemap = -1 }) // the first scan has cleaned its pages
	tracker.pagemap = pagemap
	if err == nil {
		t.Fatal("Collect succeeded without a pagemap")
	}
	g.write(2010)
	g.wantCollect(append(append([]uint64{1}, every...), 2000, 2010)...)
	g.wantCollect()

	tracker.pagemap = -1
	err = g.Track()
	tracker.pagemap = pagemap
	if err == nil {
		t.Fatal("Track succeeded without a pagemap")
	}
	if err := g.Track(); err != nil {
		t.Fatal(err)
	}
	g.wantCollect()
}

// TestPagesMergedAway lets a written page become the kernel's page of zeros, as merging does, before it is collected.
func TestPagesMergedAway(t *testing.T) {
	g := userfaultfdGuest(t, mib)
	g.write(1, 2)
	g.wantCollect(1, 2)
	page := g.Bytes()[PageSize : 2*PageSize]
	clear(page)
	if err := unix.Madvise(page, unix.MADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	if page[0] != 0 { // maps the page of zeros
		t.Fatal("not zero")
	}
	g.wantCollect(1)
	g.wantCollect()
	g.write(1)
	g.wantCollect(1)
}

func TestUserfaultfdDevice(t *testing.T) {
	userfaultfdGuest(t, mib) // or the kernel has the device, but not what is wanted of it
	fd, err := openUserfaultfdDevice()
	if err != nil {
		t.Skipf("not on this system: %v", err)
	}
	defer unix.Close(fd)
	s, err := reserve(mib + guardSize)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.release(); err != nil {
			t.Error(err)
		}
	}()
	tracker := newUserfaultfdTrackerOn(fd, s, mib)
	defer func() { _ = unix.Close(tracker.pagemap) }()
	if err := tracker.start(mib); err != nil { // which proves that it works
		t.Fatal(err)
	}
}

// TestAutoFallsBack takes away what the trackers need, descriptors, and wants the contract kept all the same.
func TestAutoFallsBack(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 3, Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	m, err := New(Options{Limit: mib})
	_, explicitErr := New(Options{Limit: mib, Tracker: Userfaultfd})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Tracker() != "hash" || m.Fallback() == nil {
		t.Fatalf("tracker %s, fallback %v", m.Tracker(), m.Fallback())
	}
	if explicitErr == nil {
		t.Fatal("the userfaultfd tracker was made without a descriptor")
	}
	g := &guest{Memory: m, t: t, linear: m.Allocate(0, MaxLimit)}
	g.grow(mib)
	g.wantCollect()
	g.write(0, 1, 7, 255)
	g.wantCollect(0, 1, 7, 255)
	if err := g.Zero(); err != nil {
		t.Fatal(err)
	}
	g.write(7, 7)
	g.wantCollect(0, 1, 7, 255)
	g.wantCollect()
}

func userfaultfdGuest(t *testing.T, size uint64) *guest {
	t.Helper()
	m, err := New(Options{Tracker: Userfaultfd, Limit: wasmPageSize})
	if err != nil {
		t.Skipf("not on this system: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return newGuest(t, Options{Tracker: Userfaultfd}, size)
}
