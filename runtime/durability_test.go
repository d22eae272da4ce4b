package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"perdure/runtime/internal/guests"
)

// lasting is a program that is killed and has to end as if it had not been.
type lasting struct {
	t     *testing.T
	s     subject
	args  []string
	stdin string
	spec  workerSpec // of every worker but the undisturbed one
	want  outcome
	calls int // to the outside, of the undisturbed run
}

// newLasting runs a program undisturbed.
func newLasting(t *testing.T, s subject, args []string, stdin string, spec workerSpec) *lasting {
	t.Helper()
	l := &lasting{t: t, s: s, args: args, stdin: stdin, spec: spec}
	p := l.place()
	p.spec.KillAt = -1
	w := p.launch()
	status := w.wait(5 * time.Minute) // code is compiled
	if status != int(s.ExitCode) {
		t.Fatalf("status %d\n%s", status, w.describe())
	}
	l.want = p.outcome()
	if _, err := fmt.Sscanf(w.stderr.String(), "calls %d", &l.calls); err != nil {
		t.Fatalf("%v in %q", err, w.stderr.String())
	}
	return l
}

// place is one process of a lasting program.
type place struct {
	*lasting
	dir, in string
	spec    workerSpec
}

func (l *lasting) place() *place {
	l.t.Helper()
	p := &place{lasting: l, dir: l.t.TempDir(), spec: l.spec}
	p.in = filepath.Join(p.dir, "stdin")
	out := filepath.Join(p.dir, "out")
	if err := os.Mkdir(out, 0o700); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(p.in, []byte(l.stdin), 0o600); err != nil {
		l.t.Fatal(err)
	}
	o := &p.spec.Options
	o.Dir, o.Name, o.CacheDir, o.Program = filepath.Join(p.dir, "process"), l.s.Name, cacheDir(), l.s.path(l.t)
	o.Args = append([]string{l.s.Guest}, l.args...)
	o.Preopens = []Preopen{{Host: out, Guest: "/"}}
	if o.Durability == "" {
		o.Durability = DurabilityProcess
	}
	p.spec.Stdout = filepath.Join(p.dir, "stdout")
	return p
}

// launch starts a worker.
func (p *place) launch() *life {
	p.t.Helper()
	in, err := os.Open(p.in)
	if err != nil {
		p.t.Fatal(err)
	}
	defer in.Close()
	return launch(p.t, p.spec, in)
}

func (p *place) outcome() outcome {
	p.t.Helper()
	b, err := os.ReadFile(p.spec.Stdout)
	if err != nil {
		p.t.Fatal(err)
	}
	return outcome{stdout: string(b), files: tree(p.t, filepath.Join(p.dir, "out"))}
}

// finish runs the process to its end and compares what it leaves.
func (p *place) finish(what string) {
	p.t.Helper()
	p.spec.KillAt = 0
	w := p.launch()
	status := w.wait(5 * time.Minute)
	if status != int(p.s.ExitCode) {
		p.t.Fatalf("%s: status %d\n%s", what, status, w.describe())
	}
	p.calm(w, what)
	got := p.outcome()
	got.compare(p.t, &p.want)
	if p.t.Failed() {
		p.t.Fatalf("%s\n%s", what, w.describe())
	}
	if left, err := filepath.Glob(filepath.Join(p.spec.Options.Dir, "*", "*-*")); err != nil || len(left) > 0 {
		p.t.Errorf("%s: %v is left (%v)", what, left, err)
	}
}

// calm fails when a worker has warned of something.
func (p *place) calm(w *life, what string) {
	p.t.Helper()
	for _, kind := range []string{"WarningEvent", "SkippedEvent", "CommitFailedEvent"} {
		for _, e := range w.events(kind) {
			p.t.Errorf("%s: %s", what, e.text)
		}
	}
}

