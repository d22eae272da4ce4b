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
	for i, p := range d.hosted {
		if p == d.guest && d.guestOver(ctx) {
			d.say("%s has ended by itself", p.name)
			continue
		}
		if i > 0 {
			if err := d.wait(ctx, d.pace); err != nil {
				return err
			}
		}
		at, pid, err := p.kill()
		if err != nil {
			return err
		}
		d.say("kill -9 %d, the worker of %s, at %s", pid, p.name, at.where)
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
	r := &demoReturn{name: p.name, since: at.time, saved: &p.demoSaved, where: p.output.where}
	r.works = func() bool { return p.output.lines() > at.lines }
	if p == d.guest { // which may say nothing
		r.works = func() bool {
			s, err := d.client.Inspect(ctx, p.name)
			return err == nil && (s.State == daemon.StateEnded || s.State == daemon.StateFailed || s.PID != 0 && s.PID != at.pid && s.RestoredFrom > 0)
		}
	}
	return r
}

// ofServer says when the server answers again.
func (d *demo) ofServer(at time.Time) *demoReturn {
	s := d.server
	enough := s.client.answers() + 2 // one may have been under way
	return &demoReturn{
		name: s.name, since: at, saved: &s.demoSaved, works: func() bool { return s.client.answers() >= enough },
		where: func() string { return fmt.Sprintf("answer %d on the same connection", s.client.answers()) },
	}
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
		for _, p := range d.hosted {
			err = errors.Join(err, p.why(ctx, d.client))
		}
		err = errors.Join(err, fmt.Errorf("the server says: %s", &d.server.said))
	}
	return err
}

// killServer kills the server under its client and starts it again.
func (d *demo) killServer(ctx context.Context) error {
	s := d.server
	answers, pid, at := s.client.answers(), s.cmd.Process.Pid, time.Now()
	s.kill()
	d.say("kill -9 %d, the server, at answer %d; its client only waits; the same command again", pid, answers)
	if err := d.startServer(); err != nil {
		return err
	}
	return d.untilBack(ctx, d.ofServer(at))
}

// killDaemon kills the daemon: the programs run on without it, and the next one takes them over.
func (d *demo) killDaemon(ctx context.Context) error {
	pid := d.served.Process.Pid
	d.endDaemon(syscall.SIGKILL)
	d.say("kill -9 %d, the daemon", pid)
	marks := make([]demoMark, len(d.hosted))
	for i, p := range d.hosted {
		marks[i] = p.mark()
	}
	for i, p := range d.hosted {
		if p == d.guest {
			continue
		}
		if err := d.until(ctx, p.name, func() bool { return p.output.lines() > marks[i].lines+1 }); err != nil {
			return err
		}
		d.say("  %s runs on without it: %s", p.name, p.output.where())
	}
	began := time.Now()
	if err := d.serve(ctx); err != nil {
		return err
	}
	for i, p := range d.hosted {
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
	for _, p := range d.hosted {
		mark, _, err := p.kill()
		if p == d.guest && errors.Is(err, worker.ErrNoWorker) {
			continue // it has ended
		}
		if err != nil {
			return err
		}
		mark.time = at
		killed = append(killed, d.of(ctx, p, mark))
	}
	d.server.kill()
	d.say("kill -9: the daemon, all workers and the server at once; daemon and server are started again")
	killed = append(killed, d.ofServer(at))
	if err := d.startServer(); err != nil {
		return err
	}
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
	if d.server != nil && d.server.cmd != nil {
		endChild(d.server.cmd, syscall.SIGTERM)
	}
	d.endDaemon(syscall.SIGTERM)
	endChild(d.keeper, syscall.SIGTERM)
	for _, p := range d.hosted {
		if p.state == "" {
			continue // nothing was started
		}
		// The daemon has suspended them, unless it was dead already.
		if h, err := worker.Find(p.state); err == nil {
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
	if err := check.Run(); err != nil {
		return &statusError{status: exitRefused, err: fmt.Errorf("%s cannot be shown: %s", path, strings.TrimSpace(said.String()))}
	}
	d.guest = &demoProgram{name: "yours", what: "is " + path, source: src}
	d.hosted = append(d.hosted, d.guest)
	return ctx.Err()
}

// guestOver tells whether the viewer's program has ended or failed by itself.
func (d *demo) guestOver(ctx context.Context) bool {
	s, err := d.client.Inspect(ctx, d.guest.name)
	return err == nil && (s.State == daemon.StateEnded || s.State == daemon.StateFailed)
}
