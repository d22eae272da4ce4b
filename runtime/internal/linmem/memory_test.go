package linmem

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero/experimental"
)

const mib = 1 << 20

// eachTracker runs test once per tracker. A kernel or a sandbox without userfaultfd cannot run its half.
func eachTracker(t *testing.T, test func(t *testing.T, kind Tracker)) {
	t.Helper()
	for _, kind := range []Tracker{Userfaultfd, Hash} {
		t.Run(kind.String(), func(t *testing.T) {
			if kind == Userfaultfd {
				m, err := New(Options{Tracker: kind, Limit: wasmPageSize})
				if err != nil {
					t.Skipf("not on this system: %v", err)
				}
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
			}
			test(t, kind)
		})
	}
}

// guest is a Memory, the LinearMemory that a guest would hold, and what a consumer of Collect has gathered.
type guest struct {
	*Memory
	t      testing.TB
	linear experimental.LinearMemory
	shadow []byte
}

func newGuest(t testing.TB, o Options, size uint64) *guest {
	t.Helper()
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	g := &guest{Memory: m, t: t, linear: m.Allocate(size, MaxLimit)}
	g.grow(size)
	return g
}

func (g *guest) grow(size uint64) {
	g.t.Helper()
	b := g.linear.Reallocate(size)
	if uint64(len(b)) != size {
		g.t.Fatalf("Reallocate(%d) gave %d bytes", size, len(b))
	}
	if size > 0 && &b[0] != &g.Bytes()[0] {
		g.t.Fatalf("Reallocate(%d) moved the memory", size)
	}
}

func (g *guest) write(pages ...uint64) {
	for _, page := range pages {
		g.Bytes()[page*PageSize+page%PageSize]++
	}
}

// collect collects into the shadow and returns the emitted pages in ascending order.
func (g *guest) collect() []uint64 {
	g.t.Helper()
	return g.gather(g.Collect)
}

// peek does the same with Peek.
func (g *guest) peek() []uint64 {
	g.t.Helper()
	return g.gather(g.Peek)
}

// settle makes clean what peek has gathered.
func (g *guest) settle(peeked []uint64) {
	g.t.Helper()
	for i := 0; i < len(peeked); {
		n := 1
		for i+n < len(peeked) && peeked[i+n] == peeked[i]+uint64(n) {
			n++
		}
		if err := g.Settle(peeked[i], g.shadow[peeked[i]*PageSize:][:n*PageSize]); err != nil {
			g.t.Fatal(err)
		}
		i += n
	}
}

func (g *guest) gather(collect func(emit func(first uint64, data []byte)) error) []uint64 {
	g.t.Helper()
	pages := []uint64{}
	if err := collect(func(first uint64, data []byte) {
		pages = append(pages, g.keep(first, data)...)
	}); err != nil {
		g.t.Fatal(err)
	}
	slices.Sort(pages)
	if n := len(pages); len(slices.Compact(pages)) != n {
		g.t.Fatal("a page was emitted twice")
	}
	return pages
}

// keep puts a run into the shadow and returns its pages.
func (g *guest) keep(first uint64, data []byte) (pages []uint64) {
	if len(data) == 0 || len(data)%PageSize != 0 || len(data) > MaxRun*PageSize {
		g.t.Fatalf("run of %d bytes", len(data))
	}
	if end := int(first)*PageSize + len(data); end > len(g.shadow) {
		g.shadow = append(g.shadow, make([]byte, end-len(g.shadow))...)
	}
	copy(g.shadow[first*PageSize:], data)
	for i := range uint64(len(data) / PageSize) {
		pages = append(pages, first+i)
	}
	return pages
}

func (g *guest) wantCollect(want ...uint64) {
	g.t.Helper()
	if got := g.collect(); !slices.Equal(got, want) {
		g.t.Fatalf("Collect emitted pages %v, want %v", abridged(got), abridged(want))
	}
	g.wantShadow()
}

// wantShadow says that what was gathered is the memory.
func (g *guest) wantShadow() {
	g.t.Helper()
	memory := g.Bytes()
	if n := len(memory) - len(g.shadow); n > 0 {
		g.shadow = append(g.shadow, make([]byte, n)...)
	}
	for page := 0; page*PageSize < len(memory); page++ {
		got, want := g.shadow[page*PageSize:][:PageSize], memory[page*PageSize:][:PageSize]
		if !bytes.Equal(got, want) {
			g.t.Fatalf("page %d: the gathered copy differs from the memory", page)
		}
	}
}

