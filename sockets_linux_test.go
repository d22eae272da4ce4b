package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"perdure/runtime/bench"
)

// server is a guest that serves clients, in one perdure after the other.
type server struct {
	t       testing.TB
	dir     string
	address string
	args    []string
	cmd     *exec.Cmd
	stdin   *os.File // nil for none
	before  int      // lives that had begun when it was started
	stdout  buffer
	stderr  buffer
}

// newServer makes a server on a free port. The guest's descriptor 3 is its listener.
func newServer(t testing.TB, guest string, flags ...string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), address: freeAddress(t)}
	s.args = append([]string{"run", "--verbose", "--listen", "tcp://" + s.address}, flags...)
	s.args = append(s.args, guest)
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
		}
		s.endKeeper()
	})
	return s
}

// freeAddress returns an address on which nobody listens now.
func freeAddress(t testing.TB) string {
	t.Helper()
	address, err := bench.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func guestPath(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "guests", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// serverCache returns a directory for compiled guests, in the user's cache, where those of other tests are too.
var serverCache = sync.OnceValue(func() string {
	dir, err := os.UserCacheDir()
	if err == nil {
		dir = filepath.Join(dir, "perdure-guests", "compiled")
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "" // none: each run compiles
	}
	return dir
})

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(os.Args[0], s.args...)
	s.cmd.Args[0] = "perdure"
	s.cmd.Env = append(os.Environ(), "PERDURE_STATE="+filepath.Join(s.dir, "state"), "XDG_CACHE_HOME="+serverCache())
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	if s.stdin != nil {
		s.cmd.Stdin = s.stdin
	}
	s.before = s.begun()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// end waits until the worker has ended.
func (s *server) end() int {
	s.t.Helper()
	stuck := time.AfterFunc(patience, func() { _ = s.cmd.Process.Signal(syscall.SIGABRT) })
	_ = s.cmd.Wait() // the status says it
	if !stuck.Stop() {
		s.t.Fatalf("the worker did not end\n%s", end(s.stderr.String()))
	}
	status := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	return status
}

// suspend stops the worker in good order.
func (s *server) suspend() {
	s.t.Helper()
	// Before it runs there is nothing to suspend, and the signal just ends it.
	waitFor(s.t, s, "the guest", func() bool { return s.begun() > s.before })
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it runs
	if status := s.end(); status != exitSignal+int(syscall.SIGTERM) {
		s.t.Fatalf("status %d\n%s", status, end(s.stderr.String()))
	}
}

func (s *server) kill() {
	s.t.Helper()
	_ = s.cmd.Process.Kill() // it runs
	s.end()
}

// begun returns how many lives of the guest have begun.
func (s *server) begun() int {
	text := s.stderr.String()
	return strings.Count(text, " goes on from ") + strings.Count(text, " starts\n")
}

// keeperPID finds the keeper that the server has started; 0 if there is none.
func (s *server) keeperPID() int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")) // it may be gone
		if words := strings.Split(string(b), "\x00"); len(words) > 3 && words[1] == "keeper" && strings.HasPrefix(words[3], s.dir+"/") {
			return pid
		}
	}
	return 0
}

func (s *server) endKeeper() {
	if pid := s.keeperPID(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM) // it may have left
		waitFor(s.t, s, "the keeper's end", func() bool { return s.keeperPID() == 0 })
	}
}

func (s *server) dial() client {
	s.t.Helper()
	for limit := time.Now().Add(patience); ; {
		c, err := net.DialTimeout("tcp", s.address, patience)
		if err == nil {
			return client{c.(*net.TCPConn)}
		}
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(limit) {
			s.t.Fatalf("%v\n%s", err, end(s.stderr.String()))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// client is a connection of a test. Each of its reads and writes ends in time.
type client struct{ *net.TCPConn }

func (c client) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(2 * patience)); err != nil {
		return 0, err
	}
	return c.TCPConn.Read(b)
}

func (c client) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(2 * patience)); err != nil {
		return 0, err
	}
	return c.TCPConn.Write(b)
}

// burst is how many bytes a client sends at most without a pause. The server would have nothing else to do, and a
// restart much to play again.
const burst = 512 << 10

// stream is a client of an echo server that checks every byte. What it sends is a function of seed and position.
type stream struct {
	seed     uint64
	conn     client
	sent     atomic.Int64
	received atomic.Int64
	pause    time.Duration // at most, between two pieces
	quit     chan struct{}
	writer   chan struct{}
	failed   error      // of writing; read after writer is closed
	done     chan error // what ended it: nil after a proper end
}

