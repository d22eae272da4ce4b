package memsnap

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"perdure/internal/durable"
)

// anonymous returns memory from the kernel, all zero, as a worker has it.
func anonymous(b *testing.B, size int) []byte {
	b.Helper()
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Munmap(m) })
	return m
}

// cpu returns the processor time that the process has used. On a machine that is shared it tells more than the clock.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// duel measures commits and, in turn with them, plain writes of as many bytes to one file with fdatasync.
type duel struct {
	b                 *testing.B
	dir               string
	ours, plain       time.Duration
	oursCPU, plainCPU time.Duration
}

func (d *duel) commit(f func() Info) Info {
	start, used := time.Now(), cpu(d.b)
	info := f()
	d.ours += time.Since(start)
	d.oursCPU += cpu(d.b) - used
	return info
}

func (d *duel) write(data []byte) {
	path := filepath.Join(d.dir, "plain")
	start, used := time.Now(), cpu(d.b)
	f, err := os.Create(path)
	if err != nil {
		d.b.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		d.b.Fatal(err)
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		d.b.Fatal(err)
	}
	_ = f.Close()
	d.plain += time.Since(start)
	d.plainCPU += cpu(d.b) - used
	_ = os.Remove(path)
}

func (d *duel) report() {
	ms := func(t time.Duration) float64 { return t.Seconds() * 1000 / float64(d.b.N) }
	d.b.ReportMetric(d.ours.Seconds()/d.plain.Seconds(), "commit/plain")
	d.b.ReportMetric(ms(d.ours), "commit-ms")
	d.b.ReportMetric(ms(d.plain), "plain-ms")
	d.b.ReportMetric(ms(d.oursCPU), "commit-cpu-ms")
	d.b.ReportMetric(ms(d.plainCPU), "plain-cpu-ms")
	d.b.ReportMetric(0, "ns/op") // of both together it says nothing
}

