package wasi

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestClose(t *testing.T) {
	g := newGuest(t)
	a := g.open("a", oflagCreate, readWrite)
	b := g.open("b", oflagCreate, readWrite)
	g.close(a)
	g.want(EBADF, "fd_close", a)
	if c := g.open("c", oflagCreate, readWrite); c != a {
		t.Errorf("got descriptor %d, want the lowest free %d", c, a)
	}
	g.write(b, "still open")
	g.close(rootFD)
	g.want(EBADF, "fd_prestat_get", rootFD, make(out, sizePrestat))
	g.close(b)
	for fd := range 3 {
		g.close(uint32(fd))
		g.want(EBADF, "fd_close", fd)
	}
}

func TestClosingAStandardStreamLeavesOurs(t *testing.T) {
	r, w := newPipe(t)
	g := newGuest(t, func(c *Config) { c.Stdio[1] = Handle(w) })
	g.write(1, "one")
	g.close(1)
	if _, err := pipeEnds[w].WriteString("two"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, err := pipeEnds[r].Read(b); err != nil || string(b[:n]) != "onetwo" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	// Its number goes to the next file.
	if fd := g.open("f", oflagCreate, readWrite); fd != 1 {
		t.Errorf("got descriptor %d", fd)
	}
}

func TestRenumber(t *testing.T) {
	g := newGuest(t)
	a := g.open("a", oflagCreate, readWrite, FlagAppend)
	b := g.open("b", oflagCreate, readOnly)
	g.write(a, "content")
	g.seek(a, 3, whenceSet)
	st := g.fdstat(a)
	fds := openFDs()
	g.must("fd_renumber", a, b)
	if got := openFDs(); got != fds-1 {
		t.Errorf("%d descriptors, want %d: the replaced file was not closed", got, fds-1)
	}
	g.want(EBADF, "fd_fdstat_get", a, make(out, sizeFdstat))
	if got := g.fdstat(b); got != st {
		t.Errorf("fdstat %+v, want %+v", got, st)
	}
	if got := g.read(b, 10); got != "tent" {
		t.Errorf("read %q", got)
	}
	g.want(EBADF, "fd_renumber", b, a)
	g.want(EBADF, "fd_renumber", a, b)
	g.must("fd_renumber", b, b)
	g.want(EBADF, "fd_renumber", b, 0xffffffff)
	g.want(EBADF, "fd_renumber", b, 1<<20)
	g.want(EBADF, "fd_renumber", b, 100)
	if n := cap(g.h.table); n > 64 {
		t.Errorf("the table grew to %d", n)
	}
}

func TestRenumberOverPreopen(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("sub/f", "in sub")
	sub := g.openDir("sub")
	ino := g.stat(sub).ino
	g.must("fd_renumber", sub, rootFD)
	if got := g.stat(rootFD).ino; got != ino {
		t.Errorf("inode %d, want %d", got, ino)
	}
	g.want(EBADF, "fd_prestat_get", rootFD, make(out, sizePrestat))
	fd := g.open("f", 0, readOnly)
	if got := g.read(fd, 10); got != "in sub" {
		t.Errorf("read %q", got)
	}
}

func TestRenumberOfPreopen(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	g.must("fd_renumber", rootFD, fd)
	b := make(out, sizePrestat)
	g.must("fd_prestat_get", fd, b)
	g.want(EBADF, "fd_prestat_get", rootFD, b)
	name := make(buf, 1)
	g.must("fd_prestat_dir_name", fd, name)
	if string(name) != "/" {
		t.Errorf("name %q", name)
	}
}

func TestRenumberStandardStream(t *testing.T) {
	r, w := newPipe(t)
	g := newGuest(t, func(c *Config) { c.Stdio[1] = Handle(w) })
	fd := g.open("f", oflagCreate, readWrite)
	g.must("fd_renumber", fd, 1)
	g.write(1, "into the file")
	if got := g.hostRead("f"); got != "into the file" {
		t.Errorf("file has %q", got)
	}
	fd = g.open("g", oflagCreate, readWrite)
	g.must("fd_renumber", 2, fd)
	g.want(EBADF, "fd_write", 2, ciov{"x"}, new(uint32))
	hangUp(t, w)
	if n, err := pipeEnds[r].Read(make([]byte, 1)); n != 0 {
		t.Errorf("the pipe got %d bytes, %v", n, err)
	}
}

func TestPrestat(t *testing.T) {
	other := t.TempDir()
	g := newGuest(t, func(c *Config) {
		c.Preopens = append(c.Preopens, Preopen{Host: other, Guest: "/a longer name"}, Preopen{Host: other, Guest: "b"})
	})
	for i, want := range []string{"/", "/a longer name", "b"} {
		fd := rootFD + i
		b := make(out, sizePrestat)
		for j := range b {
			b[j] = 0xaa
		}
		g.must("fd_prestat_get", fd, b)
		if string(b) != string([]byte{0, 0, 0, 0, byte(len(want)), 0, 0, 0}) {
			t.Errorf("prestat %v", b)
		}
		name := make(buf, len(want)+3)
		g.must("fd_prestat_dir_name", fd, name)
		if string(name) != want+"\x00\x00\x00" {
			t.Errorf("name %q, want %q", name, want)
		}
		g.want(ENAMETOOLONG, "fd_prestat_dir_name", fd, make(buf, len(want)-1))
	}
	g.want(EBADF, "fd_prestat_get", 6, make(out, sizePrestat))
	g.want(EBADF, "fd_prestat_get", 0, make(out, sizePrestat))
	fd := g.openDir(".")
	g.want(EBADF, "fd_prestat_get", fd, make(out, sizePrestat))
	g.want(EBADF, "fd_prestat_dir_name", fd, make(buf, 10))
}

func TestSeekAndTell(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	g.write(fd, "0123456789")
	for _, c := range []struct {
		offset int64
		whence int
		want   uint64
	}{
		{0, whenceSet, 0}, {4, whenceCur, 4}, {-1, whenceCur, 3}, {0, whenceCur, 3}, {-2, whenceEnd, 8}, {0, whenceEnd, 10},
		{100, whenceEnd, 110}, {1 << 40, whenceSet, 1 << 40}, {5, whenceSet, 5},
	} {
		if got := g.seek(fd, c.offset, c.whence); got != c.want || g.tell(fd) != c.want {
			t.Errorf("seek(%d, %d) = %d, then %d; want %d", c.offset, c.whence, got, g.tell(fd), c.want)
		}
	}
	var pos uint64
	g.want(EINVAL, "fd_seek", fd, -1, whenceSet, &pos)
	g.want(EINVAL, "fd_seek", fd, -6, whenceCur, &pos)
	g.want(EINVAL, "fd_seek", fd, -11, whenceEnd, &pos)
	g.want(EINVAL, "fd_seek", fd, 0, 3, &pos)
	g.want(EINVAL, "fd_seek", fd, 0, 0xffffffff, &pos)
	g.want(EOVERFLOW, "fd_seek", fd, int64(1<<63-1), whenceCur, &pos)
	if got := g.tell(fd); got != 5 {
		t.Errorf("a failed seek moved to %d", got)
	}
	if got := g.read(fd, 2); got != "56" {
		t.Errorf("read %q", got)
	}
	g.want(EISDIR, "fd_seek", rootFD, 0, whenceCur, &pos)
	g.want(EISDIR, "fd_tell", rootFD, &pos)
}

func TestSeekOfStreams(t *testing.T) {
	r, w := newPipe(t)
	g := newGuest(t, stdio(r, w, w))
	g.hostMkfifo("fifo")
	fifo := g.open("fifo", 0, readOnly)
	var pos uint64
	var n uint32
	for _, fd := range []uint32{0, 1, 2, fifo} {
		g.want(ESPIPE, "fd_seek", fd, 0, whenceCur, &pos)
		g.want(ESPIPE, "fd_tell", fd, &pos)
		if st := g.fdstat(fd); st.base&(RightFdSeek|RightFdTell) != 0 || st.typ != FileUnknown {
			t.Errorf("fdstat of %d: %+v", fd, st)
		}
	}
	g.want(ESPIPE, "fd_pread", 0, &iov{lens: []int{1}}, 0, &n)
	g.want(ESPIPE, "fd_pwrite", 1, ciov{"x"}, 0, &n)
	g.want(ESPIPE, "fd_advise", 0, 0, 0, 0)
	g.want(ESPIPE, "fd_allocate", 1, 0, 1)
	g.want(EINVAL, "fd_filestat_set_size", 1, 0)
}

func TestDirectoryIsNoFile(t *testing.T) {
	g := newGuest(t)
	var n uint32
	g.want(EISDIR, "fd_read", rootFD, &iov{lens: []int{1}}, &n)
	g.want(EISDIR, "fd_pread", rootFD, &iov{lens: []int{1}}, 0, &n)
	g.want(EISDIR, "fd_write", rootFD, ciov{"x"}, &n)
	g.want(EISDIR, "fd_pwrite", rootFD, ciov{"x"}, 0, &n)
	g.want(EISDIR, "fd_allocate", rootFD, 0, 1)
	g.want(EISDIR, "fd_filestat_set_size", rootFD, 0)
	g.want(EBADF, "fd_advise", rootFD, 0, 0, 0)
	g.must("fd_sync", rootFD)
	g.must("fd_datasync", rootFD)
	if st := g.stat(rootFD); st.typ != FileDirectory {
		t.Errorf("type %d", st.typ)
	}
}

func TestFdstat(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite, FlagAppend, FlagDsync)
	st := g.fdstat(fd)
	if st.typ != FileRegular || st.flags != FlagAppend|FlagDsync || st.base != readWrite {
		t.Errorf("fdstat %+v", st)
	}
	for _, f := range []FdFlags{0, FlagNonblock, FlagSync | FlagRsync, flagsAll} {
		g.must("fd_fdstat_set_flags", fd, f)
		if got := g.fdstat(fd).flags; got != f {
			t.Errorf("flags %v, want %v", got, f)
		}
		g.write(fd, "x")
	}
	g.want(EINVAL, "fd_fdstat_set_flags", fd, 32)
	g.want(EINVAL, "fd_fdstat_set_flags", fd, 0xffffffff)
	if st := g.fdstat(rootFD); st.typ != FileDirectory || st.flags != 0 || st.base != rightsDirectory || st.inheriting&rightsFile != rightsFile {
		t.Errorf("preopened directory: %+v", st)
	}
	if st := g.fdstat(0); st.typ != FileCharDevice || st.base&RightFdWrite != 0 || st.base&RightFdSeek == 0 {
		t.Errorf("/dev/null as input: %+v", st)
	}
}

