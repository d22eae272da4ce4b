package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"perdure/config"
)

// The files in the directory of a process by which a test asks a worker what it can do.
const (
	questionsFile = "questions.json"
	answersFile   = "answers.json"
)

// questions are what a worker shall try.
type questions struct {
	Outside  string // a file of another
	ReadOnly string // a file in a directory that the guest may read
	Writable string // a directory that the guest may write
	Log      string // a log of another
	TCP      string // an address where someone listens
	Allowed  string // another, that the guest may connect to
}

// answer tries what the test asks for, if it does, and writes down the errors, empty for none, by what was tried.
func answer(s *Spec) error {
	b, err := os.ReadFile(filepath.Join(s.Dir, questionsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var q questions
	if err := json.Unmarshal(b, &q); err != nil {
		return err
	}
	tries := map[string]func() error{
		"denied: read /etc/passwd":      func() error { _, err := os.ReadFile("/etc/passwd"); return err },
		"denied: list /":                func() error { _, err := os.ReadDir("/"); return err },
		"denied: read another's file":   func() error { _, err := os.ReadFile(q.Outside); return err },
		"denied: write another's file":  func() error { return os.WriteFile(q.Outside, nil, 0o600) },
		"denied: make a file there":     func() error { return os.WriteFile(q.Outside+".new", nil, 0o600) },
		"denied: remove it":             func() error { return os.Remove(q.Outside) },
		"denied: rename it":             func() error { return os.Rename(q.Outside, filepath.Join(s.Dir, "mine")) },
		"denied: read another's log":    func() error { _, err := os.ReadFile(q.Log); return err },
		"denied: write what is to read": func() error { return os.WriteFile(q.ReadOnly, nil, 0o600) },
		"denied: read the memory of another": func() error {
			_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", os.Getppid()))
			return err
		},
		"denied: execute": func() error { _, err := syscall.ForkExec("/bin/true", nil, nil); return err },
		"denied: signal":  func() error { return unix.Kill(os.Getppid(), 0) },
		"denied: trace":   func() error { return unix.PtraceAttach(os.Getppid()) },
		"denied: mount":   func() error { return unix.Mount("none", s.Dir, "tmpfs", 0, "") },
		"denied: unshare": func() error { return unix.Unshare(unix.CLONE_NEWUTS) },
		"denied: chroot":  func() error { return unix.Chroot(s.Dir) },
		"denied: bpf": func() error {
			_, _, errno := unix.Syscall(unix.SYS_BPF, 0, 0, 0)
			return errno
		},
		"denied: io_uring": func() error {
			_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
			return errno
		},
		"denied: keys":                        func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true); return err },
		"denied: a netlink socket":            func() error { return socket(unix.AF_NETLINK, unix.SOCK_DGRAM) },
		"denied: a raw socket":                func() error { return socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC) },
		"denied: connect":                     func() error { c, err := net.Dial("tcp", q.TCP); return closed(c, err) },
		"allowed: connect to what is to":      func() error { c, err := net.Dial("tcp", q.Allowed); return closed(c, err) },
		"denied: listen":                      func() error { l, err := net.Listen("tcp", "127.0.0.1:0"); return closed(l, err) },
		"denied: limits of another":           func() error { return unix.Prlimit(os.Getppid(), unix.RLIMIT_CORE, nil, &unix.Rlimit{}) },
		"allowed: its own limits":             func() error { return unix.Prlimit(0, unix.RLIMIT_CORE, nil, &unix.Rlimit{}) },
		"allowed: its own directory":          func() error { return os.WriteFile(filepath.Join(s.Dir, "mine"), nil, 0o600) },
		"allowed: read what is to":            func() error { _, err := os.ReadFile(q.ReadOnly); return err },
		"allowed: write what is to":           func() error { return os.WriteFile(filepath.Join(q.Writable, "mine"), nil, 0o600) },
		"allowed: rename there":               func() error { return renameThere(q.Writable) },
		"allowed: keep what is removed there": func() error { return keepRemoved(q.Writable, filepath.Join(s.Dir, "unlinked")) },
		"allowed: random bytes":               func() error { _, err := os.Open("/dev/urandom"); return err },
		"allowed: itself":                     func() error { _, err := os.ReadFile("/proc/self/status"); return err },
		"allowed: signal itself":              func() error { return unix.Kill(os.Getpid(), 0) },
		"allowed: executable memory":          executableMemory,
		"allowed: threads of its own":         func() error { return inThreads(8, func() error { return nil }) },
	}
	answers := make(map[string]string)
	for what, try := range tries {
		if err := try(); err != nil {
			answers[what] = err.Error()
		} else {
			answers[what] = ""
		}
	}
	// Every thread has to be confined, those that were there before as well.
	for what, err := range map[string]error{
		"denied: read in any thread": inThreads(8, func() error {
			_, err := os.ReadFile("/etc/passwd")
			return denied(err)
		}),
		"denied: unshare in any thread": inThreads(8, func() error { return denied(unix.Unshare(unix.CLONE_NEWUTS)) }),
	} {
		answers[what] = "denied"
		if err != nil {
			answers[what] = ""
		}
	}
	if b, err = json.Marshal(answers); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.Dir, answersFile), b, 0o600)
}

