package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/rs/zerolog"
)

// DefaultMaxSize is how large a module may be unless Options say otherwise, in bytes.
const DefaultMaxSize = 256 << 20

const (
	retry  = 250 * time.Millisecond // between two looks at a folder that is missing or cannot be read
	poll   = time.Second            // between two looks at one that cannot be watched
	never  = 1 << 62                // in nanoseconds: more than a century
	events = 1024                   // that are taken in at once
)

// Options say what a Watcher watches.
type Options struct {
	// Dir is the absolute path of the folder.
	Dir string
	// Settle is how long the files of a name must not have changed; less than 20 ms count as
	// that. Rescan is the time between two looks at the whole folder; 0 means only after lost
	// events.
	Settle, Rescan time.Duration
	Log            zerolog.Logger
	// MaxSize is how many bytes a module may have; 0 means DefaultMaxSize.
	MaxSize int64
}

// Watcher watches a folder. Its methods may be called from any goroutine.
type Watcher struct {
	log     zerolog.Logger
	reader  reader
	changes chan Set
	wake    chan struct{} // there are new times

	// Of the goroutine of Run.
	plan    *plan
	notify  *fsnotify.Watcher // nil while the folder cannot be watched
	watched fs.FileInfo       // the directory that notify watches
	unheard string            // why it cannot be watched, as logged last
	scanned time.Time         // when the whole folder was first seen
	missing bool              // the folder was there, and is gone
	sent    bool              // a set has been sent

	mu             sync.Mutex
	settle, rescan time.Duration
	problem        error
	running        bool
}

// New returns a watcher that does nothing until Run is called.
func New(o Options) (*Watcher, error) {
	switch {
	case !filepath.IsAbs(o.Dir):
		return nil, fmt.Errorf("watch a folder: %q is not an absolute path", o.Dir)
	case o.Settle < 0 || o.Rescan < 0 || o.MaxSize < 0:
		return nil, fmt.Errorf("watch %s: a negative time or size", o.Dir)
	}
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	return &Watcher{
		log:     o.Log,
		reader:  reader{dir: filepath.Clean(o.Dir), maxSize: o.MaxSize},
		changes: make(chan Set, 1),
		wake:    make(chan struct{}, 1),
		plan:    newPlan(o.Settle),
		settle:  o.Settle,
		rescan:  o.Rescan,
	}, nil
}

// Changes returns where the sets arrive: the first one when the whole folder has been seen and
// has settled, then one after each change. A set that nobody has received is replaced by the
// next one. The channel is never closed.
func (w *Watcher) Changes() <-chan Set { return w.changes }

// Problem returns why the folder cannot be read at the moment; nil if it can. Until it can, the
// last set counts.
func (w *Watcher) Problem() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.problem
}

// Reconfigure changes the times of Options, from the next event on.
func (w *Watcher) Reconfigure(settle, rescan time.Duration) {
	w.mu.Lock()
	w.settle, w.rescan = settle, rescan
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default: // Run will see the newest
	}
}

func (w *Watcher) times() (settle, rescan time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.settle, w.rescan
}

// Run watches until ctx ends, and then returns nil. It makes the folder, with mode 0700, if it
// is missing at the beginning. A folder that cannot be made, read or watched is reported in the
// log and by Problem, and tried again; what was found before still counts. Run may be called
// once.
func (w *Watcher) Run(ctx context.Context) error {
	w.mu.Lock()
	again := w.running
	w.running = true
	w.mu.Unlock()
	if again {
		return errors.New("watch a folder: Run was called twice")
	}
	defer w.unwatch()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for scanAt := time.Now(); ctx.Err() == nil; {
		settle, rescan := w.times()
		w.plan.setSettle(settle)
		if now := time.Now(); !now.Before(scanAt) {
			scanAt = now.Add(w.scan(now, rescan))
		}
		if w.Problem() == nil {
			if !w.takeDue(ctx) {
				scanAt = time.Now()
				continue
			}
			w.send(time.Now())
		}
		timer.Reset(w.sleep(scanAt))
		if w.wait(ctx, timer.C) {
			scanAt = time.Now()
		}
	}
	return nil
}

