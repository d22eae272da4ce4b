package main

import (
	"context"
	_ "embed" // the guests
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"perdure/daemon"
)

// The programs of the demonstration. They are compiled from C and know nothing of Perdure.
var (
	//go:embed testdata/guests/tally.wasm
	tallyGuest []byte
	//go:embed testdata/guests/primes.wasm
	primesGuest []byte
	//go:embed testdata/guests/keyvalue.wasm
	keyvalueGuest []byte
)

const (
	// demoPatience is how long anything may take before the demonstration gives up; a machine may be slow.
	demoPatience = 3 * time.Minute
	// demoLook is the time between two looks at what only shows from outside.
	demoLook = 2 * time.Millisecond
	// demoRefresh is the time between two pictures of the screen.
	demoRefresh = 100 * time.Millisecond
	demoEvery   = "250ms" // between snapshots
)

// demo is one demonstration. One goroutine calls its methods, but for refresh, which has its own.
type demo struct {
	exe    string
	dir    string
	screen *demoScreen
	pace   time.Duration // for the viewer to see what has happened

	client *daemon.Client
	served *exec.Cmd // the daemon; nil while there is none
	keeper *exec.Cmd

	hosted []*demoProgram // by the daemon
	guest  *demoProgram   // of the viewer, one of them; nil for none
	server *demoServer
	daemon demoSaved // of which only the kills are known
}

func (d *demo) path(words ...string) string {
	return filepath.Join(append([]string{d.dir}, words...)...)
}

// run tells the story to its end.
func (d *demo) run(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var drawing sync.WaitGroup
	defer drawing.Wait()
	defer cancel()
	drawing.Go(func() { d.refresh(ctx) })

	d.say("each takes a snapshot every %s, and a journal of what the outside answers in between", demoEvery)
	if err := d.untilSaved(ctx); err != nil {
		return err
	}
	for _, act := range []func(context.Context) error{d.killPrograms, d.killServer, d.killDaemon, d.killAll} {
		if err := d.wait(ctx, d.pace); err != nil {
			return err
		}
		if err := act(ctx); err != nil {
			return err
		}
	}
	return d.wait(ctx, d.pace)
}

// begin starts everything.
func (d *demo) begin(ctx context.Context) error {
	for _, dir := range []string{"modules", "files", "new"} {
		if err := os.Mkdir(d.path(dir), 0o700); err != nil {
			return err
		}
	}
	d.client = daemon.NewClient(d.path("s"))
	d.hosted = append([]*demoProgram{
		{name: "counter", what: "counts in a tight loop", source: tallyGuest, args: []string{"5000000", "/counter.txt"}, check: checkTally},
		{name: "primes", what: "computes primes", source: primesGuest, args: []string{"1000000", "/primes.txt"}, check: checkPrimes},
	}, d.hosted...)
	d.server = &demoServer{name: "keyvalue", what: "a server with a client"}
	var conf strings.Builder
	fmt.Fprintf(&conf, "[snapshot]\nevery = %q\n", demoEvery)
	for _, p := range d.hosted {
		p.state = d.path("state", p.name)
		if p.check == nil { // the viewer's own
			p.output = newDemoOutput(d.path("state", "logs", p.name+".log"), checkNothing)
			continue
		}
		p.output = newDemoOutput(d.path("files", p.name+".txt"), p.check)
		fmt.Fprintf(&conf, "[process.%s]\nargs = [%q, %q]\ndirs = [%q]\n", p.name, p.args[0], p.args[1], d.path("files")+":/")
	}
	if err := os.WriteFile(d.path("perdure.toml"), []byte(conf.String()), 0o600); err != nil {
		return err
	}
	if err := d.serve(ctx); err != nil {
		return err
	}
	d.say("perdure serve: the daemon runs, process %d", d.served.Process.Pid)
	for _, p := range d.hosted {
		if err := d.drop(p); err != nil {
			return err
		}
		d.say("%s.wasm is dropped into its folder: it %s", p.name, p.what)
	}
	return d.beginServer(ctx)
}