// denied is an error unless it got one.
func denied(err error) error {
	if err == nil {
		return errors.New("not denied")
	}
	return nil
}

// inThreads does the same in so many threads at once, and returns the first error.
func inThreads(n int, do func() error) error {
	var together, done sync.WaitGroup
	together.Add(n)
	errs := make([]error, n)
	for i := range n {
		done.Go(func() {
			goruntime.LockOSThread()
			defer goruntime.UnlockOSThread()
			together.Done()
			together.Wait()
			errs[i] = do()
		})
	}
	done.Wait()
	return errors.Join(errs...)
}

func socket(family, kind int) error {
	fd, err := unix.Socket(family, kind, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func closed(c interface{ Close() error }, err error) error {
	if err == nil {
		c.Close()
	}
	return err
}

func renameThere(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "below"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "here"), nil, 0o600); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, "here"), filepath.Join(dir, "below", "there"))
}

// keepRemoved gives a file another name before its own is removed, as the journal does with one that is open.
func keepRemoved(dir, kept string) error {
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, "removed")
	if err := os.WriteFile(path, []byte("still open"), 0o600); err != nil {
		return err
	}
	if err := os.Link(path, filepath.Join(kept, "0-0")); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(kept, "0-0"), os.O_RDWR, 0)
	return closed(f, err)
}

func executableMemory() error {
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
}

// TestConfined asks a worker what it can do beside running its guest, which it has to do as well as ever: compile,
// follow what is written to memory, take snapshots and go on from them.
func TestConfined(t *testing.T) {
	s := newSpec(t, "counter", "5")
	s.CacheDir = filepath.Join(t.TempDir(), "cache") // so that it has to compile
	dir := t.TempDir()
	q := questions{
		Outside: filepath.Join(dir, "outside"), ReadOnly: filepath.Join(dir, "ro", "file"), Writable: filepath.Join(dir, "rw"),
		Log: filepath.Join(filepath.Dir(s.Log), "other.log"),
	}
	for _, path := range []string{q.Outside, q.ReadOnly, filepath.Join(q.Writable, "file"), q.Log} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	q.TCP = l.Addr().String()
	allowed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer allowed.Close()
	q.Allowed = allowed.Addr().String()
	to, err := config.ParseAllow("tcp://" + q.Allowed)
	if err != nil {
		t.Fatal(err)
	}
	s.Settings.AllowConnect = []config.Allow{to}
	s.Settings.Dirs = []config.Dir{{Host: filepath.Dir(q.ReadOnly), Guest: "/ro", ReadOnly: true}, {Host: q.Writable, Guest: "/rw"}}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, questionsFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	h, c := beginRunning(t, s)
	st, err := c.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(filepath.Join(s.Dir, answersFile)); err != nil {
		t.Fatal(err)
	}
	var answers map[string]string
	if err := json.Unmarshal(b, &answers); err != nil {
		t.Fatal(err)
	}
	t.Logf("not applied: %q", st.NotApplied)
	if slices.ContainsFunc(st.NotApplied, func(s string) bool { return strings.HasPrefix(s, "limits.confine") }) {
		t.Logf("this kernel cannot confine it whole: %v", answers)
	} else {
		for what, got := range answers {
			switch kind, _, _ := strings.Cut(what, ":"); {
			case kind == "denied" && got == "":
				t.Errorf("%s: it is allowed", what)
			case kind == "allowed" && got != "":
				t.Errorf("%s: %s", what, got)
			}
		}
		if len(answers) < 30 {
			t.Errorf("there are %d answers", len(answers))
		}
	}
	if len(st.Warnings) > 0 {
		t.Errorf("there are warnings: %q", st.Warnings)
	}
	if b, err := os.ReadFile(q.Outside); string(b) != "secret" {
		t.Errorf("the file of another is %q, %v", b, err)
	}
	if _, err := c.Snapshot(context.Background()); err != nil {
		t.Error(err)
	}
	out, err := c.Suspend(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ends(t, h); err != nil {
		t.Fatal(err)
	}
	_, c = beginRunning(t, s)
	if st, err := c.Status(context.Background()); err != nil || st.RestoredFrom != out.Generation || len(st.Warnings) > 0 {
		t.Errorf("went on: %+v, %v; want generation %d", st, err, out.Generation)
	}
}

// TestConfinedListens wants a guest's listening sockets to be bound in confinement, and only those.
func TestConfinedListens(t *testing.T) {
	s := newSpec(t, "counter", "5")
	path := filepath.Join(t.TempDir(), "socket")
	s.Settings.Listen = []config.Listen{{Network: "tcp", Address: "localhost:0"}, {Network: "unix", Address: path}}
	_, c := beginRunning(t, s)
	st, err := c.Status(context.Background())
	if err != nil || len(st.Warnings) > 0 {
		t.Errorf("status is %+v, %v", st, err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