// sweep kills the program at every stride-th call to the outside, before it and after its
// effect, and each time lets it go on to its end.
func (l *lasting) sweep(stride int) {
	replays := 0
	for at := 1 + seed(l.t).IntN(stride); at <= l.calls; at += stride {
		for _, after := range []bool{false, true} {
			what := fmt.Sprintf("killed at call %d of %d, after it: %v", at, l.calls, after)
			p := l.place()
			p.spec.KillAt, p.spec.KillAfter = at, after
			w := p.launch()
			if status := w.wait(2 * time.Minute); status != -1 {
				if status == int(l.s.ExitCode) {
					continue // it made fewer calls this time
				}
				l.t.Fatalf("%s: status %d\n%s", what, status, w.describe())
			}
			p.calm(w, what)
			if p.ended() { // it was at closing its files
				got := p.outcome()
				got.compare(l.t, &l.want)
				continue
			}
			p.finish(what)
			replays++
		}
	}
	l.t.Logf("%d calls, %d kills", l.calls, replays)
}

// mixed is a program that does everything to its files.
func mixed() subject {
	return subject{Case: guests.Case{Name: "go-mixed", Guest: "mixed", Go: true, Files: true}}
}

const mixedInput = "first\nsecond, which is longer\n\nfourth\nfifth without an end"

// A program that is killed at a call to the outside ends as if it had not been.
func TestKillAtCalls(t *testing.T) {
	killAtCalls(t, 257)
}

// killAtCalls kills a program at every stride-th call, with a past that begins at its birth and
// with cuts between.
func killAtCalls(t *testing.T, stride int) {
	words := []string{"3", "unlinked", "stdin", "sleep"}
	newLasting(t, mixed(), words, mixedInput, workerSpec{}).sweep(stride)
	newLasting(t, mixed(), words, mixedInput, workerSpec{Options: Options{JournalMax: 3000}, RotateAt: 4000}).sweep(stride)
}

// killRandomly kills a program so many times at random moments, and compares what it leaves.
func (l *lasting) killRandomly(kills int) {
	rnd := seed(l.t)
	p := l.place()
	length := 50 * time.Millisecond
	done, lives := 0, 0
	for done < kills {
		w := p.launch()
		if w.await(2*time.Minute, 1, "StartedEvent", "RestoredEvent") {
			time.Sleep(time.Duration(rnd.Int64N(int64(length))))
		}
		w.signal(syscall.SIGKILL)
		status := w.wait(2 * time.Minute)
		lives++
		p.calm(w, fmt.Sprint("life ", lives))
		switch status {
		case -1:
			done++
			if p.ended() { // before the kill
				got := p.outcome()
				got.compare(l.t, &l.want)
				p = l.place()
			}
		case int(l.s.ExitCode):
			got := p.outcome()
			got.compare(l.t, &l.want)
			length = length * 9 / 10
			p = l.place()
		default:
			l.t.Fatalf("status %d\n%s", status, w.describe())
		}
		if l.t.Failed() {
			l.t.Fatalf("after %d kills\n%s", done, w.describe())
		}
	}
	p.finish(fmt.Sprintf("after %d kills", done))
	l.t.Logf("%d kills in %d lives", done, lives)
}

// ended tells whether the process has ended.
func (p *place) ended() bool {
	p.t.Helper()
	s, err := OpenSaved(p.spec.Options.Dir)
	if err != nil {
		return false // nothing was saved yet
	}
	bt, err := s.Backtrace(p.t.Context(), 0)
	return err == nil && bt.Ended
}

func TestKillRandomly(t *testing.T) { killRandomly(t, 3) }

func killRandomly(t *testing.T, kills int) {
	l := newLasting(t, mixed(), []string{"40", "unlinked", "stdin", "sleep"}, strings.Repeat(mixedInput+"\n", 10),
		workerSpec{Options: Options{Every: 5 * time.Millisecond, MaxShare: 1}, RotateAt: 20000})
	l.killRandomly(kills)
}