func abridged(pages []uint64) string {
	if len(pages) <= 20 {
		return fmt.Sprint(pages)
	}
	return fmt.Sprintf("%v … (%d pages)", pages[:20], len(pages))
}

func span(first, end uint64) (pages []uint64) {
	for ; first < end; first++ {
		pages = append(pages, first)
	}
	return pages
}

func TestCollectEmitsExactlyThePagesWritten(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, 4*mib)
		g.wantCollect()
		g.write(0, 3, 4, 5, 1023)
		g.wantCollect(0, 3, 4, 5, 1023)
		g.wantCollect()
		g.write(4, 511, 512)
		g.wantCollect(4, 511, 512)
		g.wantCollect()
		all := span(0, 1024)
		g.write(all...)
		g.wantCollect(all...)
		g.wantCollect()
	})
}

// TestPeekAndSettle holds that Peek emits what Collect would, and that after Settle those pages are clean which have not
// changed since.
func TestPeekAndSettle(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, 4*mib)
		g.write(1, 2, 3, 700)
		g.wantCollect(1, 2, 3, 700)
		g.write(2, 3, 8, 9)
		if err := g.MarkDirty(700, 2); err != nil {
			t.Fatal(err)
		}
		peeked := g.peek()
		if !slices.Contains(peeked, 700) || !slices.Contains(peeked, 2) || slices.Contains(peeked, 1) {
			t.Fatalf("Peek emitted %v", peeked)
		}
		g.wantShadow()
		g.write(3, 40)
		if err := g.MarkDirty(9, 1); err != nil { // dirty for another reason
			t.Fatal(err)
		}
		g.settle(peeked)
		g.wantCollect(3, 9, 40)
		g.wantCollect()
		// Without Settle a page too many, none too few.
		g.write(5)
		g.peek()
		g.write(6)
		if got := g.collect(); !slices.Contains(got, 6) {
			t.Errorf("Collect emitted %v", got)
		}
		g.wantShadow()
		// Given back between the two.
		g.write(5, 6)
		peeked = g.peek()
		if err := g.Zero(); err != nil {
			t.Fatal(err)
		}
		g.settle(peeked)
		g.collect()
		g.wantShadow()
	})
}

func TestReadingMakesNothingDirty(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, 4*mib)
		g.write(7)
		sum := 0
		for _, b := range g.Bytes() {
			sum += int(b)
		}
		g.wantCollect(7)
		for _, b := range g.Bytes() {
			sum += int(b)
		}
		if sum != 2 {
			t.Fatalf("sum of all bytes, twice, is %d", sum)
		}
		g.wantCollect()
		g.write(8) // was the kernel's page of zeros
		g.wantCollect(8)
	})
}

func TestMoreRegionsThanOneScanHolds(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, 32*mib)
		for start := range uint64(3) {
			var every []uint64
			for page := start; page < 32*mib/PageSize; page += 3 {
				every = append(every, page)
			}
			g.write(every...)
			g.wantCollect(every...)
		}
		g.wantCollect()
	})
}

func TestTrackMakesEverythingClean(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, 4*mib)
		g.write(1, 2, 100)
		if err := g.MarkDirty(5, 2); err != nil {
			t.Fatal(err)
		}
		if err := g.Track(); err != nil {
			t.Fatal(err)
		}
		g.shadow = bytes.Clone(g.Bytes())
		g.wantCollect()
		g.write(2, 3)
		g.wantCollect(2, 3)
	})
}

// TestExpectedPages holds that pages are tracked one by one when the kernel was free to back them by huge pages.
func TestExpectedPages(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, 16*mib)
		const first, end = 300, 3800
		g.Expect(first, end-first)
		g.Expect(4000, 1<<40)
		g.Expect(1<<40, 1)
		g.write(span(first, end)...)
		if err := g.Track(); err != nil {
			t.Fatal(err)
		}
		g.shadow = append(g.shadow[:0], g.Bytes()...)
		g.wantCollect()
		g.write(299, 300, 1024, 1025, 2000, 3799, 3800)
		g.wantCollect(299, 300, 1024, 1025, 2000, 3799, 3800)
		g.write(1024, 1500, 3000)
		peeked := g.peek()
		g.write(1024, 1026)
		g.settle(peeked)
		g.wantCollect(1024, 1026)
		if err := g.MarkDirty(2500, 2); err != nil {
			t.Fatal(err)
		}
		g.wantCollect(2500, 2501)
		if err := g.Zero(); err != nil {
			t.Fatal(err)
		}
		g.collect()
		g.wantShadow()
		g.write(1024)
		if got := g.collect(); !slices.Contains(got, 1024) {
			t.Fatalf("Collect emitted %v", got)
		}
		g.wantShadow()
	})
}

