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
	"perdure/runtime/bench"
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

	programs []*demoProgram
	server   *demoProgram // one of them
	guest    *demoProgram // of the viewer, one of them; nil for none
	daemon   demoSaved    // of which only the kills are known
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
	for _, act := range []func(context.Context) error{d.killPrograms, d.killDaemon, d.killAll} {
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
	address, err := bench.FreeAddress()
	if err != nil {
		return err
	}
	d.server = &demoProgram{name: "keyvalue", what: "is a key-value server, with all in its memory", source: keyvalueGuest, listen: address, check: checkNothing}
	d.programs = append([]*demoProgram{
		{name: "counter", what: "counts in a tight loop", source: tallyGuest, args: []string{"5000000", "/counter.txt"}, check: checkTally},
		{name: "primes", what: "computes primes", source: primesGuest, args: []string{"1000000", "/primes.txt"}, check: checkPrimes},
		d.server,
	}, d.programs...)
	if err := os.WriteFile(d.path("perdure.toml"), []byte(d.config()), 0o600); err != nil {
		return err
	}
	if err := d.keep(ctx); err != nil {
		return err
	}
	if err := d.serve(ctx); err != nil {
		return err
	}
	d.say("perdure serve: the daemon runs, process %d", d.served.Process.Pid)
	for _, p := range d.programs {
		if err := d.drop(p); err != nil {
			return err
		}
		d.say("%s.wasm is dropped into its folder: it %s", p.name, p.what)
	}
	if d.server.client, err = dialDemo(ctx, address); err != nil {
		return errors.Join(err, d.server.why(ctx, d.client))
	}
	d.say("a client opens one connection to %s and lets it count: INCR hits", d.server.name)
	return nil
}

// config is the configuration of the daemon. It also says where the programs are.
func (d *demo) config() string {
	var conf strings.Builder
	fmt.Fprintf(&conf, "[daemon]\nkeeper = %q\n[snapshot]\nevery = %q\n", d.path("k"), demoEvery)
	for _, p := range d.programs {
		p.state = d.path("state", p.name)
		switch {
		case p.listen != "":
			fmt.Fprintf(&conf, "[process.%s]\nlisten = [%q]\n", p.name, "tcp://"+p.listen)
		case p.args != nil:
			p.output = newDemoOutput(d.path("files", p.name+".txt"), p.check)
			fmt.Fprintf(&conf, "[process.%s]\nargs = [%q, %q]\ndirs = [%q]\n", p.name, p.args[0], p.args[1], d.path("files")+":/")
			continue
		}
		p.output = newDemoOutput(d.path("state", "logs", p.name+".log"), p.check)
	}
	return conf.String()
}

// keep starts what keeps the connections. The daemon would start one too, which would outlive it.
func (d *demo) keep(ctx context.Context) error {
	cmd := d.command("keeper", "--socket", d.path("k"))
	if err := cmd.Start(); err != nil {
		return err
	}
	d.keeper = cmd
	return d.until(ctx, "the keeper", func() bool {
		_, err := os.Stat(d.path("k"))
		return err == nil
	})
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

// untilSaved waits until each program has done something and has been saved twice.
func (d *demo) untilSaved(ctx context.Context) error {
	for _, p := range d.programs {
		err := d.until(ctx, p.name, func() bool {
			if p == d.guest {
				return p.saved() >= 2 || d.guestOver(ctx)
			}
			return p.saved() >= 2 && p.done() > 0
		})
		if err != nil {
			return errors.Join(err, p.why(ctx, d.client))
		}
	}
	return nil
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
	for _, p := range d.programs {
		all = append(all, p.problem())
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
		rows := make([]demoRow, len(d.programs))
		for i, p := range d.programs {
			p.look()
			rows[i] = p.row()
		}
		d.screen.draw(rows)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