func TestFdstatSetRights(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	st := g.fdstat(fd)
	g.must("fd_fdstat_set_rights", fd, st.base, st.inheriting)
	g.must("fd_fdstat_set_rights", fd, RightFdRead, 0)
	if got := g.fdstat(fd); got.base != RightFdRead || got.inheriting != 0 {
		t.Errorf("rights %x, %x", got.base, got.inheriting)
	}
	g.want(ENOTCAPABLE, "fd_fdstat_set_rights", fd, RightFdRead|RightFdWrite, 0)
	g.want(ENOTCAPABLE, "fd_fdstat_set_rights", fd, 0, RightFdRead)
	g.want(ENOTCAPABLE, "fd_fdstat_set_rights", fd, uint64(1)<<63, 0)
	g.must("fd_fdstat_set_rights", fd, 0, 0)
	g.close(fd)
}

func TestFilestat(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	g.write(fd, "12345")
	if err := os.Link(filepath.Join(g.dir, "f"), filepath.Join(g.dir, "g")); err != nil {
		t.Fatal(err)
	}
	st := g.stat(fd)
	if st.typ != FileRegular || st.size != 5 || st.nlink != 2 || st.ino == 0 || st.dev == 0 {
		t.Errorf("filestat %+v", st)
	}
	for _, at := range []uint64{st.atim, st.mtim, st.ctim} {
		if d := time.Since(time.Unix(0, int64(at))); d < -time.Second || d > time.Minute {
			t.Errorf("time is off by %v", d)
		}
	}
	if st.ino != g.pathStat("f", 0).ino {
		t.Error("fd_filestat_get and path_filestat_get disagree")
	}
}

