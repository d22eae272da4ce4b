package memsnap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"perdure/internal/durable/faultfs"
)

// TestDamage cuts every file of a small store at every byte, and flips bits in every byte: what comes back is right, of the
// same or of an older generation, or it is a named error.
func TestDamage(t *testing.T) {
	const generations = 5
	fsys := faultfs.New()
	_, states := smallStore(t, fsys, "/s", generations)
	var files [generations + 1][]byte
	for n := uint64(1); n <= generations; n++ {
		b, err := fsys.ReadFile("/s/" + fileName(n))
		if err != nil {
			t.Fatal(err)
		}
		files[n] = b
		t.Logf("generation %d: %d bytes", n, len(b))
	}
	// Generation 4 is based on 1 and 5 on 4: both do without 2 and 3.
	spared := map[uint64][]uint64{1: {}, 2: {1, 4, 5}, 3: {1, 2, 4, 5}, 4: {1, 2, 3}, 5: {1, 2, 3, 4}}

	var running sync.WaitGroup
	for n := uint64(1); n <= generations; n++ {
		running.Go(func() {
			fsys := fsys.Clone()
			path := "/s/" + fileName(n)
			r := rand.New(rand.NewPCG(n, 0))
			try := func(what string, damaged []byte) bool {
				if err := fsys.SetFile(path, damaged); err != nil {
					t.Error(err)
					return false
				}
				if err := survive(fsys, states, n, spared[n], r); err != nil {
					t.Errorf("generation %d, %s: %v", n, what, err)
					return false
				}
				return true
			}
			for size := int(n) % thin; size < len(files[n]); size += thin {
				if !try(fmt.Sprintf("cut to %d bytes", size), files[n][:size:size]) {
					return
				}
			}
			if !try("missing", nil) || !try("longer", append(files[n][:len(files[n]):len(files[n])], 0)) {
				return
			}
			for i := int(n) % thin; i < len(files[n]); i += thin {
				damaged := append([]byte(nil), files[n]...)
				damaged[i] ^= 1 << r.IntN(8)
				if !try(fmt.Sprintf("a bit of byte %d flipped", i), damaged) {
					return
				}
				damaged[i] = ^files[n][i]
				if !try(fmt.Sprintf("all bits of byte %d flipped", i), damaged) {
					return
				}
			}
		})
	}
	running.Wait()
}

// survive checks a store in which the file of generation n is damaged or missing.
func survive(fsys *faultfs.FS, states map[uint64]state, n uint64, spared []uint64, r *rand.Rand) error {
	ctx := context.Background()
	s, err := Open("/s", Options{FS: fsys, RestoreWorkers: 1})
	if err != nil {
		return err
	}
	number, err := recoverNewest(s, states, r)
	switch {
	case err != nil && !errors.Is(err, ErrCorrupt):
		return err
	case err == nil && number == n:
		return fmt.Errorf("the damage was not found")
	case len(spared) > 0 && (err != nil || number < spared[len(spared)-1]):
		return fmt.Errorf("generation %d was taken, but %d is well: %w", number, spared[len(spared)-1], err)
	}
	if r.IntN(16) > 0 {
		return nil // the rest is about the same each time
	}
	for _, number := range spared {
		g, err := s.OpenGeneration(ctx, number)
		if err != nil {
			return err
		}
		if err := errors.Join(g.Verify(ctx), checkState(g, states[number], r)); err != nil {
			return err
		}
	}
	g, err := s.OpenGeneration(ctx, n)
	if err == nil {
		err = g.Verify(ctx)
	}
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("verify of the damaged generation: %w", err)
	}
	list, err := s.Generations()
	if err != nil {
		return err
	}
	for _, info := range list {
		if info.Err != nil && (info.Number != n || !errors.Is(info.Err, ErrCorrupt)) {
			return fmt.Errorf("listed as damaged: %+v", info)
		}
	}
	// The next generation does not take the number of a damaged one.
	w, err := s.Begin(0)
	if err != nil {
		return err
	}
	highest := list[len(list)-1].Number
	if w.Number() != highest+1 {
		return fmt.Errorf("the next number is %d after %d", w.Number(), highest)
	}
	return w.Abort()
}