// BenchmarkCommitRaw commits 64 MiB that do not compress, with several numbers of workers and plain writes in turns, and
// compares the medians. With a guest, a thread computes all the time: guest-lost is the part of its speed that commits
// take from it while they run, which on a machine with a processor to spare should be nothing.
func BenchmarkCommitRaw(b *testing.B) {
	const size = 64 << 20
	m := anonymous(b, size)
	fillRandom(m, 1)
	for _, guest := range []bool{false, true} {
		b.Run(fmt.Sprintf("guest=%t", guest), func(b *testing.B) {
			var done atomic.Uint64
			if guest {
				stop := spin(&done)
				defer stop()
			}
			kinds := []int{0, 1, 2, -1} // workers: the default, so many; -1 is a plain write
			stores := map[int]*Store{}
			for _, workers := range kinds {
				stores[workers] = openStore(b, Options{CommitWorkers: max(0, workers)})
			}
			took, speed := map[int][]float64{}, map[int][]float64{}
			turn := func(kind int, f func()) {
				began, had := time.Now(), done.Load()
				f()
				t := time.Since(began).Seconds()
				took[kind] = append(took[kind], t)
				speed[kind] = append(speed[kind], float64(done.Load()-had)/t)
			}
			d := duel{b: b, dir: stores[-1].dir}
			for b.Loop() {
				for _, i := range rand.Perm(len(kinds)) { // whoever comes before leaves the disk something to do
					kind := kinds[i]
					if kind < 0 {
						turn(kind, func() { d.write(m) })
						continue
					}
					s, number := stores[kind], uint64(0)
					turn(kind, func() {
						w := begin(b, s, 0)
						w.SetPages(size / PageSize)
						_ = w.PutPages(0, m)
						number = commit(b, w).Number
					})
					_ = os.Remove(filepath.Join(s.dir, fileName(number)))
				}
				turn(-2, func() { time.Sleep(50 * time.Millisecond) }) // the guest alone
			}
			for _, kind := range kinds[:3] {
				name := fmt.Sprintf("workers-%d", kind)
				b.ReportMetric(median(took[kind])/median(took[-1]), name+"/plain")
				if guest {
					b.ReportMetric(1-median(speed[kind])/median(speed[-2]), name+"-guest-lost")
				}
			}
			b.ReportMetric(median(took[-1])*1000, "plain-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// spin computes on a thread of its own, as a guest does, and counts, until it is stopped.
func spin(done *atomic.Uint64) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		x := uint64(1)
		for {
			select {
			case <-over:
				return
			default:
			}
			for range 10_000 {
				x = x*6364136223846793005 + 1442695040888963407
			}
			done.Add(1 + x>>63>>1)
		}
	}()
	return func() { close(over); <-ended }
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// BenchmarkRestore restores 1 GiB that compresses 2:1 into fresh memory, all checksums checked.
func BenchmarkRestore(b *testing.B) {
	const size = 1 << 30
	s := openStore(b, Options{CommitWorkers: 2})
	m := anonymous(b, size)
	// As a runtime should, for what Stored tells.
	if err := unix.Madvise(m, unix.MADV_HUGEPAGE); err != nil {
		b.Fatal(err)
	}
	fillCompressible(m, 1)
	w := begin(b, s, 0)
	w.SetPages(size / PageSize)
	_ = w.PutPages(0, m)
	info := commit(b, w)
	b.ReportMetric(float64(info.BytesRaw)/float64(info.BytesStored), "compression")
	b.SetBytes(size)
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		if err := unix.Madvise(m, unix.MADV_DONTNEED); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		used -= cpu(b)
		g, _, err := s.OpenNewest(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Restore(context.Background(), m); err != nil {
			b.Fatal(err)
		}
		used += cpu(b)
	}
	b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms")
}

// BenchmarkCommitDirty commits 1,000 scattered dirty pages of processes of several sizes, all of whose pages exist.
func BenchmarkCommitDirty(b *testing.B) {
	for _, size := range []int{64 << 20, 1 << 30, 4 << 30} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			s := openStore(b, Options{})
			pages := size / PageSize
			some := make([]byte, chunkSize)
			for i := 0; i < chunkSize; i += 512 {
				some[i] = 1
			}
			w := begin(b, s, 0)
			w.SetPages(uint64(pages))
			for i := 0; i < pages; i += chunkPages {
				_ = w.PutPages(uint64(i), some)
			}
			info := commit(b, w)
			dirty := make([]byte, 1000*PageSize)
			fillRandom(dirty, 2)
			r := rand.New(rand.NewPCG(1, 1))
			d := duel{b: b, dir: s.dir}
			for b.Loop() {
				info = d.commit(func() Info {
					w := begin(b, s, info.Number)
					for i := range 1000 {
						p := uint64(i*(pages/1000) + r.IntN(pages/1000))
						_ = w.PutPages(p, dirty[i*PageSize:][:PageSize])
					}
					return commit(b, w)
				})
				d.write(dirty)
			}
			d.report()
			b.ReportMetric(float64(info.BytesStored)/float64(1000*PageSize), "stored/raw")
		})
	}
}

// BenchmarkCommitIdle commits generations in which nothing changed.
func BenchmarkCommitIdle(b *testing.B) {
	s := openStore(b, Options{})
	m := make([]byte, 64<<20)
	fillRandom(m, 1)
	w := begin(b, s, 0)
	w.SetPages(uint64(len(m) / PageSize))
	_ = w.PutPages(0, m)
	names := []string{"stack", "globals", "tables", "wasi", "meta"}
	for _, n := range names {
		_ = w.PutSection(n, m[:2000])
	}
	info := commit(b, w)
	d := duel{b: b, dir: s.dir}
	for b.Loop() {
		info = d.commit(func() Info {
			w := begin(b, s, info.Number)
			for _, n := range names {
				_ = w.PutSection(n, m[:2000])
			}
			return commit(b, w)
		})
		d.write(m[:info.BytesStored])
	}
	d.report()
	b.ReportMetric(float64(info.BytesStored), "bytes")
}

// BenchmarkOpen opens the newest of 10,000 generations and restores it; BenchmarkList lists them all.
func BenchmarkOpen(b *testing.B) {
	s := manyGenerations(b)
	for b.Loop() {
		s, err := Open(s.dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		g, _, err := s.OpenNewest(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(g.files)), "files")
		if err := g.Restore(context.Background(), make([]byte, g.Pages()*PageSize)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	s := manyGenerations(b)
	for b.Loop() {
		if list, err := s.Generations(); err != nil || len(list) != 10_000 {
			b.Fatal(len(list), err)
		}
	}
}

// manyGenerations makes 10,000 generations of a memory of 16 MiB, of which each changes 8 pages.
func manyGenerations(b *testing.B) *Store {
	b.Helper()
	s := openStore(b, Options{FS: lazyFS{durable.OS}})
	m := make([]byte, 16<<20)
	fillRandom(m, 1)
	w := begin(b, s, 0)
	w.SetPages(uint64(len(m) / PageSize))
	_ = w.PutPages(0, m)
	commit(b, w)
	r := rand.New(rand.NewPCG(1, 1))
	for n := uint64(1); n < 10_000; n++ {
		w := begin(b, s, n)
		for range 8 {
			page := r.Uint64N(4096)
			_ = w.PutPages(page, m[page*PageSize:][:PageSize])
		}
		commit(b, w)
	}
	return s
}

// lazyFS does not sync, to make many generations soon.
type lazyFS struct{ durable.FS }

func (lazyFS) SyncDir(string) error { return nil }

func (f lazyFS) Create(path string, perm fs.FileMode) (durable.File, error) {
	file, err := f.FS.Create(path, perm)
	return lazyFile{file}, err
}

type lazyFile struct{ durable.File }

func (lazyFile) Sync() error { return nil }
