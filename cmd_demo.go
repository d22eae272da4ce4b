package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the guest
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"perdure/memsnap"
	"perdure/runtime"
)

// The guest of the demonstration counts primes by trial division, and prints a line for every
// 5,000 numbers, to its standard output and to a file.
//
//go:embed testdata/guests/primes.wasm
var demoGuest []byte

const (
	demoLines = 1400 // of output, about two seconds
	demoKills = 3
	demoEvery = 100 * time.Millisecond
	demoFile  = "primes.txt"
)

func newDemoCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "see a program killed three times and going on",
		Long: `Run a program twice: once in peace, and once with perdure run, killed with SIGKILL three
times at random moments and started again with the same command. Then compare what the two
have computed. It takes some seconds and leaves nothing behind.

Exit status: 0 when nothing was lost, 1 when something was.`,
		Example: `  perdure demo`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			dir, err := os.MkdirTemp("", "perdure-demo-")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			d := &demo{env: env, dir: dir, terminal: isTerminal(env.stdout)}
			err = d.run(ctx)
			if ctx.Err() != nil {
				d.erase()
				return &statusError{status: exitSignal + 2}
			}
			return err
		},
	}
}

// demo is one demonstration.
type demo struct {
	env      *environment
	dir      string
	terminal bool
	drawn    time.Time // when the line of progress was written last
	line     bool      // it is there
	err      error     // the first of writing to stdout
}

// life is one worker, from its start to its end.
type life struct {
	cmd    *exec.Cmd
	lines  chan string // closed when there are no more
	stderr bytes.Buffer
}

func (d *demo) run(ctx context.Context) error {
	program := filepath.Join(d.dir, "primes.wasm")
	if err := os.WriteFile(program, demoGuest, 0o600); err != nil {
		return err
	}
	d.say("primes.wasm is an ordinary program, compiled from C; it knows nothing of perdure.")

	began := time.Now()
	if err := d.live(ctx, "in-peace", nil); err != nil {
		return err
	}
	d.say("in peace   counts the primes below %d in %s", demoLines*5000, short(time.Since(began)))

	began = time.Now()
	if err := d.live(ctx, "killed", d.plan()); err != nil {
		return err
	}
	d.say("killed     counts them too, in %s", short(time.Since(began)))

	want, err := os.ReadFile(filepath.Join(d.dir, "in-peace", demoFile))
	if err != nil {
		return err
	}
	got, err := os.ReadFile(filepath.Join(d.dir, "killed", demoFile))
	if err != nil {
		return err
	}
	d.say("in peace   wrote %d lines, SHA-256 %.12x…", bytes.Count(want, []byte("\n")), sha256.Sum256(want))
	d.say("killed     wrote %d lines, SHA-256 %.12x…", bytes.Count(got, []byte("\n")), sha256.Sum256(got))
	if !bytes.Equal(want, got) {
		d.say("Lost: the two are not the same.")
		return &statusError{status: exitDamage}
	}
	d.say("Lost: nothing. What it had done after its last snapshot, it did again.")
	return d.err
}

// plan chooses the lines at which the program is killed: one in each part of its life, the
// last excepted, so that something is left to be done.
func (d *demo) plan() []int {
	const part = demoLines / (demoKills + 1)
	var lines []int
	for i := range demoKills {
		lines = append(lines, part*i+part/2+rand.IntN(part))
	}
	return lines
}

