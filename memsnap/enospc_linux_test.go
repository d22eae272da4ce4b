package memsnap

import (
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"perdure/internal/durable"
	"perdure/internal/durable/faultfs"
)

// TestARealFullDisk fills a small tmpfs. Where one may not be mounted it takes the file system in memory, with a limit.
func TestARealFullDisk(t *testing.T) {
	const size = 256 << 10
	var fsys durable.FS = durable.OS
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err == nil {
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		t.Log("on a tmpfs")
	} else {
		memory := faultfs.New()
		memory.SetLimit(size)
		if err := memory.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		fsys = memory
	}
	s, err := Open(dir, Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	states := map[uint64]state{0: {}}
	newest := uint64(0)
	for i := range 1000 {
		if err = evolve(s, states, newest, i%5); err != nil {
			break
		}
		newest++
	}
	if !errors.Is(err, syscall.ENOSPC) || newest < 3 {
		t.Fatalf("after %d generations: %v", newest, err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 3 { // it stays full, and nothing gets lost
		if err := evolve(s, states, newest, 3); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if got, err := recoverNewest(s, states, r); err != nil || got != newest {
			t.Fatalf("generation %d, want %d: %v", got, newest, err)
		}
	}
	if entries, err := fsys.ReadDir(dir); err != nil || len(entries) != int(newest) {
		t.Fatalf("%d files for %d generations, %v", len(entries), newest, err)
	}
	if _, ok := fsys.(*faultfs.FS); ok {
		fsys.(*faultfs.FS).SetLimit(2 * size)
	} else if err := os.Remove(dir + "/" + fileName(newest)); err != nil { // room again; the one before is the newest now
		t.Fatal(err)
	} else {
		newest--
	}
	if err := evolve(s, states, newest, 3); err != nil {
		t.Fatalf("when space was back: %v", err)
	}
	if got, err := recoverNewest(s, states, r); err != nil || got <= newest {
		t.Fatalf("when space was back: generation %d, %v", got, err)
	}
}
