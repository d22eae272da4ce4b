package bench

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"perdure/runtime/internal/compare"
)

// kernel is a function of the guest kernels: what it is about is in its name.
type kernel struct {
	name string
	reps uint64 // some hundredths of a second on stock wazero
}

var kernels = []kernel{{"fib", 6}, {"gemm", 10}, {"sha256", 2}, {"interp", 1}, {"qsort", 2}, {"tree", 6}, {"strs", 25}, {"list", 11}}

// code is a program in the two ways that are compared.
type code struct {
	plain *compare.Plain
	hot   *compare.Hot
}

func (s *suite) compile(src []byte) (c code, err error) {
	if c.plain, err = compare.CompilePlain(s.cache, src); err != nil {
		return c, err
	}
	if c.hot, err = compare.CompileHot(s.cache, src); err != nil {
		return c, errors.Join(err, c.plain.Close())
	}
	return c, nil
}

func (c *code) close() error { return errors.Join(c.plain.Close(), c.hot.Close()) }

// speed compares instrumented guests, of which no cut is wanted, with the same guests on stock wazero.
func (s *suite) speed() (err error) {
	places, turns := s.pick(1, 8), s.pick(3, 5)
	// Medians of all ways at each place of the code, by kernel.
	times := make(map[string][3][]float64)
	for place := range places {
		src, err := compare.Shifted(s.Guest("kernels"), place)
		if err != nil {
			return err
		}
		if err := s.kernelsOf(src, turns, times); err != nil {
			return err
		}
	}
	var ratios, controls []float64
	for _, k := range kernels {
		t := times[k.name]
		plain := compare.Geomean(t[0])
		ratios, controls = append(ratios, compare.Geomean(t[1])/plain), append(controls, compare.Geomean(t[2])/plain)
		s.add("speed."+k.name, "x", ratios[len(ratios)-1], places*turns, "time of the C kernel %s, to plain wazero", k.name)
	}
	s.add("speed.geomean", "x", compare.Geomean(ratios), places*turns*len(kernels), "time of %d C kernels, to plain wazero, geometric mean", len(kernels))
	s.add("speed.worst", "x", slices.Max(ratios), places*turns, "the worst of them")
	s.add("speed.control", "x", compare.Geomean(controls), places*turns*len(kernels), "plain wazero to itself: the noise")
	if s.Quick {
		return nil // to compile it takes longer than all of this
	}
	return s.sqlite(9)
}

// kernelsOf adds the medians of the kernels to times: plain, instrumented, and plain once more, which is the control.
func (s *suite) kernelsOf(src []byte, turns int, times map[string][3][]float64) error {
	t, err := s.race(src, src, "plain again", turns)
	for name, medians := range t {
		all := times[name]
		for i := range all {
			all[i] = append(all[i], medians[i])
		}
		times[name] = all
	}
	return err
}

// race lets each kernel run in turns: plain, instrumented, and as another module has it on stock wazero. It returns the
// medians in this order, by kernel.
func (s *suite) race(src, other []byte, what string, turns int) (medians map[string][3]float64, err error) {
	c, err := s.compile(src)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	third, err := compare.CompilePlain(s.cache, other)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, third.Close()) }()
	callPlain, endPlain, err := c.plain.Instantiate()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, endPlain()) }()
	callThird, endThird, err := third.Instantiate()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, endThird()) }()
	in, box, err := c.hot.Instantiate(nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close(), box.Close()) }()
	medians = make(map[string][3]float64)
	for _, k := range kernels {
		if err := s.ctx.Err(); err != nil {
			return nil, err
		}
		name := "bench_" + k.name
		f, err := c.hot.Export(name)
		if err != nil {
			return nil, err
		}
		t, err := compare.Turns(turns,
			onThread("plain", func() error { return callPlain(name, k.reps) }),
			onThread("instrumented", func() error { _, err := in.Run(f, k.reps); return err }),
			onThread(what, func() error { return callThird(name, k.reps) }))
		if err != nil {
			return nil, err
		}
		medians[k.name] = [3]float64{t[0].Median(), t[1].Median(), t[2].Median()}
	}
	return medians, nil
}

// onThread is a way that is measured in processor time of its thread.
func onThread(name string, f func() error) compare.Way {
	return compare.Way{Name: name, Run: func() (took time.Duration, err error) {
		took = compare.OnThread(func() { err = f() })
		return took, err
	}}
}

// sqlite compares whole runs of a large program.
func (s *suite) sqlite(turns int) (err error) {
	c, err := s.compile(s.Guest("sqlite"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	start, err := c.hot.Export("_start")
	if err != nil {
		return err
	}
	args := []string{"sqlite", "idx", "2"}
	t, err := compare.Turns(turns,
		compare.Way{Name: "plain", Run: func() (took time.Duration, err error) {
			call, end, err := c.plain.Instantiate(args...)
			if err != nil {
				return 0, err
			}
			took = compare.OnThread(func() { err = call("_start") })
			return took, errors.Join(unlessExited(err), end())
		}},
		compare.Way{Name: "instrumented", Run: func() (took time.Duration, err error) {
			in, box, err := c.hot.Instantiate(nil, args...)
			if err != nil {
				return 0, err
			}
			took = compare.OnThread(func() { _, err = in.Run(start) })
			return took, errors.Join(unlessExited(err), in.Close(), box.Close())
		}})
	if err != nil {
		return err
	}
	s.add("speed.sqlite", "x", t[1].Median()/t[0].Median(), turns, "time of SQLite in memory, to plain wazero")
	return nil
}

func unlessExited(err error) error {
	if compare.Exited(err) {
		return nil
	}
	return err
}

// asyncify compares with what Binaryen does to make a program suspendable. It can be suspended in calls of the host only;
// Perdure also stops in loops.
func (s *suite) asyncify() error {
	tool, err := exec.LookPath("wasm-opt")
	if err != nil {
		return &notHere{"wasm-opt is not installed (Debian: binaryen)"}
	}
	path, err := s.program("kernels")
	if err != nil {
		return err
	}
	with, without := filepath.Join(s.dir, "asyncify.wasm"), filepath.Join(s.dir, "optimized.wasm")
	if err := s.command(tool, "-O2", "--asyncify", path, "-o", with).Run(); err != nil {
		return err
	}
	if err := s.command(tool, "-O2", path, "-o", without).Run(); err != nil {
		return err
	}
	turned, err := os.ReadFile(with)
	if err != nil {
		return err
	}
	src, err := os.ReadFile(without) // so that both have been optimized alike
	if err != nil {
		return err
	}
	turns := s.pick(3, 11)
	medians, err := s.race(src, turned, "asyncify", turns)
	if err != nil {
		return err
	}
	var theirs, ours []float64
	for _, m := range medians {
		ours, theirs = append(ours, m[1]/m[0]), append(theirs, m[2]/m[0])
	}
	s.add("asyncify.geomean", "x", compare.Geomean(theirs), turns*len(kernels), "the same kernels with Asyncify, which stops in host calls only, to plain wazero")
	s.add("asyncify.worst", "x", slices.Max(theirs), turns, "the worst of them")
	s.add("asyncify.ours", "x", compare.Geomean(ours), turns*len(kernels), "with Perdure, in turns with it, which also stops in loops")
	s.add("asyncify.size", "x", float64(len(turned))/float64(len(src)), 1, "size of the program with Asyncify, to without")
	return nil
}