// live runs the program under a name to its end, and kills it when it has come to given lines.
func (d *demo) live(ctx context.Context, name string, kills []int) error {
	files := filepath.Join(d.dir, name)
	if err := os.Mkdir(files, 0o700); err != nil {
		return err
	}
	l, err := d.start(ctx, name)
	if err != nil {
		return err
	}
	defer func() { l.kill() }()
	for nth := 0; ; {
		line, ok := <-l.lines
		if !ok {
			if err := l.wait(ctx); err != nil || nth == len(kills) {
				return err
			}
			return fmt.Errorf("the program ended before it could be killed %d times", len(kills))
		}
		at, err := lineNumber(line)
		if err != nil {
			return err
		}
		d.progress("%-10s line %d of %d", name, at, demoLines)
		if nth == len(kills) || at < kills[nth] {
			continue
		}
		// On a slow disk even the first snapshot may take longer than this.
		if _, err := d.newest(ctx, name); errors.Is(err, memsnap.ErrNotFound) {
			continue
		}
		nth++
		at = l.readFor(rand.N(10*time.Millisecond), at)
		killed := time.Now()
		at = max(at, l.kill())
		from, err := d.newest(ctx, name)
		if err != nil {
			return err
		}
		next, err := d.start(ctx, name)
		if err != nil {
			return err
		}
		l = next
		line, ok = <-l.lines
		took := time.Since(killed)
		if !ok {
			return errors.Join(errors.New("it did not go on"), l.wait(ctx))
		}
		again, err := lineNumber(line)
		if err != nil {
			return err
		}
		d.say("%-10s at line %d; %d ms later it goes on from generation %d, with line %d", fmt.Sprintf("kill -9 #%d", nth), at,
			took.Milliseconds(), from, again)
	}
}

// newest returns the newest generation of a process.
func (d *demo) newest(ctx context.Context, name string) (uint64, error) {
	s, err := runtime.OpenSaved(filepath.Join(d.dir, "state", name))
	if err != nil {
		return 0, err
	}
	st, err := s.State(ctx)
	return st.Generation.Number, err
}

// start starts a worker: this program, with the command that a user would give.
func (d *demo) start(ctx context.Context, name string) (*life, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := &life{lines: make(chan string)}
	l.cmd = exec.CommandContext(ctx, self, "run", "--quiet", "--every", demoEvery.String(),
		"--state", filepath.Join(d.dir, "state"), "--cache", filepath.Join(d.dir, "cache"), "--name", name,
		"--dir", filepath.Join(d.dir, name)+":/",
		filepath.Join(d.dir, "primes.wasm"), strconv.Itoa(demoLines), "/"+demoFile)
	l.cmd.Args[0] = d.env.name
	l.cmd.Stderr = &l.stderr
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(l.lines)
		// A line that is cut off by a kill is no line: it comes again.
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			l.lines <- line
		}
	}()
	return l, nil
}

// readFor reads lines for some time and returns the number of the last one; at is that of the
// one before.
func (l *life) readFor(d time.Duration, at int) int {
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		select {
		case line, ok := <-l.lines:
			if !ok {
				return at
			}
			at, _ = lineNumber(line) // the first was read, and so are the others
		case <-end.C:
			return at
		}
	}
}

// kill kills a worker that has not been waited for, and returns the number of the last line that it
// printed and nobody had read; 0 if there is none.
func (l *life) kill() (at int) {
	if l.cmd.ProcessState != nil {
		return 0
	}
	_ = l.cmd.Process.Kill() // it may have ended by itself
	for line := range l.lines {
		at, _ = lineNumber(line)
	}
	_ = l.cmd.Wait() // that it was killed is known
	return at
}

// wait waits for the end of a worker that has to end well; its lines have been read.
func (l *life) wait(ctx context.Context) error {
	err := l.cmd.Wait()
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("perdure run: %w: %s", err, bytes.TrimSpace(l.stderr.Bytes()))
}

// lineNumber returns which line of the program's output one is.
func lineNumber(line string) (int, error) {
	var primes, below int
	if _, err := fmt.Sscanf(line, "%d primes below %d,", &primes, &below); err != nil || below%5000 != 0 {
		return 0, fmt.Errorf("the program printed %q", line)
	}
	return below / 5000, nil
}

// say prints a line of the demonstration.
func (d *demo) say(format string, args ...any) {
	d.erase()
	if _, err := fmt.Fprintf(d.env.stdout, format+"\n", args...); err != nil && d.err == nil {
		d.err = err
	}
}

// progress shows on a terminal how far the program is.
func (d *demo) progress(format string, args ...any) {
	if d.terminal && time.Since(d.drawn) > 50*time.Millisecond {
		d.erase()
		fmt.Fprintf(d.env.stdout, format, args...)
		d.drawn, d.line = time.Now(), true
	}
}

// erase removes the line of progress.
func (d *demo) erase() {
	if d.line {
		fmt.Fprint(d.env.stdout, "\r\x1b[K")
		d.line = false
	}
}
