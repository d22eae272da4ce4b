package wasi

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRestoreFiles(t *testing.T) {
	bothResolvers(t, func(t *testing.T, g *guest) {
		g.hostWrite("d/in", "0123456789")
		in := g.open("d/in", 0, readOnly)
		again := g.open("d/in", 0, readOnly)
		outFile := g.open("out \xff", oflagCreate|oflagExclusive|oflagTruncate, readWrite)
		log := g.open("log", oflagCreate, readWrite, FlagAppend, FlagDsync)
		wo := g.open("wo", oflagCreate, RightFdWrite)
		dir := g.openDir("d")
		top := g.openDir("d/..")
		closed := g.open("closed", oflagCreate, readWrite)
		g.read(in, 3)
		g.read(again, 7)
		g.write(outFile, "abc")
		g.write(log, "one ")
		g.seek(log, 1, whenceSet)
		g.write(wo, "12")
		g.close(closed)
		g.must("fd_fdstat_set_rights", in, RightFdRead|RightFdTell, 0)
		var before []fdstat
		fds := []uint32{0, 1, 2, rootFD, in, again, outFile, log, wo, dir, top}
		for _, fd := range fds {
			before = append(before, g.fdstat(fd))
		}
		for round := range 3 {
			g.noWarnings(g.restart())
			for i, fd := range fds {
				if got := g.fdstat(fd); got != before[i] {
					t.Errorf("fdstat of %d: %+v, was %+v", fd, got, before[i])
				}
			}
			// The log's position is where the last append left it.
			wantLog := []uint64{1, 8, 12}[round]
			if a, b := g.tell(in), g.tell(log); a != 3 || b != wantLog {
				t.Errorf("positions %d, %d; want 3, %d", a, b, wantLog)
			}
			g.want(EBADF, "fd_close", closed)
			g.write(log, "two ")
		}
		if got := g.read(in, 10) + g.read(again, 10); got != "3456789789" {
			t.Errorf("read %q", got)
		}
		g.write(outFile, "def")
		g.write(wo, "34")
		if got := g.hostRead("out \xff") + g.hostRead("log") + g.hostRead("wo"); got != "abcdefone two two two 1234" {
			t.Errorf("content %q", got)
		}
		g.want(ENOTCAPABLE, "fd_fdstat_set_rights", in, readOnly, 0)
		var fd uint32
		g.must("path_open", dir, 0, "in", 0, readOnly, 0, 0, &fd)
		if fd != closed {
			t.Errorf("got descriptor %d, want %d", fd, closed)
		}
		g.must("path_filestat_get", top, 0, "d/in", make(out, sizeFilestat))
		g.want(ENOTCAPABLE, "path_filestat_get", dir, 0, "../wo", make(out, sizeFilestat))
	})
}

func TestRestoreAfterRename(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("a/f", "content")
	f := g.open("a/f", 0, readWrite)
	d := g.openDir("a")
	g.hostSymlink("a", "link")
	viaLink := g.open("link/../a/f", 0, readOnly)
	// The guest renames what it has open, and others do.
	g.must("path_rename", rootFD, "a", rootFD, "b")
	if err := os.Rename(filepath.Join(g.dir, "b/f"), filepath.Join(g.dir, "b/g")); err != nil {
		t.Fatal(err)
	}
	g.seek(f, 3, whenceSet)
	g.noWarnings(g.restart())
	if got := g.read(f, 10) + g.read(viaLink, 10); got != "tentcontent" {
		t.Errorf("read %q", got)
	}
	if got := names(g.readdirAll(d, 0, 1000)); got != ". .. g" {
		t.Errorf("entries %q", got)
	}
}

