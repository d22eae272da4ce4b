package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDemoChecksBite holds what checks the programs' output against output in which something is lost, repeated or wrong.
func TestDemoChecksBite(t *testing.T) {
	var tally []string
	for x, n := uint64(1), 1; n <= 400; n++ {
		x = x*6364136223846793005 + 1442695040888963407
		if n%100 == 0 {
			tally = append(tally, fmt.Sprintf("%d %016x", n, x))
		}
	}
	primes := []string{"669 primes below 5000, the last 4999", "1229 primes below 10000, the last 9973", "1754 primes below 15000, the last 14983"}
	for _, c := range []struct {
		claim string
		check func() demoCheck
		lines []string
		bad   int // the line that is found, from 1; 0 for none
	}{
		{"a tally that is right", checkTally, tally, 0},
		{"a line is lost", checkTally, []string{tally[0], tally[2]}, 2},
		{"a line comes twice", checkTally, []string{tally[0], tally[1], tally[1]}, 3},
		{"a count that was counted twice", checkTally, []string{tally[0], strings.Fields(tally[1])[0] + " " + strings.Fields(tally[2])[1]}, 2},
		{"no line of it", checkTally, []string{"hello"}, 1},
		{"primes that are right", checkPrimes, primes, 0},
		{"primes are lost", checkPrimes, []string{primes[0], primes[2]}, 2},
		{"a prime too many", checkPrimes, []string{primes[0], "1230 primes below 10000, the last 9973"}, 2},
	} {
		check, found := c.check(), 0
		for i, line := range c.lines {
			if err := check(i+1, line); err != nil && found == 0 {
				found = i + 1
			}
		}
		if found != c.bad {
			t.Errorf("%s: found in line %d, want %d", c.claim, found, c.bad)
		}
	}
}

// TestDemoOutputGrows wants a file that became shorter, or is gone, to be noticed, and half a line to be none.
func TestDemoOutputGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	o := newDemoOutput(path, checkNothing)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(n int, where string, bad bool) {
		t.Helper()
		if got := o.lines(); got != n || o.where() != where || (o.problem() != nil) != bad {
			t.Errorf("got %d lines, %q, %v; want %d, %q, an error: %v", got, o.where(), o.problem(), n, where, bad)
		}
	}
	want(0, "no line yet", false)
	write("one\ntw")
	want(1, "one", false)
	write("one\ntwo\nthree\n")
	want(3, "three", false)
	write("one\n")
	want(3, "three", true)

	o = newDemoOutput(path, checkNothing)
	want(1, "one", false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want(1, "one", true)
}

// TestDemoClientBites wants a client to notice an answer that is lost or repeated, and a connection that ends.
func TestDemoClientBites(t *testing.T) {
	for claim, answers := range map[string][]string{
		"an answer is lost":    {":1\r\n", ":3\r\n"},
		"an answer is old":     {":1\r\n", ":1\r\n"},
		"the connection ended": {":1\r\n"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			for _, a := range answers {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				_, _ = conn.Write([]byte(a)) // the client tells
			}
		}()
		c, err := dialDemo(t.Context(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-c.stopped:
		case <-time.After(patience):
			t.Errorf("%s: not noticed", claim)
		}
		if c.problem() == nil || c.answers() != 1 {
			t.Errorf("%s: got %v after %d answers", claim, c.problem(), c.answers())
		}
		c.close()
		l.Close()
		<-served
	}
}

// TestDemoScreen wants a table of the programs above the end of the story, in lines that fit.
func TestDemoScreen(t *testing.T) {
	var out buffer
	s := newDemoScreen(&out, false)
	s.terminal, s.width = true, func() int { return 41 }
	s.draw([]demoRow{{name: "counter", alive: true, doing: "12 \x1b[2J34", generation: 7, pause: 250 * time.Microsecond, last: 3300, backs: []time.Duration{time.Second}}})
	s.story = []string{strings.Repeat("long ", 20)}
	for range demoStory - 1 {
		s.story = append(s.story, "short")
	}
	s.say("the newest")
	s.close()
	s.say("after the end")
	frames := strings.Split(out.String(), "\x1b[J")
	want := "\n  PROGRAM  GENERATION  PAUSE   BYTES   …\n● counter  7           250 µs  3.22 KiB…\n\n" + strings.Repeat("short\n", demoStory-1)
	last := frames[len(frames)-1]
	if !strings.HasPrefix(last, want) || !strings.HasSuffix(last, "the newest\n") || strings.Contains(last, "\x1b") {
		t.Errorf("got %q, want %q and the newest", last, want)
	}
	if up := fmt.Sprintf("\x1b[%dA\r", 4); !strings.HasSuffix(frames[len(frames)-2], up) {
		t.Errorf("the cursor does not go back to the first line: %q, want %q", frames[len(frames)-2], up)
	}
}