// sleep returns how long nothing is to be done unless something happens.
func (w *Watcher) sleep(scanAt time.Time) time.Duration {
	now := time.Now()
	d := max(0, scanAt.Sub(now))
	if pending, ok := w.plan.wait(now); ok && w.Problem() == nil {
		d = min(d, pending)
	}
	return d
}

// wait waits for something to happen. It reports whether the whole folder is to be looked at.
func (w *Watcher) wait(ctx context.Context, timeout <-chan time.Time) (scan bool) {
	var happened <-chan fsnotify.Event
	var failures <-chan error
	if w.notify != nil {
		happened, failures = w.notify.Events, w.notify.Errors
	}
	select {
	case <-ctx.Done():
		return false
	case <-timeout:
		return false
	case <-w.wake: // a shorter time between scans counts from now on
		return true
	case event, ok := <-happened:
		for range events {
			if !ok || filepath.Dir(event.Name) != w.reader.dir { // the end, or the folder itself has gone
				w.unwatch()
				return true
			}
			if !w.glance(filepath.Base(event.Name)) {
				return true
			}
			select {
			case event, ok = <-happened:
			default:
				return false
			}
		}
		return false
	case err := <-failures:
		// Whatever was lost, the end of the watched directory may be among it.
		w.log.Debug().Err(err).Str("path", w.reader.dir).Msg("events were lost, looking at the whole folder")
		w.unwatch()
		return true
	}
}

// glance looks at what an event is about. It reports false if the folder did not let it.
func (w *Watcher) glance(file string) bool {
	name, ok := nameOf(file)
	if !ok {
		return true
	}
	seen, err := lookAt(w.reader.dir, name)
	if err != nil {
		return false
	}
	w.plan.observe(name, seen, time.Now(), true, false)
	return true
}

// scan looks at the whole folder, after it has made sure that it is watched. It returns when to
// look again, given the time between scans.
func (w *Watcher) scan(now time.Time, rescan time.Duration) time.Duration {
	if w.scanned.IsZero() {
		if err := create(w.reader.dir); err != nil {
			w.report(err)
			return retry
		}
	}
	watchErr := w.watch()
	names, err := list(w.reader.dir)
	missing := errors.Is(err, fs.ErrNotExist) && !w.scanned.IsZero()
	if err != nil && !missing { // that it is gone is a definite answer: it has no files
		w.report(err)
		return retry
	}
	for _, name := range w.plan.known() {
		names[name] = struct{}{}
	}
	looks := make(map[string]look, len(names))
	for name := range names {
		if looks[name], err = lookAt(w.reader.dir, name); err != nil {
			w.report(err)
			return retry
		}
	}
	for name, seen := range looks {
		w.plan.observe(name, seen, now, false, true)
	}
	if w.scanned.IsZero() {
		w.scanned = now
	}
	w.report(nil)
	if missing && !w.missing {
		w.log.Warn().Str("path", w.reader.dir).Msg("the folder is gone, and all programs with it, until it is there again")
	}
	w.missing = missing
	switch {
	case missing:
		return retry
	case watchErr != nil:
		if w.unheard != watchErr.Error() {
			w.log.Warn().Err(watchErr).Str("path", w.reader.dir).Dur("every", poll).Msg("the folder does not tell of changes and is looked at regularly")
		}
		w.unheard = watchErr.Error()
		return poll
	case rescan == 0:
		return never
	}
	return rescan
}

// create makes a folder that is missing.
func create(dir string) error {
	err := os.MkdirAll(filepath.Dir(dir), 0o755)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the folder: %w", err)
	}
	return nil
}

