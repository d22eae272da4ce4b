package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"perdure/runtime/internal/wasi"
)

// killed is what the outside panics with when the test's process dies there.
type killed struct{}

// mortal is the outside of a process that dies at one of its calls: before it, or after its
// effect.
type mortal struct {
	wasi.Kernel
	j     *Journal
	at    int // counted from 1; 0 for never
	after bool
	n     int
	open  map[wasi.Handle]bool // to be closed, as a death does
}

func (k *mortal) call(do func()) {
	k.n++
	if k.n == k.at && !k.after {
		k.die()
	}
	do()
	if k.n == k.at {
		k.die()
	}
}

func (k *mortal) die() {
	if k.j != nil {
		k.j.failed = true // what its host defers is not done
	}
	panic(killed{})
}

func (k *mortal) opened(h wasi.Handle, ok bool) {
	if ok {
		k.open[h] = true
	}
}

func (k *mortal) Now(c wasi.Clock) (t int64, e wasi.Errno) {
	k.call(func() { t, e = k.Kernel.Now(c) })
	return t, e
}

func (k *mortal) Random(p []byte) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Random(p) })
	return e
}

func (k *mortal) Poll(fds []wasi.PollFD, deadline int64) (n int, e wasi.Errno) {
	k.call(func() { n, e = k.Kernel.Poll(fds, deadline) })
	return n, e
}

func (k *mortal) OpenRoot(path string) (h wasi.Handle, err error) {
	k.call(func() { h, err = k.Kernel.OpenRoot(path); k.opened(h, err == nil) })
	return h, err
}

func (k *mortal) Open(dir wasi.Handle, path string, flags wasi.OpenFlags) (h wasi.Handle, e wasi.Errno) {
	k.call(func() { h, e = k.Kernel.Open(dir, path, flags); k.opened(h, e == wasi.ESUCCESS) })
	return h, e
}

func (k *mortal) Close(h wasi.Handle) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Close(h); delete(k.open, h) })
	return e
}

func (k *mortal) Mkdir(dir wasi.Handle, name string) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Mkdir(dir, name) })
	return e
}

func (k *mortal) Unlink(dir wasi.Handle, name string, directory bool) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Unlink(dir, name, directory) })
	return e
}

func (k *mortal) Rename(oldDir wasi.Handle, oldName string, newDir wasi.Handle, newName string) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Rename(oldDir, oldName, newDir, newName) })
	return e
}

func (k *mortal) Link(oldDir wasi.Handle, oldName string, newDir wasi.Handle, newName string) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Link(oldDir, oldName, newDir, newName) })
	return e
}

func (k *mortal) Symlink(target string, dir wasi.Handle, name string) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Symlink(target, dir, name) })
	return e
}

func (k *mortal) ReadDir(h wasi.Handle, most int) (l []wasi.DirEntry, e wasi.Errno) {
	k.call(func() { l, e = k.Kernel.ReadDir(h, most) })
	return l, e
}

func (k *mortal) Stat(h wasi.Handle) (st wasi.Stat, e wasi.Errno) {
	k.call(func() { st, e = k.Kernel.Stat(h) })
	return st, e
}

func (k *mortal) Path(h wasi.Handle) (p string, e wasi.Errno) {
	k.call(func() { p, e = k.Kernel.Path(h) })
	return p, e
}

func (k *mortal) Read(h wasi.Handle, bufs [][]byte, offset int64) (n int, e wasi.Errno) {
	k.call(func() { n, e = k.Kernel.Read(h, bufs, offset) })
	return n, e
}

func (k *mortal) Write(h wasi.Handle, bufs [][]byte, offset int64, flags wasi.WriteFlags) (n int, end int64, e wasi.Errno) {
	k.call(func() {
		if k.n == k.at && k.after && k.n%3 == 0 {
			bufs = [][]byte{bytes.Join(bufs, nil)[:total(bufs)/2]} // as far as a signal let it
		}
		n, end, e = k.Kernel.Write(h, bufs, offset, flags)
	})
	return n, end, e
}

func (k *mortal) Seek(h wasi.Handle, offset int64, whence int) (pos int64, e wasi.Errno) {
	k.call(func() { pos, e = k.Kernel.Seek(h, offset, whence) })
	return pos, e
}

