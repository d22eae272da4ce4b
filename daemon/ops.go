package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"perdure/internal/keeper"
	"perdure/memsnap"
)

// readTime is how long a request waits for the first look at the folder, before it is told that there is no such process.
const readTime = 30 * time.Second

// named returns the unit of a process that there is.
func (d *Daemon) named(name string) (*unit, error) {
	has := func() *unit {
		u := d.find(name)
		if u == nil {
			return nil
		}
		v, _, _, _ := u.look()
		d.mu.Lock()
		_, shown := d.set[name]
		d.mu.Unlock()
		// What the folder shows is there, also before the unit has heard of it.
		if v.nothing() && (!shown || v.rec.Removed != "") {
			return nil
		}
		return u
	}
	if u := has(); u != nil {
		return u, nil
	}
	select {
	case <-d.read:
	case <-d.over:
	case <-time.After(readTime):
	}
	if u := has(); u != nil {
		return u, nil
	}
	d.mu.Lock()
	why := d.unnamed[name]
	d.mu.Unlock()
	if why != "" {
		return nil, newError(CodeState, "%s", why)
	}
	return nil, newError(CodeNotFound, "no process %q; perdure ps lists them", name)
}

// start makes a process run, and returns when its guest does, or has ended already.
func (d *Daemon) start(ctx context.Context, name string, fresh bool) error {
	u, err := d.named(name)
	if errors.Is(err, CodeNotFound) {
		if u = d.find(name); u != nil {
			if v, _, _, _ := u.look(); v.rec.Removed == "" {
				u = nil
			}
		}
	}
	if u == nil {
		return err
	}
	if v, _, _, _ := u.look(); fresh && v.phase != phaseNone {
		return newError(CodeState, "%s runs; to start it anew: perdure restart --fresh %s", name, name)
	}
	if err := u.send(ctx, message{in: inStart{fresh}}); err != nil {
		return err
	}
	return u.untilRunning(ctx)
}

// untilRunning waits until the guest runs, or says why it does not.
func (u *unit) untilRunning(ctx context.Context) error {
	_, err := u.until(ctx, func(v view) (bool, error) {
		switch {
		case v.phase == phaseUp && v.ready && v.goal.run && !v.restart:
			return true, v.notKept()
		case v.phase != phaseNone:
			return false, nil
		case v.over() && v.rec.Ended:
			return true, nil
		case v.goal.failed && v.rec.Quarantine.Reason != "":
			return true, newError(CodeRefused, "%s", v.goal.why)
		case v.goal.failed || v.over():
			return true, newError(CodeFailed, "%s", v.rec.LastError)
		case !v.goal.run:
			return true, newError(CodeState, "it does not run: %s", v.goal.why)
		case time.Now().Before(v.notBefore):
			return true, newError(CodeFailed, "%s; it is tried again", firstLine(v.rec.LastError))
		}
		return false, nil
	})
	return err
}

// notKept is the error of a record that could not be written.
func (v *view) notKept() error {
	if v.persistErr == nil {
		return nil
	}
	return newError(CodeInternal, "it is done, but a daemon that starts later will not know: %v", v.persistErr)
}

// stop suspends a process, and returns when its last generation is durable. It stays stopped until it is started.
func (d *Daemon) stop(ctx context.Context, name string) error {
	u, err := d.named(name)
	if err != nil {
		return err
	}
	before, _, _, _ := u.look()
	if err := u.send(ctx, message{in: inStop{}}); err != nil {
		return err
	}
	return u.untilStill(ctx, before.failedToSuspend)
}

// untilStill waits until there is no worker. The number is how often it could not be suspended before.
func (u *unit) untilStill(ctx context.Context, failed int) error {
	_, err := u.until(ctx, func(v view) (bool, error) {
		switch {
		case v.failedToSuspend > failed:
			return true, newError(CodeNotSaved, "%s could not be suspended, and runs on: %s", u.name, v.suspendErr)
		case v.phase != phaseNone:
			return false, nil
		case v.unsaved != "":
			return true, newError(CodeNotSaved, "%s is stopped, but its last moments are lost: %s", u.name, v.unsaved)
		}
		return true, v.notKept()
	})
	return err
}

// restart stops a process in a last generation and starts it again.
func (d *Daemon) restart(ctx context.Context, name string, fresh bool) error {
	u, err := d.named(name)
	if err != nil {
		return err
	}
	before, _, _, _ := u.look()
	if err := u.send(ctx, message{in: inRestart{fresh}}); err != nil {
		return err
	}
	if _, err := u.until(ctx, func(v view) (bool, error) {
		if v.failedToSuspend > before.failedToSuspend {
			return true, newError(CodeNotSaved, "%s could not be suspended, and runs on: %s", name, v.suspendErr)
		}
		if q := v.rec.Quarantine; fresh && !v.restart && v.file != nil && v.file.sha256 == q.SHA256 {
			return true, newError(CodeRefused, "%s", q.Reason)
		}
		return !v.restart, nil
	}); err != nil {
		return err
	}
	return u.untilRunning(ctx)
}

