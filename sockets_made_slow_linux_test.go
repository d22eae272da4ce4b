//go:build slow

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// goGuest builds a Go guest of testdata/guests/go.
func goGuest(t testing.TB, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name+".wasm")
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, "main.go")
	cmd.Dir = filepath.Join("testdata", "guests", "go", name)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GO111MODULE=off", "GOWORK=off", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return out
}

// newMaker makes a server of which the guest makes the sockets; args are its arguments.
func newMaker(t testing.TB, guest string, flags []string, args ...string) *server {
	t.Helper()
	s := newServer(t, guest)
	s.args = append(append([]string{"run", "--verbose"}, flags...), append([]string{guest}, args...)...)
	return s
}

// prints waits until the guest has printed something.
func (s *server) prints(what string, times int) {
	s.t.Helper()
	waitFor(s.t, s, what, func() bool { return strings.Count(s.stdout.String(), what) >= times })
}

// TestMadeSockets takes sockets that the guest made through planned restarts and kills.
func TestMadeSockets(t *testing.T) {
	guest := goGuest(t, "sockets")
	t.Run("listen", func(t *testing.T) { testMadeListener(t, guest) })
	t.Run("dial", func(t *testing.T) { testDialler(t, newDialler(t, guest)) })
	t.Run("dial, who sends", func(t *testing.T) { testDialler(t, newDialler(t, guest, "from")) })
	t.Run("datagrams", func(t *testing.T) {
		address := freeAddress(t)
		testDatagrams(t, newMaker(t, guest, []string{"--allow-bind", "udp://127.0.0.1:*"}, "datagrams", address), address)
	})
	t.Run("given", func(t *testing.T) {
		address := freeAddress(t)
		testDatagrams(t, newMaker(t, guest, []string{"--listen", "udp://" + address}, "given"), address)
	})
	t.Run("refused", func(t *testing.T) { testRefused(t, guest) })
}

func testMadeListener(t *testing.T, guest string) {
	s := newMaker(t, guest, []string{"--every", "20ms", "--allow-bind", "tcp://127.0.0.1:*"}, "listen", "127.0.0.1:0")
	s.start()
	s.prints("listening", 1)
	var port int
	if _, err := fmt.Sscanf(s.stdout.String(), "bound to port %d,", &port); err != nil {
		t.Fatal(err)
	}
	s.address = "127.0.0.1:" + strconv.Itoa(port)
	r := testSeed(t)
	clients := []*stream{newStream(s.dial(), r.Uint64(), 0), newStream(s.dial(), r.Uint64(), time.Millisecond)}
	for range 3 {
		moved := clients[0].received.Load()
		waitFor(t, s, "bytes", func() bool { return clients[0].received.Load() > moved })
		s.suspend()
		clients = append(clients, newStream(s.dial(), r.Uint64(), time.Millisecond))
		s.start()
	}
	for i, c := range clients {
		if err := c.finish(); err != nil {
			t.Errorf("client %d: %v\n%s", i, err, end(s.stderr.String()))
		}
	}
	// The keeper dies with the worker: the port is bound again.
	idle := s.dial()
	defer idle.Close()
	fmt.Fprint(idle, "x")
	if _, err := io.ReadFull(idle, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s.suspend()
	s.endKeeper()
	s.start()
	c := newStream(s.dial(), r.Uint64(), 0)
	waitFor(t, s, "bytes", func() bool { return c.received.Load() > 0 })
	if err := c.finish(); err != nil {
		t.Error(err)
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a connection that is lost: %v, want a reset", err)
	}
}

// dialler is a guest that has dialled out: what is typed goes to the server, and what that answers is printed.
type dialler struct {
	*server
	typed *os.File
	conn  net.Conn // the server's side
	lines *bufio.Reader
}

func newDialler(t *testing.T, guest string, args ...string) *dialler {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newMaker(t, guest, []string{"--every", "0", "--allow-connect", "tcp://127.0.0.1:*"}, append([]string{"dial", l.Addr().String()}, args...)...)
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); out.Close() })
	s.stdin = in
	s.start()
	s.prints("connected", 1)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	k := client{c.(*net.TCPConn)}
	return &dialler{s, out, k, bufio.NewReader(k)}
}

