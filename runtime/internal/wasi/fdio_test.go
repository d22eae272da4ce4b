package wasi

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadWriteVectors(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	var n uint32
	g.must("fd_write", fd, ciov{"ab", "", "cde", "f"}, &n)
	if n != 6 || g.hostRead("f") != "abcdef" || g.tell(fd) != 6 {
		t.Errorf("wrote %d: %q", n, g.hostRead("f"))
	}
	g.seek(fd, 1, whenceSet)
	v := &iov{lens: []int{1, 0, 3, 10}}
	g.must("fd_read", fd, v, &n)
	if n != 5 || string(v.got[:5]) != "bcdef" || g.tell(fd) != 6 {
		t.Errorf("read %d: %q", n, v.got)
	}
	g.must("fd_read", fd, v, &n)
	if n != 0 {
		t.Errorf("read %d at the end", n)
	}
	g.seek(fd, 8, whenceSet)
	g.write(fd, "z")
	if got := g.hostRead("f"); got != "abcdef\x00\x00z" {
		t.Errorf("content %q", got)
	}
}

func TestPreadPwrite(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	g.write(fd, "0123456789")
	var n uint32
	v := &iov{lens: []int{2, 3}}
	g.must("fd_pread", fd, v, 3, &n)
	if n != 5 || string(v.got) != "34567" || g.tell(fd) != 10 {
		t.Errorf("pread %d: %q", n, v.got)
	}
	g.must("fd_pwrite", fd, ciov{"A", "B"}, 2, &n)
	if n != 2 || g.hostRead("f") != "01AB456789" || g.tell(fd) != 10 {
		t.Errorf("pwrite %d: %q", n, g.hostRead("f"))
	}
	g.must("fd_pread", fd, v, 100, &n)
	if n != 0 {
		t.Errorf("pread behind the end: %d", n)
	}
	g.want(EINVAL, "fd_pread", fd, v, uint64(1)<<63, &n)
	g.want(EINVAL, "fd_pwrite", fd, ciov{"x"}, uint64(1)<<63, &n)
	if e := g.call("fd_pwrite", fd, ciov{"x"}, int64(1<<63-1), &n); e != EFBIG && e != EINVAL {
		t.Errorf("pwrite at the largest offset: %v", e)
	}
}

func TestAppend(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("f", "start-")
	fd := g.open("f", 0, readWrite, FlagAppend)
	other := g.open("f", 0, readWrite)
	g.write(fd, "one-")
	if got := g.tell(fd); got != 10 {
		t.Errorf("position %d after appending", got)
	}
	g.seek(fd, 0, whenceSet)
	g.write(fd, "two-")
	g.seek(other, 0, whenceEnd)
	g.write(other, "other-")
	g.write(fd, "three")
	if got := g.hostRead("f"); got != "start-one-two-other-three" {
		t.Errorf("content %q", got)
	}
	// Linux's pwrite appends to a file that is open for appending; ours must not.
	var n uint32
	g.must("fd_pwrite", fd, ciov{"START"}, 0, &n)
	if got := g.hostRead("f"); got != "START-one-two-other-three" {
		t.Errorf("content after pwrite %q", got)
	}
	g.must("fd_fdstat_set_flags", fd, 0)
	g.seek(fd, 0, whenceSet)
	g.write(fd, "s")
	g.must("fd_fdstat_set_flags", fd, FlagAppend|FlagSync)
	g.write(fd, "!")
	if got := g.hostRead("f"); got != "sTART-one-two-other-three!" {
		t.Errorf("content %q", got)
	}
	g.must("fd_write", fd, raw(0), 0, &n)
	if n != 0 {
		t.Errorf("wrote %d bytes of none", n)
	}
}

func TestSyncFlags(t *testing.T) {
	g := newGuest(t)
	for _, f := range []FdFlags{FlagDsync, FlagSync, FlagRsync, FlagDsync | FlagSync | FlagAppend} {
		fd := g.open("f", oflagCreate|oflagTruncate, readWrite, f)
		g.write(fd, "abc")
		var n uint32
		g.must("fd_pwrite", fd, ciov{"d", "e"}, 3, &n)
		if got := g.hostRead("f"); got != "abcde" {
			t.Errorf("flags %v: content %q", f, got)
		}
		g.close(fd)
	}
}

func TestAccessMode(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("f", "content")
	var n uint32
	ro := g.open("f", 0, readOnly)
	g.want(EBADF, "fd_write", ro, ciov{"x"}, &n)
	g.want(EBADF, "fd_pwrite", ro, ciov{"x"}, 0, &n)
	wo := g.open("f", 0, readWrite&^RightFdRead)
	g.want(EBADF, "fd_read", wo, &iov{lens: []int{1}}, &n)
	g.want(EBADF, "fd_pread", wo, &iov{lens: []int{1}}, 0, &n)
	g.write(wo, "C")
	if got := g.read(ro, 10); got != "Content" {
		t.Errorf("read %q", got)
	}
}

