package memsnap

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"perdure/internal/durable/faultfs"
)

// The tests of this file are the six that Snapper's plan lists (creation, three of a recovery that succeeds, one of a
// recovery that does not, purge) and its benchmark, against this store. What is an integer under a key there is here, in
// turn, a page, the first bytes of which are the integer, and a section, which has its length.

const suiteKeys = 1000

// suiteKind is a way to keep an integer under a key.
type suiteKind struct {
	name    string
	put     func(w *Session, key uint64, value uint32) error
	restore func(g *Generation, key uint64) (uint32, error)
}

var suiteKinds = []suiteKind{
	{"pages", func(w *Session, key uint64, value uint32) error {
		page := make([]byte, PageSize)
		binary.LittleEndian.PutUint32(page, value)
		return w.PutPages(key, page)
	}, func(g *Generation, key uint64) (uint32, error) {
		page := make([]byte, PageSize)
		err := g.ReadPage(key, page)
		return binary.LittleEndian.Uint32(page), err
	}},
	{"sections", func(w *Session, key uint64, value uint32) error {
		return w.PutSection(fmt.Sprint(key), binary.LittleEndian.AppendUint32(nil, value))
	}, func(g *Generation, key uint64) (uint32, error) {
		b, err := g.Section(fmt.Sprint(key))
		if err != nil || len(b) != 4 {
			return 0, errors.Join(err, fmt.Errorf("%d bytes", len(b)))
		}
		return binary.LittleEndian.Uint32(b), nil
	}},
}

// halfOf is a first generation from which every other key changes to inOrder.
func halfOf(key uint64) uint32 { return uint32(key - key%2) }

// take makes a generation of value(key) for each key from 1 on. What did not change since halfOf is not put again as a page,
// since of pages the caller knows; sections find it out.
func (k *suiteKind) take(t *testing.T, s *Store, base uint64, value func(key uint64) uint32) Info {
	t.Helper()
	w := begin(t, s, base)
	w.SetPages(suiteKeys + 1)
	if base != 0 {
		if err := w.KeepSections(); err != nil {
			t.Fatal(err)
		}
	}
	for key := uint64(1); key <= suiteKeys; key++ {
		if base != 0 && k.name == "pages" && value(key) == halfOf(key) {
			continue
		}
		if err := k.put(w, key, value(key)); err != nil {
			t.Fatal(err)
		}
	}
	return commit(t, w)
}

// wantAll wants the numbers from 1 on in the newest generation that is well, which is of the given number.
func (k *suiteKind) wantAll(t *testing.T, s *Store, number uint64) {
	t.Helper()
	g, _, err := s.OpenNewest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Info().Number; got != number {
		t.Errorf("opened generation %d, want %d", got, number)
	}
	for key := uint64(1); key <= suiteKeys; key++ {
		if got, err := k.restore(g, key); err != nil || got != uint32(key) {
			t.Fatalf("key %d: got %d, %v", key, got, err)
		}
	}
}

func inOrder(key uint64) uint32 { return uint32(key) }

// suite runs a test with both kinds.
func suite(t *testing.T, test func(t *testing.T, k *suiteKind, fsys *faultfs.FS, s *Store)) {
	for _, k := range suiteKinds {
		t.Run(k.name, func(t *testing.T) {
			fsys := faultfs.New()
			test(t, &k, fsys, must(Open("/s", Options{FS: fsys})))
		})
	}
}

// Snapshot creation: 1,000 random integers are taken and committed without an error.
func TestSnapperCreation(t *testing.T) {
	suite(t, func(t *testing.T, k *suiteKind, _ *faultfs.FS, s *Store) {
		if info := k.take(t, s, 0, func(uint64) uint32 { return rand.Uint32() }); info.Number != 1 {
			t.Errorf("got %+v", info)
		}
	})
}

// Successful recovery 1: the integers of a generation come back in order.
func TestSnapperRecoveryOfAGeneration(t *testing.T) {
	suite(t, func(t *testing.T, k *suiteKind, fsys *faultfs.FS, s *Store) {
		k.take(t, s, 0, inOrder)
		k.wantAll(t, must(Open("/s", Options{FS: fsys})), 1)
	})
}

