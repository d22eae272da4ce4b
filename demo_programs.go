package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"perdure/daemon"
	"perdure/daemon/worker"
	"perdure/memsnap"
	"perdure/runtime"
)

// demoSaved is what is known of the snapshots of a process, and of its kills. Its methods may be called from any goroutine.
type demoSaved struct {
	mu     sync.Mutex
	looked time.Time
	newest memsnap.Info
	count  int // of snapshots
	bytes  uint64
	pauses []time.Duration
	backs  []time.Duration // from kills until it worked again
}

// look reads what is new in the directory of a process, if it was not looked at lately.
func (s *demoSaved) look(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.looked) < demoRefresh {
		return
	}
	s.looked = time.Now()
	saved, err := runtime.OpenSaved(dir)
	if err != nil {
		return // there is none yet
	}
	list, err := saved.Generations()
	if err != nil {
		return // one was purged meanwhile
	}
	for _, g := range list {
		if g.Number > s.newest.Number && g.Err == nil {
			s.newest = g
			s.count++
			s.bytes += g.BytesStored
			s.pauses = append(s.pauses, g.Pause)
		}
	}
}

func (s *demoSaved) cameBack(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backs = append(s.backs, after)
}

// row returns what of a row of the screen is known here.
func (s *demoSaved) row() demoRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := demoRow{generation: s.newest.Number, snapshots: s.count, bytes: s.bytes, last: s.newest.BytesStored, backs: slices.Clone(s.backs)}
	if len(s.pauses) > 0 {
		sorted := slices.Sorted(slices.Values(s.pauses))
		r.pause, r.longest = sorted[len(sorted)/2], sorted[len(sorted)-1]
	}
	return r
}

// demoProgram is a program that the daemon runs.
type demoProgram struct {
	demoSaved
	name, what string
	source     []byte
	args       []string
	listen     string // address, of a server
	check      func() demoCheck
	state      string // directory of the process
	output     *demoOutput
	client     *demoClient // of a server; nil before there is one

	finding sync.Mutex
	found   *worker.Handle // the last that was found; nil if none was
}

// worker returns the worker that runs the program now.
func (p *demoProgram) worker() (*worker.Handle, error) {
	p.finding.Lock()
	defer p.finding.Unlock()
	if p.found != nil { // each handle has a descriptor, until its worker ends
		select {
		case <-p.found.Done():
		default:
			return p.found, nil
		}
	}
	h, err := worker.Find(p.state)
	p.found = h
	return h, err
}

func (p *demoProgram) look() { p.demoSaved.look(p.state) }

// saved returns how many snapshots there are.
func (p *demoProgram) saved() int {
	p.look()
	return p.demoSaved.row().snapshots
}

func (p *demoProgram) row() demoRow {
	r := p.demoSaved.row()
	r.name, r.doing = p.name, p.where()
	_, err := p.worker()
	r.alive = err == nil
	return r
}

// done returns how much the program has done: lines, or the answers of a server.
func (p *demoProgram) done() int {
	if p.client != nil {
		return p.client.answers()
	}
	return p.output.lines()
}

// where says the same for people.
func (p *demoProgram) where() string {
	if p.client != nil {
		return fmt.Sprintf("answer %d on one connection", p.client.answers())
	}
	return p.output.where()
}

// problem returns what was lost; nil if nothing was.
func (p *demoProgram) problem() error {
	if p.client != nil {
		return p.client.problem()
	}
	if p.output == nil {
		return nil // nothing was started
	}
	return p.output.problem()
}

// demoMark is where a program was.
type demoMark struct {
	done  int
	where string
	pid   int // 0 if there was no worker
	time  time.Time
}

// mark says where the program is.
func (p *demoProgram) mark() demoMark {
	m := demoMark{done: p.done(), where: p.where(), time: time.Now()}
	if h, err := p.worker(); err == nil {
		m.pid = h.PID()
	}
	return m
}

// kill kills the worker, and says where the program was when it was dead.
func (p *demoProgram) kill() (demoMark, error) {
	h, err := p.worker()
	if err != nil {
		return demoMark{}, fmt.Errorf("%s: %w", p.name, err)
	}
	began := time.Now()
	if err := h.Signal(syscall.SIGKILL); err != nil {
		return demoMark{}, err
	}
	<-h.Done()
	at := demoMark{done: p.done(), where: p.where(), pid: h.PID(), time: began}
	if p.client != nil {
		at.done++ // an answer may be on its way
	}
	return at, nil
}