func TestLargeTransfer(t *testing.T) {
	g := newGuest(t)
	g.mem = make(memory, maxTransfer*2+1<<20)
	fd := g.open("f", oflagCreate, readWrite)
	for i := range g.mem {
		g.mem[i] = byte(i * 7)
	}
	want := append([]byte(nil), g.mem[1<<16:1<<16+maxTransfer*2+12345]...)
	g.mem.putUint32(0, 1<<16)
	g.mem.putUint32(4, maxTransfer+12345)
	g.mem.putUint32(8, 1<<16+maxTransfer+12345)
	g.mem.putUint32(12, maxTransfer)
	args := []uint64{uint64(fd), 0, 2, 32}
	if e, err := g.h.Call(index(t, "fd_write"), g.mem, args); e != 0 || err != nil {
		t.Fatal(e, err)
	}
	got, err := os.ReadFile(filepath.Join(g.dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("the file has %d bytes, want %d, or others", len(got), len(want))
	}
	clear(g.mem[1<<16:])
	g.seek(fd, 0, whenceSet)
	g.mem.putUint32(0, 1<<16)
	g.mem.putUint32(4, maxTransfer+12345)
	g.mem.putUint32(8, 1<<16+maxTransfer+12345)
	g.mem.putUint32(12, maxTransfer)
	if e, err := g.h.Call(index(t, "fd_read"), g.mem, args); e != 0 || err != nil {
		t.Fatal(e, err)
	}
	if !bytes.Equal(g.mem[1<<16:1<<16+len(want)], want) {
		t.Error("read something else than was written")
	}
}

func TestStandardStreamsAsPipes(t *testing.T) {
	inR, inW := newPipe(t)
	outR, outW := newPipe(t)
	g := newGuest(t, stdio(inR, outW, outW))
	if _, err := pipeEnds[inW].WriteString("input"); err != nil {
		t.Fatal(err)
	}
	if got := g.read(0, 3) + g.read(0, 10); got != "input" {
		t.Errorf("read %q", got)
	}
	var n uint32
	g.must("fd_write", 1, ciov{"out", "put"}, &n)
	g.write(2, "+error")
	b := make([]byte, 100)
	got, err := pipeEnds[outR].Read(b)
	if err != nil || string(b[:got]) != "output+error" {
		t.Errorf("wrote %q, %v", b[:got], err)
	}
	g.want(EBADF, "fd_write", 0, ciov{"x"}, &n)
	g.want(EBADF, "fd_read", 1, &iov{lens: []int{1}}, &n)
	hangUp(t, inW)
	if got := g.read(0, 10); got != "" {
		t.Errorf("read %q at the end", got)
	}
	hangUp(t, outR)
	g.want(EPIPE, "fd_write", 1, ciov{"x"}, &n)
	// The descriptors were inherited: their flags are not ours to change.
	for _, fd := range []int{inR, outW} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("flags %#x, %v", flags, err)
		}
	}
}

