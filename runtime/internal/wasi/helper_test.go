package wasi

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds the wait for what happens soon on any machine that has time for the test.
const patience = 2 * time.Minute

// loopback is an address of this machine that no other test listens at: a port there can be left and taken again.
const loopback = "127.87.65.43"

// TestMain fails if the tests leave a goroutine or a descriptor behind.
func TestMain(m *testing.M) {
	goroutines, fds := runtime.NumGoroutine(), openFDs()
	code := m.Run()
	// The testing package keeps a few of its own; what leaks once a test is more.
	leak := func() bool { return runtime.NumGoroutine() > goroutines+2 || openFDs() > fds+4 }
	for limit := time.Now().Add(patience); code == 0 && leak() && time.Now().Before(limit); {
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
	if code == 0 && leak() {
		fmt.Fprintf(os.Stderr, "leak: %d goroutines (were %d), %d descriptors (were %d)\n", runtime.NumGoroutine(), goroutines, openFDs(), fds)
		code = 1
	}
	os.Exit(code)
}

func openFDs() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// guest stands for a program: it has memory and calls its host.
type guest struct {
	t   *testing.T
	k   *System
	h   *Host
	cfg Config
	mem memory
	brk uint32
	dir string // the host's directory that is preopened as "/", descriptor 3
}

// rootFD is the descriptor of the preopened directory.
const rootFD = 3

// newGuest returns a guest with an empty directory and, unless configure says
// otherwise, /dev/null for its standard streams.
func newGuest(t *testing.T, configure ...func(*Config)) *guest {
	t.Helper()
	g := &guest{t: t, mem: make(memory, 4<<20), dir: t.TempDir()}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	g.closeLater(null)
	g.cfg = Config{
		Args:     []string{"prog"},
		Preopens: []Preopen{{Host: g.dir, Guest: "/"}},
		Stdio:    &[3]Handle{Handle(null), Handle(null), Handle(null)},
	}
	for _, f := range configure {
		f(&g.cfg)
	}
	g.k = newSystem(t)
	g.h, err = New(g.cfg, g.k)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { g.h.Close() })
	return g
}