// why says what the daemon knows of a program that does not do what it should.
func (p *demoProgram) why(ctx context.Context, c *daemon.Client) error {
	s, err := c.Inspect(ctx, p.name)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s is %s %s %s", p.name, s.State, s.Detail, s.LastError)
}

// demoCheck says what is wrong with a line of a program's output; n is its number, from 1.
type demoCheck func(n int, line string) error

// demoOutput is a file that a program writes. Every line is checked once it is whole. Its methods may be called from any
// goroutine.
type demoOutput struct {
	path  string
	check demoCheck

	mu   sync.Mutex
	at   int64 // what was read
	part []byte
	n    int // lines
	last string
	err  error // the first
}

func newDemoOutput(path string, check func() demoCheck) *demoOutput {
	return &demoOutput{path: path, check: check()}
}

// readLocked reads what is new.
func (o *demoOutput) readLocked() {
	f, err := os.Open(o.path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) || o.at > 0 {
			o.wrongLocked(err)
		}
		return
	}
	defer f.Close() // it is read only
	st, err := f.Stat()
	if err == nil && st.Size() < o.at {
		err = fmt.Errorf("it had %d bytes, and has %d", o.at, st.Size())
	}
	if err != nil {
		o.wrongLocked(err)
		return
	}
	b := make([]byte, st.Size()-o.at)
	n, err := f.ReadAt(b, o.at)
	if err != nil {
		o.wrongLocked(err)
	}
	o.at += int64(n)
	o.part = append(o.part, b[:n]...)
	for {
		line, rest, ok := bytes.Cut(o.part, []byte("\n"))
		if !ok {
			return
		}
		o.n++
		o.last = string(line)
		if err := o.check(o.n, o.last); err != nil {
			o.wrongLocked(fmt.Errorf("line %d is %q: %w", o.n, o.last, err))
		}
		o.part = rest
	}
}

func (o *demoOutput) wrongLocked(err error) {
	if o.err == nil {
		o.err = fmt.Errorf("%s: %w", o.path, err)
	}
}

// lines returns how many whole lines there are.
func (o *demoOutput) lines() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.readLocked()
	return o.n
}

// where returns the last whole line.
func (o *demoOutput) where() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.readLocked()
	if o.n == 0 {
		return "no line yet"
	}
	return strings.ToValidUTF8(o.last, "?")
}

// problem returns the first thing that is wrong; nil if nothing is.
func (o *demoOutput) problem() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

func checkNothing() demoCheck { return func(int, string) error { return nil } }

// checkTally checks the lines of the guest tally: a count, and the number that as many steps of its generator make of 1.
func checkTally() demoCheck {
	step := uint64(0)
	return func(n int, line string) error {
		var count, x uint64
		if _, err := fmt.Sscanf(line, "%d %x", &count, &x); err != nil {
			return err
		}
		if n == 1 {
			step = count
		}
		if want := uint64(n) * step; count != want || step == 0 {
			return fmt.Errorf("the count should be %d", want)
		}
		if want := congruential(count); x != want {
			return fmt.Errorf("after %d counts the number should be %016x", count, want)
		}
		return nil
	}
}

// congruential returns what n steps of x = a x + c make of 1, by doubling.
func congruential(n uint64) uint64 {
	a, c, x := uint64(6364136223846793005), uint64(1442695040888963407), uint64(1)
	for range bits.Len64(n) {
		if n&1 == 1 {
			x = a*x + c
		}
		a, c, n = a*a, (a+1)*c, n>>1
	}
	return x
}

// checkPrimes checks the lines of the guest primes, each of 5,000 numbers, with a sieve.
func checkPrimes() demoCheck {
	const each = 5000
	var primes []int
	return func(n int, line string) error {
		from, to := max(2, (n-1)*each), n*each
		composite := make([]bool, to-from)
		cross := func(p int) {
			for k := max(p*p, (from+p-1)/p*p); k < to; k += p {
				composite[k-from] = true
			}
		}
		for _, p := range primes {
			if p*p >= to {
				break
			}
			cross(p)
		}
		for k := from; k < to; k++ {
			if !composite[k-from] {
				primes = append(primes, k)
				if k*k < to {
					cross(k)
				}
			}
		}
		if want := fmt.Sprintf("%d primes below %d, the last %d", len(primes), to, primes[len(primes)-1]); line != want {
			return fmt.Errorf("it should be %q", want)
		}
		return nil
	}
}

// demoTail keeps the end of what a child says. It may be used from any goroutine.
type demoTail struct {
	mu  sync.Mutex
	end []byte
}

func (t *demoTail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p...)
	t.end = t.end[max(0, len(t.end)-2048):]
	return len(p), nil
}

func (t *demoTail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.end))
}