// beginServer starts the server, what keeps its connections, and its client.
func (d *demo) beginServer(ctx context.Context) (err error) {
	s := d.server
	s.state = d.path("alone", s.name)
	if s.address, err = freeAddress(); err != nil {
		return err
	}
	if err := os.WriteFile(d.path(s.name+".wasm"), keyvalueGuest, 0o600); err != nil {
		return err
	}
	d.keeper = d.command("keeper", "--socket", d.path("k"))
	if err := d.keeper.Start(); err != nil {
		d.keeper = nil
		return err
	}
	err = d.until(ctx, "the keeper", func() bool {
		_, err := os.Stat(d.path("k"))
		return err == nil
	})
	if err != nil {
		return err
	}
	if err := d.startServer(); err != nil {
		return err
	}
	d.say("perdure run --listen: %s.wasm is a key-value server in memory, process %d", s.name, s.cmd.Process.Pid)
	if s.client, err = dialDemo(ctx, s.address); err != nil {
		return err
	}
	d.say("a client opens one connection to it and lets it count: INCR hits")
	return nil
}

// command returns a perdure, which no Ctrl-C of this terminal reaches: whoever started it ends it.
func (d *demo) command(args ...string) *exec.Cmd {
	cmd := exec.Command(d.exe, args...)
	cmd.Args[0] = "perdure"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PERDURE_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

// serve starts the daemon and waits until it answers.
func (d *demo) serve(ctx context.Context) error {
	cmd := d.command("serve", "--config", d.path("perdure.toml"), "--state", d.path("state"), "--modules", d.path("modules"),
		"--cache", d.path("cache"), "--socket", d.path("s"), "--log-level", "error")
	said := &demoTail{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return err
	}
	d.served = cmd
	err := d.until(ctx, "the daemon", func() bool {
		_, err := d.client.Info(ctx)
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("%w; it says: %s", err, said)
	}
	return nil
}

// drop puts a program into the folder in one step.
func (d *demo) drop(p *demoProgram) error {
	path := d.path("new", p.name+".wasm")
	if err := os.WriteFile(path, p.source, 0o600); err != nil {
		return err
	}
	return os.Rename(path, d.path("modules", p.name+".wasm"))
}

// startServer starts the server with the command that it had before.
func (d *demo) startServer() error {
	s := d.server
	s.cmd = d.command("run", "--quiet", "--every", demoEvery, "--state", d.path("alone"), "--cache", d.path("cache"),
		"--keeper", d.path("k"), "--listen", "tcp://"+s.address, d.path(s.name+".wasm"))
	s.cmd.Stderr = &s.said
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	s.alive.Store(true)
	return nil
}

// untilSaved waits until each program has done something and has been saved twice.
func (d *demo) untilSaved(ctx context.Context) error {
	for _, p := range d.hosted {
		err := d.until(ctx, p.name, func() bool {
			if p == d.guest && d.guestOver(ctx) {
				return true
			}
			return p.saved() >= 2 && (p == d.guest || p.output.lines() > 0)
		})
		if err != nil {
			return errors.Join(err, p.why(ctx, d.client))
		}
	}
	return d.until(ctx, d.server.name, func() bool { return d.server.saved() >= 2 && d.server.client.answers() > 0 })
}

// until waits for what only shows from outside. What was lost meanwhile ends it.
func (d *demo) until(ctx context.Context, what string, ok func() bool) error {
	for limit := time.Now().Add(demoPatience); !ok(); {
		if err := d.lost(); err != nil {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("waited %v for %s in vain", demoPatience, what)
		}
		if err := d.wait(ctx, demoLook); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) wait(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t):
		return nil
	}
}

// lost returns what was lost, as a statusError; nil if nothing was.
func (d *demo) lost() error {
	var all []error
	for _, p := range d.hosted {
		if p.output != nil {
			all = append(all, p.output.problem())
		}
	}
	if d.server != nil && d.server.client != nil {
		all = append(all, d.server.client.problem())
	}
	if err := errors.Join(all...); err != nil {
		return &statusError{status: exitDamage, err: fmt.Errorf("lost: %w", err)}
	}
	return nil
}

func (d *demo) say(format string, args ...any) { d.screen.say(fmt.Sprintf(format, args...)) }

// refresh keeps the screen up to date until ctx is done.
func (d *demo) refresh(ctx context.Context) {
	tick := time.NewTicker(demoRefresh)
	defer tick.Stop()
	for {
		rows := make([]demoRow, 0, len(d.hosted)+1)
		for _, p := range d.hosted {
			p.look()
			rows = append(rows, p.row())
		}
		d.server.look()
		d.screen.draw(append(rows, d.server.row()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
