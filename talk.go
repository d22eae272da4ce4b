package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"perdure/runtime"
)

// progressAfter is how long work may take in silence.
const progressAfter = 300 * time.Millisecond

// talk is what perdure says to people: lines on stderr. Its methods may be called from
// any goroutine.
type talk struct {
	w              io.Writer
	terminal       bool
	quiet, verbose bool

	mu  sync.Mutex
	now progress
}

// progress is the work under way. On a terminal it is a line that is written again and
// again, elsewhere one line.
type progress struct {
	what    string
	howFar  string
	began   time.Time     // with this
	shown   bool          // on a terminal: the line is there; else: has been said
	stop    chan struct{} // closed to end the goroutine that draws
	stopped chan struct{} // closed when it has ended
}

func newTalk(w io.Writer) *talk { return &talk{w: w, terminal: isTerminal(w)} }

// isTerminal tells whether people read what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// say says what is good to know.
func (t *talk) say(format string, args ...any) {
	if !t.quiet {
		t.warn(format, args...)
	}
}

// warn says what has to be known.
func (t *talk) warn(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLocked()
	fmt.Fprintf(t.w, "perdure: "+format+"\n", args...)
}

// work tells what is being done, and on a terminal how far it is; it shows when it takes long.
func (t *talk) work(what, howFar string) {
	if t.quiet {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &t.now
	if p.stop == nil {
		*p = progress{stop: make(chan struct{}), stopped: make(chan struct{})}
		go t.draw(p.stop, p.stopped)
	}
	if p.what != what {
		p.what, p.began = what, time.Now()
		p.shown = p.shown && t.terminal
	}
	p.howFar = howFar
}

// meter shows how far a piece of work is that is counted.
type meter struct {
	t    *talk
	what string
	step string // of several; changed only while nobody tells
}

// tell is told how much is done, and of how much, 0 if that is not known.
func (m *meter) tell(done, total uint64) {
	m.t.work(m.what, strings.TrimSpace(bar(done, total)+m.step))
}

// bar draws how much is done.
func bar(done, total uint64) string {
	const width = 20
	if total == 0 {
		return ""
	}
	done = min(done, total)
	full := int(done * width / total)
	return fmt.Sprintf("[%-*s] %2d %% ", width, strings.Repeat("=", full), done*100/total)
}

// progress tells how far the runtime is with a program.
func (t *talk) progress(e runtime.ProgressEvent, program string) {
	howFar := ""
	if e.Total > 0 {
		howFar = fmt.Sprintf("(%d of %d functions)", e.Done, e.Total)
	}
	t.work(e.What+" "+program, howFar)
}

// rest ends the showing of work, and waits for it.
func (t *talk) rest() {
	t.mu.Lock()
	p := t.now
	t.mu.Unlock()
	if p.stop == nil {
		return
	}
	close(p.stop)
	<-p.stopped
	t.mu.Lock()
	t.clearLocked()
	t.now = progress{}
	t.mu.Unlock()
}

func (t *talk) draw(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		t.mu.Lock()
		p := &t.now
		if took := time.Since(p.began); took >= progressAfter {
			switch {
			case t.terminal:
				fmt.Fprintf(t.w, "\r\x1b[Kperdure: %.70s", fmt.Sprintf("%s, %.1f s %s", p.what, took.Seconds(), p.howFar))
				p.shown = true
			case !p.shown:
				fmt.Fprintf(t.w, "perdure: %s …\n", p.what)
				p.shown = true
			}
		}
		t.mu.Unlock()
	}
}

// clearLocked removes the line of progress from a terminal.
func (t *talk) clearLocked() {
	if t.terminal && t.now.shown {
		fmt.Fprint(t.w, "\r\x1b[K")
		t.now.shown = false
	}
}
