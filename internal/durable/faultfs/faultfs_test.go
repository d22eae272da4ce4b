package faultfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"

	"perdure/internal/durable"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOnlySyncedDataSurvivesACrash(t *testing.T) {
	f := New()
	check(t, f.MkdirAll("/d", 0o700))
	check(t, f.SyncDir("/"))
	a := must(f.Create("/d/a", 0o600))
	must(a.WriteAt([]byte("synced"), 0))
	check(t, a.Sync())
	if _, err := f.Crash(nil).ReadFile("/d/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that was not synced survived: %v", err)
	}
	check(t, f.SyncDir("/d"))
	must(a.WriteAt([]byte("SYN"), 0))
	check(t, f.Rename("/d/a", "/d/b"))
	after := f.Crash(nil)
	if got := string(must(after.ReadFile("/d/a"))); got != "synced" {
		t.Errorf("got %q, want what was synced", got)
	}
	if _, err := after.ReadFile("/d/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a rename that was not synced survived: %v", err)
	}
	if got := string(must(f.ReadFile("/d/b"))); got != "SYNced" {
		t.Errorf("without a crash got %q", got)
	}
}

func TestARandomCrashLeavesAPartOfWhatWasNotSynced(t *testing.T) {
	f := New()
	a := must(f.Create("/a", 0o600))
	check(t, f.SyncDir("/"))
	must(a.WriteAt([]byte("0123456789"), 0))
	check(t, f.Rename("/a", "/b"))
	names, contents := map[string]bool{}, map[string]bool{}
	for seed := range uint64(200) {
		after := f.Crash(rand.New(rand.NewPCG(seed, 1)))
		list := must(after.ReadDir("/"))
		if len(list) != 1 {
			t.Fatalf("a rename is one step, but there are %v", list)
		}
		names[list[0].Name] = true
		contents[string(must(after.ReadFile("/"+list[0].Name)))] = true
	}
	if len(names) != 2 || len(contents) != 11 {
		t.Errorf("outcomes seen: names %v, contents %v", names, contents)
	}
}

func TestInjectors(t *testing.T) {
	f := New()
	f.SetInjector(FailAt(1, ErrInjected))
	a := must(f.Create("/a", 0o600))
	if n, err := a.WriteAt([]byte("1234"), 0); n != 2 || !errors.Is(err, ErrInjected) {
		t.Errorf("failing write: %d, %v", n, err)
	}
	must(a.WriteAt([]byte("12"), 2))
	f.SetInjector(CrashAt(1))
	check(t, a.Sync())
	for range 3 {
		if _, err := a.WriteAt([]byte("abcd"), 4); !errors.Is(err, ErrCrashed) {
			t.Errorf("write after the crash: %v", err)
		}
	}
	if got := string(must(f.ReadFile("/a"))); got != "1212ab" {
		t.Errorf("got %q: the write at the crash counts half, later ones not at all", got)
	}
}

func TestLimit(t *testing.T) {
	f := New()
	a := must(f.Create("/a", 0o600))
	f.SetLimit(6)
	must(a.WriteAt([]byte("1234"), 0))
	must(a.WriteAt([]byte("1234"), 0)) // over itself
	if n, err := a.WriteAt([]byte("5678"), 4); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write beyond the limit: %d, %v", n, err)
	}
	if free := must(f.Free("/")); free != 0 {
		t.Errorf("%d bytes free, want none", free)
	}
	check(t, f.Remove("/a"))
	if free := must(f.Free("/")); free != 6 {
		t.Errorf("%d bytes free, want 6", free)
	}
}

// TestContract runs the same calls on both file systems and expects the same results.
func TestContract(t *testing.T) {
	for name, c := range map[string]struct {
		fs  durable.FS
		dir string
	}{
		"memory": {New(), "/x"},
		"system": {durable.OS, t.TempDir() + "/x"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys, dir := c.fs, c.dir
			if _, err := fsys.ReadDir(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("missing directory: %v", err)
			}
			check(t, fsys.MkdirAll(dir+"/y", 0o700))
			check(t, fsys.MkdirAll(dir+"/y", 0o700))
			if _, err := fsys.Open(dir + "/f"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("missing file: %v", err)
			}
			f := must(fsys.Create(dir+"/f", 0o600))
			if _, err := fsys.Create(dir+"/f", 0o600); !errors.Is(err, fs.ErrExist) {
				t.Errorf("create an existing file: %v", err)
			}
			must(f.WriteAt([]byte("world"), 3))
			f.StartWriteback(0, 8)
			check(t, f.Sync())
			if size := must(f.Size()); size != 8 {
				t.Errorf("size %d", size)
			}
			p := make([]byte, 6)
			if n, err := f.ReadAt(p, 4); n != 4 || err != io.EOF {
				t.Errorf("read over the end: %d, %v", n, err)
			}
			if n, err := f.ReadAt(p, 2); n != 6 || err != nil || string(p) != "\x00world" {
				t.Errorf("read: %d, %v, %q", n, err, p)
			}
			if err := f.PunchHole(0, 4); err == nil {
				must(f.ReadAt(p[:5], 3))
				if string(p[:5]) != "\x00orld" {
					t.Errorf("after the hole: %q", p[:5])
				}
			} else if !errors.Is(err, durable.ErrUnsupported) {
				t.Errorf("punch: %v", err)
			}
			check(t, f.Close())
			if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("second close: %v", err)
			}
			large := must(fsys.Create(dir+"/large", 0o600))
			must(large.WriteAt(make([]byte, 1<<16), 0))
			check(t, large.Sync())
			before := must(large.Allocated())
			if err := large.PunchHole(0, 1<<15); err == nil {
				if after := must(large.Allocated()); before-after != 1<<15 {
					t.Errorf("a hole of 32 KiB gave %d bytes back", before-after)
				}
				if size := must(large.Size()); size != 1<<16 {
					t.Errorf("size after the hole: %d", size)
				}
			}
			check(t, large.Close())
			check(t, fsys.Remove(dir+"/large"))
			if total, err := durable.Total(fsys, dir); err != nil || total == 0 {
				t.Errorf("total: %d, %v", total, err)
			}
			check(t, fsys.Rename(dir+"/f", dir+"/g"))
			r := must(fsys.Open(dir + "/g"))
			if _, err := r.WriteAt(p, 0); err == nil {
				t.Error("a file opened for reading was written")
			}
			check(t, r.Close())
			w := must(fsys.OpenWrite(dir + "/g"))
			must(w.WriteAt([]byte("!"), 0))
			check(t, w.Close())
			list := must(fsys.ReadDir(dir))
			if want := []durable.Entry{{Name: "g", Regular: true}, {Name: "y"}}; len(list) != 2 || list[0] != want[0] || list[1] != want[1] {
				t.Errorf("list %v, want %v", list, want)
			}
			check(t, fsys.SyncDir(dir))
			if err := fsys.Remove(dir); err == nil {
				t.Error("a directory that is not empty was removed")
			}
			check(t, fsys.Remove(dir+"/g"))
			if err := fsys.Remove(dir + "/g"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("second remove: %v", err)
			}
			if free, err := fsys.Free(dir); err != nil || free == 0 {
				t.Errorf("free: %d, %v", free, err)
			}
		})
	}
}
