package runtime

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"perdure/runtime/internal/guests"
)

// Offsets, append mode and what is open for reading come back.
func TestFilesOverRestore(t *testing.T) {
	bothWays(t, func(t *testing.T, s syscall.Signal) {
		c := newTalk(t, nil)
		c.write("in", "0123456789")
		c.expect("open 1 r /in", "open: 0", "read 1 4", "read: 0123",
			"open 2 rwct /out", "open: 0", "write 2 first", "write: 5", "seek 2 2", "seek: 2",
			"open 3 ac /log", "open: 0", "write 3 one", "write: 3")
		c.again(s, func() { c.write("log", "one and more, ") })
		c.expect("tell 1", "tell: 4", "read 1 3", "read: 456", "tell 2", "tell: 2", "write 2 XY", "write: 2", "tell 2", "tell: 4",
			"write 3 two", "write: 3", "read 3 1", "read: Bad file descriptor", "write 1 x", "write: Bad file descriptor")
		c.again(s, nil)
		c.expect("read 1 100", "read: 789", "write 2 !", "write: 1", "size 2", "size: 5", "close 3", "close: 0", "tell 3", "tell: Bad file descriptor")
		c.content("out", "fiXY!")
		c.content("log", "one and more, two")
		c.calm()
		c.expect("open 4 r /none", "open: No such file or directory")
		c.input.Close()
		c.ends(0)
	})
}

// A directory that is being read goes on behind the entry that was read last, whatever
// happened to it.
func TestDirectoryOverRestore(t *testing.T) {
	bothWays(t, func(t *testing.T, s syscall.Signal) {
		c := newTalk(t, nil)
		const n = 60
		for i := range n {
			c.write(fmt.Sprintf("name-%d", i), "")
		}
		c.expect("opendir /", "opendir: 0")
		var names []string
		for i := 0; ; i++ {
			name := strings.TrimPrefix(c.say("readdir"), "readdir: ")
			if name == "end" {
				break
			}
			names = append(names, name)
			if i == 7 || i == 30 {
				c.again(s, nil)
			}
		}
		slices.Sort(names)
		if want := n + 2; len(names) != want || len(slices.Compact(names)) != want {
			t.Errorf("%d names, want %d, each once: %q", len(names), want, names)
		}
		c.expect("closedir", "closedir: 0")
		c.calm()
	})
}

// A file that was renamed, by the guest or by others, is found by its new name.
func TestRenameOverRestore(t *testing.T) {
	bothWays(t, func(t *testing.T, s syscall.Signal) {
		c := newTalk(t, nil)
		c.write("in", "0123456789")
		if err := os.Mkdir(filepath.Join(c.dir, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		c.expect("open 1 r /in", "open: 0", "read 1 2", "read: 01", "rename /in /sub/other", "rename: 0")
		c.again(s, nil)
		c.expect("read 1 2", "read: 23")
		if err := os.Rename(filepath.Join(c.dir, "sub"), filepath.Join(c.dir, "bus")); err != nil {
			t.Fatal(err)
		}
		c.again(s, nil)
		c.expect("read 1 2", "read: 45", "open 2 r /bus/other", "open: 0")
		c.calm()
	})
}

// A file that is gone is told, fails on use, and fails nothing else.
func TestGoneOverRestore(t *testing.T) {
	bothWays(t, func(t *testing.T, s syscall.Signal) {
		c := newTalk(t, nil)
		c.write("a", "aaaa")
		c.write("b", "bbbb")
		c.write("c", "cccc")
		c.expect("open 1 r /a", "open: 0", "open 2 rw /b", "open: 0", "open 3 r /c", "open: 0", "read 3 1", "read: c",
			"unlink /a", "unlink: 0", "read 1 2", "read: aa") // it lives on, as long as it is open
		c.again(s, func() {
			if err := os.Remove(filepath.Join(c.dir, "b")); err != nil {
				t.Fatal(err)
			}
		})
		gone := regexp.MustCompile(`^(read|write): (I/O error|Bad file descriptor)$`)
		for _, command := range []string{"read 1 1", "read 2 1", "write 2 x"} {
			if got := c.say(command); !gone.MatchString(got) {
				t.Errorf("%s: answer %q", command, got)
			}
		}
		if !c.warned(`"a"`, "/a") || !c.warned(`"b"`, "/b") || c.warned(`"c"`) {
			t.Errorf("warnings: %v", c.events("WarningEvent"))
		}
		// All else goes on, and the dead descriptors can be closed and used for others.
		c.expect("read 3 2", "read: cc", "close 1", "close: 0", "close 2", "close: 0", "open 1 rwc /a", "open: 0", "write 1 new", "write: 3")
		c.again(s, nil)
		c.expect("seek 1 0", "seek: 0", "read 1 9", "read: new")
		c.calm()
	})
}

// Monotonic time goes on where it stood, the wall clock is real.
func TestClocksOverRestore(t *testing.T) {
	t.Parallel() // it waits most of the time
	bothWays(t, func(t *testing.T, s syscall.Signal) {
		c := newTalk(t, nil)
		clocks := func() (wall, monotonic time.Duration) {
			f := strings.Fields(c.say("clock"))
			w, err1 := strconv.ParseInt(f[1], 10, 64)
			m, err2 := strconv.ParseInt(f[2], 10, 64)
			if err1 != nil || err2 != nil {
				t.Fatalf("answer %q", f)
			}
			return time.Duration(w), time.Duration(m)
		}
		const down = 1500 * time.Millisecond
		asked := time.Now()
		wall, mono := clocks()
		for range 3 {
			c.again(s, func() { time.Sleep(down) })
			again := time.Now()
			w, m := clocks()
			if d := time.Duration(time.Now().UnixNano()) - w; d < 0 || d > time.Minute {
				t.Errorf("the wall clock is %v off", d)
			}
			took := time.Since(asked)
			if m < mono {
				t.Errorf("monotonic time ran back by %v", mono-m)
			}
			if m-mono > took-down {
				t.Errorf("monotonic time went on by %v of %v, %v of which the process did not run", m-mono, took, down)
			}
			if w-wall < down {
				t.Errorf("the wall clock went on by %v in at least %v", w-wall, down)
			}
			asked, wall, mono = again, w, m
		}
	})
}

// A sleeper sleeps what was left, by every means.
func TestSleepOverRestore(t *testing.T) {
	t.Parallel() // with the next
	for _, how := range []string{"nanosleep", "poll", "stdin"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			bothWays(t, func(t *testing.T, s syscall.Signal) {
				// What is late makes a sleep longer, and counts less in a long one.
				long := 4 * time.Second
				for late := sleep(t, s, how, long); late != ""; late = sleep(t, s, how, long) {
					if long *= 2; long > 40*time.Second {
						t.Fatal(late)
					}
					t.Log(late)
				}
			})
		})
	}
}