func TestFilestatSetSize(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	g.write(fd, "12345")
	g.must("fd_filestat_set_size", fd, 3)
	g.must("fd_filestat_set_size", fd, 6)
	if got := g.hostRead("f"); got != "123\x00\x00\x00" {
		t.Errorf("content %q", got)
	}
	if got := g.tell(fd); got != 5 {
		t.Errorf("the position moved to %d", got)
	}
	g.want(EFBIG, "fd_filestat_set_size", fd, uint64(1)<<63)
	ro := g.open("f", 0, readWrite&^RightFdWrite)
	g.want(EBADF, "fd_filestat_set_size", ro, 1)
	g.want(EBADF, "fd_allocate", ro, 0, 1)
}

func TestFilestatSetTimes(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	before := g.stat(fd)
	g.must("fd_filestat_set_times", fd, 1_000_000_001, 2_000_000_002, fstAtim|fstMtim)
	if st := g.stat(fd); st.atim != 1_000_000_001 || st.mtim != 2_000_000_002 {
		t.Errorf("times %d, %d", st.atim, st.mtim)
	}
	g.must("fd_filestat_set_times", fd, 7, 3_000_000_003, fstMtim)
	if st := g.stat(fd); st.atim != 1_000_000_001 || st.mtim != 3_000_000_003 {
		t.Errorf("times %d, %d", st.atim, st.mtim)
	}
	g.must("fd_filestat_set_times", fd, 7, 7, fstAtimNow)
	if st := g.stat(fd); st.atim < before.atim || st.mtim != 3_000_000_003 {
		t.Errorf("times %d, %d", st.atim, st.mtim)
	}
	g.must("fd_filestat_set_times", fd, 7, 7, 0)
	g.must("fd_filestat_set_times", fd, 0, 0, fstMtimNow)
	if st := g.stat(fd); st.mtim < before.mtim {
		t.Errorf("mtim %d", st.mtim)
	}
	for _, f := range []int{fstAtim | fstAtimNow, fstMtim | fstMtimNow, fstAll, fstAll + 1, 0xffffffff} {
		g.want(EINVAL, "fd_filestat_set_times", fd, 1, 1, f)
	}
	dir := g.openDir(".")
	g.must("fd_filestat_set_times", dir, 5, 6, fstAtim|fstMtim)
	if st := g.stat(dir); st.mtim != 6 {
		t.Errorf("mtim of the directory %d", st.mtim)
	}
}

func TestAdviseAllocateSync(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	for advice := range 6 {
		g.must("fd_advise", fd, 0, 100, advice)
	}
	g.want(EINVAL, "fd_advise", fd, 0, 100, 6)
	g.want(EINVAL, "fd_advise", fd, 0, 100, 0xffffffff)
	g.want(EINVAL, "fd_advise", fd, uint64(1)<<63, 100, 0)
	g.want(EINVAL, "fd_advise", fd, 0, uint64(1)<<63, 0)
	for _, c := range []struct{ offset, length, size int }{{0, 100, 100}, {10, 10, 100}, {90, 20, 110}} {
		g.must("fd_allocate", fd, c.offset, c.length)
		if got := g.stat(fd).size; got != uint64(c.size) {
			t.Errorf("allocate(%d, %d): size %d, want %d", c.offset, c.length, got, c.size)
		}
	}
	g.want(EINVAL, "fd_allocate", fd, 0, 0)
	g.want(EFBIG, "fd_allocate", fd, uint64(1)<<63, 1)
	g.want(EFBIG, "fd_allocate", fd, int64(1<<63-1), 1)
	g.must("fd_sync", fd)
	g.must("fd_datasync", fd)
}