func newSystem(t *testing.T) *System {
	t.Helper()
	k, err := OS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Release(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func (g *guest) closeLater(fd int) {
	g.t.Cleanup(func() { _ = unix.Close(fd) })
}

// The following are arguments of guest.call beside plain numbers. A string
// stands for a pointer and a length. A *uint32 or *uint64 stands for a pointer,
// and is set from there afterwards.
type (
	// raw is a pointer to nothing in particular.
	raw uint32
	// iov is a vector of buffers to read into, of these lengths; the bytes are in
	// got afterwards.
	iov struct {
		lens []int
		got  []byte
	}
	// ciov is a vector of buffers to write.
	ciov []string
	// out is a structure to be filled: a pointer.
	out []byte
	// buf is a buffer to be filled: a pointer and a length.
	buf []byte
)

func (g *guest) alloc(n, align int) uint32 {
	g.t.Helper()
	g.brk = (g.brk + uint32(align) - 1) &^ (uint32(align) - 1)
	p := g.brk
	g.brk += uint32(n)
	if !g.mem.has(p, uint64(n)) {
		g.t.Fatal("the guest's memory is too small for this test")
	}
	return p
}

func (g *guest) store(b string) uint32 {
	p := g.alloc(len(b), 1)
	copy(g.mem[p:], b)
	return p
}

// marshal puts args into memory and returns the raw arguments, and a function
// that fetches the results.
func (g *guest) marshal(args []any) ([]uint64, func()) {
	g.t.Helper()
	g.brk = 64
	var rawArgs []uint64
	var fetch []func()
	push := func(v ...uint64) { rawArgs = append(rawArgs, v...) }
	for _, arg := range args {
		switch a := arg.(type) {
		case int:
			push(uint64(a))
		case int64:
			push(uint64(a))
		case uint32:
			push(uint64(a))
		case uint64:
			push(a)
		case raw:
			push(uint64(a))
		case Rights:
			push(uint64(a))
		case FdFlags:
			push(uint64(a))
		case string:
			push(uint64(g.store(a)), uint64(len(a)))
		case *uint32:
			p := g.alloc(4, 4)
			push(uint64(p))
			fetch = append(fetch, func() { *a = binary.LittleEndian.Uint32(g.mem[p:]) })
		case *uint64:
			p := g.alloc(8, 8)
			push(uint64(p))
			fetch = append(fetch, func() { *a = binary.LittleEndian.Uint64(g.mem[p:]) })
		case out:
			p := g.alloc(len(a), 8)
			copy(g.mem[p:], a)
			push(uint64(p))
			fetch = append(fetch, func() { copy(a, g.mem[p:]) })
		case buf:
			p := g.alloc(len(a), 8)
			copy(g.mem[p:], a)
			push(uint64(p), uint64(len(a)))
			fetch = append(fetch, func() { copy(a, g.mem[p:]) })
		case ciov:
			list := g.alloc(len(a)*sizeIovec, 4)
			for i, s := range a {
				g.mem.putUint32(list+uint32(i)*sizeIovec, g.store(s))
				g.mem.putUint32(list+uint32(i)*sizeIovec+4, uint32(len(s)))
			}
			push(uint64(list), uint64(len(a)))
		case *iov:
			list := g.alloc(len(a.lens)*sizeIovec, 4)
			total := 0
			for _, n := range a.lens {
				total += n
			}
			p := g.alloc(total, 1)
			clear(g.mem[p : int(p)+total])
			push(uint64(list), uint64(len(a.lens)))
			at := p
			for i, n := range a.lens {
				g.mem.putUint32(list+uint32(i)*sizeIovec, at)
				g.mem.putUint32(list+uint32(i)*sizeIovec+4, uint32(n))
				at += uint32(n)
			}
			fetch = append(fetch, func() { a.got = append([]byte(nil), g.mem[p:int(p)+total]...) })
		default:
			g.t.Fatalf("argument of type %T", arg)
		}
	}
	return rawArgs, func() {
		for _, f := range fetch {
			f()
		}
	}
}

func index(t testing.TB, name string) int {
	t.Helper()
	i, ok := FunctionIndex(name)
	if !ok {
		t.Fatalf("no function %s", name)
	}
	return i
}

// try makes a call and returns all that comes of it.
func (g *guest) try(name string, args ...any) (Errno, error) {
	g.t.Helper()
	rawArgs, fetch := g.marshal(args)
	errno, err := g.h.Call(index(g.t, name), g.mem, rawArgs)
	fetch()
	return Errno(errno), err
}

// call makes a call that neither ends the guest nor is interrupted.
func (g *guest) call(name string, args ...any) Errno {
	g.t.Helper()
	errno, err := g.try(name, args...)
	if err != nil {
		g.t.Fatalf("%s: %v", name, err)
	}
	return errno
}

// want makes a call and demands its error number.
func (g *guest) want(want Errno, name string, args ...any) {
	g.t.Helper()
	if got := g.call(name, args...); got != want {
		g.t.Errorf("%s%v = %v, want %v", name, args, got, want)
	}
}

// must makes a call that succeeds.
func (g *guest) must(name string, args ...any) {
	g.t.Helper()
	if got := g.call(name, args...); got != ESUCCESS {
		g.t.Fatalf("%s%v = %v", name, args, got)
	}
}

const (
	readWrite = RightFdRead | RightFdWrite | RightFdSeek | RightFdTell | RightFdFilestatGet | RightFdFilestatSetSize |
		RightFdFilestatSetTimes | RightFdAllocate | RightFdAdvise | RightFdSync | RightFdDatasync |
		RightFdFdstatSetFlags | RightPollFdReadwrite
	readOnly = readWrite &^ RightFdWrite &^ RightFdAllocate &^ RightFdFilestatSetSize &^ RightFdDatasync
	dirAll   = rightsDirectory
)

// open opens a path beneath the preopened directory, for everything.
func (g *guest) open(path string, oflags int, rights Rights, flags ...FdFlags) uint32 {
	g.t.Helper()
	var fd uint32
	f := FdFlags(0)
	for _, x := range flags {
		f |= x
	}
	g.must("path_open", rootFD, lookupSymlinkFollow, path, oflags, rights, rightsAll, f, &fd)
	return fd
}

func (g *guest) openDir(path string) uint32 {
	g.t.Helper()
	return g.open(path, oflagDirectory, dirAll)
}

func (g *guest) write(fd uint32, s string) {
	g.t.Helper()
	var n uint32
	g.must("fd_write", fd, ciov{s}, &n)
	if int(n) != len(s) {
		g.t.Fatalf("fd_write wrote %d bytes of %d", n, len(s))
	}
}

// read reads once, at most n bytes.
func (g *guest) read(fd uint32, n int) string {
	g.t.Helper()
	v := &iov{lens: []int{n}}
	var got uint32
	g.must("fd_read", fd, v, &got)
	return string(v.got[:got])
}

func (g *guest) seek(fd uint32, offset int64, whence int) uint64 {
	g.t.Helper()
	var pos uint64
	g.must("fd_seek", fd, offset, whence, &pos)
	return pos
}

func (g *guest) tell(fd uint32) uint64 {
	g.t.Helper()
	var pos uint64
	g.must("fd_tell", fd, &pos)
	return pos
}

func (g *guest) close(fd uint32) {
	g.t.Helper()
	g.must("fd_close", fd)
}

// filestat is a decoded filestat structure.
type filestat struct {
	dev, ino         uint64
	typ              FileType
	nlink, size      uint64
	atim, mtim, ctim uint64
}

func decodeFilestat(b []byte) filestat {
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
	return filestat{u(0), u(8), FileType(b[16]), u(24), u(32), u(40), u(48), u(56)}
}

func (g *guest) stat(fd uint32) filestat {
	g.t.Helper()
	b := make(out, sizeFilestat)
	g.must("fd_filestat_get", fd, b)
	return decodeFilestat(b)
}

func (g *guest) pathStat(path string, lookup int) filestat {
	g.t.Helper()
	b := make(out, sizeFilestat)
	g.must("path_filestat_get", rootFD, lookup, path, b)
	return decodeFilestat(b)
}

// fdstat is a decoded fdstat structure.
type fdstat struct {
	typ              FileType
	flags            FdFlags
	base, inheriting Rights
}

func (g *guest) fdstat(fd uint32) fdstat {
	g.t.Helper()
	b := make(out, sizeFdstat)
	g.must("fd_fdstat_get", fd, b)
	return fdstat{FileType(b[0]), FdFlags(binary.LittleEndian.Uint16(b[2:])),
		Rights(binary.LittleEndian.Uint64(b[8:])), Rights(binary.LittleEndian.Uint64(b[16:]))}
}

// hostWrite makes a file on the host's side, with its directories.
func (g *guest) hostWrite(path, content string) {
	g.t.Helper()
	path = filepath.Join(g.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		g.t.Fatal(err)
	}
}

// hostRead reads a file on the host's side.
func (g *guest) hostRead(path string) string {
	g.t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, path))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(b)
}