func (k *mortal) Truncate(h wasi.Handle, size int64) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Truncate(h, size) })
	return e
}

func (k *mortal) Sync(h wasi.Handle, dataOnly bool) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Sync(h, dataOnly) })
	return e
}

// guest is a program that is a list of steps. All that it knows is in its memory and in step,
// so that it can be saved between two steps.
type guest struct {
	step int
	mem  []byte
	host *wasi.Host
	fail error
}

// Where things are in its memory.
const (
	atPath, atPath2, atVector, atResult, atData, atSecret, atFiles, memSize = 0, 1024, 2048, 2080, 4096, 3000, 3100, 16384
)

// call makes a host call and notes an error that is not allowed.
func (g *guest) call(name string, allowed wasi.Errno, args ...uint64) wasi.Errno {
	i, ok := wasi.FunctionIndex(name)
	if !ok {
		panic(name)
	}
	r, err := g.host.Call(i, g.mem, args)
	if e := wasi.Errno(r); g.fail == nil && (err != nil || e != wasi.ESUCCESS && e != allowed) {
		g.fail = fmt.Errorf("step %d: %s%v: %v, %v", g.step, name, args, e, err)
	}
	return wasi.Errno(r)
}

func (g *guest) path(at int, p string) (uint64, uint64) {
	copy(g.mem[at:], p)
	return uint64(at), uint64(len(p))
}

// dir is the guest's descriptor of its directory.
const dir = 3

const (
	create, directory, exclusive, truncate = 1, 2, 4, 8
	appending                              = 1
	allRights                              = 1<<30 - 1
)

// open opens a file as number slot of the guest's.
func (g *guest) open(slot int, p string, how, flags uint64) {
	a, n := g.path(atPath, p)
	g.call("path_open", 0, dir, 0, a, n, how, allRights&^(how&directory<<5), allRights, flags, atResult)
	g.setFile(slot, binary.LittleEndian.Uint32(g.mem[atResult:]))
}

func (g *guest) setFile(slot int, fd uint32) {
	binary.LittleEndian.PutUint32(g.mem[atFiles+4*slot:], fd)
}
func (g *guest) file(slot int) uint64 {
	return uint64(binary.LittleEndian.Uint32(g.mem[atFiles+4*slot:]))
}

// vector describes n bytes at a place.
func (g *guest) vector(at, n int) {
	binary.LittleEndian.PutUint32(g.mem[atVector:], uint32(at))
	binary.LittleEndian.PutUint32(g.mem[atVector+4:], uint32(n))
}

func (g *guest) write(fd uint64, s string) {
	copy(g.mem[atData:], s)
	g.vector(atData, len(s))
	g.call("fd_write", 0, fd, atVector, 1, atResult)
}

func (g *guest) pwrite(fd uint64, s string, offset int) {
	copy(g.mem[atData:], s)
	g.vector(atData, len(s))
	g.call("fd_pwrite", 0, fd, atVector, 1, uint64(offset), atResult)
}

// read reads up to n bytes; offset -1 is where the file stands.
func (g *guest) read(fd uint64, n, offset int) string {
	g.vector(atData, n)
	if offset < 0 {
		g.call("fd_read", 0, fd, atVector, 1, atResult)
	} else {
		g.call("fd_pread", 0, fd, atVector, 1, uint64(offset), atResult)
	}
	n = int(binary.LittleEndian.Uint32(g.mem[atResult:]))
	return string(g.mem[atData:][:min(n, 4096)])
}

func (g *guest) closeFile(slot int) { g.call("fd_close", 0, g.file(slot)) }

func (g *guest) name(call string, allowed wasi.Errno, p string) wasi.Errno {
	a, n := g.path(atPath, p)
	return g.call(call, allowed, dir, a, n)
}

func (g *guest) rename(from, to string) {
	a, n := g.path(atPath, from)
	b, m := g.path(atPath2, to)
	g.call("path_rename", 0, dir, a, n, dir, b, m)
}

// say prints to standard output, which is a file.
func (g *guest) say(format string, args ...any) { g.write(1, fmt.Sprintf(format, args...)) }

// The files that the guest has open.
const (
	slotLog, slotData, slotNew, slotTemp, slotOver, slotDir = 0, 1, 2, 3, 4, 5
)

