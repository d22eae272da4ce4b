package runtime

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"perdure/internal/durable"
)

// fullFS is the operating system's file system, but full while a file named flag exists.
type fullFS struct {
	flag string
}

func (f fullFS) full(path string) error {
	if _, err := os.Stat(f.flag); err == nil {
		return &fs.PathError{Op: "write", Path: path, Err: unix.ENOSPC}
	}
	return nil
}

func (f fullFS) Create(path string, perm fs.FileMode) (durable.File, error) {
	file, err := durable.OS.Create(path, perm)
	if err != nil {
		return nil, err
	}
	return fullFile{file, f, path}, nil
}

func (f fullFS) OpenWrite(path string) (durable.File, error) {
	file, err := durable.OS.OpenWrite(path)
	if err != nil {
		return nil, err
	}
	return fullFile{file, f, path}, nil
}

func (f fullFS) Open(path string) (durable.File, error)       { return durable.OS.Open(path) }
func (f fullFS) Rename(a, b string) error                     { return durable.OS.Rename(a, b) }
func (f fullFS) Remove(path string) error                     { return durable.OS.Remove(path) }
func (f fullFS) ReadDir(path string) ([]durable.Entry, error) { return durable.OS.ReadDir(path) }
func (f fullFS) MkdirAll(path string, perm fs.FileMode) error { return durable.OS.MkdirAll(path, perm) }
func (f fullFS) SyncDir(path string) error                    { return durable.OS.SyncDir(path) }
func (f fullFS) Free(path string) (uint64, error)             { return durable.OS.Free(path) }

type fullFile struct {
	durable.File
	fs   fullFS
	path string
}

func (f fullFile) WriteAt(b []byte, offset int64) (int, error) {
	if err := f.fs.full(f.path); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, offset)
}

// The guest runs on while nothing can be stored, the failure is told, and the first
// generation after it carries everything.
func fullTest(t *testing.T, change func(*workerSpec), fill, free func()) {
	const mib = 1
	n := 0
	c := newTalk(t, func(s *workerSpec) {
		s.Options.Every = 20 * time.Millisecond
		change(s)
	})
	work := func() {
		t.Helper()
		n++
		c.expect(fmt.Sprintf("fill %d", mib), "fill: "+fillDigest(mib, n))
	}
	again := func(kind string, more int) {
		t.Helper()
		if have := len(c.events(kind)); !c.await(time.Minute, have+more, kind) {
			t.Fatalf("no %s\n%s", kind, c.describe())
		}
	}
	c.write("in", "0123456789")
	c.expect("open 1 r /in", "open: 0", "read 1 3", "read: 012")
	work()
	if !c.await(time.Minute, 1, "CommittedEvent") {
		t.Fatal("no generation")
	}
	for round := range 3 {
		fill()
		work()
		c.expect("read 1 1", fmt.Sprintf("read: %d", 3+2*round))
		again("LowSpaceEvent", 1)
		good := len(c.events("CommittedEvent"))
		work()
		c.expect("read 1 1", fmt.Sprintf("read: %d", 4+2*round))
		again("LowSpaceEvent", 3) // at least one of these cuts came after that
		if now := len(c.events("CommittedEvent")); now != good {
			t.Errorf("%d generations on a full disk", now-good)
		}
		free()
		if !c.await(time.Minute, good+1, "CommittedEvent") {
			t.Fatalf("no generation though there is space\n%s", c.describe())
		}
		c.has("RoomAgainEvent")
		verify(t, c.spec.Options.Dir)
		if round == 2 {
			break
		}
		c.signal(syscall.SIGKILL)
		c.ends(-1)
		c.start()
		c.has("RestoredEvent")
		work()
		if !c.await(time.Minute, 1, "CommittedEvent") {
			t.Fatal("no generation")
		}
	}
	c.signal(syscall.SIGTERM)
	c.ends(statusSuspended)
	c.start()
	c.has("RestoredEvent")
	work()
	c.expect("read 1 1", "read: 9")
}

func TestFullDisk(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "full")
	fullTest(t, func(s *workerSpec) { s.Full = flag }, func() {
		if err := os.WriteFile(flag, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}, func() {
		if err := os.Remove(flag); err != nil {
			t.Fatal(err)
		}
	})
}

// The same with a small file system, where one can be mounted; elsewhere with a limit on
// the size of files.
func TestFullDiskReally(t *testing.T) {
	for _, level := range []Durability{DurabilityNone, DurabilityProcess, DurabilityDisk} {
		t.Run(string(level), func(t *testing.T) { fullDiskReally(t, level) })
	}
}

func fullDiskReally(t *testing.T, level Durability) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Logf("no file system of our own (%v): TestFullDisk has to do", err)
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	fullTest(t, func(s *workerSpec) { s.Options.Dir, s.Options.Durability = filepath.Join(dir, "process"), level }, func() {
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for b := make([]byte, 64<<10); len(b) > 0; {
			if _, err := f.Write(b); err != nil {
				b = b[:len(b)/2]
			}
		}
	}, func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	})
}

// TestStopOnFullDisk holds that a process which is suspended or ends on a full disk waits for
// space, says so, and loses nothing when there is some in time; and that else it ends with an
// error and goes on from what was saved before.
func TestStopOnFullDisk(t *testing.T) {
	const soon = 200 * time.Millisecond
	for _, tt := range []struct {
		name   string
		last   func(*talk) // makes it stop
		within time.Duration
		status int
		next   string // of the file, in the next life
	}{
		{"suspended", func(c *talk) { c.signal(syscall.SIGTERM) }, time.Minute, statusSuspended, "read: 2"},
		{"suspended for good", func(c *talk) { c.signal(syscall.SIGTERM) }, soon, statusError, "read: 1"},
		{"ended", exitWith3, time.Minute, 3, ""},
		{"ended for good", exitWith3, soon, statusError, "read: 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			flag := filepath.Join(t.TempDir(), "full")
			c := newTalk(t, func(s *workerSpec) { s.Full, s.LastFor = flag, tt.within })
			c.write("in", "0123456789")
			c.expect("open 1 r /in", "open: 0", "read 1 1", "read: 0")
			c.snapshot()
			for {
				if err := os.WriteFile(flag, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				c.expect("read 1 1", "read: 1")
				tt.last(c)
				if c.until(time.Minute, func() bool { return c.warned("cannot be saved yet") }) {
					break
				}
				if tt.within != soon || c.spec.LastFor > 10*time.Second {
					t.Fatalf("nothing was said of the disk\n%s", c.describe())
				}
				// The first try alone took that long: once more from what is saved, with more time.
				c.ends(tt.status)
				if err := os.Remove(flag); err != nil {
					t.Fatal(err)
				}
				c.spec.LastFor *= 2
				c.start()
				c.has("RestoredEvent")
			}
			if tt.within != soon {
				if err := os.Remove(flag); err != nil {
					t.Fatal(err)
				}
			}
			c.ends(tt.status)
			if tt.within == soon {
				if err := os.Remove(flag); err != nil {
					t.Fatal(err)
				}
			}
			verify(t, c.spec.Options.Dir)
			c.start()
			if tt.next == "" {
				c.has("StartedEvent")
				return
			}
			c.has("RestoredEvent")
			c.expect("read 1 1", tt.next)
		})
	}
}

func exitWith3(c *talk) {
	if _, err := c.input.WriteString("exit 3\n"); err != nil {
		c.t.Fatal(err)
	}
}
