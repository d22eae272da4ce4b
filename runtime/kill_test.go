package runtime

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"perdure/memsnap"
)

// history is what must hold from one life of a process to the next. Its positions are
// bytes of the output of an undisturbed run; where the guest stood is known as a range.
type history struct {
	golden string
	cuts   map[uint64]span // where the guest stood in each generation that was announced
	tail   span            // where it stood in the next one, if that was not announced
	last   uint64          // the newest that was announced
	far    int             // the farthest position
	anew   bool            // it had ended, so that the next life starts anew; numbers go on

	lives, restores, generations, repeated int
}

type span struct{ from, to int }

func newHistory(golden string) *history {
	return &history{golden: golden, cuts: map[uint64]span{}}
}

// add takes a life in. It returns an error when that life did not go on where the newest
// generation stood.
func (h *history) add(l *life, suspended bool) error {
	out, events := l.parse()
	var at span
	began, restored := false, uint64(0)
	mark := 0 // of the last generation of this life, in out
	for _, e := range events {
		switch e.kind {
		case "StartedEvent":
			if h.last != 0 && !h.anew {
				return fmt.Errorf("started anew though generation %d was committed", h.last)
			}
			began = true
		case "RestoredEvent":
			switch {
			case e.number < h.last:
				return fmt.Errorf("went back to generation %d, though %d was committed", e.number, h.last)
			case e.number == h.last:
				at = h.cuts[e.number]
			case e.number == h.last+1 || h.anew: // killed before it was announced
				at = h.tail
			default:
				return fmt.Errorf("restored generation %d, the last that was committed is %d", e.number, h.last)
			}
			began, restored = true, e.number
			h.restores++
		}
		if began {
			break
		}
	}
	if !began {
		if out != "" {
			return fmt.Errorf("printed %q before it began", out)
		}
		return nil
	}
	h.lives++
	if err := h.place(&at, out); err != nil {
		return err
	}
	if restored > h.last {
		h.anew = false
		h.last, h.cuts[restored] = restored, at
	}
	for _, e := range events {
		switch e.kind {
		case "CommittedEvent":
			h.anew = false
			if e.number <= h.last {
				return fmt.Errorf("generation %d was committed after %d", e.number, h.last)
			}
			// The cut came after the generation before was announced, and before this one.
			h.cuts[e.number] = span{at.from + mark, at.to + e.at}
			h.last, mark = e.number, e.at
			h.generations++
		case "SkippedEvent", "CommitFailedEvent", "WarningEvent":
			return fmt.Errorf("%s: %s", e.kind, e.text)
		}
	}
	end := span{at.from + len(out), at.to + len(out)}
	if suspended {
		h.cuts[h.last] = end // nothing ran after the cut
	}
	h.tail = span{at.from + mark, end.to}
	h.far = max(h.far, end.from)
	return nil
}

// place narrows down where a life has begun by what it printed.
func (h *history) place(at *span, out string) error {
	found := span{-1, -1}
	for p := at.from; p <= min(at.to, len(h.golden)-len(out)); p++ {
		if strings.HasPrefix(h.golden[p:], out) {
			if found.from < 0 {
				found.from = p
			}
			found.to = p
		}
	}
	if found.from < 0 {
		return fmt.Errorf("went on from between byte %d and %d of the output, and printed %.300q", at.from, at.to, out)
	}
	if found.from < h.far {
		h.repeated++
	}
	*at = found
	return nil
}

// killer kills workers.
type killer struct {
	rnd   *rand.Rand
	cache string
	kills int // how many at most, for one program
	terms bool

	mu    sync.Mutex
	total killed
}

type killed struct{ kills, early, terms, restores, generations, repeated, lives int }

func (k killed) String() string {
	return fmt.Sprintf("%d kills (%d of them while starting or restoring), %d suspensions, %d lives, %d restores (%d printed again what came after their generation), %d generations",
		k.kills, k.early, k.terms, k.lives, k.restores, k.repeated, k.generations)
}

