package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"perdure/config"
	"perdure/internal/keeper"
	"perdure/runtime"
)

const (
	// maxSpec bounds a Spec, in bytes of JSON.
	maxSpec = 16 << 20
	// maxProgram bounds a program, in bytes, as package runtime does.
	maxProgram = 1 << 30
)

// Worker is a worker that has read its orders. One goroutine calls Enter and Run.
type Worker struct {
	spec    Spec
	program *os.File // nil if the copy is meant
	key     []byte   // nil for none
	owner   string   // under which the keeper has the sockets; empty: it uses no keeper
	failed  *Outcome // what is to be told instead of running it; nil if it is to run
	cgroup  *cgroup
	state   *state
	output  *output

	consoles *consoles

	mu       sync.Mutex
	process  *runtime.Process // nil until it is open
	settings config.Process   // those of spec, with what has changed since
	// notApplied are limits that the system does not have, but for those of cgroup, which can change.
	notApplied []string
}

// order is what a worker finds on its standard input: a Spec, and from itself what it has done.
type order struct {
	Spec
	Entered *entered `json:"entered,omitempty"`
}

// entered is what a worker leaves for itself when it gives up rights. Numbers are descriptors, 0 for none.
type entered struct {
	Confined   bool     `json:"confined"`
	Program    int      `json:"program"`
	CPU        int      `json:"cpu"`
	PIDs       int      `json:"pids"`
	NoCPU      string   `json:"no_cpu"` // why there is none
	NoPIDs     string   `json:"no_pids"`
	Self       int      `json:"self"`
	Retired    string   `json:"retired"` // where the old state went
	Key        []byte   `json:"key"`
	Owner      string   `json:"owner"`  // for the keeper of sockets; empty without
	Failed     *Outcome `json:"failed"` // why there is nothing to run
	NotApplied []string `json:"not_applied"`
}

// Enter reads a Spec and prepares the worker. What needs rights that it shall not have comes first; then, if the Spec
// says so, it gives them up. For that it executes this program anew, with the same arguments: then Enter does not
// return here, but is called again there.
func Enter(f io.Reader) (*Worker, error) {
	o, err := readOrder(f)
	if err != nil {
		return nil, fmt.Errorf("what to run: %w", err)
	}
	if o.Entered == nil {
		if err := prepare(o); err != nil {
			return nil, err
		}
		if o.Settings.Limits.Confine {
			return nil, confine(o)
		}
	}
	return newWorker(o)
}

// prepare does what needs all rights.
func prepare(o *order) (err error) {
	e := &entered{}
	o.Entered = e
	fail := func(err error) {
		if out := failed(err); e.Failed == nil {
			e.Failed = &out
		}
	}
	program, err := openProgram(&o.Spec)
	if err != nil {
		fail(err)
	}
	if e.Key, err = runtime.ReadKey(o.Settings.Memsnap.KeyFile); err != nil {
		fail(err)
	}
	secret, made, err := keeperSecret(&o.Spec)
	if err != nil {
		fail(err)
	}
	if o.Fresh && e.Failed == nil {
		if err := startable(program, &o.Spec); err != nil {
			fail(err)
		} else if e.Retired, err = retire(&o.Spec); err != nil {
			return err // another worker has it
		}
	}
	for _, dir := range []string{o.Dir, filepath.Dir(o.Log), o.CacheDir} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if e.Retired != "" { // what this program says went there
		if err := redirect(o.Dir); err != nil {
			return err
		}
	}
	if secret != "" {
		// A fresh start has the sockets of the one before, since they have its addresses.
		if made || e.Retired != "" {
			if err := keeper.WriteSecret(o.Dir, secret); err != nil {
				return err
			}
		}
		e.Owner = keeper.Owner(filepath.Base(o.Dir), secret)
	}
	g := limitsOf(&o.Spec)
	e.NoCPU, e.NoPIDs = g.noCPU, g.noPIDs
	for _, f := range []struct {
		from *os.File
		to   *int
	}{{program, &e.Program}, {g.cpu, &e.CPU}, {g.pids, &e.PIDs}} {
		if *f.to, err = detach(f.from); err != nil {
			return err
		}
	}
	return nil
}

