package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A guest whose process dies at any call to the outside, before it or after its effect, and
// once more at any moment of its second life, leaves what an undisturbed one does.
func TestSweep(t *testing.T) { sweep(t, 101) }

// sweep lets the guest die at every stride-th call, where each is durable at fewer.
func sweep(t *testing.T, stride int) {
	noSync := func(string, func() error) error { return nil }
	for _, c := range []struct {
		name  string
		cuts  int
		opt   Options
		other bool // each life is of the other level
	}{
		{"from birth", 0, Options{}, false},
		{"cuts", 2, Options{}, false},
		{"segments", 1, Options{RotateAt: 2000}, false},
		{"sync", 3, Options{Sync: true, RotateAt: 3000, syncing: noSync}, false},
		{"levels", 2, Options{Sync: true, RotateAt: 3000, syncing: noSync}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			rnd := seed(t)
			l := newLife(t, c.cuts)
			l.opt = c.opt
			l.run(0, false)
			want, calls := l.left(), l.k.n
			if c.opt.RotateAt != 0 && l.reused == 0 {
				t.Error("no segment is used again")
			}
			stride := stride
			if c.opt.Sync {
				stride *= 3
			}
			deaths, played := 0, 0
			for at := 1 + rnd.IntN(stride); at <= calls; at += stride {
				for _, after := range []bool{false, true} {
					second, secondAfter := rnd.IntN(60), rnd.IntN(2) == 0
					what := fmt.Sprintf("death at call %d of %d, after it: %v; then at %d, %v", at, calls, after, second, secondAfter)
					l := newLife(t, c.cuts)
					l.opt = c.opt
					l.run(at, after)
					if !l.done {
						deaths++
						l.opt.Sync = l.opt.Sync != c.other
						l.run(second, secondAfter)
					}
					if !l.done {
						deaths++
						l.opt.Sync = l.opt.Sync != c.other
						l.run(0, false)
					}
					if t.Failed() {
						t.Fatal(what)
					}
					if got := l.left(); got != want {
						t.Fatalf("%s\n%s", what, difference(got, want))
					}
					if len(l.lost) > 0 {
						t.Fatalf("%s: %v", what, l.lost)
					}
					if left, err := os.ReadDir(filepath.Join(l.dir, "unlinked")); err == nil && len(left) > 0 {
						t.Fatalf("%s: %v is left", what, left)
					}
					played += l.played
				}
			}
			t.Logf("%d calls, %d deaths, %d records played", calls, deaths, played)
		})
	}
}

// The newest generation but one can be gone on from too: its segments are there.
func TestOlderGeneration(t *testing.T) {
	opt := Options{RotateAt: 1000}
	l := newLife(t, 2)
	l.opt = opt
	l.run(0, false)
	want, calls := l.left(), l.k.n
	tested := 0
	for at := 300; at <= calls; at += 97 {
		l := newLife(t, 2)
		l.opt = opt
		l.run(at, true)
		if l.done || l.older == nil {
			continue
		}
		tested++
		l.saved = l.older // the newest is damaged
		l.run(0, false)
		if got := l.left(); got != want || len(l.lost) > 0 || t.Failed() {
			t.Fatalf("death at call %d: %v\n%s", at, l.lost, difference(got, want))
		}
	}
	if tested < 3 {
		t.Errorf("tested %d times only", tested)
	}
}

// What a journal cannot answer for is told, and what came before that is played.
func TestFlaws(t *testing.T) {
	other := mark{boot: bootID{1}}
	here := mark{boot: thisBoot()}
	for _, c := range []struct {
		name    string
		marks   []mark // of the cut, and of a second one
		gap     bool   // a gap lies between
		records int
		flaw    error
	}{
		{"whole", []mark{here, here}, false, 2, nil},
		{"gap", []mark{here, here}, true, 1, ErrGap},
		{"cut behind a gap", []mark{here, {here.boot, markGap}}, false, 1, ErrGap},
		{"reboot", []mark{other, other}, false, 0, ErrRebooted},
		{"reboot between", []mark{here, other}, false, 1, ErrRebooted},
		{"reboot, synced", []mark{{other.boot, markSynced}, {other.boot, markSynced}}, false, 2, nil},
	} {
		dir := t.TempDir()
		s, err := createSegment(dir, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range c.marks {
			b := base{nonce: 5, mark: m}
			b.put(s.mem[s.tail+recordHeader:])
			s.seal(opBase, 0, 0, baseSize)
			s.seal(opSync, 0, 0, 0)
			if c.gap {
				s.seal(opGap, 0, 0, 0)
			}
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		records, flaw := verdict(t, dir, Position{2, headerSize, 5})
		if records != c.records || !errors.Is(flaw, c.flaw) {
			t.Errorf("%s: %d records, flaw %v; want %d, %v", c.name, records, flaw, c.records, c.flaw)
		}
	}
}

// difference tells where two texts part.
func difference(got, want string) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	around := func(s string) string { return s[max(0, i-80):min(len(s), i+80)] }
	return fmt.Sprintf("got  …%s…\nwant …%s…", around(got), around(want))
}
