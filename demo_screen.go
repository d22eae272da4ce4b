package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// demoRow is what the screen shows of one program.
type demoRow struct {
	name       string
	alive      bool
	doing      string // the last it did
	generation uint64
	snapshots  int
	pause      time.Duration // median
	longest    time.Duration // pause
	last       uint64        // bytes of the newest snapshot
	bytes      uint64        // of all snapshots
	backs      []time.Duration
}

// demoStory is how many lines of the story the screen shows.
const demoStory = 14

// demoScreen shows the demonstration. On a terminal the programs stand in a table above the story, which is drawn again
// and again in the same place; elsewhere there is the story alone, line by line. Its methods may be called from any
// goroutine.
type demoScreen struct {
	w        io.Writer
	terminal bool
	width    func() int
	began    time.Time

	mu    sync.Mutex
	rows  []demoRow
	story []string
	drawn int // lines that stand on the terminal
	over  bool
}

func newDemoScreen(w io.Writer, plain bool) *demoScreen {
	s := &demoScreen{w: w, terminal: !plain && isTerminal(w), began: time.Now()}
	s.width = func() int {
		if f, ok := w.(*os.File); ok {
			if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
				return n
			}
		}
		return 80
	}
	return s
}

// say adds a line to the story.
func (s *demoScreen) say(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line = fmt.Sprintf("%5.1f s  %s", time.Since(s.began).Seconds(), line)
	if !s.terminal {
		fmt.Fprintln(s.w, line) // a reader that is gone needs nothing
		return
	}
	s.story = append(s.story, line)
	s.drawLocked()
}

// draw shows how the programs are.
func (s *demoScreen) draw(rows []demoRow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = rows
	if s.terminal {
		s.drawLocked()
	}
}

// drawLocked draws the screen in the place of the one before.
func (s *demoScreen) drawLocked() {
	if s.over {
		return
	}
	lines := demoLines(s.rows, s.story)
	var b bytes.Buffer
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	b.WriteString("\r\x1b[J")
	width := s.width()
	for _, line := range lines {
		b.WriteString(clip(line, width-1))
		b.WriteByte('\n')
	}
	s.drawn = len(lines)
	_, _ = s.w.Write(b.Bytes()) // a terminal that is gone needs nothing
}

// close leaves the screen as it is.
func (s *demoScreen) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// demoLines are the lines of the screen.
func demoLines(rows []demoRow, story []string) []string {
	var b bytes.Buffer
	t := newTable(&b, 0)
	fmt.Fprintln(t, "  PROGRAM\tGENERATION\tPAUSE\tBYTES\tKILLED\tDOES")
	for _, r := range rows {
		mark := "✗"
		if r.alive {
			mark = "●"
		}
		fmt.Fprintf(t, "%s %s\t%d\t%s\t%s\t%d ×\t%s\n", mark, r.name, r.generation, short(r.pause), size(r.last), len(r.backs), r.doing)
	}
	_ = t.Flush() // into memory
	lines := append([]string{""}, strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")...)
	lines = append(lines, "")
	return append(lines, story[max(0, len(story)-demoStory):]...)
}

// clip shortens a line to a number of characters.
func clip(line string, width int) string {
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' ' // a program may print anything
		}
		return r
	}, line)
	if width < 1 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}

// summarize says what it cost, and that nothing was lost: of that every line is checked once more, from the beginning.
func (d *demo) summarize(env *environment) error {
	var b bytes.Buffer
	fmt.Fprintln(&b)
	t := newTable(&b, 0)
	fmt.Fprintln(t, "PROGRAM\tKILLED\tWORKED AGAIN AFTER\tSNAPSHOTS\tPAUSE (MOST)\tBYTES EACH\tLOST")
	line := func(name string, saved *demoSaved, lost string) {
		r := saved.row()
		backs := make([]string, len(r.backs))
		for i, back := range r.backs {
			backs[i] = short(back)
		}
		fmt.Fprintf(t, "%s\t%d ×\t%s\t", name, len(backs), strings.Join(backs, ", "))
		if r.snapshots > 0 {
			fmt.Fprintf(t, "%d\t%s (%s)\t%s", r.snapshots, short(r.pause), short(r.longest), size(r.bytes/uint64(r.snapshots)))
		} else {
			fmt.Fprint(t, "\t\t") // the daemon, of which nothing is saved
		}
		fmt.Fprintf(t, "\t%s\n", lost)
	}
	for _, p := range d.programs {
		p.look()
		switch p {
		case d.guest:
			line(p.name, &p.demoSaved, "what only it can tell")
			continue
		case d.server:
			line(p.name, &p.demoSaved, fmt.Sprintf("nothing: %d answers in order, one connection", p.done()))
			continue
		}
		again := newDemoOutput(p.output.path, p.check)
		n := again.lines()
		if err := again.problem(); err != nil {
			return &statusError{status: exitDamage, err: fmt.Errorf("lost: %w", err)}
		}
		line(p.name, &p.demoSaved, fmt.Sprintf("nothing: %d lines, each right", n))
	}
	line("the daemon", &d.daemon, "nothing: its programs ran on, or went on")
	if err := t.Flush(); err != nil {
		return err
	}
	mean, worst := d.server.client.waits()
	fmt.Fprintf(&b, "\nAn answer took %s in the mean, and %s while the server was dead. Nothing was lost, nothing was done twice.\n\n", short(mean), short(worst))
	fmt.Fprintf(&b, "Try next:\n")
	next := newTable(&b, 0)
	for _, c := range [][2]string{
		{"demo --guest prog.wasm", "the same with a program of yours"},
		{"run prog.wasm", "run it; kill it; the same command goes on"},
		{"generations prog", "what was saved of it"},
		{"serve", "a daemon that runs every program in a folder"},
		{"bench", "what it costs on this machine"},
	} {
		fmt.Fprintf(next, "  perdure %s\t%s\n", c[0], c[1])
	}
	if err := next.Flush(); err != nil {
		return err
	}
	_, err := env.stdout.Write(b.Bytes())
	return err
}