func TestNonblockingStreams(t *testing.T) {
	inR, _ := newPipe(t)
	_, outW := newPipe(t)
	g := newGuest(t, stdio(inR, outW, outW))
	var n uint32
	g.must("fd_fdstat_set_flags", 0, FlagNonblock)
	g.must("fd_fdstat_set_flags", 1, FlagNonblock)
	g.want(EAGAIN, "fd_read", 0, &iov{lens: []int{1}}, &n)
	big := strings.Repeat("x", 1<<20)
	g.must("fd_write", 1, ciov{big}, &n)
	if n == 0 || int(n) >= len(big) {
		t.Errorf("a pipe took %d bytes", n)
	}
	g.want(EAGAIN, "fd_write", 1, ciov{big}, &n)
	if flags, err := unix.FcntlInt(uintptr(outW), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

// TestWithoutNowait runs the streams as on a kernel that cannot promise not to
// wait, as is the case for terminals on every kernel.
func TestWithoutNowait(t *testing.T) {
	inR, inW := newPipe(t)
	outR, outW := newPipe(t)
	g := newGuest(t, stdio(inR, outW, outW))
	g.k.noNowait[int32(inR)], g.k.noNowait[int32(outW)] = true, true
	if _, err := pipeEnds[inW].WriteString("in"); err != nil {
		t.Fatal(err)
	}
	if got := g.read(0, 10); got != "in" {
		t.Errorf("read %q", got)
	}
	g.must("fd_fdstat_set_flags", 0, FlagNonblock)
	var n uint32
	g.want(EAGAIN, "fd_read", 0, &iov{lens: []int{1}}, &n)
	big := strings.Repeat("0123456789abcdef", 1<<14)
	done := make(chan string)
	go func() {
		var got []byte
		b := make([]byte, 5000)
		for len(got) < len(big) {
			n, err := pipeEnds[outR].Read(b)
			if err != nil {
				break
			}
			got = append(got, b[:n]...)
		}
		done <- string(got)
	}()
	g.write(1, big)
	if got := <-done; got != big {
		t.Errorf("%d bytes arrived of %d, or others", len(got), len(big))
	}
}

func TestStandardStreamsAsFiles(t *testing.T) {
	dir := t.TempDir()
	open := func(name, content string, flags int) int {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	in := open("in", "0123456789", unix.O_RDONLY)
	out := open("out", "before-", unix.O_WRONLY|unix.O_APPEND)
	g := newGuest(t, stdio(in, out, out))
	if got := g.read(0, 4); got != "0123" || g.tell(0) != 4 {
		t.Errorf("read %q, then at %d", got, g.tell(0))
	}
	// The position is shared with whoever has the descriptor too.
	b := make([]byte, 2)
	if _, err := unix.Read(in, b); err != nil || string(b) != "45" {
		t.Errorf("we read %q, %v", b, err)
	}
	if got := g.read(0, 10); got != "6789" {
		t.Errorf("read %q", got)
	}
	if got := g.seek(0, -3, whenceEnd); got != 7 {
		t.Errorf("seek: %d", got)
	}
	v := &iov{lens: []int{3}}
	var n uint32
	g.must("fd_pread", 0, v, 1, &n)
	if string(v.got) != "123" || g.tell(0) != 7 {
		t.Errorf("pread %q", v.got)
	}
	g.write(1, "one-")
	g.write(2, "two")
	g.must("fd_fdstat_set_flags", 1, FlagAppend)
	g.write(1, "!")
	if got, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || string(got) != "before-one-two!" {
		t.Errorf("output %q, %v", got, err)
	}
}

func TestDirectoryAsStandardStream(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	g := newGuest(t, stdio(fd, fd, fd))
	// Whoever started us has it open; the guest has not been given it.
	everything := g.fdstat(rootFD)
	for range 2 {
		var n uint32
		g.want(EISDIR, "fd_read", 0, &iov{lens: []int{1}}, &n)
		g.want(EISDIR, "fd_write", 1, ciov{"x"}, &n)
		g.want(ENOTDIR, "fd_readdir", 0, make(buf, 100), 0, &n)
		g.want(ENOTDIR, "path_open", 0, 0, "f", 0, 0, 0, 0, &n)
		g.want(ENOTDIR, "path_unlink_file", 0, "f")
		g.want(EBADF, "fd_prestat_get", 0, make(out, sizePrestat))
		// Nor if the State should say that it may do everything.
		for i := range 3 {
			g.h.table[i].Base, g.h.table[i].Inheriting = everything.base, everything.inheriting
		}
		g.noWarnings(g.restart())
	}
}

func TestDevices(t *testing.T) {
	g := newGuest(t, func(c *Config) { c.Preopens[0].Host = "/dev" })
	var n uint32
	null := g.open("null", 0, readWrite)
	g.write(null, "gone")
	if got := g.read(null, 10); got != "" {
		t.Errorf("read %q from null", got)
	}
	zero := g.open("zero", 0, readWrite)
	if got := g.read(zero, 3); got != "\x00\x00\x00" {
		t.Errorf("read %q from zero", got)
	}
	full := g.open("full", 0, readWrite)
	g.want(ENOSPC, "fd_write", full, ciov{"x"}, &n)
	if st := g.fdstat(full); st.typ != FileCharDevice {
		t.Errorf("type %d", st.typ)
	}
}

func TestTerminal(t *testing.T) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	const ioctlGetPeer = 0x5441 // TIOCGPTPEER
	r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(master), ioctlGetPeer, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		t.Fatal(e)
	}
	slave := int(r)
	defer unix.Close(slave)
	g := newGuest(t, stdio(slave, slave, slave))
	// What wasi-libc's isatty looks at.
	for fd := range 3 {
		if st := g.fdstat(uint32(fd)); st.typ != FileCharDevice || st.base&(RightFdSeek|RightFdTell) != 0 {
			t.Errorf("fdstat of a terminal: %+v", st)
		}
	}
	if _, err := unix.Write(master, []byte("line\n")); err != nil {
		t.Fatal(err)
	}
	if got := g.read(0, 100); got != "line\n" {
		t.Errorf("read %q", got)
	}
	g.must("fd_fdstat_set_flags", 0, FlagNonblock)
	var n uint32
	g.want(EAGAIN, "fd_read", 0, &iov{lens: []int{1}}, &n)
	g.want(ESPIPE, "fd_tell", 0, new(uint64))
	g.write(1, "shown")
	shown := ""
	for b := make([]byte, 100); !strings.HasSuffix(shown, "shown"); {
		n, err := unix.Read(master, b) // first comes the echo of the input
		if err != nil {
			t.Fatalf("the terminal shows %q, %v", shown, err)
		}
		shown += string(b[:n])
	}
}