func (g *guest) hostMkdir(path string) {
	g.t.Helper()
	if err := os.MkdirAll(filepath.Join(g.dir, path), 0o755); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) hostSymlink(target, path string) {
	g.t.Helper()
	if err := os.Symlink(target, filepath.Join(g.dir, path)); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) hostMkfifo(path string) {
	g.t.Helper()
	if err := unix.Mkfifo(filepath.Join(g.dir, path), 0o644); err != nil {
		g.t.Fatal(err)
	}
}

// newPipe makes a pipe and returns its ends as descriptors of this process.
func newPipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	files := [2]*os.File{os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")}
	t.Cleanup(func() {
		files[0].Close()
		files[1].Close()
	})
	pipeEnds[p[0]], pipeEnds[p[1]] = files[0], files[1]
	return p[0], p[1]
}

// pipeEnds keeps the files of newPipe from being collected, and closable.
var pipeEnds = map[int]*os.File{}

// hangUp closes an end of newPipe.
func hangUp(t *testing.T, fd int) {
	t.Helper()
	if err := pipeEnds[fd].Close(); err != nil {
		t.Fatal(err)
	}
}

// stdio returns a configuration step that sets the standard streams.
func stdio(in, out, err int) func(*Config) {
	return func(c *Config) { c.Stdio = &[3]Handle{Handle(in), Handle(out), Handle(err)} }
}

// restart saves the guest's host and restores it in a fresh one, as another
// process would. The warnings are returned.
func (g *guest) restart() []Warning {
	g.t.Helper()
	state, err := g.h.Save()
	if err != nil {
		g.t.Fatalf("Save: %v", err)
	}
	g.h.Close()
	return g.restore(state)
}

func (g *guest) restore(state []byte) []Warning {
	g.t.Helper()
	k := newSystem(g.t)
	k.noOpenat2 = g.k.noOpenat2
	h, warnings, err := Restore(state, g.cfg, k)
	if err != nil {
		g.t.Fatalf("Restore: %v\n%s", err, state)
	}
	g.t.Cleanup(func() { h.Close() })
	g.k, g.h = k, h
	if again, err := h.Save(); err != nil {
		g.t.Fatalf("Save after Restore: %v", err)
	} else if _, err := decodeState(again); err != nil {
		g.t.Fatalf("what Save returned after Restore: %v", err)
	}
	return warnings
}

// noWarnings demands that a restore went without one.
func (g *guest) noWarnings(warnings []Warning) {
	g.t.Helper()
	for _, w := range warnings {
		g.t.Errorf("warning: %v", w)
	}
}

// oneWarning demands a single warning that has the text.
func (g *guest) oneWarning(warnings []Warning, text string) {
	g.t.Helper()
	if len(warnings) != 1 || !strings.Contains(warnings[0].String(), text) {
		g.t.Errorf("warnings %v, want one with %q", warnings, text)
	}
}
