package memsnap

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"perdure/internal/durable/faultfs"
)

// TestDamageAndThenAPurge flips each byte and cuts each file of a store with branches, rests and second copies, purges,
// sweeps and repairs it in that condition, and then takes the damage back where the file is still there: nothing that a
// kept generation needs was given up because of it.
func TestDamageAndThenAPurge(t *testing.T) {
	ctx := context.Background()
	build := faultfs.New()
	s, states := smallStore(t, build, "/s", 8)
	s.policy.Redundancy = 2
	for i := uint64(8); i < 11; i++ {
		if err := evolve(s, states, i, int(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Purge(ctx, 1, 4, 6, 7); err != nil {
		t.Fatal(err)
	}
	entries := must(build.ReadDir("/s"))
	r := rand.New(rand.NewPCG(1, 1))
	try := func(name string, damage func(b []byte) []byte, undo func(now, good []byte) []byte) {
		t.Helper()
		fsys := build.Clone()
		path := "/s/" + name
		good := must(fsys.ReadFile(path))
		if err := fsys.SetFile(path, damage(bytes.Clone(good))); err != nil {
			t.Fatal(err)
		}
		s := must(Open("/s", Options{FS: fsys, RestoreWorkers: 1, Policy: Policy{MaxSnapshots: 4}}))
		for _, step := range []func() error{
			func() error { _, err := s.PurgeExpired(ctx); return err },
			func() error { _, err := s.Purge(ctx, 3); return err },
			func() error { _, err := s.Sweep(ctx); return err },
			func() error { _, err := s.Repair(ctx); return err },
		} {
			if err := step(); err != nil && !named(err) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDenied) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		number, ok := parseFileName(name)
		if !ok {
			number, _ = parseRestName(name)
		}
		for _, now := range []string{fileName(number), restName(number)} {
			if b, err := fsys.ReadFile("/s/" + now); err == nil {
				if err := fsys.SetFile("/s/"+now, undo(b, good)); err != nil {
					t.Fatal(err)
				}
			}
		}
		s = must(Open("/s", Options{FS: fsys, RestoreWorkers: 1}))
		files := must(s.files())
		if !files.isLive(11) {
			t.Fatalf("%s: the newest generation was given up: %v", name, files.live)
		}
		for _, n := range files.live {
			want, ok := states[n]
			if !ok {
				want = states[11] // a repair's
				if n > 12 {
					t.Fatalf("%s: generation %d", name, n)
				}
			}
			g, err := s.OpenGeneration(ctx, n)
			if err == nil {
				err = checkState(g, want, r)
			}
			if err != nil && n <= 11 {
				t.Fatalf("%s: generation %d of %v: %v", name, n, files.live, err)
			}
		}
	}
	for _, e := range entries {
		size := len(must(build.ReadFile("/s/" + e.Name)))
		for i := r.IntN(5); i < size; i += 5 * thin {
			bit := byte(1) << r.IntN(8)
			try(e.Name, func(b []byte) []byte { b[i] ^= bit; return b }, func(now, good []byte) []byte {
				if now[i] == good[i]^bit {
					now[i] = good[i]
				}
				return now
			})
		}
		for i := 0; i < size; i += 50 * thin {
			try(e.Name, func(b []byte) []byte { return b[:i] }, func(now, good []byte) []byte {
				if len(now) == i {
					return good
				}
				return now
			})
		}
	}
}

// FuzzImport imports any bytes: a named error and nothing left, or a generation that can be read to its end.
func FuzzImport(f *testing.F) {
	from := must(Open("/s", Options{FS: faultfs.New()}))
	states := map[uint64]state{0: {}}
	for i := range 2 {
		if err := evolve(from, states, uint64(i), i); err != nil {
			f.Fatal(err)
		}
		var b bytes.Buffer
		if err := must(from.OpenGeneration(context.Background(), uint64(i+1))).Export(context.Background(), &b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
		p := split(b.Bytes())
		f.Add(p.join(1, 0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys := faultfs.New()
		s := must(Open("/s", Options{FS: fsys, RestoreWorkers: 1}))
		info, err := s.Import(context.Background(), bytes.NewReader(b))
		if err != nil {
			if entries := must(fsys.ReadDir("/s")); !named(err) || len(entries) > 0 {
				t.Fatalf("%v; left behind: %v", err, entries)
			}
			return
		}
		exercise(t, s, info.Number)
	})
}

// FuzzPin decodes any bytes as a pin.
func FuzzPin(f *testing.F) {
	f.Add(encodePin("note"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		note, err := decodePin("p", b)
		if err != nil && !named(err) {
			t.Fatal(err)
		}
		if err == nil && !bytes.Equal(encodePin(note), b) {
			t.Fatalf("%q is read as %q", b, note)
		}
	})
}
