package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"perdure/memsnap"
)

// TestMaintainIsExclusive wants nothing to be changed in a process that runs, and nobody to run one that is changed.
func TestMaintainIsExclusive(t *testing.T) {
	b, _ := suspended(t, "counter", 0)
	var locked *LockedError
	p := b.open()
	err := Maintain(b.opt.Dir, "x", memsnap.Options{}, func(*memsnap.Store) error {
		t.Error("the process runs")
		return nil
	})
	if !errors.As(err, &locked) || locked.Name != "x" {
		t.Errorf("a process that runs: got %v", err)
	}
	if _, err := Rollback(t.Context(), b.opt.Dir, "x", 1, memsnap.Options{}); !errors.As(err, &locked) {
		t.Errorf("rollback: got %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	err = Maintain(b.opt.Dir, "x", memsnap.Options{}, func(s *memsnap.Store) error {
		if _, err := Open(t.Context(), b.opt); !errors.As(err, &locked) {
			t.Errorf("run meanwhile: got %v", err)
		}
		return mine
	})
	if !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	if err := Maintain(nowhere, "x", memsnap.Options{}, nil); !errors.Is(err, ErrNoProcess) {
		t.Errorf("no process: got %v", err)
	}
	if _, err := os.Stat(nowhere); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory was made: %v", err)
	}
}