func TestGrowthBetweenCollects(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, 0)
		if n := len(g.Bytes()); n != 0 {
			t.Fatalf("%d bytes before any growth", n)
		}
		g.wantCollect()
		g.grow(wasmPageSize)
		base := &g.Bytes()[0]
		g.write(3)
		g.wantCollect(3)
		g.grow(mib)
		g.write(15, 16, 255)
		g.wantCollect(15, 16, 255)
		g.grow(mib) // by nothing
		g.grow(64 * mib)
		g.write(3, 1<<14-1)
		g.wantCollect(3, 1<<14-1)
		if &g.Bytes()[0] != base {
			t.Fatal("the memory moved")
		}
	})
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name       string
		limit, max uint64
		most       uint64
	}{
		{"default", 0, MaxLimit, MaxLimit},
		{"option", 3 * wasmPageSize, MaxLimit, 3 * wasmPageSize},
		{"option is rounded down", 3*wasmPageSize + 4097, MaxLimit, 3 * wasmPageSize},
		{"less than a wasm page", 1, MaxLimit, 0},
		{"module's maximum", 3 * wasmPageSize, 2 * wasmPageSize, 2 * wasmPageSize},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachTracker(t, func(t *testing.T, kind Tracker) {
				m, err := New(Options{Tracker: kind, Limit: c.limit})
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				l := m.Allocate(0, c.max)
				for _, size := range []uint64{c.most + wasmPageSize, c.most + 1, 1 << 40, ^uint64(0)} {
					if b := l.Reallocate(size); b != nil {
						t.Fatalf("Reallocate(%d) succeeded", size)
					}
				}
				if b := l.Reallocate(c.most); uint64(len(b)) != c.most || b == nil {
					t.Fatalf("Reallocate(%d) gave %d bytes", c.most, len(b))
				}
				if b := l.Reallocate(c.most + wasmPageSize); b != nil {
					t.Fatal("growth beyond the limit succeeded")
				}
				if uint64(len(m.Bytes())) != c.most {
					t.Fatalf("%d bytes after a refused growth", len(m.Bytes()))
				}
				if c.most == 0 {
					return
				}
				m.Bytes()[c.most-1] = 1
				var got []uint64
				if err := m.Collect(func(first uint64, data []byte) { got = append(got, first) }); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, []uint64{c.most/PageSize - 1}) {
					t.Fatalf("emitted %v", got)
				}
			})
		})
	}
	if m, err := New(Options{Limit: MaxLimit + 1}); err == nil {
		m.Close()
		t.Fatal("a limit of more than 4 GiB was accepted")
	}
	if m, err := New(Options{Tracker: 9}); err == nil {
		m.Close()
		t.Fatal("an unknown tracker was accepted")
	}
}

func TestSystemCallsWriteIntoCleanPages(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, mib)
		g.write(span(0, 256)...)
		g.collect()
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		content := bytes.Repeat([]byte("perdure "), 3*PageSize/8)
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
		// One byte more than two pages, from the middle of page 10.
		if _, err := f.ReadAt(g.Bytes()[10*PageSize+2048:][:2*PageSize+1], 0); err != nil {
			t.Fatal(err)
		}
		g.wantCollect(10, 11, 12)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(g.Bytes()[20*PageSize:][:PageSize]); err != nil {
			t.Fatal(err)
		}
		g.wantCollect(20)
	})
}

func TestZeroedPagesAreDirty(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, 4*mib)
		zero := func() {
			t.Helper()
			if err := g.Zero(); err != nil {
				t.Fatal(err)
			}
			if len(g.Bytes()) != 4*mib || len(bytes.Trim(g.Bytes(), "\x00")) != 0 {
				t.Fatal("not all zero")
			}
		}
		g.write(1, 2, 3, 600)
		g.wantCollect(1, 2, 3, 600)
		zero() // reads every page, too
		g.wantCollect(1, 2, 3, 600)
		g.wantCollect()

		g.write(1, 2, 700)
		g.wantCollect(1, 2, 700)
		if err := g.Zero(); err != nil {
			t.Fatal(err)
		}
		g.write(2, 2, 9) // written again, and to another value, before anyone looked
		g.wantCollect(1, 2, 9, 700)
		g.wantCollect()

		g.write(30) // never seen by the consumer, for whom it is zero already
		zero()
		g.wantCollect(2, 9)
		zero()
		g.wantCollect()
	})
}

