package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"syscall"
	"testing"
	"time"

	"perdure/memsnap"
	"perdure/runtime/internal/guests"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasi"
)

// worked is what was seen of a worker: when it told what, since it was started, and its
// peak of resident memory.
type worked struct {
	events  map[string]time.Duration // the first of each kind
	output  time.Duration            // the guest's first, behind the event that it was restored
	commits int
	status  int
	maxRSS  int64 // bytes
}

// work starts a worker and watches it until stop says so; then it is killed.
func work(b testing.TB, o Options, stop func(*worked) bool) *worked {
	b.Helper()
	o.Events = nil
	spec, err := json.Marshal(workerSpec{Options: o})
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+string(spec))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	w := &worked{events: map[string]time.Duration{}}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var raw []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		now := time.Since(began)
		raw = append(raw, buf[:n]...)
		raw = w.take(raw, now)
		if err != nil {
			break
		}
		if stop(w) {
			_ = cmd.Process.Kill() // it may have ended meanwhile
			break
		}
	}
	_ = cmd.Wait() // the status is looked at by those who want one
	w.status = cmd.ProcessState.ExitCode()
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		w.maxRSS = u.Maxrss << 10
	}
	if w.status == statusError || w.status == statusTrap {
		b.Fatalf("worker: %s", stderr.Bytes())
	}
	return w
}

// take takes what is whole from the output.
func (w *worked) take(raw []byte, now time.Duration) (rest []byte) {
	for {
		before, after, ok := bytes.Cut(raw, []byte(eventBegin))
		_, restored := w.events["RestoredEvent"]
		if len(before) > 0 && restored && w.output == 0 {
			w.output = now
		}
		if !ok {
			return nil
		}
		text, after, ok := bytes.Cut(after, []byte(eventEnd))
		if !ok {
			return raw[len(before):]
		}
		kind, _, _ := bytes.Cut(bytes.TrimPrefix(text, []byte("runtime.")), []byte(" "))
		name := string(kind)
		if _, ok := w.events[name]; !ok {
			w.events[name] = now
		}
		if name == "CommittedEvent" {
			w.commits++
		}
		raw = after
	}
}

// BenchmarkRestart measures the time from starting a worker whose process was killed with
// kill -9 until the guest runs, and until it has printed something; the compilation cache
// is warm.
//
//	kill to running again: a C guest ≤ 60 ms, SQLite ≤ 250 ms, a Go guest of 4 MB ≤ 300 ms
//
// "restored" is told when all is in place but the resume module, which is made next, so
// that the guest's first instruction lies between "restored" and "output". In "newest" the
// worker before was killed while it made generations, as it happens; in "again" the same
// generation is restored as in the life before, so that whatever can be in the cache is.
func BenchmarkRestart(b *testing.B) {
	for _, g := range restartGuests(b) {
		b.Run(g.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			o := g.options(b)
			o.Every = 200 * time.Millisecond
			begin := time.Now()
			work(b, o, func(w *worked) bool { return w.commits >= 3 })
			b.ReportMetric(time.Since(begin).Seconds()*1e3, "first-life-ms")
			printed := func(w *worked) bool { return w.output > 0 }
			collect := func(restored, output *series, w *worked) {
				at, ok := w.events["RestoredEvent"]
				if !ok || w.output == 0 {
					b.Fatalf("the guest was not restored, or did not print: status %d, %v", w.status, w.events)
				}
				*restored, *output = append(*restored, at.Seconds()*1e3), append(*output, w.output.Seconds()*1e3)
			}
			var restored, output, againRestored, againOutput, empty series
			for range max(7, b.N) {
				o.Every = 200 * time.Millisecond
				collect(&restored, &output, work(b, o, func(w *worked) bool { return w.output > 0 && w.commits >= 2 }))
				o.Every = 0
				work(b, o, printed)
				collect(&againRestored, &againOutput, work(b, o, printed))
				began := time.Now()
				cmd := exec.Command(os.Args[0], "-test.run=^$")
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
				empty = append(empty, time.Since(began).Seconds()*1e3)
			}
			b.ReportMetric(restored.Sorted().Median(), "newest-restored-ms")
			b.ReportMetric(output.Sorted().Median(), "newest-output-ms")
			b.ReportMetric(againRestored.Sorted().Median(), "again-restored-ms")
			b.ReportMetric(againOutput.Sorted().Median(), "again-output-ms")
			b.ReportMetric(empty.Sorted().Median(), "empty-process-ms")
		})
	}
}

