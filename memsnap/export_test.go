package memsnap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/iotest"

	"perdure/internal/durable/faultfs"
)

func exported(t *testing.T, s *Store, number uint64) []byte {
	t.Helper()
	g, err := s.OpenGeneration(context.Background(), number)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := g.Export(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExportAndImport(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 1))
	for _, key := range [][]byte{nil, []byte("sixteen bytes or more")} {
		from, err := Open("/s", Options{FS: faultfs.New(), Key: key})
		if err != nil {
			t.Fatal(err)
		}
		states := map[uint64]state{0: {}}
		for i := range 6 {
			if err := evolve(from, states, uint64(i), i); err != nil {
				t.Fatal(err)
			}
		}
		fsys := faultfs.New()
		to, err := Open("/t", Options{FS: fsys, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		got := map[uint64]state{0: {}}
		for number := uint64(1); number <= 6; number++ {
			info, err := to.Import(ctx, iotest.HalfReader(bytes.NewReader(exported(t, from, number))))
			if err != nil {
				t.Fatalf("generation %d: %v", number, err)
			}
			got[info.Number] = states[number]
			list, err := from.Generations()
			if err != nil || !list[number-1].Time.Equal(info.Time) {
				t.Errorf("generation %d: time %v, %v", number, info.Time, err)
			}
			// It goes on from there.
			if err := evolve(to, got, info.Number, int(number)+20); err != nil {
				t.Fatal(err)
			}
		}
		for number := uint64(1); number <= 12; number++ {
			g, err := to.OpenGeneration(ctx, number)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(g.Verify(ctx), checkState(g, got[number], r)); err != nil {
				t.Fatalf("generation %d: %v", number, err)
			}
		}
		if _, err := to.Purge(ctx, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11); err != nil {
			t.Fatal(err)
		}
		if err := checkFreed(to, fsys); err != nil {
			t.Error(err)
		}
	}
}

// TestImportRefusesWhatIsNotAnExport cuts and flips an export everywhere: nothing is ever published, and nothing is left.
func TestImportRefusesWhatIsNotAnExport(t *testing.T) {
	ctx := context.Background()
	from, _ := smallStore(t, faultfs.New(), "/s", 3)
	good := exported(t, from, 3)
	fsys := faultfs.New()
	to, err := Open("/t", Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(b []byte, what string, at int) {
		t.Helper()
		if _, err := to.Import(ctx, bytes.NewReader(b)); !named(err) {
			t.Fatalf("%s %d: %v", what, at, err)
		}
	}
	for i := 0; i < len(good); i += 1 + thin {
		refuse(good[:i], "cut to", i)
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		refuse(bad, "flipped byte", i)
	}
	refuse(append(slices.Clone(good), 0), "longer", 1)
	var archive bytes.Buffer
	if err := from.ExportArchive(ctx, 3, &archive); err != nil {
		t.Fatal(err)
	}
	refuse(archive.Bytes(), "an archive of generation", 3)
	if _, err := to.Import(ctx, iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a reader that fails: %v", err)
	}
	if entries, err := fsys.ReadDir("/t"); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestAnImportThatFailsOrCrashesAtAnyCall(t *testing.T) {
	ctx := context.Background()
	from, states := smallStore(t, faultfs.New(), "/s", 3)
	good := exported(t, from, 3)
	for _, inject := range []func(int) func(faultfs.Call) error{
		func(i int) func(faultfs.Call) error { return faultfs.FailAt(i, faultfs.ErrInjected) },
		faultfs.CrashAt,
	} {
		for i := 0; ; i++ {
			fsys := faultfs.New()
			to, states2 := smallStore(t, fsys, "/s", 2)
			fsys.SetInjector(inject(i))
			_, err := to.Import(ctx, bytes.NewReader(good))
			calls := fsys.Calls()
			after := fsys.Clone()
			if errors.Is(inject(i)(faultfs.Call{Index: i}), faultfs.ErrCrashed) {
				after = fsys.Crash(rand.New(rand.NewPCG(uint64(i), 1)))
			}
			if to, openErr := Open("/s", Options{FS: after}); openErr != nil {
				t.Fatal(openErr)
			} else {
				g, skipped, openErr := to.OpenNewest(ctx)
				if openErr != nil || len(skipped) > 0 {
					t.Fatalf("call %d: %v, %v", i, skipped, openErr)
				}
				want := states2[2]
				if g.Info().Number == 3 {
					want = states[3]
				} else if err == nil {
					t.Fatalf("call %d: the import is gone", i)
				}
				if err := errors.Join(g.Verify(ctx), checkState(g, want, rand.New(rand.NewPCG(1, 1)))); err != nil {
					t.Fatalf("call %d: %v", i, err)
				}
			}
			if i >= calls {
				break
			}
		}
	}
}

func TestADamagedArchiveIsReplacedByACopy(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, states := smallStore(t, fsys, "/s", 5)
	var copies [6]bytes.Buffer
	for n := uint64(1); n <= 5; n++ {
		if err := s.ExportArchive(ctx, n, &copies[n]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Purge(ctx, 2); err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= 5; n++ {
		name := fileName(n)
		if n == 2 {
			name = restName(n)
		}
		good := must(fsys.ReadFile("/s/" + name))
		for _, damaged := range [][]byte{nil, good[:len(good)/2], append([]byte("xx"), good[2:]...)} {
			if damaged == nil && n == 2 {
				continue // it would come back as a generation
			}
			if err := fsys.SetFile("/s/"+name, damaged); err != nil {
				t.Fatal(err)
			}
			if got, err := s.ImportArchive(ctx, bytes.NewReader(copies[n].Bytes())); err != nil || got != n {
				t.Fatalf("generation %d: %d, %v", n, got, err)
			}
			for _, m := range []uint64{1, 3, 4, 5} {
				g, err := s.OpenGeneration(ctx, m)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(g.Verify(ctx), checkState(g, states[m], rand.New(rand.NewPCG(1, 1)))); err != nil {
					t.Fatalf("generation %d: %v", m, err)
				}
			}
		}
	}
	// The file of another history.
	other, err := Open("/s", Options{FS: faultfs.New()})
	if err != nil {
		t.Fatal(err)
	}
	histories := map[uint64]state{0: {}}
	for i := range 4 {
		if err := evolve(other, histories, uint64(i), i+30); err != nil {
			t.Fatal(err)
		}
	}
	var wrong bytes.Buffer
	if err := other.ExportArchive(ctx, 4, &wrong); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ImportArchive(ctx, bytes.NewReader(wrong.Bytes())); !errors.Is(err, ErrDenied) {
		t.Errorf("in place of a good one: %v", err)
	}
	if err := fsys.SetFile("/s/"+fileName(4), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ImportArchive(ctx, bytes.NewReader(wrong.Bytes())); !errors.Is(err, ErrCorrupt) {
		t.Errorf("in place of a missing one: %v", err)
	}
	if err := s.ExportArchive(ctx, 77, io.Discard); !errors.Is(err, ErrNotFound) {
		t.Errorf("export of nothing: %v", err)
	}
}

func TestDiff(t *testing.T) {
	ctx := context.Background()
	s, states := smallStore(t, faultfs.New(), "/s", 6)
	for a := uint64(1); a <= 6; a++ {
		for b := uint64(1); b <= 6; b++ {
			d, err := s.Diff(ctx, a, b)
			if err != nil {
				t.Fatal(err)
			}
			at := func(s state, i int) uint32 {
				if i < len(s.pages) {
					return s.pages[i]
				}
				return 0
			}
			var got, want []int
			for i := range max(len(states[a].pages), len(states[b].pages)) {
				if at(states[a], i) != at(states[b], i) {
					want = append(want, i)
				}
			}
			for _, r := range d.Changed {
				for i := range r.Count {
					got = append(got, int(r.First+i))
				}
			}
			if !slices.Equal(got, want) || d.Pages() != uint64(len(want)) {
				t.Errorf("%d to %d: pages %v, want %v", a, b, got, want)
			}
			var sum uint64
			for _, r := range d.Regions(4) {
				sum += r.Changed
				if r.First%4 != 0 || r.Changed == 0 || r.Changed > r.Count {
					t.Errorf("region %+v", r)
				}
			}
			if sum != d.Pages() {
				t.Errorf("the regions have %d pages, want %d", sum, d.Pages())
			}
			if same := a == b; same != (len(d.Altered) == 0) || len(d.Added)+len(d.Removed) > 0 {
				t.Errorf("%d to %d: sections %+v", a, b, d)
			}
		}
	}
	w := begin(t, s, 6)
	_ = w.PutSection("new", nil)
	if err := w.KeepSection("same"); err != nil {
		t.Fatal(err)
	}
	commit(t, w)
	d, err := s.Diff(ctx, 6, 7)
	if err != nil || !reflect.DeepEqual(d.Added, []string{"new"}) || !reflect.DeepEqual(d.Removed, []string{"stack"}) {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestKeyedStore(t *testing.T) {
	ctx := context.Background()
	key := []byte("0123456789abcdef0123456789abcdef")
	fsys := faultfs.New()
	states := map[uint64]state{0: {}}
	s, err := Open("/s", Options{FS: fsys, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := evolve(s, states, uint64(i), i); err != nil {
			t.Fatal(err)
		}
	}
	open := func(fsys *faultfs.FS, key []byte) error {
		s, err := Open("/s", Options{FS: fsys, Key: key})
		if err != nil {
			return err
		}
		g, _, err := s.OpenNewest(ctx)
		if err != nil {
			return err
		}
		return errors.Join(g.Verify(ctx), checkState(g, states[3], rand.New(rand.NewPCG(1, 1))))
	}
	if err := open(fsys, key); err != nil {
		t.Fatal(err)
	}
	for what, other := range map[string][]byte{"no key": nil, "another key": []byte("0123456789abcdef0123456789abcdeX")} {
		err := open(fsys, other)
		var keyErr *KeyError
		if !errors.Is(err, ErrKey) || !errors.As(err, &keyErr) || IsDamage(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := open(fsys, []byte("short")); !errors.Is(err, ErrRange) {
		t.Errorf("a short key: %v", err)
	}
	plain, _ := smallStore(t, faultfs.New(), "/s", 3)
	if err := open(plain.fsys.(*faultfs.FS), key); !errors.Is(err, ErrKey) {
		t.Errorf("a store without a key: %v", err)
	}
	// Someone changes a section table and mends every checksum that needs no key.
	forged := fsys.Clone()
	b := must(fsys.ReadFile("/s/" + fileName(3)))
	p := split(b)
	p.sectionTable = bytes.Replace(p.sectionTable, []byte("stack"), []byte("stock"), 1)
	f := p.join(3, 2)
	f[32] = headerKeyed
	sealCRC(f[:headerSize])
	if err := forged.SetFile("/s/"+fileName(3), f); err != nil {
		t.Fatal(err)
	}
	if err := open(forged, key); !errors.Is(err, ErrKey) {
		t.Errorf("forged metadata: %v", err)
	}
}
