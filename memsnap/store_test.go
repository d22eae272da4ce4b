package memsnap

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"perdure/internal/durable/faultfs"
)

func TestNumbersNeverComeBack(t *testing.T) {
	s := openStore(t, Options{})
	if err := os.WriteFile(filepath.Join(s.dir, fileName(41)), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := begin(t, s, 0)
	if info := commit(t, w); info.Number != 42 {
		t.Errorf("number %d after a damaged 41", info.Number)
	}
	_, _, err = s.OpenNewestBelow(context.Background(), 42)
	if !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFound) {
		t.Errorf("a store without a good generation: %v", err)
	}
	g, skipped, err := s.OpenNewest(context.Background())
	if err != nil || len(skipped) != 0 || g.Info().Number != 42 {
		t.Errorf("newest: %v, %v", skipped, err)
	}
}

func TestOpenRemovesOnlyWhatACommitLeft(t *testing.T) {
	dir := t.TempDir()
	keep := []string{
		"notes.tmp", "x.gen", "lost+found", "0000000000000001.gen.tmp.tmp", "0000000000000001.GEN", "1.gen.tmp", "000000000000000A.gen.tmp",
	}
	for _, name := range append(keep, "0000000000000001.gen.tmp") {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "0000000000000002.gen.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	keep = append(keep, "0000000000000002.gen.tmp")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(keep)
	if slices.Sort(names); !slices.Equal(names, keep) {
		t.Errorf("left %q, want %q", names, keep)
	}
	if list, err := s.Generations(); err != nil || len(list) != 0 {
		t.Errorf("generations %v, %v", list, err)
	}
}

func TestAnUnknownVersionIsNotPassedOver(t *testing.T) {
	fsys := faultfs.New()
	s, states := smallStore(t, fsys, "/s", 3)
	b, err := fsys.ReadFile("/s/" + fileName(3))
	if err != nil {
		t.Fatal(err)
	}
	b[8] = 2
	sealCRC(b[:headerSize])
	if err := fsys.SetFile("/s/"+fileName(3), b); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.OpenNewest(context.Background())
	var version *VersionError
	if !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) || !errors.As(err, &version) || version.Version != 2 {
		t.Errorf("a generation of version 2: %v", err)
	}
	g, err := s.OpenGeneration(context.Background(), 2) // on demand
	if err != nil {
		t.Fatal(err)
	}
	if err := checkState(g, states[2], rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Error(err)
	}
}
