package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A guest whose process dies at any call to the outside, before it or after its effect, and
// once more at any moment of its second life, leaves what an undisturbed one does.
func TestSweep(t *testing.T) { sweep(t, 61) }

// sweep lets the guest die at every stride-th call, where each is durable at fewer.
func sweep(t *testing.T, stride int) {
	for _, c := range []struct {
		name string
		cuts int
		opt  Options
	}{
		{"from birth", 0, Options{}},
		{"cuts", 2, Options{}},
		{"segments", 1, Options{RotateAt: 2000}},
		{"sync", 3, Options{Sync: true, RotateAt: 3000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rnd := seed(t)
			l := newLife(t, c.cuts)
			l.opt = c.opt
			l.run(0, false)
			want, calls := l.left(), l.k.n
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
						l.run(second, secondAfter)
					}
					if !l.done {
						deaths++
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

// difference tells where two texts part.
func difference(got, want string) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	around := func(s string) string { return s[max(0, i-80):min(len(s), i+80)] }
	return fmt.Sprintf("got  …%s…\nwant …%s…", around(got), around(want))
}
