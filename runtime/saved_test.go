package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"perdure/memsnap"
)

// TestSavedLeavesWritersAlone wants a file that a worker is writing to stay, and no directory to be made.
func TestSavedLeavesWritersAlone(t *testing.T) {
	b, _ := suspended(t, "counter", 20*time.Millisecond)
	unfinished := filepath.Join(b.opt.Dir, generationsDir, "00000000000000ff.gen.tmp")
	if err := os.WriteFile(unfinished, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	saved, err := OpenSaved(b.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	infos, err := saved.Generations()
	if err != nil || len(infos) == 0 {
		t.Fatalf("generations: got %v, %v", infos, err)
	}
	for _, info := range infos {
		if err := saved.Verify(t.Context(), info.Number); err != nil {
			t.Errorf("generation %d: %v", info.Number, err)
		}
	}
	if _, err := os.Stat(unfinished); err != nil {
		t.Error(err)
	}
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	if _, err := OpenSaved(nowhere); !errors.Is(err, ErrNoProcess) {
		t.Errorf("a process that is not there: got %v, want ErrNoProcess", err)
	}
	if _, err := os.Stat(nowhere); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("looking made a directory: %v", err)
	}
}

// TestSavedProcesses wants directories that hold a process, and nothing else, to be listed.
func TestSavedProcesses(t *testing.T) {
	b, _ := suspended(t, "counter", 0)
	state := filepath.Dir(b.opt.Dir)
	if err := os.Symlink(b.opt.Dir, filepath.Join(state, "a-link")); err != nil {
		t.Fatal(err)
	}
	if got, err := SavedProcesses(state); err != nil || !slices.Equal(got, []string{"a-link", "process"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := SavedProcesses(filepath.Join(state, "nowhere")); err != nil || got != nil {
		t.Errorf("no directory: got %q, %v", got, err)
	}
}

// TestVerifyFindsDamage wants every flipped bit of a process at rest to be found.
func TestVerifyFindsDamage(t *testing.T) {
	b, saved := suspended(t, "counter", 0)
	infos, err := saved.Generations()
	if err != nil {
		t.Fatal(err)
	}
	newest := infos[len(infos)-1].Number
	files, err := filepath.Glob(filepath.Join(b.opt.Dir, generationsDir, "*.gen"))
	if err != nil {
		t.Fatal(err)
	}
	file := files[len(files)-1]
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(good); at += 41 {
		bad := slices.Clone(good)
		bad[at] ^= 1 << (at % 8)
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		saved, err := OpenSaved(b.opt.Dir)
		if err != nil {
			t.Fatal(err)
		}
		// A version that is not known is not damage; all else is.
		if err := saved.Verify(t.Context(), newest); !IsDamage(err) && !errors.Is(err, memsnap.ErrVersion) {
			t.Errorf("bit flipped at %d: got %v, want damage", at, err)
		}
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := saved.Verify(t.Context(), newest); err != nil {
		t.Error(err)
	}
	if err := saved.VerifyProgram(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(b.opt.Dir, programFile), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := saved.VerifyProgram(t.Context()); !IsDamage(err) {
		t.Errorf("another program: got %v, want damage", err)
	}
}

// TestFresh wants an old state to be kept under the next free name, and nothing to be moved
// that is in use or that nothing can follow.
func TestFresh(t *testing.T) {
	b, _ := suspended(t, "counter", 0)
	fresh := b.opt
	fresh.Fresh = true
	fresh.Events = nil
	held := b.open()
	var locked *LockedError
	if p, err := Open(t.Context(), fresh); !errors.As(err, &locked) {
		t.Errorf("a process that runs: got %v, %v; want *LockedError", p, err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}

	bad := fresh
	bad.Source = []byte("junk")
	var refused *RefusedError
	if p, err := Open(t.Context(), bad); !errors.As(err, &refused) {
		t.Errorf("junk is to follow: got %v, %v; want *RefusedError", p, err)
	}

	if err := os.Mkdir(b.opt.Dir+".ended-1", 0o700); err != nil {
		t.Fatal(err)
	}
	var to string
	fresh.Events = func(e Event) {
		if r, ok := e.(RetiredEvent); ok {
			to = r.Dir
		}
	}
	open := func() {
		to = ""
		p, err := Open(t.Context(), fresh)
		if err != nil {
			t.Fatal(err)
		}
		if _, restored := p.Restored(); restored {
			t.Error("a fresh start goes on from a generation")
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	open()
	if to != b.opt.Dir+".ended-2" {
		t.Fatalf("the old state is in %q, want the name ended-2", to)
	}
	saved, err := OpenSaved(to)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := saved.State(t.Context()); err != nil || st.Ended {
		t.Errorf("what was retired: got %+v, %v", st, err)
	}
	open()
	if to != "" {
		t.Errorf("nothing was saved, but moved to %q", to)
	}
}
