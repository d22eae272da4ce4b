package runtime

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"perdure/memsnap"
	"perdure/runtime/internal/compare"
	"perdure/runtime/internal/guests"
	"perdure/runtime/internal/wasi"
)

// discard returns standard streams that go nowhere.
func discard(b testing.TB) *[3]wasi.Handle {
	b.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = null.Close() })
	fd := wasi.Handle(null.Fd())
	return &[3]wasi.Handle{fd, fd, fd}
}

// withProcess makes a new process, lets f have it and removes it.
func withProcess(b testing.TB, o Options, f func(*Process)) {
	b.Helper()
	dir, err := os.MkdirTemp(b.TempDir(), "process")
	if err != nil {
		b.Fatal(err)
	}
	o.Dir, o.CacheDir = dir, cacheDir()
	if o.hooks.stdio == nil {
		o.hooks.stdio = discard(b)
	}
	p, err := Open(context.Background(), o)
	if err != nil {
		b.Fatal(err)
	}
	f(p)
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCutting compares processes that are cut at intervals with the same ones that
// are not cut: the processor time of the guest's thread, and as "all" that of the whole
// worker, writing generations included.
//
//	a cut every second: ≤ 1.03 × not cut
//	a cut every 100 ms: no requirement
func BenchmarkCutting(b *testing.B) {
	for _, g := range []struct {
		name, path string
		args       []string
	}{
		{"C-sort", guests.Path(b, "sort"), []string{"190"}},
		{"C-tree", guests.Path(b, "tree"), []string{"2200"}},
		{"SQLite", guests.Path(b, "sqlite"), []string{"idx", "160"}},
		{"Go", guests.BuildGo(b, "jsonwork"), []string{"90"}},
	} {
		b.Run(g.name, func(b *testing.B) {
			all := map[string]series{}
			run := func(name string, every time.Duration) way {
				return way{name, func() (took time.Duration) {
					o := Options{Name: g.name, Program: g.path, Args: append([]string{g.name}, g.args...), Every: every}
					withProcess(b, o, func(p *Process) {
						began := compare.Clock(unix.CLOCK_PROCESS_CPUTIME_ID)
						took = compare.OnThread(func() {
							if _, err := p.Run(context.Background()); err != nil {
								b.Error(err)
							}
						})
						all[name] = append(all[name], (compare.Clock(unix.CLOCK_PROCESS_CPUTIME_ID) - began).Seconds())
					})
					return took
				}}
			}
			ways := []way{run("uncut", 0), run("1s", time.Second), run("100ms", 100*time.Millisecond), run("control", 0)}
			report(b, ways, turns(b, 3, ways...))
			for _, w := range ways[1:3] {
				b.ReportMetric(all[w.name].Sorted().Median()/all["uncut"].Sorted().Median(), "all-"+w.name+"-x/uncut")
			}
		})
	}
}

// BenchmarkPause measures how long the guest stands still at a cut.
//
//	64 MiB of memory, 1 % of it changed: p99 ≤ 3 ms
//	1 GiB, 1,000 pages changed: p99 ≤ 6 ms
func BenchmarkPause(b *testing.B) {
	const cuts = 200
	for _, c := range []struct {
		name             string
		mib, pages, pace string
		every            time.Duration
	}{
		{"64MiB-1%", "64", "164", "15", 15 * time.Millisecond},
		{"1GiB-1000pages", "1024", "1000", "40", 40 * time.Millisecond},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			var pauses, pages series
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			o := Options{Name: "dirty", Program: guests.Path(b, "dirty"), Args: []string{"dirty", "0", "-", c.mib, c.pages, c.pace},
				Every: c.every, MaxShare: 1}
			o.Events = func(e Event) {
				e1, ok := e.(CommittedEvent)
				if !ok || e1.Generation.Base == 0 {
					return // the first one carries all
				}
				pauses = append(pauses, e1.Generation.Pause.Seconds())
				pages = append(pages, float64(e1.Generation.PagesNew))
				if len(pauses) == max(cuts, b.N) {
					cancel()
				}
			}
			withProcess(b, o, func(p *Process) {
				if _, err := p.Run(ctx); err != nil {
					b.Error(err)
				}
			})
			pauses.Sorted()
			b.ReportMetric(pauses.Median()*1e3, "p50-ms")
			b.ReportMetric(pauses.Quantile(0.99)*1e3, "p99-ms")
			b.ReportMetric(pauses[len(pauses)-1]*1e3, "max-ms")
			b.ReportMetric(pages.Sorted().Median(), "pages/cut")
		})
	}
}

// BenchmarkGenerationSize measures what a generation adds to the directory.
//
//	nothing changed: ≤ 2 KiB
//	n pages changed that do not compress: ≤ 1.03 × 4 KiB × n + 4 KiB, "x/limit" ≤ 1
func BenchmarkGenerationSize(b *testing.B) {
	for _, c := range []struct {
		name, mib, pages string
		n                uint64
	}{
		{"10", "256", "10", 10}, {"1000", "256", "1000", 1000}, {"10000", "256", "10000", 10000},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			const enough = 3
			var unchanged, changed, limits series
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			// The guest sleeps between its rounds: of the cuts that follow a round the first
			// has its pages, unless it came within the round, and the rest nothing. Generations
			// before the first with nothing are of its start.
			o := Options{Name: "dirty", Program: guests.Path(b, "dirty"), Args: []string{"dirty", "0", "-", c.mib, c.pages, "-1500"},
				Every: time.Second, MaxShare: 1}
			var p *Process
			o.Events = func(e Event) {
				ev, ok := e.(CommittedEvent)
				if !ok || ev.Generation.Base == 0 {
					return
				}
				g := ev.Generation
				size := newestFile(b, filepath.Join(p.opt.Dir, generationsDir))
				switch {
				case g.PagesNew == 0:
					unchanged = append(unchanged, size)
				case len(unchanged) > 0 && g.PagesNew >= c.n:
					changed = append(changed, size)
					limits = append(limits, size/(1.03*memsnap.PageSize*float64(g.PagesNew)+4096))
				}
				if len(unchanged) >= enough && len(changed) >= enough {
					cancel()
				}
			}
			withProcess(b, o, func(opened *Process) {
				p = opened
				if _, err := p.Run(ctx); err != nil {
					b.Error(err)
				}
			})
			if b.Failed() {
				return
			}
			unchanged.Sorted()
			b.ReportMetric(unchanged[len(unchanged)-1], "unchanged-bytes")
			b.ReportMetric(changed.Sorted().Median(), "changed-bytes")
			b.ReportMetric(limits.Sorted()[len(limits)-1], "x/limit")
		})
	}
}

// newestFile returns the size of the file in a directory that was written last.
func newestFile(b testing.TB, dir string) float64 {
	size, newest := int64(0), time.Time{}
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if err == nil && st.ModTime().After(newest) {
			size, newest = st.Size(), st.ModTime()
		}
		return err
	})
	if err != nil {
		b.Error(err)
	}
	return float64(size)
}
