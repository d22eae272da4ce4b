package memsnap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenDir holds a store, a store with a key and an export as the first released version writes them, and want.txt, what
// is in them. It is never made anew: a later version reads it, or has a directory of its own beside it.
const goldenDir = "../testdata/formats/memsnap-v1"

var makeGolden = flag.Bool("memsnap.golden", false, "make the golden files of the present format version, if there are none")

var goldenKey = []byte("the key of the golden store")

// describe tells what a store holds, in text.
func describe(s *Store) (string, error) {
	ctx := context.Background()
	var b strings.Builder
	list, err := s.Generations()
	if err != nil {
		return "", err
	}
	for _, i := range list {
		g, err := s.OpenGeneration(ctx, i.Number)
		if err != nil {
			return "", err
		}
		if err := g.Verify(ctx); err != nil {
			return "", err
		}
		memory := make([]byte, g.Pages()*PageSize)
		if err := g.Restore(ctx, memory); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "generation %d base %d pages %d new %d linked %d zero %d copied %d pinned %t\n", i.Number, i.Base, i.Pages,
			i.PagesNew, i.PagesLinked, i.PagesZero, i.PagesCopied, i.Pinned)
		fmt.Fprintf(&b, "  memory %x\n", sha256.Sum256(memory))
		for page := range g.Pages() {
			g.pages.all(page, func(l backlink) bool {
				fmt.Fprintf(&b, "  page %d in %d at %d\n", page, l.generation(), l.position())
				return true
			})
		}
		for _, name := range g.Sections() {
			data, err := g.Section(name)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "  section %s %x\n", name, sha256.Sum256(data))
		}
	}
	return b.String(), nil
}

func writeGolden(t *testing.T) {
	ctx := context.Background()
	if _, err := os.Stat(goldenDir); err == nil {
		t.Fatalf("%s is there, and golden files are never made anew", goldenDir)
	}
	text := ""
	for _, name := range []string{"plain", "keyed"} {
		o := Options{Policy: Policy{Redundancy: 3}}
		if name == "keyed" {
			o.Key = goldenKey
		}
		s, err := Open(filepath.Join(goldenDir, name), o)
		if err != nil {
			t.Fatal(err)
		}
		s.budget = func(uint64) archiveBudget { return archiveBudget{1, 8} } // chains
		states := map[uint64]state{0: {}}
		for i := range 6 {
			base := uint64(i)
			if i == 3 {
				base = 1
			}
			if err := evolve(s, states, base, i); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Purge(ctx, 1, 2, 4); err != nil {
			t.Fatal(err)
		}
		if err := s.Pin(5, "golden"); err != nil {
			t.Fatal(err)
		}
		more, err := describe(s)
		if err != nil {
			t.Fatal(err)
		}
		text += name + "\n" + more
		if name == "plain" {
			if err := os.WriteFile(filepath.Join(goldenDir, "export.gen"), exported(t, s, 6), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(goldenDir, "want.txt"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestGoldenFilesOfVersion1 reads what the first released version wrote.
func TestGoldenFilesOfVersion1(t *testing.T) {
	if *makeGolden {
		writeGolden(t)
	}
	want, err := os.ReadFile(filepath.Join(goldenDir, "want.txt"))
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, name := range []string{"plain", "keyed"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(goldenDir, name))); err != nil {
			t.Fatal(err)
		}
		o := Options{}
		if name == "keyed" {
			o.Key = goldenKey
		}
		s, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		text, err := describe(s)
		if err != nil {
			t.Fatal(err)
		}
		got += name + "\n" + text
		if note, err := s.PinNote(5); err != nil || note != "golden" {
			t.Errorf("note %q, %v", note, err)
		}
		if name != "plain" {
			continue
		}
		export, err := os.ReadFile(filepath.Join(goldenDir, "export.gen"))
		if err != nil {
			t.Fatal(err)
		}
		info, err := s.Import(context.Background(), bytes.NewReader(export))
		if err != nil {
			t.Fatal(err)
		}
		if d, err := s.Diff(context.Background(), 6, info.Number); err != nil || d.Pages() != 0 || len(d.Altered) > 0 {
			t.Errorf("the export differs: %+v, %v", d, err)
		}
		// It can be gone on from, and the old ones purged.
		if _, err := s.Purge(context.Background(), 3, 6); err != nil {
			t.Fatal(err)
		}
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