func (c *stream) byteAt(position int64) byte {
	x := (uint64(position>>3) + c.seed) * 0x9E3779B97F4A7C15
	return byte((x ^ x>>29) >> (8 * (uint(position) & 7)))
}

func newStream(conn client, seed uint64, pause time.Duration) *stream {
	c := &stream{seed: seed, conn: conn, pause: pause, quit: make(chan struct{}), writer: make(chan struct{}), done: make(chan error, 1)}
	go c.write()
	go func() { c.done <- c.read() }()
	return c
}

func (c *stream) write() {
	defer close(c.writer)
	r := rand.New(rand.NewPCG(c.seed, 1))
	var at, rested int64
	b := make([]byte, 32<<10)
	for {
		n, pause := 1+r.IntN(len(b)), time.Duration(0)
		if c.pause > 0 {
			n, pause = 1+r.IntN(2000), time.Duration(r.Int64N(int64(c.pause)))
		} else if at-rested > burst {
			rested, pause = at, 20*time.Millisecond
		}
		if pause > 0 {
			select {
			case <-c.quit:
			case <-time.After(pause):
			}
		}
		select {
		case <-c.quit:
			_ = c.conn.CloseWrite() // the reader sees what comes of it
			return
		default:
		}
		for i := range b[:n] {
			b[i] = c.byteAt(at + int64(i))
		}
		k, err := c.conn.Write(b[:n])
		at += int64(k)
		c.sent.Store(at)
		if err != nil {
			c.failed = err // a reset is told once only, to the reader or to us
			return
		}
	}
}

var errTorn = errors.New("a wrong byte")