// list returns the names that the folder has files of.
func list(dir string) (map[string]struct{}, error) {
	names := make(map[string]struct{})
	d, err := os.Open(dir)
	if err != nil {
		return names, fmt.Errorf("read the folder: %w", err)
	}
	defer d.Close() // it was only read
	files, err := d.Readdirnames(-1)
	if err != nil {
		return names, fmt.Errorf("read the folder: %w", err)
	}
	for _, file := range files {
		if name, ok := nameOf(file); ok {
			names[name] = struct{}{}
		}
	}
	return names, nil
}

// watch makes sure that the directory which is now at the folder's path is watched.
func (w *Watcher) watch() error {
	info, err := os.Stat(w.reader.dir)
	if err != nil {
		w.unwatch()
		return fmt.Errorf("watch the folder: %w", err)
	}
	if w.notify != nil && os.SameFile(info, w.watched) {
		return nil
	}
	w.unwatch()
	notify, err := fsnotify.NewBufferedWatcher(events)
	if err != nil {
		return fmt.Errorf("watch the folder: %w", err)
	}
	err = notify.Add(w.reader.dir)
	if err == nil {
		// Between the two another directory may have come.
		var after fs.FileInfo
		if after, err = os.Stat(w.reader.dir); err == nil && !os.SameFile(info, after) {
			err = errChanged
		}
	}
	if err != nil {
		_ = notify.Close() // nothing was read from it
		return fmt.Errorf("watch the folder: %w", err)
	}
	w.notify, w.watched, w.unheard = notify, info, ""
	return nil
}

func (w *Watcher) unwatch() {
	if w.notify != nil {
		_ = w.notify.Close() // nothing of it is needed any more
		w.notify, w.watched = nil, nil
	}
}

// takeDue takes the names that have settled. It reports false if the folder did not let it.
func (w *Watcher) takeDue(ctx context.Context) bool {
	now := time.Now() // what has been quiet for long enough by then is taken, and not overdue
	for _, name := range w.plan.due(now) {
		seen, err := lookAt(w.reader.dir, name)
		if err != nil {
			return false
		}
		w.plan.observe(name, seen, time.Now(), false, false)
		if seen, ok := w.plan.settled(name, time.Now()); ok {
			w.take(ctx, name, seen)
		}
		if ctx.Err() != nil {
			return true
		}
	}
	for _, name := range w.plan.expire(now) {
		w.log.Warn().Str("proc", name).Str("path", w.reader.program(name).Path).Msg("the files of a program do not stop changing; it is taken when they do")
	}
	return true
}

func (w *Watcher) take(ctx context.Context, name string, seen look) {
	last, lastSeen := w.plan.last(name)
	if w.plan.unchanged(name) {
		w.plan.take(name, last, false)
		return
	}
	program, passing, err := w.reader.read(ctx, name, seen, last, lastSeen)
	switch {
	case err == nil:
		w.plan.take(name, program, passing)
	case ctx.Err() == nil:
		w.plan.disturb(name, time.Now())
	}
}

// send hands out the set, if it is another one than before. The first one has all that the
// first look at the folder saw.
func (w *Watcher) send(now time.Time) {
	if w.sent && !w.plan.dirty {
		return
	}
	if !w.sent && !w.plan.complete() && now.Sub(w.scanned) < w.plan.patience {
		return
	}
	w.sent = true
	set := w.plan.set(w.reader.program)
	select {
	case <-w.changes: // nobody has received it
	default:
	}
	w.changes <- set // only here, so there is room
}

// report takes in why the folder cannot be read, or nil, and logs it when that is news.
func (w *Watcher) report(err error) {
	w.mu.Lock()
	before := w.problem
	w.problem = err
	w.mu.Unlock()
	switch {
	case err != nil && text(err) != text(before):
		w.log.Error().Err(err).Str("path", w.reader.dir).Msg("the folder cannot be read; what runs goes on")
	case err == nil && before != nil:
		w.log.Info().Str("path", w.reader.dir).Msg("the folder can be read again")
	}
}
