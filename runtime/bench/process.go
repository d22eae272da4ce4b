package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"perdure/memsnap"
	"perdure/runtime"
	"perdure/runtime/internal/compare"
	"perdure/runtime/internal/journal"
	"perdure/runtime/internal/wasi"
)

const (
	// patience bounds what waits for something outside.
	patience = 10 * time.Minute
	// fewest is how many snapshots tell something about the longest of them.
	fewest = 20
)

// ear hears that a guest has written something, and forgets what.
type ear struct {
	once  sync.Once
	heard chan struct{} // closed when it has
}

func (e *ear) Write(_ int, p []byte) (int, time.Duration, error) {
	e.once.Do(func() { close(e.heard) })
	return len(p), 0, nil
}

// pauses measures how long a guest stands still at a cut, by the size of its memory and the pages that changed.
func (s *suite) pauses() error {
	for _, c := range []struct {
		id                 string
		mib, pages, paceMS int
		full               bool
	}{
		{"pause.16MiB", 16, 41, 15, false}, {"pause.64MiB", 64, 164, 15, false}, {"pause.64MiB.many", 64, 4000, 40, true},
		// A round is long: what changes during a commit is in the next, and a disk that is slower than the guest would
		// be given all of its memory each time.
		{"pause.1GiB", 1024, 1000, 400, true},
	} {
		if c.full && s.Quick {
			continue
		}
		cuts, err := s.cuts(c.mib, c.pages, c.paceMS, s.pick(20, 200))
		var slow *notHere
		if errors.As(err, &slow) {
			s.result.Skipped = append(s.result.Skipped, Skipped{c.id, slow.why})
			continue
		}
		if err != nil {
			return err
		}
		var pauses, dirty compare.Series
		for _, g := range cuts {
			pauses, dirty = append(pauses, g.Pause.Seconds()), append(dirty, float64(g.PagesNew))
		}
		s.addAll(c.id, "ms", 1e3, pauses, "the guest stands still for a snapshot: %d MiB of memory, %.0f pages of 4 KiB changed",
			c.mib, dirty.Sorted().Median())
	}
	return nil
}

// cuts runs a guest of so much memory, of which so many pages change in a round, and returns n of its generations, or what
// there were of them in patience. None has the beginning, when all of its memory is new.
func (s *suite) cuts(mib, pages, paceMS, n int) (list []memsnap.Info, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	dir, err := os.MkdirTemp(s.dir, "process")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer stdin.Close() // nothing was written
	keep := memsnap.DefaultPolicy()
	keep.MaxSnapshots = 4
	path, err := s.program("dirty")
	if err != nil {
		return nil, err
	}
	said := &ear{heard: make(chan struct{})}
	live := runtime.Live{Every: time.Duration(paceMS) * time.Millisecond, MaxShare: 1, Keep: keep}
	begun := false
	p, err := runtime.Open(ctx, runtime.Options{
		Dir: dir, CacheDir: filepath.Join(s.dir, "cache"), Name: "dirty", Program: path, Output: said, Stdin: stdin,
		Args: []string{"dirty", "0", "-", strconv.Itoa(mib), strconv.Itoa(pages), strconv.Itoa(paceMS)},
		Keep: keep,
		Events: func(e runtime.Event) {
			c, ok := e.(runtime.CommittedEvent)
			switch {
			case !ok || len(list) == n:
			case !begun: // it carries everything
				begun = true
			default:
				if list = append(list, c.Generation); len(list) == n {
					cancel()
				}
			}
		},
	})
	if err != nil {
		return nil, err
	}
	// No cuts while the guest makes its memory: on a busy machine they would leave it little time.
	started := make(chan error, 1)
	go func() {
		select {
		case <-said.heard:
			started <- p.Reconfigure(live)
		case <-ctx.Done():
			started <- nil
		}
	}()
	_, err = p.Run(ctx)
	cancel()
	err = errors.Join(err, <-started, p.Close(), s.ctx.Err())
	if err == nil && len(list) < min(n, fewest) {
		err = &notHere{fmt.Sprintf("there were %d snapshots in %v, and %d are needed", len(list), patience, fewest)}
	}
	return list, err
}

// journal measures what it adds to a call of the outside to record what it answers, and to play that again.
func (s *suite) journal() (err error) {
	system, err := wasi.OS()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, system.Release()) }()
	file, err := os.OpenFile(filepath.Join(s.dir, "called"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	h, buf := wasi.Handle(file.Fd()), [][]byte{make([]byte, 1024)}
	calls, turns := s.pick(2000, 20000), s.pick(3, 9)
	for _, c := range []struct {
		id, what string
		call     func(wasi.Kernel)
	}{
		{"now", "asking for the time", func(k wasi.Kernel) { k.Now(wasi.ClockMonotonic) }},
		{"write", "writing 1 KiB to a file", func(k wasi.Kernel) { k.Write(h, buf, 0, 0) }},
	} {
		each := func(k wasi.Kernel) time.Duration {
			return compare.OnThread(func() {
				for range calls {
					c.call(k)
				}
			}) / time.Duration(calls)
		}
		dir := filepath.Join(s.dir, "journal-"+c.id)
		t, err := compare.Turns(turns,
			compare.Way{Name: "plain", Run: func() (time.Duration, error) { return each(system), nil }},
			compare.Way{Name: "recorded", Run: func() (time.Duration, error) {
				if err := os.RemoveAll(dir); err != nil {
					return 0, err
				}
				j, err := journal.New(journal.Options{Dir: dir, Kernel: system})
				if err != nil {
					return 0, err
				}
				defer j.Release()
				if err := j.Begin(nil); err != nil {
					return 0, err
				}
				return each(j), nil
			}})
		if err != nil {
			return err
		}
		s.add("journal."+c.id, "µs", t[1].Median()*1e6, turns, "%s, recorded in the journal", c.what)
		s.add("journal."+c.id+".ratio", "x", t[1].Median()/t[0].Median(), turns, "the same, to without a journal")
	}
	return nil
}
