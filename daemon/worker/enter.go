package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"perdure/runtime"
)

// maxSpec bounds a Spec, in bytes of JSON.
const maxSpec = 16 << 20

// maxProgram bounds a program, in bytes, as package runtime does.
const maxProgram = 1 << 30

// Worker is a worker that has read its orders. One goroutine calls Enter and Run.
type Worker struct {
	spec    Spec
	program *os.File // nil if the copy is meant
	state   *state
}

// order is what a worker finds on its standard input.
type order struct{ Spec }

// Enter reads a Spec, and prepares what needs the rights that a worker gives up.
func Enter(f io.Reader) (*Worker, error) {
	o, err := readOrder(f)
	if err != nil {
		return nil, fmt.Errorf("what to run: %w", err)
	}
	w := &Worker{spec: o.Spec}
	if w.program, err = openProgram(&w.spec); err != nil {
		return nil, err
	}
	var retired string
	if w.spec.Fresh {
		if retired, err = runtime.Retire(w.spec.Dir, w.spec.Name); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{w.spec.Dir, filepath.Dir(w.spec.Log)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	w.state = newState(&w.spec, nil)
	if retired != "" {
		w.state.event(runtime.RetiredEvent{Dir: retired})
	}
	return w, nil
}

func readOrder(f io.Reader) (*order, error) {
	b, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSpec {
		return nil, fmt.Errorf("it has more than %d bytes", maxSpec)
	}
	o := &order{}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(o); err != nil {
		return nil, err
	}
	return o, o.check()
}

// check refuses what a daemon does not say.
func (s *Spec) check() error {
	if s.Version != SpecVersion {
		return fmt.Errorf("it has version %d, this program knows %d", s.Version, SpecVersion)
	}
	for _, p := range []struct{ what, path string }{{"dir", s.Dir}, {"log", s.Log}, {"program", s.Program}} {
		if !filepath.IsAbs(p.path) {
			return fmt.Errorf("%s %q is not an absolute path", p.what, p.path)
		}
	}
	if s.CacheDir != "" && !filepath.IsAbs(s.CacheDir) {
		return fmt.Errorf("cache_dir %q is not an absolute path", s.CacheDir)
	}
	return nil
}

// openProgram opens the file of the program; nil if the copy in Dir is meant, or if there is no such file.
func openProgram(s *Spec) (*os.File, error) {
	if s.SHA256 == "" {
		return nil, nil
	}
	f, err := os.Open(s.Program)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, err
}