type restartGuest struct {
	name, path string
	args       []string
}

// restartGuests are guests that print every few milliseconds and do not end soon.
func restartGuests(b testing.TB) []restartGuest {
	return []restartGuest{
		{"C", guests.Path(b, "sort"), []string{"1000000"}},
		{"SQLite", guests.Path(b, "sqlite"), []string{"idx", "1000000"}},
		{"Go", guests.BuildGo(b, "jsonwork"), []string{"1000000"}},
	}
}

func (g restartGuest) options(b testing.TB) Options {
	dir := b.TempDir()
	return Options{Dir: filepath.Join(dir, "process"), CacheDir: filepath.Join(dir, "cache"), Name: g.name,
		Program: g.path, Args: append([]string{g.name}, g.args...)}
}

// BenchmarkRestartSteps breaks the time of BenchmarkRestart down: it takes the steps of
// Open and Run one by one, each time in new objects of this process, with a warm cache.
// The sum leaves out what starting an operating-system process takes.
func BenchmarkRestartSteps(b *testing.B) {
	for _, g := range restartGuests(b) {
		b.Run(g.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			o := g.options(b)
			o.Every = 200 * time.Millisecond
			work(b, o, func(w *worked) bool { return w.commits >= 3 })
			var names []string
			steps := map[string]series{}
			var sum series
			for range max(7, b.N) {
				total := 0.0
				takeSteps(b, o, func(name string, d time.Duration) {
					if _, ok := steps[name]; !ok {
						names = append(names, name)
					}
					steps[name] = append(steps[name], d.Seconds()*1e3)
					total += d.Seconds() * 1e3
				})
				sum = append(sum, total)
			}
			for i, name := range names {
				b.ReportMetric(steps[name].Sorted().Median(), fmt.Sprintf("%02d-%s-ms", i, name))
			}
			b.ReportMetric(sum.Sorted().Median(), "sum-ms")
		})
	}
}

// takeSteps does what Open does for a saved process, and tells how long each step took.
func takeSteps(b *testing.B, o Options, tell func(string, time.Duration)) {
	ctx := context.Background()
	goruntime.GC()
	last := time.Now()
	step := func(name string, err error) {
		tell(name, time.Since(last))
		if err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		last = time.Now()
	}
	p := &Process{opt: o, opened: last}
	src, err := p.findProgram()
	step("read+sum", err)
	p.module, err = decode(o.programName(), src)
	step("decode", err)
	p.lock, err = lock(o.Dir, o.Name)
	if err == nil {
		p.store, err = memsnap.Open(filepath.Join(o.Dir, generationsDir), memsnap.Options{})
	}
	step("lock+store", err)
	p.engine, p.cache = newEngine(ctx, o.CacheDir, p.sum, p.memoryLimit(), p.event)
	step("engine", nil)
	hotPath := filepath.Join(o.CacheDir, fmt.Sprintf("%s-v%d.hot", p.sum, instrument.Version))
	hot, meta := readHot(hotPath)
	if meta == nil {
		b.Fatalf("no %s", hotPath)
	}
	step("read-hot", meta.Bind(p.module))
	p.program, err = p.engine.LoadInstrumented(ctx, hot, meta)
	if err == nil {
		err = p.cache.seal()
	}
	step("load-machine-code", err)
	p.system, err = wasi.OS()
	if err != nil {
		b.Fatal(err)
	}
	p.outside()
	generation, _, err := p.store.OpenNewest(ctx)
	step("open-generation", err)
	saved, err := readGeneration(generation)
	step("read-sections", err)
	step("instantiate", p.instantiate(ctx))
	size := generation.Pages() * memsnap.PageSize
	err = p.growTo(size)
	if err == nil {
		err = p.mem.Zero()
	}
	step("grow+zero", err)
	step("restore-pages", p.restorePages(ctx, generation))
	step("track", p.mem.Track())
	err = p.inst.Restore(saved.image)
	if err == nil {
		p.wasi, _, err = wasi.Restore(saved.wasi, p.wasiConfig(), p.kernel)
	}
	step("restore-state", err)
	goruntime.GC()
	step("collect-garbage", nil)
	_, err = meta.Resume(instrument.NormalPoints(saved.image.Frames))
	step("make-resume-module", err)
	step("make+load-resume-module", p.program.Precompile(ctx, saved.image))
	if err := p.cache.seal(); err != nil { // for the next time
		b.Fatal(err)
	}
	p.saved = saved
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
}