func TestMarkDirty(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind, Limit: 8 * mib}, 4*mib)
		g.write(1, 2, 3)
		g.wantCollect(1, 2, 3)
		for _, r := range [][2]uint64{{2, 1}, {3, 2}, {1000, 24}, {1024, 1}, {2048, 0}} {
			if err := g.MarkDirty(r[0], r[1]); err != nil {
				t.Fatal(err)
			}
		}
		g.write(5)
		g.wantCollect(append([]uint64{2, 3, 4, 5}, span(1000, 1024)...)...)
		g.wantCollect()
		g.grow(8 * mib)
		g.wantCollect(1024)
		for _, r := range [][2]uint64{{2048, 1}, {2049, 0}, {0, 2049}, {1, ^uint64(0)}, {^uint64(0), 2}} {
			if err := g.MarkDirty(r[0], r[1]); err == nil {
				t.Fatalf("MarkDirty(%d, %d) succeeded", r[0], r[1])
			}
		}
		g.wantCollect()
	})
}

func TestNothingIsLostWhenEmitPanics(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		for calls := range 6 {
			g := newGuest(t, Options{Tracker: kind}, 4*mib)
			g.write(1, 3, 5, 7)
			g.wantCollect(1, 3, 5, 7)
			if err := g.Zero(); err != nil {
				t.Fatal(err)
			}
			g.write(3, 7, 8)
			func() {
				defer func() { _ = recover() }()
				left := calls
				_ = g.Collect(func(first uint64, data []byte) {
					if left--; left < 0 {
						panic("no more")
					}
					g.keep(first, data)
				})
			}()
			g.write(8)
			g.collect()
			g.wantShadow()
			g.wantCollect()
		}
	})
}

func TestOneAtATime(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, mib)
		g.write(1)
		calls := map[string]func() error{
			"Track":     g.Track,
			"Collect":   func() error { return g.Collect(func(uint64, []byte) {}) },
			"MarkDirty": func() error { return g.MarkDirty(0, 1) },
			"Peek":      func() error { return g.Peek(func(uint64, []byte) {}) },
			"Settle":    func() error { return g.Settle(0, make([]byte, PageSize)) },
			"Zero":      g.Zero,
			"Close":     g.Close,
		}
		if err := g.Collect(func(uint64, []byte) {
			for name, call := range calls {
				if err := call(); !errors.Is(err, ErrBusy) {
					t.Errorf("%s in Collect: %v, want %v", name, err, ErrBusy)
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
		if g.Settle(255, make([]byte, 2*PageSize)) == nil || g.Settle(^uint64(0), make([]byte, PageSize)) == nil {
			t.Error("Settle beyond the end succeeded")
		}
		if g.Collect(nil) == nil || g.Peek(nil) == nil {
			t.Error("Collect or Peek without a callback succeeded")
		}
		for range 2 {
			if err := g.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
		}
		delete(calls, "Close")
		for name, call := range calls {
			if err := call(); !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close: %v, want %v", name, err, ErrClosed)
			}
		}
		if g.Bytes() != nil || g.linear.Reallocate(mib) != nil || g.Allocate(0, mib).Reallocate(0) != nil {
			t.Error("memory after Close")
		}
	})
}

func TestOneGuestAfterTheOther(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		g := newGuest(t, Options{Tracker: kind}, 2*mib)
		g.write(1, 300)
		if g.Allocate(0, mib).Reallocate(mib) != nil {
			t.Fatal("two guests in one memory")
		}
		g.wantCollect(1, 300)
		g.write(2)
		g.linear.Free()
		g.linear.Free()
		if g.linear.Reallocate(4*mib) != nil {
			t.Fatal("Reallocate after Free succeeded")
		}
		g.wantCollect(2) // still there

		g.linear = g.Allocate(0, MaxLimit)
		g.grow(mib)
		if len(bytes.Trim(g.Bytes(), "\x00")) != 0 {
			t.Fatal("the next guest finds bytes of the one before")
		}
		g.write(4)
		g.wantCollect(1, 2, 4)
		g.grow(2 * mib)
		g.wantCollect(300)
		if g.linear.Reallocate(mib) != nil {
			t.Fatal("the memory shrank")
		}
	})
}

func TestAutoSaysWhatItChose(t *testing.T) {
	m, err := New(Options{Limit: mib})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if want := map[bool]string{true: "userfaultfd", false: "hash"}[m.Fallback() == nil]; m.Tracker() != want {
		t.Fatalf("tracker %s, fallback %v", m.Tracker(), m.Fallback())
	}
}
