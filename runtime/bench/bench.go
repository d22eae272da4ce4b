// Package bench measures what persistence costs on the machine at hand: perdure bench.
//
// Measure runs the measurements of a Suite one after the other, on the caller's goroutine and with child processes that have
// ended when it returns. Everything that can be compared is measured in turns with what it is compared with, and told as a
// ratio: absolute times say more about the machine than about the code.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"

	"perdure/runtime/internal/compare"
)

// Options of a Suite. All but Versus and Progress are required.
type Options struct {
	// Exe is a perdure, whose command run is measured.
	Exe string
	// Dir is a directory for what is written, on the disk that is to be measured. What is made in it is removed again.
	Dir string
	// Guest returns a program of testdata/guests by its name.
	Guest func(name string) []byte
	// Quick measures less, and less exactly.
	Quick bool
	// Versus are the names of others to compare with: those of Others.
	Versus []string
	// Progress is told what is being measured.
	Progress func(what string)
}

// Line is one measurement.
type Line struct {
	// ID names it, for good: other texts refer to it.
	ID string `json:"id"`
	// What it is, for people.
	What string `json:"what"`
	// Unit of the values: "x" for a ratio, else ms, µs, MB/s, bytes, 1/s or connections.
	Unit string `json:"unit"`
	// Value is the median; P99 and Max are 0 where they mean nothing.
	Value float64 `json:"value"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
	// Samples is how many measurements the value was made of.
	Samples int `json:"samples"`
}

// Skipped is what was not measured, and why.
type Skipped struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Result is all that was measured.
type Result struct {
	Machine Machine       `json:"machine"`
	Quick   bool          `json:"quick"`
	Took    time.Duration `json:"took_ns"`
	Lines   []Line        `json:"lines"`
	Skipped []Skipped     `json:"skipped"`
}

// Find returns a line by its ID.
func (r *Result) Find(id string) (Line, bool) {
	i := slices.IndexFunc(r.Lines, func(l Line) bool { return l.ID == id })
	if i < 0 {
		return Line{}, false
	}
	return r.Lines[i], true
}

// suite is one run.
type suite struct {
	Options
	ctx    context.Context
	dir    string
	result Result
	cache  wazero.CompilationCache // of programs that run in this process
}

// notHere says why something cannot be compared with on this machine.
type notHere struct{ why string }

func (e *notHere) Error() string { return e.why }

// Others are those that Versus may name, with what measures them.
func Others() []string { return []string{"redis", "criu", "asyncify"} }

// Measure measures everything. ctx ends it early, with an error.
func Measure(ctx context.Context, o Options) (r Result, err error) {
	dir, err := os.MkdirTemp(o.Dir, "perdure-bench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &suite{Options: o, ctx: ctx, dir: dir}
	if s.cache, err = wazero.NewCompilationCacheWithDir(filepath.Join(dir, "machine-code")); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.cache.Close(context.Background())) }()
	s.result = Result{Machine: describe(dir), Quick: o.Quick, Lines: []Line{}, Skipped: []Skipped{}}
	began := time.Now()
	for _, m := range []struct {
		name    string
		measure func() error
	}{
		{"guest speed, against plain wazero", s.speed},
		{"pauses", s.pauses},
		{"commit and restore, against the raw disk", s.disk},
		{"bytes of a generation", s.sizes},
		{"the journal", s.journal},
		{"recovery after kill -9", s.recovery},
		{"connections", s.connections},
		{"against redis", s.other("redis", s.redis)},
		{"against criu", s.other("criu", s.criu)},
		{"against asyncify", s.other("asyncify", s.asyncify)},
	} {
		if m.measure == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return r, err
		}
		o.Progress(m.name)
		err := m.measure()
		var not *notHere
		if errors.As(err, &not) {
			s.result.Skipped = append(s.result.Skipped, Skipped{m.name, not.why})
		} else if err != nil {
			return r, errors.Join(ctx.Err(), fmt.Errorf("%s: %w", m.name, err))
		}
	}
	s.result.Took = time.Since(began)
	return s.result, nil
}

// other returns what measures against another one, if that is wanted; else nil.
func (s *suite) other(name string, measure func() error) func() error {
	if !slices.Contains(s.Versus, name) {
		return nil
	}
	return measure
}

// add adds a line of one value, made of so many measurements.
func (s *suite) add(id, unit string, value float64, samples int, what string, args ...any) {
	s.result.Lines = append(s.result.Lines, Line{ID: id, What: fmt.Sprintf(what, args...), Unit: unit, Value: value, Samples: samples})
}

// addAll adds a line of all values of a series, whose unit is factor times that of the line.
func (s *suite) addAll(id, unit string, factor float64, all compare.Series, what string, args ...any) {
	all.Sorted()
	s.result.Lines = append(s.result.Lines, Line{
		ID: id, What: fmt.Sprintf(what, args...), Unit: unit, Samples: len(all),
		Value: all.Median() * factor, P99: all.Quantile(0.99) * factor, Max: all[len(all)-1] * factor,
	})
}

// pick returns how much to measure.
func (s *suite) pick(quick, full int) int {
	if s.Quick {
		return quick
	}
	return full
}

// program writes a guest into a file.
func (s *suite) program(name string) (string, error) {
	path := filepath.Join(s.dir, name+".wasm")
	return path, os.WriteFile(path, s.Guest(name), 0o600)
}