// talk sends the i-th line each way; the guest is away, as left by leave, when the answer to it comes.
func (d *dialler) talk(i int, leave func()) {
	d.t.Helper()
	fmt.Fprintf(d.typed, "line %d\n", i)
	got, err := d.lines.ReadString('\n')
	if err != nil || got != fmt.Sprintf("line %d\n", i) {
		d.t.Fatalf("line %d: the server got %q, %v\n%s", i, got, err, end(d.stderr.String()))
	}
	leave()
	fmt.Fprintf(d.conn, "answer %d\n", i)
	d.start()
	d.prints(fmt.Sprintf("answer %d\n", i), 1)
}

// testDialler takes the connection through restarts and kills.
func testDialler(t *testing.T, d *dialler) {
	t.Helper()
	for i := range 8 {
		leave := d.suspend
		if i%4 > 1 {
			leave = d.kill
		}
		d.talk(i, leave)
	}
}

func testDatagrams(t *testing.T, s *server, address string) {
	s.start()
	s.prints("waiting", 1)
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 100)
	say := func(text string) {
		t.Helper()
		fmt.Fprint(c, text)
	}
	hear := func(text string) {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil || string(b[:n]) != text {
			t.Fatalf("got %q, %v, want %q\n%s", b[:n], err, text, end(s.stderr.String()))
		}
	}
	say("one")
	hear("one")
	s.suspend()
	say("while it was away") // waits in the socket
	s.start()
	hear("while it was away")
	_ = s.cmd.Process.Signal(syscall.SIGUSR1)
	waitFor(t, s, "a generation", func() bool { return strings.Contains(s.stderr.String(), "is durable") })
	s.kill()
	say("after a kill")
	s.start()
	hear("after a kill")
	// Without its keeper it is bound again.
	s.suspend()
	s.endKeeper()
	before := s.begun()
	s.start()
	waitFor(t, s, "the next life", func() bool { return s.begun() > before })
	say("bound again")
	hear("bound again")
}

// testRefused wants nothing to be reached that was not allowed.
func testRefused(t *testing.T, guest string) {
	for _, c := range []struct {
		flags, args []string
		want        string
	}{
		{nil, []string{"dial", "127.0.0.1:9"}, "open: Permission denied"},
		{[]string{"--allow-connect", "tcp://127.0.0.2:9"}, []string{"dial", "127.0.0.1:9"}, "connect: Permission denied"},
		{[]string{"--allow-connect", "tcp://127.0.0.1:10-20"}, []string{"dial", "127.0.0.1:9"}, "connect: Permission denied"},
		{[]string{"--allow-connect", "tcp://*:*"}, []string{"listen", "127.0.0.1:0"}, "bind: Permission denied"},
		{[]string{"--allow-bind", "tcp://*:*"}, []string{"datagrams", "127.0.0.1:0"}, "bind: Permission denied"},
		{[]string{"--allow-connect", "tcp://other:80"}, []string{"resolve", "localhost"}, "getaddrinfo: Permission denied"},
		{[]string{"--allow-connect", "tcp://localhost:80"}, []string{"resolve", "localhost"}, "127.0.0.1 port 80 family 1"},
		{[]string{"--allow-connect", "tcp://localhost:1"}, []string{"dial", "127.0.0.1:1"}, "connect: Connection refused"},
	} {
		s := newMaker(t, guest, c.flags, c.args...)
		s.start()
		s.end()
		if !strings.Contains(s.stdout.String(), c.want+"\n") {
			t.Errorf("%v %v: got %q, want %q\n%s", c.flags, c.args, s.stdout.String(), c.want, end(s.stderr.String()))
		}
	}
}