// steps are one round of the guest.
var steps = []func(g *guest, round int){
	func(g *guest, round int) {
		if round == 0 {
			g.open(slotLog, "log", create, appending)
			g.open(slotData, "data", create, 0)
		}
		g.write(g.file(slotLog), fmt.Sprintf("line %d\n", round))
		g.write(g.file(slotLog), "and more\n")
	},
	func(g *guest, round int) {
		g.write(g.file(slotData), fmt.Sprintf("<%d>", round))
		g.pwrite(g.file(slotData), strings.Repeat(string(rune('a'+round)), 50), 20*round)
		g.say("%q\n", g.read(g.file(slotLog), 12, round))
		if round%2 == 1 {
			g.call("fd_filestat_set_size", 0, g.file(slotData), uint64(30*round))
		}
	},
	func(g *guest, round int) { // replaced by a new version, which is renamed while it is open
		g.open(slotNew, "new", create|exclusive, 0)
		g.write(g.file(slotNew), fmt.Sprintf("version %d", round))
		g.rename("new", "current")
		g.write(g.file(slotNew), ", renamed")
		g.closeFile(slotNew)
		g.open(slotNew, "current", 0, 0)
		g.say("%q\n", g.read(g.file(slotNew), 100, -1))
		g.closeFile(slotNew)
	},
	func(g *guest, round int) { // open without a name
		g.open(slotTemp, "temp", create|exclusive, 0)
		g.write(g.file(slotTemp), fmt.Sprintf("temporary %d", round))
		g.name("path_unlink_file", 0, "temp")
		g.write(g.file(slotTemp), ", still there")
	},
	func(g *guest, round int) { // one is replaced while it is open
		g.open(slotOver, "over", create, 0)
		g.write(g.file(slotOver), fmt.Sprintf("over %d", round))
		g.open(slotNew, "other", create, 0)
		g.closeFile(slotNew)
		g.rename("other", "over")
		g.say("%q %q\n", g.read(g.file(slotTemp), 100, 0), g.read(g.file(slotOver), 100, 0))
		g.call("fd_filestat_get", 0, g.file(slotOver), atData)
		g.say("%d names\n", binary.LittleEndian.Uint64(g.mem[atData+24:]))
	},
	func(g *guest, round int) {
		g.closeFile(slotTemp)
		g.closeFile(slotOver)
		g.name("path_unlink_file", 0, "over")
	},
	func(g *guest, round int) { // names of every kind
		d := "dir" + strconv.Itoa(round%2)
		g.say("%v\n", g.name("path_create_directory", wasi.EEXIST, d))
		g.open(slotNew, d+"/one", create|truncate, 0)
		g.write(g.file(slotNew), "one")
		a, n := g.path(atPath, d+"/one")
		b, m := g.path(atPath2, d+"/two")
		g.call("path_link", wasi.EEXIST, dir, 0, a, n, dir, b, m)
		g.name("path_unlink_file", wasi.ENOENT, d+"/link")
		a, n = g.path(atPath, "two")
		b, m = g.path(atPath2, d+"/link")
		g.call("path_symlink", 0, a, n, dir, b, m)
		g.rename(d+"/one", d+"/four")
		g.write(g.file(slotNew), "more")
		g.closeFile(slotNew)
	},
	func(g *guest, round int) { // a directory is renamed, with a file and itself open
		g.name("path_create_directory", 0, "moving")
		g.open(slotDir, "moving", directory, 0)
		g.open(slotNew, "moving/in", create, 0)
		g.rename("moving", "moved")
		g.write(g.file(slotNew), "in a directory that moved")
		a, n := g.path(atPath, "by the directory")
		g.call("path_open", 0, g.file(slotDir), 0, a, n, create, allRights&^(directory<<5), 0, 0, atResult)
		g.call("fd_close", 0, uint64(binary.LittleEndian.Uint32(g.mem[atResult:])))
		g.say("%q\n", g.read(g.file(slotNew), 100, 3))
		g.closeFile(slotNew)
	},
	func(g *guest, round int) {
		g.call("fd_readdir", 0, g.file(slotDir), atData, 1000, 0, atResult)
		g.say("listing of %d bytes\n", binary.LittleEndian.Uint32(g.mem[atResult:]))
		g.closeFile(slotDir)
		g.name("path_unlink_file", 0, "moved/in")
		g.name("path_unlink_file", 0, "moved/by the directory")
		g.name("path_remove_directory", 0, "moved")
	},
	func(g *guest, round int) { // what is drawn now is compared in the next round
		g.open(slotNew, "secret", create, 0)
		if round > 0 {
			if kept := g.read(g.file(slotNew), 16, 0); kept != string(g.mem[atSecret:atSecret+16]) {
				g.fail = fmt.Errorf("the secret is another in round %d", round)
			}
		}
		g.call("random_get", 0, atSecret, 16)
		g.pwrite(g.file(slotNew), string(g.mem[atSecret:atSecret+16]), 0)
		g.closeFile(slotNew)
		g.say("input %q\n", g.read(0, 7, -1))
	},
	func(g *guest, round int) { // time passes
		before := binary.LittleEndian.Uint64(g.mem[atSecret+24:])
		g.call("clock_time_get", 0, 1, 0, atSecret+24)
		if now := binary.LittleEndian.Uint64(g.mem[atSecret+24:]); now < before {
			g.fail = fmt.Errorf("time goes from %d to %d in round %d", before, now, round)
		}
		clear(g.mem[atData : atData+48])
		binary.LittleEndian.PutUint32(g.mem[atData+16:], 1)
		binary.LittleEndian.PutUint64(g.mem[atData+24:], 1000)
		g.call("poll_oneoff", 0, atData, atData+100, 1, atResult)
	},
}

