package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progressAfter is how long work may take in silence.
const progressAfter = 300 * time.Millisecond

// talk is what perdure says to people: lines on stderr. Its methods may be called from
// any goroutine.
type talk struct {
	w              io.Writer
	terminal       bool
	quiet, verbose bool

	mu       sync.Mutex
	progress progress
}

// progress is the work under way. On a terminal it is a line that is written again and
// again, elsewhere one line.
type progress struct {
	kind    string        // of work
	text    string        // of it now
	began   time.Time     // of this kind
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

// work tells what is being done; it shows when it takes long. kind names the work, text is
// what to show of it now.
func (t *talk) work(kind, text string) {
	if t.quiet {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &t.progress
	if p.stop == nil {
		*p = progress{stop: make(chan struct{}), stopped: make(chan struct{})}
		go t.draw(p.stop, p.stopped)
	}
	if p.kind != kind {
		p.kind, p.began = kind, time.Now()
		p.shown = p.shown && t.terminal
	}
	p.text = text
}

// rest ends the showing of work, and waits for it.
func (t *talk) rest() {
	t.mu.Lock()
	p := t.progress
	t.mu.Unlock()
	if p.stop == nil {
		return
	}
	close(p.stop)
	<-p.stopped
	t.mu.Lock()
	t.clearLocked()
	t.progress = progress{}
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
		p := &t.progress
		if took := time.Since(p.began); took >= progressAfter {
			switch {
			case t.terminal:
				fmt.Fprintf(t.w, "\r\x1b[Kperdure: %.60s, %.1f s", p.text, took.Seconds())
				p.shown = true
			case !p.shown:
				fmt.Fprintf(t.w, "perdure: %s\n", p.text)
				p.shown = true
			}
		}
		t.mu.Unlock()
	}
}

// clearLocked removes the line of progress from a terminal.
func (t *talk) clearLocked() {
	if t.terminal && t.progress.shown {
		fmt.Fprint(t.w, "\r\x1b[K")
		t.progress.shown = false
	}
}
