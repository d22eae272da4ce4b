package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"perdure/config"
	"perdure/daemon/folder"
	"perdure/internal/keeper"
)

const (
	programFile = "program.wasm"    // the copy of its program that a process keeps
	lockFile    = ".perdure.daemon" // in the state directory
	suffixLog   = ".log"
)

// Options are what a daemon needs from its caller.
type Options struct {
	// Config is valid, and has no side files: those come from the folder.
	Config config.Config
	// Reload reads the configuration again. Nil means that it cannot change.
	Reload func() (config.Config, error)
	// Executable is the perdure that workers are.
	Executable string
	// Version is that of Perdure.
	Version string
	// Check tells why a program cannot be run with so much memory; empty if it can. It does so in another
	// operating-system process, since the daemon has to stay small.
	Check func(ctx context.Context, path string, memory config.Size) (refusal string, err error)
	// Listener is the socket of the control API; nil means that the daemon makes it.
	Listener net.Listener
	// Log is where the daemon tells what happens, and SetLevel changes what it tells. SetLevel may be nil.
	Log      zerolog.Logger
	SetLevel func(config.LogLevel)
	// Ready, Reloading and Stopping are called when the daemon is there, begins to read its configuration again, and
	// begins to stop; Progress tells how far a stop is. They may be nil.
	Ready, Reloading, Stopping func()
	Progress                   func(left int)
}

// Daemon supervises processes. Its methods may be called from any goroutine.
type Daemon struct {
	opt     Options
	log     zerolog.Logger
	started time.Time
	base    atomic.Pointer[config.Config] // without side files
	conf    atomic.Pointer[config.Config] // with them
	slots   slots
	events  hub
	folder  *folder.Watcher

	read     chan struct{} // closed when what the folder has is known
	over     chan struct{} // closed when nothing is supervised any more
	detached chan struct{} // closed by Detach
	detach   sync.Once
	ctx      context.Context // of the units
	group    sync.WaitGroup  // of all goroutines but those of Run itself

	guard sync.Once // starts what looks after the keeper of sockets

	reload sync.Mutex // one reload, or one change of the folder, at a time

	mu      sync.Mutex
	units   map[string]*unit
	set     folder.Set        // as it was seen last; nil before the first
	unnamed map[string]string // programs in the folder whose name cannot be that of a process, and why
	// problems are what is wrong with side files, by process.
	problems map[string]string
	closed   closing
}

// New returns a daemon that does nothing until Run is called.
func New(o Options) *Daemon {
	d := &Daemon{
		opt: o, log: o.Log, read: make(chan struct{}), over: make(chan struct{}), detached: make(chan struct{}),
		units: make(map[string]*unit), unnamed: make(map[string]string),
	}
	d.base.Store(&o.Config)
	d.conf.Store(&o.Config)
	d.resize(o.Config)
	return d
}

func (d *Daemon) config() *config.Config { return d.conf.Load() }

func (d *Daemon) dirOf(name string) string { return filepath.Join(d.config().Daemon.StateDir, name) }

func (d *Daemon) logOf(name string) string {
	return filepath.Join(d.config().Daemon.LogsDir, name+suffixLog)
}

func (d *Daemon) resize(c config.Config) {
	n := c.Daemon.ParallelStarts
	if n == 0 {
		n = runtime.NumCPU()
	}
	d.slots.resize(n)
}

