package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"testing"

	"perdure/internal/durable"
	"perdure/internal/durable/faultfs"
)

func newDir(t *testing.T) *faultfs.FS {
	t.Helper()
	f := faultfs.New()
	if err := errors.Join(f.MkdirAll("/d", 0o700), f.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return f
}

// content returns what is there, and fails if there is anything beside it.
func content(t *testing.T, f *faultfs.FS) string {
	t.Helper()
	list, err := f.ReadDir("/d")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name != "f" && e.Name != "f.tmp" {
			t.Fatalf("%s is left behind", e.Name)
		}
	}
	b, err := f.ReadFile("/d/f")
	if errors.Is(err, fs.ErrNotExist) {
		return "nothing"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWriteFileIsAllOrNothingAtEveryCrash(t *testing.T) {
	for i := 0; ; i++ {
		f := newDir(t)
		if err := durable.WriteFile(f, "/d/f", []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		f.SetInjector(faultfs.CrashAt(i))
		err := durable.WriteFile(f, "/d/f", []byte("new content"), 0o600)
		for seed := range uint64(20) {
			var r *rand.Rand
			if seed > 0 {
				r = rand.New(rand.NewPCG(seed, 0))
			}
			after := f.Crash(r)
			switch got := content(t, after); {
			case err == nil && got != "new content", got != "old" && got != "new content":
				t.Fatalf("crash at call %d, seed %d: %q", i, seed, got)
			}
			if err := durable.WriteFile(after, "/d/f", []byte("later"), 0o600); err != nil {
				t.Fatalf("crash at call %d: writing again: %v", i, err)
			}
		}
		if err == nil {
			return
		}
	}
}

func TestWriteFileFailsCleanlyAtEveryCall(t *testing.T) {
	for i := 0; ; i++ {
		f := newDir(t)
		f.SetInjector(faultfs.FailAt(i, faultfs.ErrInjected))
		err := durable.WriteFile(f, "/d/f", []byte("content"), 0o600)
		calls := f.Calls()
		f.SetInjector(nil)
		switch got := content(t, f); {
		case err == nil && got != "content":
			t.Fatalf("failing call %d: %q without an error", i, got)
		case err != nil && !errors.Is(err, faultfs.ErrInjected):
			t.Fatalf("failing call %d: %v", i, err)
		}
		if i >= calls {
			return
		}
		if list, _ := f.ReadDir("/d"); err != nil && len(list) > 1 {
			t.Fatalf("failing call %d left %v", i, list)
		}
	}
}

func TestPublishTakesTheNameBackWhenTheDirectoryCannotBeSynced(t *testing.T) {
	f := newDir(t)
	file, err := f.Create("/d/f.tmp", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.SetInjector(func(c faultfs.Call) error {
		if c.Op == "syncdir" {
			return fmt.Errorf("no luck: %w", faultfs.ErrInjected)
		}
		return nil
	})
	if err := durable.Publish(f, file, "/d/f.tmp", "/d/f"); !errors.Is(err, faultfs.ErrInjected) {
		t.Fatal(err)
	}
	if got := content(t, f); got != "nothing" {
		t.Fatalf("published all the same: %q", got)
	}
}