// TestPinBesideAWorker wants a pin to hold while a worker purges, and to leave the file alone that it writes.
func TestPinBesideAWorker(t *testing.T) {
	b, saved := suspended(t, "counter", 0)
	const first = 1
	if _, err := Rollback(t.Context(), b.opt.Dir, "counter", first, memsnap.Options{}); err != nil { // so that it is not the newest
		t.Fatal(err)
	}
	unfinished := filepath.Join(b.opt.Dir, generationsDir, "00000000000000ff"+unfinishedSuffix)
	if err := os.WriteFile(unfinished, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Pin(b.opt.Dir, memsnap.Options{}, first, "the first"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(unfinished); err != nil {
		t.Error(err)
	}
	if err := Pin(b.opt.Dir, memsnap.Options{}, 999, ""); !errors.Is(err, memsnap.ErrNotFound) {
		t.Errorf("no such generation: got %v", err)
	}
	purge := func() []memsnap.Info {
		t.Helper()
		err := Maintain(b.opt.Dir, "x", memsnap.Options{Policy: memsnap.Policy{MaxSnapshots: 1}}, func(s *memsnap.Store) error {
			_, err := s.PurgeExpired(t.Context())
			return err
		})
		infos, lerr := saved.Generations()
		if err := errors.Join(err, lerr); err != nil {
			t.Fatal(err)
		}
		return infos
	}
	if left := purge(); len(left) != 2 || left[0].Number != first || !left[0].Pinned {
		t.Errorf("left are %+v", left)
	}
	if err := Unpin(b.opt.Dir, memsnap.Options{}, first); err != nil {
		t.Fatal(err)
	}
	if left := purge(); len(left) != 1 || left[0].Number == first {
		t.Errorf("left are %+v", left)
	}
}

// TestCreateIsWholeOrNothing wants what a crash has left to be begun anew, a failure to leave nothing, and a name to be
// taken once.
func TestCreateIsWholeOrNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "new")
	unfinished := filepath.Join(filepath.Dir(dir), ".new.new")
	if err := os.MkdirAll(filepath.Join(unfinished, generationsDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if names, err := SavedProcesses(filepath.Dir(dir)); err != nil || len(names) > 0 {
		t.Errorf("unfinished processes are listed: %q, %v", names, err)
	}
	mine := errors.New("mine")
	err := create(dir, func(in string) error {
		entries, err := os.ReadDir(in)
		if err != nil || len(entries) != 1 || entries[0].Name() != lockFile || in != unfinished {
			t.Errorf("begins in %s with %v, %v", in, entries, err)
		}
		var locked *LockedError
		if err := create(dir, nil); !errors.As(err, &locked) {
			t.Errorf("two at a time: got %v", err)
		}
		return mine
	})
	if !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	err = create(dir, func(in string) error {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is there too early: %v", err)
		}
		return os.WriteFile(filepath.Join(in, programFile), nil, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, programFile)); err != nil {
		t.Error(err)
	}
	if err := create(dir, nil); !errors.Is(err, ErrProcessExists) {
		t.Errorf("the name is taken: got %v", err)
	}
	// By somebody who was faster.
	other := filepath.Join(filepath.Dir(dir), "other")
	err = create(other, func(string) error { return os.MkdirAll(filepath.Join(other, generationsDir), 0o700) })
	if !errors.Is(err, ErrProcessExists) {
		t.Errorf("the name was taken meanwhile: got %v", err)
	}
	if names, err := SavedProcesses(filepath.Dir(dir)); err != nil || strings.Join(names, " ") != "other" {
		t.Errorf("got %q, %v", names, err)
	}
}

// untilItPrints runs a process until its output has grown and returns it as it lies on disk then.
func untilItPrints(t *testing.T, b *bench) *Saved {
	t.Helper()
	size := func() int64 {
		info, err := b.stdout.Stat()
		if err != nil {
			t.Error(err)
			return 0
		}
		return info.Size()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	before := size()
	go func() {
		for ctx.Err() == nil && size() == before {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	r, err := b.life(ctx, nil)
	if err != nil || !r.Suspended || size() == before {
		t.Fatalf("a life from %d to %d bytes of output: got %+v, %v; want it suspended when it has printed more", before, size(), r, err)
	}
	return onDisk(t, b)
}

// TestRollback wants a process to go on from a generation of each of its lives, to the same end, and the others to stay.
func TestRollback(t *testing.T) {
	b := newBench(t, named(t, "counter"), named(t, "counter").Long)
	b.opt.Every = 20 * time.Millisecond
	want := newBench(t, named(t, "counter"), named(t, "counter").Long).finish().stdout
	var newest, printed [3]uint64 // at the end of each life
	var infos []memsnap.Info
	for i := range newest {
		saved := untilItPrints(t, b)
		info, err := b.stdout.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if infos, err = saved.Generations(); err != nil {
			t.Fatal(err)
		}
		newest[i], printed[i] = infos[len(infos)-1].Number, uint64(info.Size())
	}
	for _, i := range []int{0, 2, 1} {
		info, err := Rollback(t.Context(), b.opt.Dir, "counter", newest[i], memsnap.Options{})
		if err != nil || info.Base != newest[i] {
			t.Fatalf("to %d: got %+v, %v", newest[i], info, err)
		}
		if err := errors.Join(os.WriteFile(b.stdout.Name(), nil, 0o600), seekEnd(b.stdout)); err != nil {
			t.Fatal(err)
		}
		if got := b.finish().stdout; got != want[printed[i]:] {
			t.Errorf("from %d, with %d of %d bytes printed: %s", newest[i], printed[i], len(want), firstDifference(got, want[printed[i]:]))
		}
	}
	now, err := onDisk(t, b).Generations()
	if err != nil || len(now) < len(infos)+6 {
		t.Errorf("there were %d generations, there are %d, %v", len(infos), len(now), err)
	}
	verify(t, b.opt.Dir)
	if _, err := Rollback(t.Context(), b.opt.Dir, "counter", 999, memsnap.Options{}); !errors.Is(err, memsnap.ErrNotFound) {
		t.Errorf("no such generation: got %v", err)
	}
}

// TestRollbackRefusesDamage wants a generation with a page that cannot be had not to become the newest one.
func TestRollbackRefusesDamage(t *testing.T) {
	b, saved := suspended(t, "counter", 0)
	path := filepath.Join(b.opt.Dir, generationsDir, "0000000000000001.gen")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[70] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Rollback(t.Context(), b.opt.Dir, "counter", 1, memsnap.Options{}); !IsDamage(err) {
		t.Errorf("got %v, want damage", err)
	}
	if infos, err := saved.Generations(); err != nil || len(infos) != 1 {
		t.Errorf("got %v, %v", infos, err)
	}
	if _, err := saved.Fork(t.Context(), 0, b.opt.Dir+"-2", memsnap.Options{}); !IsDamage(err) {
		t.Errorf("fork: got %v, want damage", err)
	}
}