// Alive returns when the daemon can still do something. The error is that of ctx.
func (d *Daemon) Alive(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.info()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Detach makes Run return with all workers living on, to be adopted by the next daemon.
func (d *Daemon) Detach() { d.detach.Do(func() { close(d.detached) }) }

// Run supervises until ctx is done, then suspends all processes and returns. The error says which could not be suspended
// in time: they live on. Run is called once.
func (d *Daemon) Run(ctx context.Context) (err error) {
	d.started = time.Now()
	if err := d.makeDirs(); err != nil {
		return err
	}
	lock, err := d.lock()
	if err != nil {
		return err
	}
	defer lock.Close() // the kernel would do it too
	c := d.config().Daemon
	if d.folder, err = folder.New(folder.Options{Dir: c.ModulesDir, Settle: c.Settle.Std(), Rescan: c.Rescan.Std(), Log: d.log}); err != nil {
		return err
	}
	listener := d.opt.Listener
	if listener == nil {
		if listener, err = listen(c.Socket); err != nil {
			return err
		}
	}
	// The units end after ctx: they are needed to stop.
	unitCtx, endUnits := context.WithCancel(context.WithoutCancel(ctx))
	defer endUnits()
	d.ctx = unitCtx
	if err := d.adoptAll(); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := newServer(d, listener)
	d.group.Go(server.serve)
	watching, stopWatching := context.WithCancel(unitCtx)
	defer stopWatching()
	d.group.Go(func() {
		if err := d.folder.Run(watching); err != nil {
			d.log.Error().Err(err).Msg("the folder is not watched")
		}
	})
	if err := d.serveMetrics(watching); err != nil {
		d.log.Error().Err(err).Msg("metrics are not served")
	}
	if err := d.serveDashboard(watching, server.http.Handler); err != nil {
		d.log.Error().Err(err).Msg("the dashboard is not served")
	}
	if d.opt.Ready != nil {
		d.opt.Ready()
	}
	d.log.Info().Str("version", d.opt.Version).Str("state", c.StateDir).Str("folder", c.ModulesDir).Str("socket", listener.Addr().String()).
		Msg("perdure serves")

	how := closingSuspend
loop:
	for {
		select {
		case set := <-d.folder.Changes():
			if d.takeSet(set) {
				close(d.read)
			}
		case <-d.detached:
			how = closingDetach
			break loop
		case <-ctx.Done():
			break loop
		}
	}
	if d.opt.Stopping != nil {
		d.opt.Stopping()
	}
	stopWatching()
	if how == closingSuspend {
		err = d.suspendAll()
	}
	close(d.over)
	endUnits()
	server.close()
	d.group.Wait()
	if how == closingDetach {
		d.log.Info().Msg("the daemon ends, and the workers live on")
	}
	return err
}

// makeDirs makes the directories that are missing.
func (d *Daemon) makeDirs() error {
	c := d.config().Daemon
	for _, dir := range []struct{ key, path string }{
		{"daemon.state_dir", c.StateDir}, {"daemon.modules_dir", c.ModulesDir}, {"daemon.cache_dir", c.CacheDir},
		{"daemon.logs_dir", c.LogsDir}, {"daemon.socket", filepath.Dir(c.Socket)},
	} {
		if dir.path == "" {
			continue
		}
		if err := os.MkdirAll(dir.path, 0o700); err != nil {
			return fmt.Errorf("%s: %w", dir.key, err)
		}
	}
	return nil
}

// lock makes this the only daemon of the state directory. The kernel releases the lock when the daemon dies.
func (d *Daemon) lock() (*os.File, error) {
	dir := d.config().Daemon.StateDir
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		b := make([]byte, 20)
		n, _ := f.ReadAt(b, 0) // a missing number is not told
		f.Close()
		return nil, fmt.Errorf("%w: %s has one already%s", ErrOtherDaemon, dir, pidText(strings.TrimSpace(string(b[:n]))))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

func pidText(pid string) string {
	if pid == "" {
		return ""
	}
	return ", with process id " + pid
}

// ErrOtherDaemon says that another daemon serves already.
var ErrOtherDaemon = errors.New("another daemon serves")

// parallelAdoptions is how many directories are looked at at the same time at the start.
const parallelAdoptions = 16

// adoptAll makes the units of all processes that are in the state directory, and takes over the workers that run them.
func (d *Daemon) adoptAll() error {
	names, err := d.stateNames()
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	todo := make(chan string)
	for range parallelAdoptions {
		wait.Go(func() {
			for name := range todo {
				d.load(name)
			}
		})
	}
	for _, name := range names {
		todo <- name
	}
	close(todo)
	wait.Wait()
	return nil
}

// stateNames returns the names of the directories that may be processes.
func (d *Daemon) stateNames() ([]string, error) {
	c := d.config()
	entries, err := os.ReadDir(c.Daemon.StateDir)
	if err != nil {
		return nil, fmt.Errorf("daemon.state_dir: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && c.CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// find returns the unit of a process; nil if there is no such process.
func (d *Daemon) find(name string) *unit {
	d.mu.Lock()
	u := d.units[name]
	d.mu.Unlock()
	if u != nil || d.config().CheckName(name) != nil {
		return u
	}
	if st, err := os.Stat(d.dirOf(name)); err != nil || !st.IsDir() {
		return nil
	}
	return d.load(name) // made by a command that works on the directory
}

// all returns all units, by name, those included whose directory somebody else has made.
func (d *Daemon) all() []*unit {
	if names, err := d.stateNames(); err == nil {
		for _, name := range names {
			d.mu.Lock()
			known := d.units[name] != nil
			d.mu.Unlock()
			if !known {
				d.load(name)
			}
		}
	}
	list := d.known()
	slices.SortFunc(list, func(a, b *unit) int { return strings.Compare(a.name, b.name) })
	return list
}

// known returns the units that there are, in any order.
func (d *Daemon) known() []*unit {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.units))
}

// load makes the unit of a process from its directory, and adopts its worker. It returns nil if that is no process.
func (d *Daemon) load(name string) *unit {
	dir := d.dirOf(name)
	rec, err := readRecord(dir)
	known := err == nil
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			d.log.Warn().Err(err).Str("process", name).Msg("going on without the record")
		}
		rec = newRecord()
	}
	u := newUnit(d, name, rec)
	u.view.config = d.config().Process(name)
	found, ok := u.adopt(d.ctx)
	if !ok { // else the worker knows
		if err := u.learnSaved(known); err != nil {
			u.log.Warn().Err(err).Msg("cannot tell what is saved of it")
		}
	}
	if !known && !ok && u.m.rec.SHA256 == "" {
		return nil // not a process, or not yet
	}
	if made := d.add(u); made != u {
		return made
	}
	if ok {
		if u.view.config.UsesSockets() {
			d.guardKeeper()
		}
		u.post(found)
	}
	return u
}

// guardKeeper sees to it that there is a keeper of sockets, from now on. It is called when the first process needs one,
// before the units end.
func (d *Daemon) guardKeeper() {
	path := d.config().Daemon.Keeper
	if path == "" {
		return
	}
	d.guard.Do(func() {
		d.group.Go(func() {
			keeper.Guard(d.ctx, d.opt.Executable, path, func(what string) { d.log.Warn().Str("socket", path).Msg(what) })
		})
	})
}

// add starts a unit, unless there is one of that name, which it returns then.
func (d *Daemon) add(u *unit) *unit {
	d.mu.Lock()
	defer d.mu.Unlock()
	if other := d.units[u.name]; other != nil {
		return other
	}
	d.units[u.name] = u
	d.startLocked(u)
	return u
}

// startLocked tells a new unit what there is to know, and lets it run.
func (d *Daemon) startLocked(u *unit) {
	process := d.config().Process(u.name)
	u.config = process
	u.m.settings = d.settingsOf(process, d.problems[u.name])
	if d.set != nil {
		in := inFile{}
		if p, ok := d.set[u.name]; ok {
			in = fileOf(p)
		}
		in.apply(&u.m, time.Now())
	}
	if d.closed != closingNot {
		u.m.closing = d.closed
	}
	u.publish()
	d.group.Go(func() { u.run(d.ctx) })
}

func (d *Daemon) settingsOf(p config.Process, problem string) machineSettings {
	return machineSettings{restart: p.Restart, onChange: p.OnChange, version: d.opt.Version, err: problem}
}

// fileOf returns what a program of the folder is for a machine.
func fileOf(p folder.Program) inFile {
	if p.Problem != nil {
		return inFile{problem: p.Problem.Error()}
	}
	return inFile{file: &file{path: p.Path, sha256: p.SHA256}}
}

// tell logs an event of a unit and hands it to who listens.
func (d *Daemon) tell(u *unit, e Event) {
	e.Process = u.name
	line := u.log.Info()
	switch e.Kind {
	case EventTrapped, EventCrashed, EventWarning:
		line = u.log.Warn()
	case EventFailed, EventRefused:
		line = u.log.Error()
	}
	line.Str("event", string(e.Kind)).Msg(e.Text)
	d.events.publish(e)
}

// suspendAll stops all processes in parallel. The error names those that could not be stopped in time.
func (d *Daemon) suspendAll() error {
	d.mu.Lock()
	d.closed = closingSuspend
	d.mu.Unlock()
	units := d.known()
	ctx, cancel := context.WithTimeout(d.ctx, d.config().Daemon.StopTimeout.Std())
	defer cancel()
	left := int32(len(units))
	var count atomic.Int32
	count.Store(left)
	var mu sync.Mutex
	var late []string
	var wait sync.WaitGroup
	for _, u := range units {
		wait.Go(func() {
			err := u.send(ctx, message{in: inClose{closingSuspend}})
			if err == nil {
				_, err = u.until(ctx, func(v view) (bool, error) { return v.phase == phaseNone, nil })
			}
			n := count.Add(-1)
			if err != nil {
				mu.Lock()
				late = append(late, u.name)
				mu.Unlock()
			}
			if d.opt.Progress != nil {
				d.opt.Progress(int(n))
			}
		})
	}
	wait.Wait()
	if len(late) == 0 {
		d.log.Info().Int("processes", len(units)).Msg("all processes are suspended")
		return nil
	}
	slices.Sort(late)
	return fmt.Errorf("not suspended within %v, and left running for the next daemon: %s", d.config().Daemon.StopTimeout, strings.Join(late, ", "))
}
