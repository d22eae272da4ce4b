package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"perdure/daemon"
	"perdure/daemon/worker"
)

// killPrograms kills the worker of each program that the daemon runs.
func (d *demo) killPrograms(ctx context.Context) error {
	for i, p := range d.programs {
		if p == d.guest && d.guestOver(ctx) {
			d.say("%s has ended by itself", p.name)
			continue
		}
		if i > 0 {
			if err := d.wait(ctx, d.pace); err != nil {
				return err
			}
		}
		at, err := p.kill()
		if err != nil {
			return err
		}
		d.say("kill -9 %d, the worker of %s, at %s", at.pid, p.name, at.where)
		if err := d.untilBack(ctx, d.of(ctx, p, at)); err != nil {
			return err
		}
	}
	return nil
}

// demoReturn is somebody who was killed and is to work again.
type demoReturn struct {
	name  string
	since time.Time
	works func() bool
	saved *demoSaved
	where func() string // once it works
	over  bool
}

// of says when a program works again: when it has done more than when it was dead.
func (d *demo) of(ctx context.Context, p *demoProgram, at demoMark) *demoReturn {
	r := &demoReturn{name: p.name, since: at.time, saved: &p.demoSaved, where: p.where}
	r.works = func() bool { return p.done() > at.done }
	if p == d.guest { // which may say nothing
		r.works = func() bool {
			s, err := d.client.Inspect(ctx, p.name)
			return err == nil && (s.State == daemon.StateEnded || s.State == daemon.StateFailed || s.PID != 0 && s.PID != at.pid && s.RestoredFrom > 0)
		}
	}
	return r
}

// untilBack waits until all of them work again.
func (d *demo) untilBack(ctx context.Context, all ...*demoReturn) error {
	left := len(all)
	err := d.until(ctx, "those that were killed", func() bool {
		for _, r := range all {
			if r.over || !r.works() {
				continue
			}
			back := time.Since(r.since)
			r.saved.cameBack(back)
			d.say("  %s goes on %s later, with %s", r.name, short(back), r.where())
			r.over = true
			left--
		}
		return left == 0
	})
	if err != nil && ctx.Err() == nil {
		for _, p := range d.programs {
			err = errors.Join(err, p.why(ctx, d.client))
		}
	}
	return err
}

// killDaemon kills the daemon: the programs run on without it, and the next one takes them over.
func (d *demo) killDaemon(ctx context.Context) error {
	pid := d.served.Process.Pid
	d.endDaemon(syscall.SIGKILL)
	d.say("kill -9 %d, the daemon", pid)
	marks := make([]demoMark, len(d.programs))
	for i, p := range d.programs {
		marks[i] = p.mark()
	}
	for i, p := range d.programs {
		if p == d.guest {
			continue
		}
		if err := d.until(ctx, p.name, func() bool { return p.done() > marks[i].done+1 }); err != nil {
			return err
		}
		d.say("  %s runs on without it: %s", p.name, p.where())
	}
	began := time.Now()
	if err := d.serve(ctx); err != nil {
		return err
	}
	for i, p := range d.programs {
		if marks[i].pid == 0 {
			continue // the viewer's own, which has ended
		}
		err := d.until(ctx, p.name, func() bool {
			s, err := d.client.Inspect(ctx, p.name)
			return err == nil && (s.PID == marks[i].pid || p == d.guest && s.PID == 0)
		})
		if err != nil {
			return fmt.Errorf("%w: the new daemon did not take its worker over", err)
		}
	}
	back := time.Since(began)
	d.daemon.cameBack(back)
	d.say("  a new daemon, process %d, has taken all of them over %s after its start", d.served.Process.Pid, short(back))
	return nil
}

// killAll kills everything at once, as a machine without memory would.
func (d *demo) killAll(ctx context.Context) error {
	at := time.Now()
	d.endDaemon(syscall.SIGKILL) // first, for it would start the others again
	var killed []*demoReturn
	for _, p := range d.programs {
		mark, err := p.kill()
		if p == d.guest && errors.Is(err, worker.ErrNoWorker) {
			continue // it has ended
		}
		if err != nil {
			return err
		}
		mark.time = at
		killed = append(killed, d.of(ctx, p, mark))
	}
	d.say("kill -9: the daemon and all workers at once; the daemon is started again")
	if err := d.serve(ctx); err != nil {
		return err
	}
	d.daemon.cameBack(time.Since(at))
	return d.untilBack(ctx, killed...)
}

// endDaemon ends the daemon with a signal and waits for it. After SIGTERM it has suspended all its programs.
func (d *demo) endDaemon(sig syscall.Signal) { endChild(d.served, sig); d.served = nil }

// endChild ends a child with a signal, and waits for it; with SIGKILL if it takes too long.
func endChild(cmd *exec.Cmd, sig syscall.Signal) {
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig) // it may have ended
	stuck := time.AfterFunc(demoPatience, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // how it ended is no matter
	stuck.Stop()
}

// end ends everything that was started, in order, so that nobody starts anything any more.
func (d *demo) end() error {
	var all []error
	if d.server != nil && d.server.client != nil {
		d.server.client.close()
	}
	d.endDaemon(syscall.SIGTERM)
	endChild(d.keeper, syscall.SIGTERM)
	for _, p := range d.programs {
		if p.state == "" {
			continue // nothing was started
		}
		// The daemon has suspended them, unless it was dead already.
		if h, err := p.worker(); err == nil {
			all = append(all, h.Signal(syscall.SIGKILL))
			<-h.Done()
		}
	}
	return errors.Join(all...)
}

// addGuest makes the viewer's own program one of those that are shown.
func (d *demo) addGuest(ctx context.Context, path string) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return &statusError{status: exitNotFound, err: err}
	}
	check := d.command("check", "--", path)
	var said bytes.Buffer
	check.Stdout, check.Stderr = &said, &said
	err = check.Start()
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = check.Process.Kill() }) // it may have ended
		err = check.Wait()
		stop()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return &statusError{status: exitRefused, err: fmt.Errorf("%s cannot be shown: %s", path, strings.TrimSpace(said.String()))}
	}
	d.guest = &demoProgram{name: "yours", what: "is " + path, source: src, check: checkNothing}
	d.programs = append(d.programs, d.guest)
	return nil
}

// guestOver tells whether the viewer's program has ended or failed by itself.
func (d *demo) guestOver(ctx context.Context) bool {
	s, err := d.client.Inspect(ctx, d.guest.name)
	return err == nil && (s.State == daemon.StateEnded || s.State == daemon.StateFailed)
}