// TestDamageUnderGoodChecksums changes each byte of each part of a file and mends all checksums over it, as someone who
// means harm could: there is a named error, or what can be opened can be read and built upon.
func TestDamageUnderGoodChecksums(t *testing.T) {
	fsys, files := fuzzStore(t)
	for n := uint64(2); n <= 3; n++ {
		good := split(files[n])
		for i, part := range []*[]byte{&good.blockTable, &good.archive, &good.sectionTable, &good.info} {
			original := *part
			for at := int(n) % thin; at < len(original); at += thin {
				for _, mask := range []byte{0x01, 0x10, 0x80, 0xff} {
					damaged := bytes.Clone(original)
					damaged[at] ^= mask
					*part = damaged
					tryFile(t, fsys, n, good.join(n, 1))
				}
				*part = original[:at]
				tryFile(t, fsys, n, good.join(n, 1))
				if t.Failed() {
					t.Fatalf("generation %d, part %d, byte %d", n, i, at)
				}
			}
			*part = original
		}
	}
}

// TestSwappedFiles puts well-formed files of another history in the place of those that were meant.
func TestSwappedFiles(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	_, _ = smallStore(t, fsys, "/s", 3)
	other := faultfs.New()
	s, err := Open("/s", Options{FS: other})
	if err != nil {
		t.Fatal(err)
	}
	states := map[uint64]state{0: {}}
	for i := range 3 {
		if err := evolve(s, states, uint64(i), i+20); err != nil {
			t.Fatal(err)
		}
	}
	for n := uint64(1); n <= 3; n++ {
		mixed := fsys.Clone()
		b, err := other.ReadFile("/s/" + fileName(n))
		if err != nil {
			t.Fatal(err)
		}
		if err := mixed.SetFile("/s/"+fileName(n), b); err != nil {
			t.Fatal(err)
		}
		s, err := Open("/s", Options{FS: mixed})
		if err != nil {
			t.Fatal(err)
		}
		for m := n + 1; m <= 3; m++ {
			if _, err := s.OpenGeneration(ctx, m); !errors.Is(err, ErrCorrupt) {
				t.Errorf("generation %d with another's generation %d: %v", m, n, err)
			}
		}
		// A file under another number.
		if err := mixed.SetFile("/s/"+fileName(9), b); err != nil {
			t.Fatal(err)
		}
		if _, err := s.OpenGeneration(ctx, 9); !errors.Is(err, ErrCorrupt) {
			t.Errorf("generation %d under the name of 9: %v", n, err)
		}
	}
}

// TestFallsBackToAnotherCopy has a page with two backlinks, of which the first is damaged.
func TestFallsBackToAnotherCopy(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, err := Open("/s", Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	want := state{pages: []uint32{3, 4, 5, 0, 6, 7}, sections: map[string]string{}}
	for range 2 { // both hold all pages
		w := begin(t, s, 0)
		w.SetPages(6)
		for i, seed := range want.pages {
			_ = w.PutPages(uint64(i), pageOf(seed))
		}
		commit(t, w)
	}
	g, err := s.OpenGeneration(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	w := begin(t, s, 2)
	m := w.base.pages
	m.refs[1] = g.pages.refs[1]
	for page, l := range g.pages.links {
		if l != 0 {
			m.setFurther(uint64(page), []backlink{l})
		}
	}
	w.SetPages(7) // so that it says anything
	want.pages = append(want.pages, 0)
	commit(t, w)

	r := rand.New(rand.NewPCG(1, 1))
	check := func() (*Generation, error) {
		t.Helper()
		g, err := s.OpenGeneration(ctx, 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkRefs(g.pages); err != nil {
			t.Fatal(err)
		}
		return g, checkState(g, want, r)
	}
	if g, err = check(); err != nil {
		t.Fatal(err)
	}
	if err := g.Verify(ctx); err != nil {
		t.Fatal(err)
	}
	damage := func(number uint64) {
		b, err := fsys.ReadFile("/s/" + fileName(number))
		if err != nil {
			t.Fatal(err)
		}
		b[headerSize+5] ^= 1
		if err := fsys.SetFile("/s/"+fileName(number), b); err != nil {
			t.Fatal(err)
		}
	}
	damage(2)
	if g, err = check(); err != nil {
		t.Fatalf("with one damaged copy: %v", err)
	}
	if err := g.Verify(ctx); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("verify does not report the damaged copy: %v", err)
	}
	damage(1)
	if g, err = check(); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("with both copies damaged: %v", err)
	}
	page := make([]byte, PageSize)
	if err := g.ReadPage(0, page); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("with both copies damaged, one page: %v", err)
	}
}
