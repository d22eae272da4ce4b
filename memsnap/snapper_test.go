package memsnap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"perdure/internal/durable/faultfs"
)

func TestXXHash32(t *testing.T) {
	// Of the reference implementation.
	for text, want := range map[string]uint32{
		"":    0x02CC5D05,
		"a":   0x550D7456,
		"abc": 0x32D153FF,
		"Nobody inspects the spammish repetition": 0xE2293B2F,
	} {
		if got := xxHash32([]byte(text)); got != want {
			t.Errorf("%q: %08x, want %08x", text, got, want)
		}
	}
}

// snapperStore is the algorithm of Snapper 2, as far as it matters: one file for each component and copy, a 32-bit hash, and a
// reference count that is rewritten in place with the whole file. It writes stores for the importer and is what the
// benchmark compares with.
type snapperStore struct {
	root       string
	redundancy uint8
	links      map[uint64][]string
	dir        string
	n          int
	written    int64
	sync       bool
}

func (s *snapperStore) init(name string) error {
	s.dir, s.n = name, 0
	return os.MkdirAll(filepath.Join(s.root, name, "snapshot"), 0o700)
}

func (s *snapperStore) write(path string, b []byte) error {
	s.written += int64(len(b))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if s.sync {
		if err := f.Sync(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

func (s *snapperStore) take(key uint64, data []byte) error {
	hash := xxHash32(data)
	var valid []string
	for _, path := range s.links[key] {
		b, err := os.ReadFile(filepath.Join(s.root, path))
		if err != nil {
			return err
		}
		if b[0] == snapperVersion && binary.LittleEndian.Uint32(b[1:]) == hash {
			valid = append(valid, path)
		}
	}
	s.links[key] = valid
	if n := len(valid); n > 0 {
		path := filepath.Join(s.root, valid[n-1])
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if b[5] < s.redundancy {
			b[5]++
			return s.write(path, b)
		}
	}
	s.n++
	path := fmt.Sprintf("%s/snapshot/0x%x", s.dir, s.n)
	b := make([]byte, snapperFileHead, snapperFileHead+len(data))
	b[0], b[5] = snapperVersion, 1
	binary.LittleEndian.PutUint32(b[1:], hash)
	s.links[key] = append(s.links[key], path)
	return s.write(filepath.Join(s.root, path), append(b, data...))
}

func (s *snapperStore) commit() error {
	b := make([]byte, snapperArchiveHead)
	var n uint64
	for key, links := range s.links {
		for _, path := range links {
			record := make([]byte, snapperRecord)
			binary.LittleEndian.PutUint64(record, key)
			copy(record[8:], "/persistent/"+path)
			binary.LittleEndian.PutUint64(record[8+snapperPathSize:], uint64(len(path)+13))
			b = append(b, record...)
			n++
		}
	}
	b[0] = snapperVersion
	binary.LittleEndian.PutUint32(b[1:], xxHash32(b[snapperArchiveHead:]))
	binary.LittleEndian.PutUint64(b[5:], n)
	return s.write(filepath.Join(s.root, s.dir, "archive"), b)
}

func TestImportSnapper(t *testing.T) {
	ctx := context.Background()
	old := &snapperStore{root: t.TempDir(), redundancy: 2, links: map[uint64][]string{}}
	contents := []map[uint64]string{}
	current := map[uint64]string{}
	start := time.Date(2025, 12, 13, 10, 0, 0, 0, time.UTC)
	for n := range 6 {
		if err := old.init(start.Add(time.Duration(n) * time.Second).Format(snapperTime)); err != nil {
			t.Fatal(err)
		}
		current[uint64(n)] = fmt.Sprintf("new in generation %d", n)
		current[100] = fmt.Sprintf("changes each time: %d", n)
		frozen := map[uint64]string{}
		for key, data := range current {
			frozen[key] = data
			if err := old.take(key, []byte(data)); err != nil {
				t.Fatal(err)
			}
		}
		if err := old.commit(); err != nil {
			t.Fatal(err)
		}
		contents = append(contents, frozen)
	}
	if err := os.Mkdir(filepath.Join(old.root, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := must(Open("/s", Options{FS: faultfs.New()}))
	infos, skipped, err := s.ImportSnapper(ctx, os.DirFS(old.root))
	if err != nil || len(infos) != 6 || len(skipped) > 0 {
		t.Fatalf("%d generations, %v, %v", len(infos), skipped, err)
	}
	check := func(s *Store, number uint64, want map[uint64]string) {
		t.Helper()
		g := must(s.OpenGeneration(ctx, number))
		if len(g.Sections()) != len(want) {
			t.Errorf("generation %d has %v", number, g.Sections())
		}
		for key, text := range want {
			if b, err := g.Section(SnapperSection(key)); err != nil || string(b) != text {
				t.Errorf("generation %d, component %d: %q, %v", number, key, b, err)
			}
		}
	}
	for n, want := range contents {
		if !infos[n].Time.Equal(start.Add(time.Duration(n) * time.Second)) {
			t.Errorf("time %v", infos[n].Time)
		}
		check(s, uint64(n+1), want)
	}

	// Component 0 has several copies in the later generations: the first may be bad.
	first := filepath.Join(old.root, old.links[0][0])
	b, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(first, b, 0o600); err != nil {
		t.Fatal(err)
	}
	// An archive that is cut off, and one of another version.
	name := func(n int) string {
		return filepath.Join(old.root, start.Add(time.Duration(n)*time.Second).Format(snapperTime), "archive")
	}
	if err := os.Truncate(name(4), 100); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(name(3)); err != nil {
		t.Fatal(err)
	}
	b[0] = 1
	if err := os.WriteFile(name(3), b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = must(Open("/s", Options{FS: faultfs.New()}))
	infos, skipped, err = s.ImportSnapper(ctx, os.DirFS(old.root))
	if err != nil || len(infos) != 2 || len(skipped) != 4 { // in 1 and 2 component 0 has the bad copy only
		t.Fatalf("%+v, %v, %v", infos, skipped, err)
	}
	check(s, 1, contents[2])
	check(s, 2, contents[5])
	if _, _, err := s.ImportSnapper(ctx, os.DirFS(filepath.Join(old.root, "nowhere"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func FuzzSnapperArchive(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		name := "2025-12-13 10:00:00"
		if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o700), os.WriteFile(filepath.Join(dir, name, "archive"), b, 0o600)); err != nil {
			t.Fatal(err)
		}
		if len(b) > snapperArchiveHead {
			binary.LittleEndian.PutUint32(b[1:], xxHash32(b[snapperArchiveHead:]))
		}
		if _, err := snapperGeneration(os.DirFS(dir), name); err != nil && !named(err) {
			t.Fatal(err)
		}
	})
}

// BenchmarkAgainstSnapper makes ten generations of 64 MiB, of which one page of a hundred changes, with the older algorithm, which
// is not made to sync anything, and with ours, which is.
func BenchmarkAgainstSnapper(b *testing.B) {
	const pages, generations = 16384, 10
	memory := make([]byte, pages*PageSize)
	fillCompressible(memory, 1)
	change := func(n int) []int {
		var list []int
		for i := range pages / 100 {
			p := (i*100 + 37*n) % pages
			memory[p*PageSize]++
			list = append(list, p)
		}
		return list
	}
	var ours, theirs time.Duration
	var oursBytes, theirBytes int64
	for b.Loop() {
		old := &snapperStore{root: b.TempDir(), redundancy: 3, links: map[uint64][]string{}}
		s := openStore(b, Options{Policy: Policy{Redundancy: 3}})
		for n := range generations {
			list := change(n)
			start := time.Now()
			if err := old.init(fmt.Sprintf("2025-12-13 10:00:%02d", n)); err != nil {
				b.Fatal(err)
			}
			for p := range pages {
				if err := old.take(uint64(p), memory[p*PageSize:][:PageSize]); err != nil {
					b.Fatal(err)
				}
			}
			if err := old.commit(); err != nil {
				b.Fatal(err)
			}
			theirs += time.Since(start)
			start = time.Now()
			w := begin(b, s, uint64(n))
			w.SetPages(pages)
			if n == 0 {
				_ = w.PutPages(0, memory)
			}
			for _, p := range list {
				_ = w.PutPages(uint64(p), memory[p*PageSize:][:PageSize])
			}
			oursBytes += int64(commit(b, w).BytesStored)
			ours += time.Since(start)
		}
		theirBytes += old.written
	}
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "times-faster")
	b.ReportMetric(float64(theirBytes)/float64(oursBytes), "times-fewer-bytes")
	b.ReportMetric(float64(oursBytes)/float64(b.N)/(1<<20), "ours-MiB")
	b.ReportMetric(float64(theirBytes)/float64(b.N)/(1<<20), "theirs-MiB")
	b.ReportMetric(ours.Seconds()*1000/float64(b.N), "ours-ms")
	b.ReportMetric(theirs.Seconds()*1000/float64(b.N), "theirs-ms")
}