// place makes the options and the directory for a subject.
func (k *killer) place(t *testing.T, s subject, args []string) Options {
	t.Helper()
	out := t.TempDir()
	for name, content := range s.given {
		if err := os.WriteFile(filepath.Join(out, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Few generations are kept, so that purges are killed too.
	keep := memsnap.Policy{MaxSnapshots: 5, MinSnapshots: 2, Redundancy: 2}
	return Options{Dir: processDir(t), Name: s.Name, CacheDir: k.cache, Program: s.path(t), Keep: keep,
		Args: append([]string{s.Guest}, args...), Preopens: []Preopen{{Host: out, Guest: "/"}}}
}

// victim is a program that is killed.
type victim struct {
	s               subject
	rnd             *rand.Rand
	golden          string
	length, startup time.Duration // of an undisturbed run, and of what came before it the last time
	sum             killed
}

// program kills a program until it ends, and when that comes too early again, as another process.
func (k *killer) program(t *testing.T, s subject, args []string, seed uint64) {
	v := &victim{s: s, rnd: rand.New(rand.NewPCG(seed, 1)), startup: 100 * time.Millisecond}
	o := k.place(t, s, args)
	l := launch(t, workerSpec{Options: o}, nil)
	if !l.await(5*time.Minute, 1, "StartedEvent") {
		t.Fatalf("does not start\n%s", l.describe())
	}
	began := time.Now()     // code is compiled
	l.has("CommittedEvent") // that of the end
	v.length = time.Since(began)
	v.golden = l.ends(int(s.ExitCode))
	want := outcome{files: tree(t, o.Preopens[0].Host)}

	sum, every := &v.sum, time.Duration(1+v.rnd.IntN(4))*time.Millisecond
	for processes := 1; ; processes++ {
		o = k.place(t, s, args)
		o.Every, o.MaxShare = every, 1
		k.process(t, v, o)
		got := outcome{files: tree(t, o.Preopens[0].Host)}
		got.compare(t, &want)
		if sum.kills+sum.terms >= k.kills || processes == 5 || t.Failed() {
			break
		}
	}
	t.Logf("startup %v, runs for %v, every %v: %v", v.startup.Round(time.Millisecond), v.length.Round(time.Millisecond), every, sum)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.total.kills += sum.kills
	k.total.early += sum.early
	k.total.terms += sum.terms
	k.total.restores += sum.restores
	k.total.generations += sum.generations
	k.total.repeated += sum.repeated
	k.total.lives += sum.lives
}

// process kills a process until it ends.
func (k *killer) process(t *testing.T, v *victim, o Options) {
	h, sum, rnd := newHistory(v.golden), &v.sum, v.rnd
	for {
		l := launch(t, workerSpec{Options: o}, nil)
		how := rnd.IntN(100)
		after := time.Duration(rnd.Int64N(int64(2 * v.length / time.Duration(k.kills))))
		saved := rnd.IntN(2) == 0 // when there is something to go on from, however long that takes
		stop := sum.kills+sum.terms < k.kills
		switch {
		case !stop:
		case how < 20: // while it starts
			sum.early++
			at := time.Duration(rnd.Int64N(int64(v.startup)))
			time.AfterFunc(at, func() { l.signal(syscall.SIGKILL) })
		default:
			sig := syscall.SIGKILL
			if k.terms && how < 35 {
				sig = syscall.SIGTERM
			}
			if l.await(2*time.Minute, 1, "StartedEvent", "RestoredEvent") {
				v.startup = time.Since(l.began)
				if saved {
					l.await(2*time.Minute, 1, "CommittedEvent")
				}
				time.Sleep(after)
				l.signal(sig)
			}
		}
		status := l.wait(2 * time.Minute)
		if len(l.events("StartedEvent")) > 0 && h.far == len(v.golden) {
			h.cuts, h.tail, h.far, h.anew = map[uint64]span{}, span{}, 0, true // it had ended when it was killed
		}
		if err := h.add(l, status == statusSuspended); err != nil {
			t.Fatalf("after %v: %v\n%s", sum, err, l.describe())
		}
		if status >= 0 && status != statusSuspended {
			if status != int(v.s.ExitCode) {
				t.Fatalf("status %d after %v\n%s", status, sum, l.describe())
			}
			if h.far != len(v.golden) {
				t.Errorf("after %v the output ends at byte %d of %d", sum, h.far, len(v.golden))
			}
			break
		}
		if status == statusSuspended {
			sum.terms++
		} else {
			sum.kills++
		}
	}
	sum.restores += h.restores
	sum.generations += h.generations
	sum.repeated += h.repeated
	sum.lives += h.lives
}

// killTest kills each of the programs so many times, two at a time. Their work is divided
// by part; it is more when too few were restored of that: on a slow disk they end before they
// are saved.
func killTest(t *testing.T, names []string, kills, part int) killed {
	for {
		total := killEach(t, names, kills, part)
		if t.Failed() || total.lives <= 60 || total.restores >= total.kills/3 && total.repeated > 0 && total.terms > 0 {
			return total
		}
		if part == 1 {
			t.Error("too few restores for this to be a test")
			return total
		}
		part = max(1, part/4)
	}
}

// killEach is killTest once.
func killEach(t *testing.T, names []string, kills, part int) killed {
	k := &killer{rnd: seed(t), cache: cacheDir(), kills: kills, terms: true}
	t.Run("programs", func(t *testing.T) {
		for _, name := range names {
			s := named(t, name)
			if name == "tinygo-cat" {
				s = tinyGo(t, 3000/part)
			}
			if !s.Again {
				t.Fatalf("%s cannot go on from a moment before its files were changed", name)
			}
			args, seed := slices.Clone(s.Long), k.rnd.Uint64()
			for i := range args {
				if n, err := strconv.Atoi(args[i]); err == nil {
					args[i] = strconv.Itoa(max(1, n/part))
					break
				}
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				k.program(t, s, args, seed)
			})
		}
	})
	t.Log(k.total)
	return k.total
}

// A program that is killed at random times ends as if it had not been, and never goes on
// from before the last generation that was announced.
func TestKill(t *testing.T) {
	names := []string{"primes", "tree", "sort", "float", "simd", "list", "ackermann", "sqlite-sort",
		"rust-collections", "zig-generic", "as-work", "tinygo-cat", "counter", "go-sort", "go-goroutines"}
	if underRace {
		names = names[:len(names)-1]
	}
	killTest(t, names, 4, 3)
}
