package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// exampleRuns are the examples that end by themselves: with these arguments and this input, what they print ends so.
var exampleRuns = []struct {
	name  string
	args  []string
	stdin string
	want  string
}{
	{"hello", []string{"Ann"}, "Bob\nCarol\n", "Hello, Ann! (1)\nHello, Bob! (2)\nHello, Carol! (3)\n"},
	{"primes", []string{"2000"}, "", "prime 1000 is 7919\nprime 2000 is 17389\n"},
	{"e", []string{"70"}, "", "2.\n71828182845904523536028747135266249775724709369995\n95749669676277240766\n"},
	{"sum", []string{"1000"}, "", "the sum of 1000 terms is 2158759057299\n"},
	{"memory", []string{"3", "0"}, "", "round 3: 30000 cells are right after 1500 changes\n"},
	{"arguments", []string{"x", "y z"}, "", "argument 0: arguments.wasm\nargument 1: x\nargument 2: y z\nenvironment: LANG=C\n"},
	{"timer", []string{"1", "3"}, "", " missed\n"},
	{"life", []string{"2", "0", "16", "8"}, "", ".......oo.......\n................\n................\nstep 2, 7 alive\n"},
}

// example returns perdure running an example of which nothing is saved yet.
func example(t *testing.T, wasm string, flags []string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], append(append(append([]string{"run"}, flags...), wasm), args...)...)
	cmd.Args[0] = "perdure"
	cmd.Env = append(os.Environ(), "PERDURE_STATE="+t.TempDir(), "XDG_CACHE_HOME="+serverCache())
	return cmd
}

// TestExamples runs the examples in C, and wants every example to be in a test and in their README.
func TestExamples(t *testing.T) {
	tested := map[string]bool{"chat": true, "kv": true, "web": true, "image": true} // by the tests below, and the slow ones
	for _, e := range exampleRuns {
		tested[e.name] = true
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			cmd := example(t, filepath.Join("examples", e.name+".wasm"), []string{"--every", "20ms", "--env", "LANG=C"}, e.args...)
			cmd.Stdin = strings.NewReader(e.stdin)
			out, err := cmd.Output()
			if err != nil || !strings.HasSuffix(string(out), e.want) {
				t.Errorf("got %v and\n%s\nwant, at its end,\n%s", err, out, e.want)
			}
		})
	}
	readme, err := os.ReadFile("examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"examples/*.c", "examples/*/main.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no examples %s: %v", pattern, err)
		}
		for _, f := range files {
			name := strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(f, "examples/"), "/main.go"), ".c")
			if !tested[name] {
				t.Errorf("the example %s is in no test", name)
			}
			if !strings.Contains(string(readme), "| ["+name+"]("+strings.TrimPrefix(f, "examples/")+")") {
				t.Errorf("examples/README.md does not list %s", name)
			}
		}
	}
}

// lines is a client of a server that speaks lines.
type lines struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func newLines(t *testing.T, s *server) *lines {
	c := s.dial()
	t.Cleanup(func() { c.Close() })
	return &lines{t, c, bufio.NewReader(c)}
}

// say sends a line, unless it is empty, and wants these lines to come.
func (l *lines) say(line string, want ...string) {
	l.t.Helper()
	if line != "" {
		if _, err := fmt.Fprintln(l.conn, line); err != nil {
			l.t.Fatal(err)
		}
	}
	for _, w := range want {
		if err := l.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			l.t.Fatal(err)
		}
		got, err := l.in.ReadString('\n')
		if err != nil || got != w+"\n" {
			l.t.Fatalf("after %q: got %q, %v, want %q", line, got, err, w)
		}
	}
}

func exampleServer(t *testing.T, name string) *server {
	wasm, err := filepath.Abs(filepath.Join("examples", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return newServer(t, wasm)
}

// TestExampleChat wants a talk to go on over a kill, on the same connections, and who comes later to see what was said.
func TestExampleChat(t *testing.T) {
	t.Parallel()
	s := exampleServer(t, "chat")
	s.start()
	ann, bob := newLines(t, s), newLines(t, s)
	ann.say("", "Your name?")
	ann.say("Ann", "Welcome, Ann: 0 lines were said so far.")
	bob.say("", "Your name?")
	bob.say("Bob", "Welcome, Bob: 0 lines were said so far.")
	ann.say("hello", "Ann: hello")
	bob.say("", "Ann: hello")
	s.kill()
	s.start()
	bob.say("still there?", "Bob: still there?")
	ann.say("", "Bob: still there?")
	carol := newLines(t, s)
	carol.say("", "Your name?")
	carol.say("Carol", "Ann: hello", "Bob: still there?", "Welcome, Carol: 2 lines were said so far.")
	ann.say("/who", "Ann is here", "Bob is here", "Carol is here")
	bob.say("/quit")
	ann.say("", "*: Bob")
}

// TestExampleKV wants the table to be there after a kill.
func TestExampleKV(t *testing.T) {
	t.Parallel()
	s := exampleServer(t, "kv")
	s.start()
	c := newLines(t, s)
	c.say("SET colour dark green", "OK")
	c.say("ADD visits 41", "=41")
	c.say("nonsense", "SET KEY VALUE, GET KEY, ADD KEY NUMBER, DEL KEY, COUNT or QUIT")
	s.kill()
	s.start()
	c.say("ADD visits 1", "=42")
	c.say("GET colour", "=dark green")
	c.say("COUNT", "=2")
	c.say("DEL colour", "OK")
	c.say("GET colour", "none")
	c.say("DEL colour", "none")
}

// TestExamplesNeedAListener wants the servers to say what they lack.
func TestExamplesNeedAListener(t *testing.T) {
	t.Parallel()
	cmd := example(t, "examples/kv.wasm", nil)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err == nil || !strings.Contains(said.String(), "there is no listening socket") {
		t.Errorf("got %v and %q", err, said.String())
	}
}