const rounds = 3

// end comes behind the last round.
func (g *guest) end() {
	g.closeFile(slotLog)
	g.closeFile(slotData)
	g.name("path_unlink_file", 0, "secret")
}

// saved is a generation of the guest.
type saved struct {
	step int
	mem  []byte
	wasi []byte
	at   Position
}

// life runs the guest in one operating-system process, which dies at a call.
type life struct {
	t      *testing.T
	dir    string
	saved  *saved // the newest generation; nil before the first
	older  *saved // the one before
	cuts   int    // a cut comes after so many steps; 0 for none
	steps  []func(g *guest, round int)
	rounds int
	end    func(g *guest)                 // behind the last round
	kernel func(*wasi.System) wasi.Kernel // what takes the place of the system; nil if nothing does
	listen []wasi.Listener
	opt    Options
	k      *mortal
	g      *guest
	live   func() // called when the past has been played
	lost   []wasi.Warning
	played int
	step   int // where it died
	done   bool
	files  map[identity]uint64 // the segment that a file was last
	reused int                 // how often a file became another one
}

// run runs it until it dies or ends.
func (l *life) run(at int, after bool) {
	t := l.t
	system, err := wasi.OS()
	if err != nil {
		t.Fatal(err)
	}
	l.k = &mortal{Kernel: system, at: at, after: after, open: map[wasi.Handle]bool{}}
	if l.kernel != nil {
		l.k.Kernel = l.kernel(system)
	}
	var files [2]*os.File
	for i, name := range []string{"stdin", "stdout"} {
		if files[i], err = os.OpenFile(filepath.Join(l.dir, name), os.O_RDWR|os.O_APPEND*i, 0); err != nil {
			t.Fatal(err)
		}
	}
	opt := l.opt
	opt.Dir, opt.Unlinked, opt.Kernel = filepath.Join(l.dir, "journal"), filepath.Join(l.dir, "unlinked"), l.k
	opt.Live = func(n int, lost []wasi.Warning) {
		l.played += n
		l.lost = append(l.lost, lost...)
		if l.live != nil {
			l.live()
		}
	}
	var j *Journal
	defer func() {
		switch r := recover().(type) {
		case nil, killed:
		case error:
			t.Errorf("step %d: %v", l.step, r)
		default:
			panic(r)
		}
		for h := range l.k.open {
			system.Close(h)
		}
		if j != nil {
			// What is given back now is not the guest's doing.
			j.k, j.orphanage, j.waiting, j.opt.Sync = system, wasi.NoHandle, nil, false
			if err := j.Release(); err != nil {
				t.Error(err)
			}
		}
		for _, f := range files {
			f.Close()
		}
		if err := system.Release(); err != nil {
			t.Error(err)
		}
	}()
	if j, err = New(opt); err != nil {
		t.Fatal(err)
	}
	l.k.j = j
	cfg := wasi.Config{Listeners: l.listen, Preopens: []wasi.Preopen{{Host: filepath.Join(l.dir, "out"), Guest: "/"}},
		Stdio: &[3]wasi.Handle{wasi.Handle(files[0].Fd()), wasi.Handle(files[1].Fd()), wasi.NoHandle}}
	g := &guest{mem: make([]byte, memSize)}
	l.g = g
	s := l.saved
	if s == nil {
		if state, at, ok := Birth(opt.Dir); ok {
			s = &saved{mem: g.mem, wasi: state, at: at}
		}
	}
	noFlaw := func(err error) error { t.Errorf("flaw: %v", err); return err }
	var warnings []wasi.Warning
	err = j.Quiet(func() (err error) {
		if s == nil {
			g.host, err = wasi.New(cfg, j)
			return err
		}
		if err := j.Continue(s.at, noFlaw); err != nil {
			return err
		}
		g.step, g.mem = s.step, bytes.Clone(s.mem)
		g.host, warnings, err = wasi.Restore(s.wasi, cfg, j)
		return err
	})
	if err == nil {
		err = j.GoLiveSoon()
	}
	if err == nil && s == nil {
		var state []byte
		if err = j.Quiet(func() (err error) { state, err = g.host.Save(); return err }); err == nil {
			err = j.Begin(state)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	l.lost = append(l.lost, warnings...)
	for ; g.step < l.rounds*len(l.steps); g.step++ {
		l.step = g.step
		if l.cuts > 0 && g.step%l.cuts == l.cuts-1 && !j.Playing() {
			l.cut(g, j)
		}
		l.steps[g.step%len(l.steps)](g, g.step/len(l.steps))
		if g.fail != nil {
			t.Fatal(g.fail)
		}
	}
	l.end(g)
	if g.fail != nil {
		t.Fatal(g.fail)
	}
	l.done = true
}

func (l *life) cut(g *guest, j *Journal) {
	if j.Flush() != nil {
		return // the next one
	}
	s := &saved{step: g.step, mem: bytes.Clone(g.mem)}
	if err := j.Quiet(func() (err error) { s.wasi, err = g.host.Save(); return err }); err != nil {
		l.t.Fatal(err)
	}
	var ok bool
	if s.at, ok = j.Cut(); !ok || j.Durable(s.at) != nil {
		l.t.Fatal("no cut")
	}
	l.noteFile(s.at.Segment)
	before := l.saved
	l.older, l.saved = before, s
	if before != nil {
		if err := j.Retire(before.at); err != nil {
			l.t.Fatal(err)
		}
	}
}

// noteFile notes which file a segment is.
func (l *life) noteFile(seq uint64) {
	who, _, err := identify(filepath.Join(l.dir, "journal", segmentName(seq)))
	if err != nil {
		l.t.Fatal(err)
	}
	if l.files == nil {
		l.files = map[identity]uint64{}
	}
	if was := l.files[who]; was != 0 && was != seq {
		l.reused++
	}
	l.files[who] = seq
}

func newLife(t *testing.T, cuts int) *life {
	t.Helper()
	l := &life{t: t, dir: t.TempDir(), cuts: cuts, steps: steps, rounds: rounds, end: (*guest).end}
	if err := os.Mkdir(filepath.Join(l.dir, "out"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"stdin": strings.Repeat("0123456789", 5), "stdout": ""} {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// left returns all that the guest has left.
func (l *life) left() string {
	l.t.Helper()
	var b strings.Builder
	for _, root := range []string{"out", "stdout"} {
		err := filepath.WalkDir(filepath.Join(l.dir, root), func(p string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %v ", strings.TrimPrefix(p, l.dir), e.Type())
			switch {
			case e.Type()&os.ModeSymlink != 0:
				target, err := os.Readlink(p)
				fmt.Fprintf(&b, "%s %v", target, err)
			case e.Type().IsRegular():
				content, err := os.ReadFile(p)
				fmt.Fprintf(&b, "%q %v", content, err)
			}
			b.WriteByte('\n')
			return nil
		})
		if err != nil {
			l.t.Fatal(err)
		}
	}
	return b.String()
}

// seed returns a random source that PERDURE_SEED repeats, and prints its seed.
func seed(t testing.TB) *rand.Rand {
	s := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("PERDURE_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("PERDURE_SEED=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}