// still runs do while no worker runs the process, and lets it go on then as before. If the state is not needed any more
// the worker is killed, else suspended.
func (u *unit) still(ctx context.Context, kill bool, do func() error) (err error) {
	before, _, _, _ := u.look()
	if err := u.send(ctx, message{in: inHold{}}); err != nil {
		return err
	}
	defer func() {
		// Though the client may have gone.
		if rerr := u.send(u.d.ctx, message{in: inRelease{}}); rerr != nil && err == nil {
			err = rerr
		}
	}()
	if _, w, _, _ := u.look(); kill && w != nil {
		if err := w.Signal(syscall.SIGKILL); err != nil {
			return err
		}
		_, err = u.until(ctx, func(v view) (bool, error) { return v.phase == phaseNone, nil })
	} else {
		err = u.untilStill(ctx, before.failedToSuspend)
	}
	if err != nil {
		return err
	}
	_, _, st, _ := u.look()
	err = do()
	if kill {
		return err
	}
	return errors.Join(err, u.learn(st.Generation))
}

// remove forgets the state of a process.
func (d *Daemon) remove(ctx context.Context, name string) error {
	u, err := d.named(name)
	if err != nil {
		return err
	}
	return u.still(ctx, true, func() error {
		if err := d.forgetSockets(u); err != nil {
			u.log.Warn().Err(err).Msg("the keeper of sockets holds those of the process until their time is over")
		}
		if err := removeState(u.dir); err != nil {
			return err
		}
		if err := removeLogs(d.logOf(name)); err != nil {
			return err
		}
		u.mu.Lock()
		u.status.Generation, u.status.MemoryBytes = 0, 0
		u.mu.Unlock()
		d.tell(u, Event{Kind: EventRemoved, Text: "its state was removed"})
		return u.send(d.ctx, message{in: inRemoved{}})
	})
}

// forgetSockets makes the keeper let go of the sockets of a process that is to be removed.
func (d *Daemon) forgetSockets(u *unit) error {
	path := d.config().Daemon.Keeper
	secret, made, err := keeper.Secret(u.dir)
	if path == "" || made || err != nil {
		return err
	}
	return keeper.Forget(path, keeper.Owner(u.name, secret))
}

// removeState removes the directory of a process so that a half of it is never taken for the process.
func removeState(dir string) error {
	away := dirBeside(dir)
	if err := os.Rename(dir, away); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return os.RemoveAll(away)
}

// snapshot takes a generation of a process and returns when it is durable.
func (d *Daemon) snapshot(ctx context.Context, name string) (memsnap.Info, error) {
	u, err := d.running(ctx, name)
	if err != nil {
		return memsnap.Info{}, err
	}
	return u.client.Snapshot(ctx)
}

// running returns the unit of a process that runs. One that starts is waited for.
func (d *Daemon) running(ctx context.Context, name string) (*unit, error) {
	u, err := d.named(name)
	if err != nil {
		return nil, err
	}
	_, err = u.until(ctx, func(v view) (bool, error) {
		switch {
		case v.phase == phaseUp:
			return v.ready, nil
		case v.phase == phaseQueued, v.phase == phaseNone && v.goal.run && time.Until(v.notBefore) < startTime:
			return false, nil
		}
		return true, u.notRunning(v)
	})
	return u, err
}

// startTime is how long a request waits for a process that is about to be started again.
const startTime = 10 * time.Second

// notRunning is the error of what needs a worker.
func (u *unit) notRunning(v view) error {
	_, _, st, _ := u.look()
	state, detail := v.state(st, time.Now())
	if detail != "" {
		detail = " (" + detail + ")"
	}
	return newError(CodeState, "%s does not run: it is %s%s", u.name, state, detail)
}

// parallelSnapshots is how many processes are cut at the same time when all are.
const parallelSnapshots = 4

// snapshotAll takes a generation of every process that runs.
func (d *Daemon) snapshotAll(ctx context.Context) []Snapshot {
	list := []Snapshot{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	turn := make(chan struct{}, parallelSnapshots)
	for _, u := range d.all() {
		if v, w, _, _ := u.look(); w == nil || v.phase != phaseUp {
			continue
		}
		wait.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			s := Snapshot{Name: u.name}
			info, err := d.snapshot(ctx, u.name)
			if err != nil {
				s.Error = err.Error()
			}
			s.Generation = info.Number
			mu.Lock()
			defer mu.Unlock()
			list = append(list, s)
		})
	}
	wait.Wait()
	slices.SortFunc(list, func(a, b Snapshot) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// dirBeside returns a name, for a directory that is going away, which is that of no process.
func dirBeside(dir string) string {
	return filepath.Join(filepath.Dir(dir), fmt.Sprintf(".removed-%d", time.Now().UnixNano()))
}