// keeperSecret returns what a process shows to its keeper, and whether that is new; nothing for one that has no sockets and
// never had any.
func keeperSecret(s *Spec) (secret string, made bool, err error) {
	if s.Keeper == "" {
		return "", false, nil
	}
	secret, made, err = keeper.Secret(s.Dir)
	if made && !s.Settings.UsesSockets() {
		return "", false, err
	}
	return secret, made, err
}

// newWorker makes a worker of what was prepared.
func newWorker(o *order) (*Worker, error) {
	e := o.Entered
	w := &Worker{spec: o.Spec, key: e.Key, owner: e.Owner, failed: e.Failed, settings: o.Settings, program: fileOf(e.Program, o.Program)}
	w.cgroup = &cgroup{cpu: fileOf(e.CPU, "cpu.max"), pids: fileOf(e.PIDs, "pids.max"), noCPU: e.NoCPU, noPIDs: e.NoPIDs}
	w.notApplied = e.NotApplied
	if err := limitFiles(o.Settings.Limits.OpenFiles); err != nil {
		w.notApplied = append(w.notApplied, fmt.Sprintf("limits.open_files: of the worker: %v", err))
	}
	if e.Confined {
		missing, err := seccomp()
		if err != nil {
			return nil, fmt.Errorf("confine the worker: %w", err)
		}
		w.notApplied = append(w.notApplied, missing...)
	}
	w.notApplied = append(w.notApplied, unmapped(&o.Settings)...)
	w.state = newState(&w.spec)
	w.limit()
	if e.Retired != "" {
		w.state.event(runtime.RetiredEvent{Dir: e.Retired})
	}
	return w, nil
}

// limit applies the limits of the settings that can change.
func (w *Worker) limit() {
	missing := slices.Concat(w.notApplied, w.cgroup.limit(&w.settings.Limits))
	w.state.set(func(s *Status) { s.NotApplied = missing })
}

// apply takes over settings.
func (w *Worker) apply(r config.ReloadableProcess) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.settings.With(r)
	if w.process != nil {
		if err := w.process.Reconfigure(live(&c)); err != nil {
			return newError(CodeRequest, "%v", err)
		}
	}
	w.settings = c
	w.output.configure(&c)
	w.limit()
	return nil
}

// current returns the settings that hold now.
func (w *Worker) current() config.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.settings
}

// opened notes the process, and gives it the settings that have changed while it was opened.
func (w *Worker) opened(p *runtime.Process) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.process = p
	return p.Reconfigure(live(&w.settings))
}

// retire makes room for a fresh start, while no other worker has the directory.
func retire(s *Spec) (string, error) {
	f, err := os.OpenFile(filepath.Join(s.Dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil // there is no such process
	}
	if err != nil {
		return "", err
	}
	defer f.Close() // nothing was written
	if err := flock(f); err != nil {
		return "", lockError(err, f, s.Name)
	}
	return runtime.Retire(s.Dir, s.Name)
}

// startable refuses a program that cannot be run at all, where a state would be put aside for it.
func startable(program *os.File, s *Spec) error {
	if _, err := os.Stat(filepath.Join(s.Dir, runtime.ProgramFile)); errors.Is(err, os.ErrNotExist) {
		return nil // it has never run
	}
	if program == nil {
		return fmt.Errorf("%w: %s, and its copy is part of what a fresh start gives up", runtime.ErrNoProgram, s.Program)
	}
	// Through the descriptor, so that it is the same file.
	r, err := runtime.Check(fmt.Sprintf("/dev/fd/%d", program.Fd()), nil)
	if err != nil {
		return err
	}
	if len(r.Refused) > 0 {
		return &runtime.RefusedError{Program: s.Program, Err: errors.New(strings.Join(r.Refused, "; "))}
	}
	return nil
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
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(o); err != nil {
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
	for _, p := range []struct{ what, path string }{{"cache_dir", s.CacheDir}, {"keeper", s.Keeper}} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			return fmt.Errorf("%s %q is not an absolute path", p.what, p.path)
		}
	}
	return s.Settings.Reloadable().Validate()
}

// openProgram opens the file of the program; nil if the copy in Dir is meant, or if there is no such file.
func openProgram(s *Spec) (*os.File, error) {
	if s.SHA256 == "" {
		return nil, nil
	}
	// Not blocking, since it may be a pipe.
	f, err := os.OpenFile(s.Program, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &runtime.RefusedError{Program: s.Program, Err: errors.New("is no file")}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
