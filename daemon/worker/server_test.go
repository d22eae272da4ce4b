package worker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"perdure/config"
)

// attach attaches a console.
func attach(t testing.TB, c *Client) *Console {
	t.Helper()
	con, err := c.Console(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { con.Close() })
	if err := con.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return con
}

// TestConsole wants a console to see what the guest writes and to type what it reads, to come and go, and to find the
// process the same after a restart.
func TestConsole(t *testing.T) {
	s := newSpec(t, "echo")
	h, c := beginRunning(t, s)
	say := func(con *Console, line, want string) {
		t.Helper()
		if _, err := io.WriteString(con, line+"\n"); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(want))
		if _, err := io.ReadFull(con, b); err != nil || string(b) != want {
			t.Fatalf("read %q, %v; want %q", b, err, want)
		}
	}
	one, two := attach(t, c), attach(t, c)
	say(one, "hello", "1 hello\n")
	say(two, "you", "1 hello\n2 you\n") // it was there before the first line came
	// The end of a client's input is not the guest's.
	if err := one.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	say(two, "still", "3 still\n")
	b := make([]byte, len("2 you\n3 still\n"))
	if _, err := io.ReadFull(one, b); err != nil || string(b) != "2 you\n3 still\n" {
		t.Errorf("who says nothing any more read %q, %v", b, err)
	}
	two.Close()
	await(t, "a guest that waits for input to be parked", func() bool {
		st, err := c.Status(context.Background())
		return err == nil && st.Phase == PhaseParked
	})
	if err := h.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(one); err != nil || len(rest) > 0 {
		t.Errorf("at the end of the worker: %q, %v", rest, err)
	}
	if out, err := ends(t, h); err != nil || out.Kind != OutcomeSuspended {
		t.Fatalf("it ended with %+v, %v", out, err)
	}
	_, c = beginRunning(t, s)
	say(attach(t, c), "again", "4 again\n")
	if got, want := logged(t, s), "1 hello\n2 you\n3 still\n4 again\n"; got != want {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

// TestConsoleOfABusyGuest wants a console that types what nobody reads to be able to leave, and others to come.
func TestConsoleOfABusyGuest(t *testing.T) {
	_, c := beginRunning(t, newSpec(t, "spin"))
	for range 3 {
		con := attach(t, c)
		if err := con.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		// More than a pipe and the socket hold.
		if _, err := con.Write(make([]byte, 4<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a guest that does not read took all: %v", err)
		}
		con.Close()
	}
	if _, err := c.Suspend(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestSlowConsole wants a console that does not read to lose output with a mark, and nobody to wait for it.
func TestSlowConsole(t *testing.T) {
	cs, err := newConsoles(config.StdinWait)
	if err != nil {
		t.Fatal(err)
	}
	defer cs.close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: t.TempDir() + "/s"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		cs.serve(conn, "", conn)
	}()
	await(t, "the console", func() bool {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		return len(cs.attached) == 1
	})
	const pieces = 100
	for range pieces {
		cs.show(bytes.Repeat([]byte("x"), consoleBacklog/10))
	}
	cs.end(patience)
	got, err := io.ReadAll(client)
	if err != nil {
		t.Fatal(err)
	}
	<-done
	lost := 0
	for _, m := range regexp.MustCompile(`\r\n\[perdure: (\d+) bytes of output are missing here`).FindAllSubmatch(got, -1) {
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		lost += n
	}
	if shown := bytes.Count(got, []byte("x")); shown+lost != pieces*(consoleBacklog/10) || lost == 0 {
		t.Errorf("%d bytes were shown and %d lost, of %d", shown, lost, pieces*(consoleBacklog/10))
	}
}

// TestOutputRate wants a guest that writes too much to wait, and to be cut and asked meanwhile.
func TestOutputRate(t *testing.T) {
	ctx := context.Background()
	s := newSpec(t, "counter", "0")
	const bound = 16 << 10
	s.Settings.Limits.OutputRate = bound
	began := time.Now()
	_, c := beginRunning(t, s)
	size := func() int64 {
		st, err := os.Stat(s.Log)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	await(t, "what is allowed at once", func() bool { return size() >= bound })
	if _, err := c.Snapshot(ctx); err != nil {
		t.Error(err)
	}
	await(t, "more", func() bool { return size() >= bound*3/2 })
	if got, most := size(), int64(bound*(1+time.Since(began).Seconds())); got > most {
		t.Errorf("%d bytes were written, at most %d are allowed", got, most)
	}
	r := s.Settings.Reloadable()
	r.OutputRate = 0
	if err := c.Settings(ctx, r); err != nil {
		t.Fatal(err)
	}
	await(t, "much more", func() bool { return size() > 20*bound })
}

// TestRotation wants the log of a worker to be rotated at the ends of lines, with nothing lost, and to follow a change of
// its limits.
func TestRotation(t *testing.T) {
	ctx := context.Background()
	s := newSpec(t, "counter", "0")
	s.Settings.Console.LogSize, s.Settings.Console.LogFiles = 4<<10, 1000
	s.Settings.Limits.OutputRate = 64 << 10 // so that 1,000 files are enough, however late the limits change
	_, c := beginRunning(t, s)
	l := &outputLog{path: s.Log}
	await(t, "three files", func() bool { return len(l.files(t)) > 3 })
	r := s.Settings.Reloadable()
	r.LogFiles, r.LogSize = 1000, 1<<30
	if err := c.Settings(ctx, r); err != nil {
		t.Fatal(err)
	}
	await(t, "a larger file", func() bool { return len(l.files(t)[0]) > 16<<10 })
	if _, err := c.Suspend(ctx); err != nil {
		t.Fatal(err)
	}
	files := l.files(t)
	for i, f := range files {
		if !strings.HasSuffix(f, "\n") || i > 0 && len(f) > 4<<10 {
			t.Errorf("file %d has %d bytes and ends with %q", i, len(f), f[max(0, len(f)-10):])
		}
	}
	slices.Reverse(files)
	for i, line := range lines(strings.Join(files, "")) {
		if line != fmt.Sprint(i+1) {
			t.Fatalf("line %d is %q", i+1, line)
		}
	}
}

// TestFullLog wants a guest to run on when its log is full.
func TestFullLog(t *testing.T) {
	s := newSpec(t, "counter", "1")
	s.Log = "/dev/full"
	h, c := beginRunning(t, s)
	first, err := c.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Snapshot(context.Background())
	if err != nil || second.Number <= first.Number || isClosed(h.Done()) {
		t.Errorf("snapshot %d after %d, %v", second.Number, first.Number, err)
	}
}

// TestSettings wants settings to count while the guest runs, and bad ones to be refused.
func TestSettings(t *testing.T) {
	ctx := context.Background()
	s := newSpec(t, "counter", "1")
	s.Settings.Snapshot.Every = 0
	_, c := beginRunning(t, s)
	r := s.Settings.Reloadable()
	r.Every = -1
	if err := c.Settings(ctx, r); !errors.Is(err, CodeRequest) {
		t.Errorf("a negative time: %v", err)
	}
	if n := generation(t, c); n != 0 {
		t.Errorf("generation %d, without any asked for", n)
	}
	r.Every, r.Retention.MaxSnapshots, r.CPU = config.Duration(5*time.Millisecond), 3, 50
	if err := c.Settings(ctx, r); err != nil {
		t.Fatal(err)
	}
	await(t, "generations", func() bool { return generation(t, c) > 5 })
	// Whether this system can do it or not, it is known.
	st, err := c.Status(ctx)
	limited := slices.ContainsFunc(st.NotApplied, func(s string) bool { return strings.HasPrefix(s, "limits.cpu: ") })
	if own := cgroupOf(t, st.PID); err != nil || limited == strings.Contains(own, cgroupPrefix) {
		t.Errorf("control group %q, not applied %q, %v", own, st.NotApplied, err)
	}
}

// cgroupOf returns the control groups of a process.
func cgroupOf(t *testing.T, pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEvents wants events to come as they happen, and to end with the worker.
func TestEvents(t *testing.T) {
	s := newSpec(t, "counter", "1")
	s.Settings.Snapshot.Every = 0 // so that there are no generations but those that are asked for
	_, c := beginRunning(t, s)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seen := make(chan uint64, 1000)
	over := make(chan error, 1)
	go func() {
		over <- c.Events(ctx, func(e Event) error {
			if e.Kind == EventCommitted {
				seen <- e.Generation.Number
			}
			return nil
		})
	}()
	for last := uint64(0); last < 3; {
		info, err := c.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case n := <-seen:
			if n <= last || n > info.Number {
				t.Errorf("generation %d after %d, when %d was taken", n, last, info.Number)
			}
			last = n
		case <-time.After(10 * time.Millisecond): // not attached yet
		}
	}
	out, err := c.Suspend(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-over; err != nil {
		t.Errorf("it ended with %v", err)
	}
	for last := uint64(0); last != out.Generation; {
		select {
		case last = <-seen:
		default:
			t.Fatalf("no event of the last generation, %d", out.Generation)
		}
	}
}

// TestSlowListener wants a reader of events that is too slow to be told how many it has missed.
func TestSlowListener(t *testing.T) {
	s := newState(&Spec{})
	l, forget := s.listen()
	for range eventBacklog + 10 {
		s.warn("x")
	}
	<-l.c
	<-l.c
	s.warn("y")
	forget()
	s.warn("z")
	close(l.c)
	var last []Event
	for e := range l.c {
		last = append(last, e)
	}
	last = last[len(last)-2:]
	if last[0].Kind != EventLost || last[0].Number != 10 || last[1].Text != "y" {
		t.Errorf("the last events are %+v", last)
	}
	if n := len(s.snapshot().Warnings); n != maxWarnings {
		t.Errorf("there are %d warnings", n)
	}
}

// TestGarbage wants whatever comes over the control socket to be answered or refused, and to change nothing.
func TestGarbage(t *testing.T) {
	ctx := context.Background()
	s := newSpec(t, "counter", "1")
	_, c := beginRunning(t, s)
	r := seed(t)
	noise := make([]byte, 8<<10)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for claim, request := range map[string]string{
		"noise":                     string(noise),
		"nothing":                   "",
		"no such request":           "GET /v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n",
		"the wrong method":          "DELETE /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
		"settings that are none":    post("settings", "[1, 2"),
		"settings of a wrong type":  post("settings", `{"Every": {}}`),
		"settings out of range":     post("settings", `{"Every": "1s"}`),
		"a body without an end":     "POST /v1/settings HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + strings.Repeat("[", 2<<20),
		"a header without an end":   "GET /v1/status HTTP/1.1\r\nX: " + strings.Repeat("x", 64<<10),
		"a console without upgrade": post("console", ""),
		"a version that is none":    "GET /v1/status HTTP/9.9\r\n\r\n",
	} {
		conn, err := c.dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, werr := io.WriteString(conn, request) // it may be refused before all is there
		_ = conn.(*net.UnixConn).CloseWrite()
		answer, rerr := bufio.NewReader(conn).ReadString('\n')
		if strings.HasPrefix(answer, "HTTP/1.1 2") || errors.Is(rerr, os.ErrDeadlineExceeded) {
			t.Errorf("%s: answered %q, %v, %v", claim, answer, werr, rerr)
		}
		conn.Close()
		if _, err := c.Status(ctx); err != nil {
			t.Fatalf("after %s: %v", claim, err)
		}
	}
	if st, err := os.Stat(s.Dir + "/" + SocketFile); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", st.Mode(), err)
	}
}

func post(what, body string) string {
	return fmt.Sprintf("POST /v1/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", what, len(body), body)
}

// TestManyStreams wants consoles that take all that there is to leave room for questions.
func TestManyStreams(t *testing.T) {
	ctx := context.Background()
	_, c := beginRunning(t, newSpec(t, "counter", "1"))
	for range maxStreams {
		attach(t, c)
	}
	if _, err := c.Console(ctx); !errors.Is(err, CodeBusy) {
		t.Errorf("one more: %v", err)
	}
	if _, err := c.Suspend(ctx); err != nil {
		t.Error(err)
	}
}

// TestAsksWhileItComputes wants answers without delay from a worker whose guest never leaves its own code.
func TestAsksWhileItComputes(t *testing.T) {
	_, c := beginRunning(t, newSpec(t, "spin"))
	const asked = 200
	for end := time.Now().Add(patience); ; {
		var took []time.Duration
		for range asked {
			began := time.Now()
			st, err := c.Status(context.Background())
			if err != nil || st.Phase != PhaseRunning {
				t.Fatalf("%v, %v", st.Phase, err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("median %v, p99 %v, most %v", took[asked/2], took[asked*99/100], took[asked-1])
		p99 := took[asked*99/100]
		if p99 <= 2*time.Second {
			return
		}
		if time.Now().After(end) { // a machine with other things to do has had time for them
			t.Fatalf("one of 100 answers takes %v", p99)
		}
	}
}

// TestStarting wants a worker to answer while a program compiles, and to stop then without waiting for it. When it has
// compiled before it was asked for all that, another one is asked.
func TestStarting(t *testing.T) {
	for tries := 10; !askWhileItStarts(t); tries-- {
		if tries == 0 {
			t.Fatal("it was never asked while it started, or waits for the program in order to answer")
		}
	}
}

// askWhileItStarts reports whether a worker was starting when it was asked to stop, and all the time before.
func askWhileItStarts(t *testing.T) bool {
	t.Helper()
	ctx := context.Background()
	s := newSpec(t, "sqlite")
	s.CacheDir = t.TempDir() + "/cache"
	h := begin(t, s)
	c := NewClient(s.Dir)
	var st Status
	await(t, "an answer", func() bool {
		var err error
		st, err = c.Status(ctx)
		return err == nil && st.PID == h.PID()
	})
	if st.Phase != PhaseStarting {
		return false
	}
	if _, err := c.Snapshot(ctx); err == nil {
		return false
	} else if !errors.Is(err, CodeStarting) {
		t.Errorf("a snapshot: %v", err)
	}
	if err := c.Settings(ctx, s.Settings.Reloadable()); err != nil {
		t.Errorf("settings: %v", err)
	}
	out, err := c.Suspend(ctx)
	if err != nil || out.Kind != OutcomeSuspended {
		t.Errorf("suspend: %+v, %v", out, err)
	}
	if _, err := ends(t, h); err != nil {
		t.Error(err)
	}
	return out.Generation == 0
}