// Successful recovery 2: of two generations the older one has an invalid archive, but units that the newer one needs.
func TestSnapperRecoveryBesideAnInvalidOlderGeneration(t *testing.T) {
	suite(t, func(t *testing.T, k *suiteKind, fsys *faultfs.FS, s *Store) {
		ctx := context.Background()
		k.take(t, s, 0, halfOf)
		k.take(t, s, 1, inOrder)
		f := must(s.loadGenFile(1, false))
		flip(t, fsys, fileName(1), int(f.footer.archiveAt())+2) // within the archive
		s = must(Open("/s", Options{FS: fsys}))
		if _, err := s.OpenGeneration(ctx, 1); !errors.Is(err, ErrCorrupt) {
			t.Errorf("the older one: %v", err)
		}
		k.wantAll(t, s, 2)
		// Strictly better: it is told, and a repair makes the newer one independent of it.
		g := must(s.OpenGeneration(ctx, 2))
		if bad := g.Bad(); len(bad) != 1 || !strings.Contains(bad[0].Error(), fileName(1)) {
			t.Errorf("told of %v", bad)
		}
		if err := g.Verify(ctx); !errors.Is(err, ErrCorrupt) {
			t.Errorf("verify: %v", err)
		}
		report, err := s.Repair(ctx)
		if err != nil || report.Damage.Lost() != 0 || report.Generation.Number != 3 {
			t.Fatalf("repair: %+v, %v", report, err)
		}
		if err := must(s.OpenGeneration(ctx, 3)).Verify(ctx); err != nil {
			t.Error(err)
		}
		if err := fsys.SetFile("/s/"+fileName(1), nil); err != nil {
			t.Fatal(err)
		}
		k.wantAll(t, must(Open("/s", Options{FS: fsys})), 3)
	})
}

// Successful recovery 3: behind the valid generation there is one that was not finished. It is passed over and cleared up.
func TestSnapperRecoveryBesideAnUnfinishedGeneration(t *testing.T) {
	suite(t, func(t *testing.T, k *suiteKind, fsys *faultfs.FS, s *Store) {
		k.take(t, s, 0, inOrder)
		b := must(fsys.ReadFile("/s/" + fileName(1)))
		unfinished := "/s/" + fileName(2) + ".tmp"
		if err := fsys.SetFile(unfinished, b[:len(b)/2]); err != nil {
			t.Fatal(err)
		}
		k.wantAll(t, must(Open("/s", Options{FS: fsys})), 1)
		if _, err := fsys.ReadFile(unfinished); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("what was not finished: %v", err)
		}
	})
}

// Unsuccessful recovery: the only generation has an archive whose checksum does not hold. That is an error which names it.
func TestSnapperUnsuccessfulRecovery(t *testing.T) {
	suite(t, func(t *testing.T, k *suiteKind, fsys *faultfs.FS, s *Store) {
		k.take(t, s, 0, inOrder)
		f := must(s.loadGenFile(1, false))
		flip(t, fsys, fileName(1), int(f.footer.archiveAt())+2)
		_, skipped, err := must(Open("/s", Options{FS: fsys})).OpenNewest(context.Background())
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || len(skipped) != 1 || !strings.Contains(corrupt.Error(), "archive: CRC mismatch") {
			t.Errorf("got %v, %v", skipped, err)
		}
	})
}

// Purge: of two generations the older one goes. It cannot be recovered any more, the newer one, which shares units with it, can.
func TestSnapperPurge(t *testing.T) {
	suite(t, func(t *testing.T, k *suiteKind, fsys *faultfs.FS, s *Store) {
		ctx := context.Background()
		k.take(t, s, 0, halfOf)
		k.take(t, s, 1, inOrder)
		if _, err := s.Purge(ctx, 1); err != nil {
			t.Fatal(err)
		}
		s = must(Open("/s", Options{FS: fsys}))
		if _, err := s.OpenGeneration(ctx, 1); !errors.Is(err, ErrNotFound) {
			t.Errorf("the older one: %v", err)
		}
		k.wantAll(t, s, 2)
	})
}

// BenchmarkSnapper is Snapper's: NUM payloads of SIZE are taken and committed in one generation. There NUM is 100 and SIZE
// 1 MB; the payloads are zeros in one run, as there, and random in the other.
func BenchmarkSnapper(b *testing.B) {
	for _, c := range []struct{ num, size int }{{100, 1e6}, {1000, 1e5}, {10_000, 1e4}} {
		for _, content := range []string{"zeros", "random"} {
			b.Run(fmt.Sprintf("%dx%d/%s", c.num, c.size, content), func(b *testing.B) {
				pages := (c.size + PageSize - 1) / PageSize // of a payload
				payload := make([]byte, pages*PageSize)
				s := openStore(b, Options{})
				b.SetBytes(int64(c.num) * int64(c.size))
				var stored uint64
				for n := uint64(0); b.Loop(); n++ {
					w := begin(b, s, 0)
					w.SetPages(uint64(c.num * pages))
					var all [][]byte
					for i := range c.num {
						if content == "random" {
							fillRandom(payload[:c.size], uint64(i))
						}
						all = append(all, bytes.Clone(payload))
						_ = w.PutPages(uint64(i*pages), all[i])
					}
					stored = commit(b, w).BytesStored
				}
				b.ReportMetric(float64(stored), "stored-bytes")
			})
		}
	}
}