func TestRestoreOfWhatIsGone(t *testing.T) {
	open := func(t *testing.T) (*guest, uint32) {
		g := newGuest(t)
		g.hostWrite("d/f", "content")
		fd := g.open("d/f", 0, readWrite)
		g.seek(fd, 3, whenceSet)
		return g, fd
	}
	remove := func(g *guest, path string) {
		if err := os.RemoveAll(filepath.Join(g.dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	dead := func(g *guest, fd uint32) {
		g.t.Helper()
		var n uint32
		var n8 uint64
		g.want(EIO, "fd_read", fd, &iov{lens: []int{1}}, &n)
		g.want(EIO, "fd_write", fd, ciov{"x"}, &n)
		g.want(EIO, "fd_pread", fd, &iov{lens: []int{1}}, 0, &n)
		g.want(EIO, "fd_pwrite", fd, ciov{"x"}, 0, &n)
		g.want(EIO, "fd_seek", fd, 0, 0, &n8)
		g.want(EIO, "fd_tell", fd, &n8)
		g.want(EIO, "fd_filestat_get", fd, make(out, sizeFilestat))
		g.want(EIO, "fd_filestat_set_size", fd, 0)
		g.want(EIO, "fd_filestat_set_times", fd, 0, 0, 0)
		g.want(EIO, "fd_sync", fd)
		g.want(EIO, "fd_datasync", fd)
		g.want(EIO, "fd_advise", fd, 0, 0, 0)
		g.want(EIO, "fd_allocate", fd, 0, 1)
		g.want(EIO, "fd_readdir", fd, make(buf, 100), 0, &n)
		g.want(EIO, "path_open", fd, 0, "x", 0, 0, 0, 0, &n)
		g.want(EIO, "path_unlink_file", fd, "x")
		g.wantEvents("[{0 EIO 1 0 0}]", readSub(fd))
		g.fdstat(fd)
		g.must("fd_fdstat_set_flags", fd, FlagNonblock)
		g.close(fd)
		g.want(EBADF, "fd_close", fd)
	}
	t.Run("removed while no host ran", func(t *testing.T) {
		g, fd := open(t)
		state, err := g.h.Save()
		if err != nil {
			t.Fatal(err)
		}
		remove(g, "d")
		g.h.Close()
		g.oneWarning(g.restore(state), "ENOENT")
		// It comes back when the file does.
		state, err = g.h.Save()
		if err != nil {
			t.Fatal(err)
		}
		dead(g, fd)
		g.h.Close()
		g.hostWrite("d/f", "content2")
		g.oneWarning(g.restore(state), "another file")
		if got := g.read(fd, 10); got != "tent2" {
			t.Errorf("read %q", got)
		}
	})
	t.Run("unlinked while open", func(t *testing.T) {
		g, fd := open(t)
		g.must("path_unlink_file", rootFD, "d/f")
		g.hostWrite("d/f", "another")
		if got := g.read(fd, 10); got != "tent" {
			t.Errorf("read %q", got)
		}
		g.oneWarning(g.restart(), "removed while it was open")
		g.oneWarning(g.restart(), "removed while it was open")
		dead(g, fd)
	})
	t.Run("unlinked while open, with another name left", func(t *testing.T) {
		g, fd := open(t)
		g.must("path_link", rootFD, 0, "d/f", rootFD, "other")
		g.must("path_unlink_file", rootFD, "d/f")
		g.oneWarning(g.restart(), "removed while it was open")
		dead(g, fd)
	})
	t.Run("replaced", func(t *testing.T) {
		g, _ := open(t)
		g.hostWrite("d/new", "replaced content")
		if err := os.Rename(filepath.Join(g.dir, "d/new"), filepath.Join(g.dir, "d/f")); err != nil {
			t.Fatal(err)
		}
		g.oneWarning(g.restart(), "removed while it was open")
		fd := g.open("d/f", 0, readOnly)
		g.seek(fd, 9, whenceSet)
		state, err := g.h.Save()
		if err != nil {
			t.Fatal(err)
		}
		g.hostWrite("d/new", "once more replaced")
		if err := os.Rename(filepath.Join(g.dir, "d/new"), filepath.Join(g.dir, "d/f")); err != nil {
			t.Fatal(err)
		}
		g.h.Close()
		warnings := g.restore(state)
		if len(warnings) != 2 || warnings[1].FD != int64(fd) || warnings[1].Path != "d/f" || !strings.Contains(warnings[1].What, "another file") {
			t.Errorf("warnings %v", warnings)
		}
		if got := g.read(fd, 4); got != " rep" {
			t.Errorf("read %q", got)
		}
	})
	t.Run("a directory now", func(t *testing.T) {
		g, fd := open(t)
		state, err := g.h.Save()
		if err != nil {
			t.Fatal(err)
		}
		remove(g, "d/f")
		g.hostMkdir("d/f")
		g.h.Close()
		g.oneWarning(g.restore(state), "EISDIR")
		dead(g, fd)
	})
	t.Run("a named pipe now", func(t *testing.T) {
		g, _ := open(t)
		fd := g.open("d/f", 0, readOnly)
		g.close(fd - 1)
		state, err := g.h.Save()
		if err != nil {
			t.Fatal(err)
		}
		remove(g, "d/f")
		g.hostMkfifo("d/f")
		g.h.Close()
		g.oneWarning(g.restore(state), "another type")
		dead(g, fd)
	})
	t.Run("a symbolic link out of the directory now", func(t *testing.T) {
		g, fd := open(t)
		out := g.secret()
		state, err := g.h.Save()
		if err != nil {
			t.Fatal(err)
		}
		remove(g, "d/f")
		g.hostSymlink("../"+out+"/secret", "d/f")
		g.h.Close()
		g.oneWarning(g.restore(state), "ENOTCAPABLE")
		dead(g, fd)
	})
	t.Run("read-only directory now", func(t *testing.T) {
		g, fd := open(t)
		g.cfg.Preopens[0].ReadOnly = true
		g.oneWarning(g.restart(), "read-only")
		dead(g, fd)
		g.want(EROFS, "path_unlink_file", rootFD, "d/f")
	})
	t.Run("directory not given any more", func(t *testing.T) {
		g, fd := open(t)
		g.cfg.Preopens = nil
		if w := g.restart(); len(w) != 3 || w[0].FD != -1 || w[1].FD != rootFD || w[2].FD != int64(fd) {
			t.Errorf("warnings %v", w)
		}
		g.must("fd_prestat_get", rootFD, make(out, sizePrestat))
		dead(g, fd)
		dead(g, rootFD)
	})
	t.Run("directory elsewhere", func(t *testing.T) {
		g, fd := open(t)
		g.dir = t.TempDir()
		g.hostWrite("d/f", "in the other directory")
		g.cfg.Preopens = []Preopen{{Host: t.TempDir(), Guest: "/new"}, {Host: g.dir, Guest: "/"}}
		w := g.restart()
		if len(w) != 3 || !strings.Contains(fmt.Sprint(w), "another directory") || !strings.Contains(fmt.Sprint(w), "does not see it") {
			t.Errorf("warnings %v", w)
		}
		if got := g.read(fd, 100); got != "the other directory" {
			t.Errorf("read %q", got)
		}
		g.cfg.Preopens[1].Host += "/none"
		if w := g.restart(); !strings.Contains(fmt.Sprint(w), "cannot be opened again") {
			t.Errorf("warnings %v", w)
		}
		dead(g, fd)
	})
}

// TestRestoreWithoutProc saves where the kernel does not tell where a descriptor
// is by now: the path that the guest opened has to do.
func TestRestoreWithoutProc(t *testing.T) {
	g := newGuest(t)
	g.hostMkdir("d/e")
	fd := g.open("d/e/../f", oflagCreate, readWrite)
	top := g.openDir("d/..")
	g.write(fd, "one ")
	if err := unix.Close(g.k.proc); err != nil {
		t.Fatal(err)
	}
	g.k.proc = -1
	g.noWarnings(g.restart())
	g.write(fd, "two")
	if got := g.hostRead("d/f"); got != "one two" {
		t.Errorf("content %q", got)
	}
	g.must("path_filestat_get", top, 0, "d/f", make(out, sizeFilestat))
}

func TestRestoreFileNamedDeleted(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f (deleted)", oflagCreate, readWrite)
	g.write(fd, "x")
	g.noWarnings(g.restart())
	g.write(fd, "y")
	if got := g.hostRead("f (deleted)"); got != "xy" {
		t.Errorf("content %q", got)
	}
}

func TestRestoreReaddir(t *testing.T) {
	g := newGuest(t)
	for i := range 40 {
		g.hostWrite(fmt.Sprintf("old%02d \xff", i), "")
	}
	fd := g.openDir(".")
	all, _ := g.readdir(fd, 0, 400)
	for i := range 40 {
		if err := os.Rename(filepath.Join(g.dir, fmt.Sprintf("old%02d \xff", i)), filepath.Join(g.dir, fmt.Sprintf("new%02d", i))); err != nil {
			t.Fatal(err)
		}
	}
	for end := false; !end; {
		g.noWarnings(g.restart())
		var list []dirent
		list, end = g.readdir(fd, all[len(all)-1].next, 400)
		all = append(all, list...)
	}
	seen := map[string]bool{}
	for _, e := range all {
		if seen[e.name] {
			t.Errorf("%q was seen twice", e.name)
		}
		seen[e.name] = true
	}
	if len(seen) != 42 {
		t.Errorf("%d entries were seen", len(seen))
	}
}

func TestRestoreStandardStreams(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "in")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	reopen := func(path string) Handle {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return Handle(fd)
	}
	g := newGuest(t, func(c *Config) { c.Stdio[0] = reopen(path) })
	g.read(0, 4)
	// The same command again: its input begins anew, the guest goes on.
	g.cfg.Stdio[0] = reopen(path)
	g.noWarnings(g.restart())
	if got := g.read(0, 2); got != "45" {
		t.Errorf("read %q", got)
	}
	// Another input is read from where it stands.
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("other input"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.cfg.Stdio[0] = reopen(other)
	g.noWarnings(g.restart())
	if got := g.read(0, 5); got != "other" {
		t.Errorf("read %q", got)
	}
	// A pipe instead.
	r, w := newPipe(t)
	g.cfg.Stdio[0] = Handle(r)
	g.noWarnings(g.restart())
	if _, err := pipeEnds[w].WriteString("piped"); err != nil {
		t.Fatal(err)
	}
	if got := g.read(0, 10); got != "piped" {
		t.Errorf("read %q", got)
	}
	g.cfg.Stdio[0] = NoHandle
	g.oneWarning(g.restart(), "closed")
	g.want(EIO, "fd_read", 0, &iov{lens: []int{1}}, new(uint32))
	g.must("fd_renumber", 1, 0)
	g.cfg.Stdio[0] = Handle(r)
	g.noWarnings(g.restart())
	g.write(0, "to what was descriptor 1")
	g.want(EBADF, "fd_write", 1, ciov{"x"}, new(uint32))
}

func TestRestoreFifo(t *testing.T) {
	g := newGuest(t)
	g.hostMkfifo("fifo")
	r := g.open("fifo", 0, readOnly)
	w := g.open("fifo", 0, RightFdWrite)
	g.write(w, "lost with the pipe")
	g.close(r)
	g.noWarnings(g.restart())
	g.write(w, "again")
	r = g.open("fifo", 0, readOnly)
	if got := g.read(r, 100); got != "again" {
		t.Errorf("read %q", got)
	}
}