// sleep suspends a sleeper in the middle of its sleep, and returns in what way that was too long.
func sleep(t *testing.T, s syscall.Signal, how string, long time.Duration) (late string) {
	t.Helper()
	awake := regexp.MustCompile(`(?m)^1 awake after (\d+) ms, (\d+) ms in all$`)
	before, down := long/2, long*3/8
	o := Options{Dir: processDir(t), Name: "sleeper", CacheDir: cacheDir(), Program: guests.Path(t, "sleeper"),
		Args: []string{"sleeper", strconv.Itoa(int(long.Milliseconds())), "1", how}, Every: 20 * time.Millisecond}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	l := launch(t, workerSpec{Options: o, SnapshotOnUSR1: true}, r)
	woke := func() bool {
		out, _ := l.parse()
		return awake.MatchString(out)
	}
	l.prints("asleep")
	time.Sleep(before)
	if s == syscall.SIGKILL {
		// A sleeper is cut less and less often, and time that no generation
		// knows of is lost.
		n := len(l.events("CommittedEvent"))
		l.signal(syscall.SIGUSR1)
		if !l.await(time.Minute, n+1, "CommittedEvent") && !woke() {
			t.Fatalf("no generation\n%s", l.describe())
		}
	}
	l.signal(s)
	status := l.wait(time.Minute)
	if woke() {
		return fmt.Sprintf("it was to be suspended after %v of %v, and was awake", before, long)
	}
	if status != -1 && status != statusSuspended {
		t.Fatalf("status %d\n%s", status, l.describe())
	}
	time.Sleep(down)
	l = launch(t, workerSpec{Options: o}, r)
	l.has("RestoredEvent")
	began := time.Now()
	l.prints("1 awake after")
	rest := time.Since(began)
	out := l.ends(0)
	m := awake.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("printed %q", out)
	}
	ms, _ := strconv.Atoi(m[1])
	slept := time.Duration(ms) * time.Millisecond
	// By the guest's clock it is the whole, and as much more as went by
	// between a cut and the kill or the restore.
	if slept < long {
		t.Errorf("the guest slept %v of %v", slept, long)
	}
	if slept > long+down {
		return fmt.Sprintf("the guest slept %v of %v", slept, long)
	}
	// By ours it is what was left.
	if rest > long-before/4 {
		return fmt.Sprintf("slept %v after the restore, of %v left", rest, long-before)
	}
	return ""
}

// A listener is bound anew, an established connection reads as reset.
func TestSocketsOverRestore(t *testing.T) {
	bothWays(t, func(t *testing.T, s syscall.Signal) {
		// Nobody else takes it while the process does not run, nor does a connection.
		pid := os.Getpid()
		address := fmt.Sprintf("127.%d.%d.%d:17017", s, pid>>8&0xff, pid&0xff)
		c := newTalk(t, func(s *workerSpec) { s.Options.Listeners = []Listener{{"tcp", address}} })
		dial := func() net.Conn {
			t.Helper()
			conn, err := net.DialTimeout("tcp", address, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			if err := conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
				t.Fatal(err)
			}
			return conn
		}
		first := dial()
		c.expect("accept 1 4", "accept: 0", "write 1 hello", "write: 5")
		b := make([]byte, 5)
		if _, err := io.ReadFull(first, b); err != nil || string(b) != "hello" {
			t.Fatalf("read %q: %v", b, err)
		}
		c.again(s, nil)
		c.expect("read 1 1", "read: Connection reset by peer", "write 1 x", "write: Connection reset by peer", "close 1", "close: 0")
		if !c.warned("connection is lost") {
			t.Errorf("warnings: %v", c.events("WarningEvent"))
		}
		second := dial()
		if _, err := second.Write([]byte("again")); err != nil {
			t.Fatal(err)
		}
		c.expect("accept 1 4", "accept: 0", "read 1 5", "read: again")

		// Suspended in accept.
		if _, err := c.input.WriteString("accept 2 4\n"); err != nil {
			t.Fatal(err)
		}
		c.pends("sock_accept")
		c.again(s, nil)
		third := dial()
		if !c.awaitOutput(time.Minute, "accept: 0\n") {
			t.Fatalf("accept does not go on\n%s", c.describe())
		}
		c.said = len("accept: 0\n")
		c.expect("write 2 there", "write: 5")
		if _, err := io.ReadFull(third, b); err != nil || string(b) != "there" {
			t.Fatalf("read %q: %v", b, err)
		}
	})
}