func (c *stream) read() error {
	b := make([]byte, 64<<10)
	var at int64
	for {
		n, err := c.conn.Read(b)
		for i := range b[:n] {
			if b[i] != c.byteAt(at+int64(i)) {
				return fmt.Errorf("%w at %d", errTorn, at+int64(i))
			}
		}
		at += int64(n)
		c.received.Store(at)
		if err == io.EOF {
			if <-c.writer; c.failed != nil {
				return c.failed
			}
			if at != c.sent.Load() {
				return fmt.Errorf("%w: the end came after %d bytes of %d", errTorn, at, c.sent.Load())
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// finish ends the stream and returns how it went.
func (c *stream) finish() error {
	close(c.quit)
	err := <-c.done
	c.conn.Close()
	<-c.writer
	return err
}

// testSeed returns a random source that PERDURE_SEED repeats.
func testSeed(t testing.TB) *rand.Rand {
	s := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("PERDURE_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("PERDURE_SEED=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// plannedRestarts suspends and restarts an echo server under load in both directions. No client may see anything of it.
func plannedRestarts(t *testing.T, guest string, restarts int) {
	r := testSeed(t)
	s := newServer(t, guest)
	s.start()
	var clients []*stream
	for i := range 6 {
		pause := time.Duration(i%3) * 5 * time.Millisecond
		clients = append(clients, newStream(s.dial(), r.Uint64(), pause))
	}
	for i := range restarts {
		moved := clients[0].received.Load()
		waitFor(t, s, "bytes", func() bool { return clients[0].received.Load() > moved })
		time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond) // anywhere
		s.suspend()
		// Who comes now is served after.
		late := newStream(s.dial(), r.Uint64(), time.Millisecond)
		s.start()
		if i%5 == 0 {
			clients = append(clients, late)
		} else if err := late.finish(); err != nil {
			t.Fatalf("restart %d: a late client: %v\n%s", i, err, end(s.stderr.String()))
		}
		if len(clients) > 20 {
			if err := clients[6].finish(); err != nil {
				t.Fatalf("restart %d: %v\n%s", i, err, end(s.stderr.String()))
			}
			clients = slices.Delete(clients, 6, 7)
		}
	}
	var total int64
	for i, c := range clients {
		if err := c.finish(); err != nil {
			t.Errorf("client %d: %v after %d bytes", i, err, c.received.Load())
		}
		total += c.received.Load()
	}
	t.Logf("%d restarts, %d MiB echoed", restarts, total>>20)
	for _, line := range strings.Split(s.stderr.String(), "\n") {
		if strings.HasSuffix(line, " go on, 0 are lost, 0 were reset") {
			continue
		}
		if strings.Contains(line, "lost") || strings.Contains(line, "reset") {
			t.Errorf("the worker said: %s", line)
		}
	}
}

// waitFor waits for what only shows from outside.
func waitFor(t testing.TB, s *server, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); {
		if time.Now().After(limit) {
			t.Fatalf("waited for %s\nstdout ends:\n%s\nstderr ends:\n%s", what, end(s.stdout.String()), end(s.stderr.String()))
		}
		time.Sleep(time.Millisecond)
	}
}

func TestConnectionsSurvivePlannedRestarts(t *testing.T) {
	plannedRestarts(t, guestPath(t, "server"), 5)
}

// randomKills kills the worker of an echo server at random moments. Every connection goes on exactly or is reset.
func randomKills(t *testing.T, kills int, flags ...string) (reset int) {
	r := testSeed(t)
	s := newServer(t, guestPath(t, "server"), append([]string{"--every", "5ms"}, flags...)...)
	s.start()
	var clients []*stream
	pauses := []time.Duration{0, 2 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond}
	for len(clients) < 20 {
		clients = append(clients, newStream(s.dial(), r.Uint64(), pauses[len(clients)%len(pauses)]))
	}
	lived := 0
	var total int64
	check := func(c *stream, err error) {
		total += c.received.Load()
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("%v after %d bytes of %d\n%s", err, c.received.Load(), c.sent.Load(), end(s.stderr.String()))
		}
		reset++
	}
	for i := range kills {
		before := s.begun()
		s.kill()
		s.start()
		began := i%4 != 0 // else the next one hits the restore
		if began {
			waitFor(t, s, "the next life", func() bool { return s.begun() > before })
		}
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond) // anywhere
		for i, c := range clients {
			select {
			case err := <-c.done:
				check(c, err)
				c.conn.Close()
				close(c.quit)
				<-c.writer
				clients[i] = newStream(s.dial(), r.Uint64(), c.pause)
			default:
				if began {
					lived++
				}
			}
		}
	}
	for _, c := range clients {
		if err := c.finish(); err != nil {
			check(c, err)
		} else {
			total += c.received.Load()
		}
	}
	t.Logf("%d kills: %d connections went on over one, %d were reset, none torn; %d KiB echoed", kills, lived, reset, total>>10)
	if lived == 0 {
		t.Error("no connection went on over a kill")
	}
	return reset
}

func TestConnectionsGoOnOrAreReset(t *testing.T) {
	for range 10 { // where nothing moves between restore and kill, none is reset
		if randomKills(t, 7, "--durability", "none") > 0 {
			return
		}
	}
	t.Error("none was reset, so that this was not tested")
}

// TestConnectionsGoOn wants a worker that is killed to lose nothing at all: with the journal each connection goes on.
func TestConnectionsGoOn(t *testing.T) { goOn(t, 7) }

func goOn(t *testing.T, kills int) {
	if reset := randomKills(t, kills); reset > 0 {
		t.Errorf("%d connections were reset", reset)
	}
}

// TestKeeperIsReplaced wants an upgrade of the keeper to be seen by nobody, and its death to cost nothing while a worker
// is there.
func TestKeeperIsReplaced(t *testing.T) {
	r := testSeed(t)
	s := newServer(t, guestPath(t, "server"))
	s.start()
	c := newStream(s.dial(), r.Uint64(), time.Millisecond)
	live := func() {
		t.Helper()
		at := c.received.Load()
		waitFor(t, s, "bytes", func() bool { return c.received.Load() > at })
	}
	live()
	keeper := s.keeperPID()
	if err := syscall.Kill(keeper, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	replaced := func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", keeper)) // it may be gone
		return strings.Contains(string(b), "--state-fd")
	}
	// The next signals come while it starts.
	for range 20 {
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		if err := syscall.Kill(keeper, syscall.SIGHUP); err != nil {
			t.Fatalf("the keeper is gone: %v", err)
		}
	}
	waitFor(t, s, "the new program", replaced)
	live()
	s.suspend()
	late := newStream(s.dial(), r.Uint64(), 0)
	if err := syscall.Kill(keeper, syscall.SIGHUP); err != nil { // while it alone has the sockets
		t.Fatal(err)
	}
	s.start()
	live()
	waitFor(t, s, "bytes", func() bool { return late.received.Load() > 0 }) // until then only the keeper has it
	// Killed, it is missed at once, and another one takes over: the guest does not wait for a connection that is not there.
	if err := syscall.Kill(keeper, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, s, "another keeper", func() bool { return strings.Contains(s.stderr.String(), "another one has the sockets now") })
	live()
	later := newStream(s.dial(), r.Uint64(), 0)
	waitFor(t, s, "bytes", func() bool { return later.received.Load() > 0 })
	live()
	s.suspend()
	s.start()
	live()
	for i, c := range []*stream{c, late, later} {
		if err := c.finish(); err != nil {
			t.Errorf("client %d: %v\n%s", i, err, end(s.stderr.String()))
		}
	}
}
