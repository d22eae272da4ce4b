package runtime

import (
	"context"
	"errors"
	"testing"
	"time"

	"perdure/runtime/internal/compare"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/guests"
)

// BenchmarkResumed compares the rest of a run that was suspended early and restored in a
// fresh instance with the rest of one that was never suspended. What went before the
// suspension is measured and taken off; so is the time that making the resume module
// takes, which belongs to BenchmarkRestart.
//
//	C and SQLite: ≤ 1.10, Go: ≤ 1.25 (aim 1.05)
func BenchmarkResumed(b *testing.B) {
	for _, lang := range []string{"C", "SQLite", "Go"} {
		b.Run(lang, func(b *testing.B) {
			found := ratios{}
			for _, j := range resumeJobs(b, lang) {
				b.Run(j.name, func(b *testing.B) {
					hot := compileHot(b, j.src)
					f := hot.export(b, j.export)
					var whole, rest, again series
					ways := []way{
						{"whole", func() time.Duration { return j.uninterrupted(b, hot, f) }},
						{"resumed", func() time.Duration {
							first, second := j.interrupted(b, hot, f, time.Duration(5+7*(len(rest)%3))*time.Millisecond)
							rest = append(rest, first.Seconds())
							return second
						}},
						{"control", func() time.Duration { return j.uninterrupted(b, hot, f) }},
					}
					t := turns(b, 7, ways...)
					whole, again = t[0], t[2]
					before := rest.Sorted().Median()
					base := whole.Median() - before
					b.ReportMetric(before*1e3, "before-ms")
					b.ReportMetric(base*1e3, "rest-ms")
					b.ReportMetric(t[1].Median()/base, "x/rest")
					b.ReportMetric((again.Median()-before)/base, "control-x/rest")
					found[j.name] = [2]float64{t[1].Median() / base, (again.Median() - before) / base}
				})
			}
			found.summary(b, "x/rest")
		})
	}
}

// resumeJob is a call of an export.
type resumeJob struct {
	name   string
	src    []byte
	export string
	params []uint64
	args   []string
}

func resumeJobs(b *testing.B, lang string) (js []resumeJob) {
	switch lang {
	case "C":
		src := guests.Bytes(b, "kernels")
		for _, k := range guests.Kernels() {
			if k.Guest == "kernels" {
				js = append(js, resumeJob{k.Name, src, k.Export(), []uint64{uint64(k.Reps)}, nil})
			}
		}
	case "SQLite":
		src := guests.Bytes(b, "sqlite")
		for _, args := range [][]string{{"idx", "8"}, {"sort", "4"}, {"agg", "8"}} {
			js = append(js, resumeJob{args[0], src, "_start", nil, append([]string{"sqlite"}, args...)})
		}
	case "Go":
		for _, g := range [][]string{{"sort", "10"}, {"flate", "8"}, {"jsonwork", "10"}, {"maps", "8"}, {"goroutines", "30"}} {
			js = append(js, resumeJob{g[0], readFile(b, guests.BuildGo(b, g[0])), "_start", nil, g})
		}
	}
	return js
}

func (j *resumeJob) uninterrupted(b *testing.B, hot *hotCode, f uint32) time.Duration {
	in, s := hot.instantiate(b, nil, j.args...)
	defer closeInstance(b, in, s)
	return compare.OnThread(func() {
		if _, err := in.Run(f, j.params...); !compare.Exited(err) {
			b.Fatal(err)
		}
	})
}

// interrupted suspends the guest after a while and takes it up again in a fresh instance.
// It returns the times before and after.
func (j *resumeJob) interrupted(b *testing.B, hot *hotCode, f uint32, after time.Duration) (before, rest time.Duration) {
	var image *engine.Image
	in, s := hot.instantiate(b, func(c *engine.Capture) bool {
		var err error
		if image, err = c.Image(); err != nil {
			b.Error(err)
		}
		return false
	}, j.args...)
	defer closeInstance(b, in, s)
	before = compare.OnThread(func() {
		// As a Process does: asked first, forced when no suspend point from which
		// the guest could go on hot was met.
		timer := time.AfterFunc(after, in.Request)
		force := time.AfterFunc(after+3*time.Millisecond, in.Force)
		defer timer.Stop()
		defer force.Stop()
		if _, err := in.Run(f, j.params...); !errors.Is(err, engine.ErrUnwound) {
			b.Fatalf("ended before it was suspended: %v", err)
		}
	})

	in2, s2 := hot.again(b, s)
	defer closeInstance(b, in2, s2)
	if n := (len(s.Mem.Bytes()) - len(s2.Mem.Bytes())) / wasmPageSize; n > 0 {
		if _, ok := in2.Module().Memory().Grow(uint32(n)); !ok {
			b.Fatal("memory does not grow")
		}
	}
	copy(s2.Mem.Bytes(), s.Mem.Bytes())
	if err := in2.Restore(image); err != nil {
		b.Fatal(err)
	}
	var module time.Duration // for making the resume module with its machine code in the cache
	for range 2 {
		module = compare.OnThread(func() {
			if err := hot.Program.Precompile(context.Background(), image); err != nil {
				b.Fatal(err)
			}
		})
	}
	rest = compare.OnThread(func() {
		if _, err := in2.Resume(image); !compare.Exited(err) {
			b.Fatal(err)
		}
	})
	return before, rest - module
}
