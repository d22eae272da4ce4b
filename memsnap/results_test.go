package memsnap

import (
	"bytes"
	"context"
	"errors"
	"syscall"
	"testing"

	"perdure/internal/durable/faultfs"
)

// TestResultsAreDistinguishable brings about every result that a call may have and wants it told apart from all others.
func TestResultsAreDistinguishable(t *testing.T) {
	ctx := context.Background()
	kinds := map[string]error{
		"no generation at all": ErrNoGeneration, "no such section": ErrNoSection, "wrong order": ErrState, "busy": ErrBusy,
		"unknown version": ErrVersion, "refused for integrity": ErrIntegrity, "denied": ErrDenied, "low space": ErrLowSpace,
		"not authentic": ErrKey, "out of range": ErrRange,
	}
	fresh := func(p Policy) (*faultfs.FS, *Store) {
		fsys := faultfs.New()
		s, _ := smallStore(t, fsys, "/s", 3)
		s.policy = p
		return fsys, s
	}
	for _, c := range []struct {
		name string
		call func() error
		also []error // that it matches too
	}{
		{"no generation at all", func() error {
			_, _, err := must(Open("/x", Options{FS: faultfs.New()})).OpenNewest(ctx)
			return err
		}, []error{ErrNotFound}},
		{"no such generation", func() error { _, s := fresh(Policy{}); _, err := s.OpenGeneration(ctx, 9); return err }, []error{ErrNotFound}},
		{"no such section", func() error {
			_, s := fresh(Policy{})
			_, err := must(s.OpenGeneration(ctx, 1)).Section("none")
			return err
		}, []error{ErrNotFound}},
		{"wrong order", func() error {
			_, s := fresh(Policy{})
			w := begin(t, s, 1)
			_ = w.Abort()
			_, err := w.Commit(ctx)
			var state *StateError
			if !errors.As(err, &state) || state.Op != "commit" {
				t.Errorf("%v", err)
			}
			return err
		}, nil},
		{"busy", func() error { _, s := fresh(Policy{}); begin(t, s, 1); _, err := s.Begin(1); return err }, nil},
		{"unknown version", func() error {
			fsys, s := fresh(Policy{})
			b := must(fsys.ReadFile("/s/" + fileName(3)))
			b[8] = 2
			sealCRC(b[:headerSize])
			_ = fsys.SetFile("/s/"+fileName(3), b)
			_, _, err := s.OpenNewest(ctx)
			return err
		}, nil},
		{"damaged archive", func() error {
			fsys, s := fresh(Policy{})
			flip(t, fsys, fileName(3), len(must(fsys.ReadFile("/s/"+fileName(3))))-400)
			_, err := s.OpenGeneration(ctx, 3)
			return err
		}, []error{ErrCorrupt}},
		{"damaged page", func() error {
			fsys, s := fresh(Policy{})
			flip(t, fsys, fileName(1), 70)
			g := must(s.OpenGeneration(ctx, 1))
			return g.Restore(ctx, make([]byte, g.Pages()*PageSize))
		}, []error{ErrCorrupt}},
		{"refused for integrity", func() error {
			fsys, s := fresh(Policy{Integrity: true})
			flip(t, fsys, fileName(3), 2)
			_, _, err := s.OpenNewest(ctx)
			return err
		}, []error{ErrCorrupt}},
		{"denied", func() error { _, s := fresh(Policy{}); _, err := s.Purge(ctx, 3); return err }, nil},
		{"low space", func() error {
			_, s := fresh(Policy{MinFree: Space{Bytes: 1 << 60}, MinSnapshots: 3})
			_, err := begin(t, s, 3).Commit(ctx)
			return err
		}, nil},
		{"not authentic", func() error {
			fsys, _ := fresh(Policy{})
			_, _, err := must(Open("/s", Options{FS: fsys, Key: bytes.Repeat([]byte("k"), 32)})).OpenNewest(ctx)
			return err
		}, nil},
		{"out of range", func() error { _, s := fresh(Policy{}); return begin(t, s, 1).PutPages(0, []byte{1}) }, nil},
		{"the device", func() error {
			fsys, s := fresh(Policy{})
			w := begin(t, s, 3)
			fsys.SetInjector(faultfs.FailAt(2, syscall.ENOSPC))
			_, err := w.Commit(ctx)
			return err
		}, []error{syscall.ENOSPC}},
	} {
		err := c.call()
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for name, kind := range kinds {
			if errors.Is(err, kind) != (name == c.name) {
				t.Errorf("%s: %v: is %q: %t", c.name, err, name, errors.Is(err, kind))
			}
		}
		for _, kind := range []error{ErrNotFound, ErrCorrupt, syscall.ENOSPC} {
			want := false
			for _, also := range c.also {
				want = want || also == kind
			}
			if errors.Is(err, kind) != want {
				t.Errorf("%s: %v: is %v: %t", c.name, err, kind, !want)
			}
		}
	}
}
