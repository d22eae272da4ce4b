package wasi

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listenerFD is the descriptor of the first listener of newServer.
const listenerFD = rootFD + 1

// newServer returns a guest with a listener on a free port, and the address.
func newServer(t *testing.T) (*guest, string) {
	t.Helper()
	g := newGuest(t, func(c *Config) { c.Listeners = []Listener{{"tcp", loopback + ":0"}} })
	return g, g.address(listenerFD)
}

func (g *guest) address(fd uint32) string {
	g.t.Helper()
	sa, err := unix.Getsockname(int(g.h.table[fd].handle))
	if err != nil {
		g.t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf("%v:%d", netip.AddrFrom4(sa.Addr), sa.Port)
	case *unix.SockaddrInet6:
		return fmt.Sprintf("[::1]:%d", sa.Port)
	}
	g.t.Fatalf("address %T", sa)
	return ""
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// accept accepts a connection that the test makes.
func (g *guest) accept(address string, flags ...FdFlags) (uint32, net.Conn) {
	g.t.Helper()
	c := dial(g.t, "tcp", address)
	var fd uint32
	f := FdFlags(0)
	for _, x := range flags {
		f |= x
	}
	g.must("sock_accept", listenerFD, f, &fd)
	return fd, c
}

func (g *guest) recv(fd uint32, flags int, lens ...int) (string, uint32) {
	g.t.Helper()
	v := &iov{lens: lens}
	var n, ro uint32
	g.must("sock_recv", fd, v, flags, &n, &ro)
	return string(v.got[:n]), ro & 0xffff
}

func TestSockets(t *testing.T) {
	g, address := newServer(t)
	if st := g.fdstat(listenerFD); st.typ != FileSocketStream || st.base&RightSockAccept == 0 {
		t.Errorf("listener: %+v", st)
	}
	g.want(EBADF, "fd_prestat_get", listenerFD, make(out, sizePrestat))
	soon := clockSub{id: ClockMonotonic, timeout: time.Millisecond}
	g.wantEvents("[{1 ESUCCESS 0 0 0}]", readSub(listenerFD), soon)

	fd, c := g.accept(address)
	if fd != listenerFD+1 {
		t.Errorf("got descriptor %d", fd)
	}
	if st := g.fdstat(fd); st.typ != FileSocketStream || st.flags != 0 || st.base != rightsConnection {
		t.Errorf("connection: %+v", st)
	}
	if st := g.stat(fd); st.typ != FileSocketStream {
		t.Errorf("filestat %+v", st)
	}
	g.wantEvents("[{1 ESUCCESS 2 4096 0}]", readSub(fd), writeSub(fd))
	fmt.Fprint(c, "hello")
	g.wantEvents("[{0 ESUCCESS 1 1 0}]", readSub(fd))
	if got, _ := g.recv(fd, riRecvPeek, 2, 1); got != "hel" {
		t.Errorf("peeked %q", got)
	}
	if got, ro := g.recv(fd, 0, 2, 1); got != "hel" || ro != 0 {
		t.Errorf("received %q, %d", got, ro)
	}
	if got := g.read(fd, 10); got != "lo" {
		t.Errorf("read %q", got)
	}
	var n uint32
	g.must("sock_send", fd, ciov{"to ", "you"}, 0, &n)
	g.write(fd, "!")
	b := make([]byte, 100)
	total := 0
	for total < 7 {
		k, err := c.Read(b[total:])
		if err != nil {
			t.Fatal(err)
		}
		total += k
	}
	if string(b[:total]) != "to you!" {
		t.Errorf("the peer got %q", b[:total])
	}
	g.must("sock_shutdown", fd, sdWr)
	if k, err := c.Read(b); k != 0 || err == nil {
		t.Errorf("the peer got %d bytes, %v", k, err)
	}
	g.want(EPIPE, "sock_send", fd, ciov{"x"}, 0, &n)
	c.Close()
	g.wantEvents("[{0 ESUCCESS 1 0 1}]", readSub(fd))
	if got, _ := g.recv(fd, 0, 10); got != "" {
		t.Errorf("received %q at the end", got)
	}
	g.want(ENOTCONN, "sock_shutdown", listenerFD, sdRd)
	g.close(fd)
}

func TestSocketErrors(t *testing.T) {
	g, address := newServer(t)
	fd, c := g.accept(address, FlagNonblock)
	file := g.open("f", oflagCreate, readWrite)
	var n, ro uint32
	v := &iov{lens: []int{1}}
	g.want(EAGAIN, "sock_recv", fd, v, 0, &n, &ro)
	g.want(EINVAL, "sock_recv", fd, v, 4, &n, &ro)
	g.want(EINVAL, "sock_send", fd, ciov{"x"}, 1, &n)
	g.want(EINVAL, "sock_shutdown", fd, 0)
	g.want(EINVAL, "sock_shutdown", fd, 4)
	g.want(EINVAL, "sock_accept", fd, 0, &n)
	g.want(EINVAL, "sock_accept", listenerFD, FlagAppend, &n)
	g.want(ENOTCONN, "sock_recv", listenerFD, v, 0, &n, &ro)
	g.want(EBADF, "sock_send", listenerFD+90, ciov{"x"}, 0, &n)
	g.want(ENOTCONN, "fd_read", listenerFD, v, &n)
	g.want(ENOTCONN, "fd_write", listenerFD, ciov{"x"}, &n)
	for _, f := range []uint32{file, rootFD, 0} {
		g.want(ENOTSOCK, "sock_accept", f, 0, &n)
		g.want(ENOTSOCK, "sock_recv", f, v, 0, &n, &ro)
		g.want(ENOTSOCK, "sock_send", f, ciov{"x"}, 0, &n)
		g.want(ENOTSOCK, "sock_shutdown", f, sdRd)
	}
	g.want(ESPIPE, "fd_seek", fd, 0, 0, new(uint64))
	g.want(ESPIPE, "fd_pread", fd, v, 0, &n)
	g.want(ESPIPE, "fd_pwrite", fd, ciov{"x"}, 0, &n)
	g.want(EINVAL, "fd_sync", fd)
	g.want(EFAULT, "sock_recv", fd, raw(0xfffffff0), 1, 0, &n, &ro)
	g.want(EFAULT, "sock_recv", fd, v, 0, raw(len(g.mem)-3), &ro)
	g.want(EFAULT, "sock_recv", fd, v, 0, &n, raw(len(g.mem)-1))
	g.want(EFAULT, "sock_send", fd, ciov{"x"}, 0, raw(len(g.mem)-3))
	g.want(EFAULT, "sock_accept", listenerFD, 0, raw(len(g.mem)-3))
	g.must("fd_fdstat_set_flags", listenerFD, FlagNonblock)
	g.want(EAGAIN, "sock_accept", listenerFD, 0, &n)
	g.must("sock_recv", fd, &iov{}, 0, &n, &ro)
	// A reset.
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
	g.wantEvents("[{0 ESUCCESS 1 0 1}]", readSub(fd))
	g.want(ECONNRESET, "sock_recv", fd, v, 0, &n, &ro)
	// Rights.
	g.must("fd_fdstat_set_rights", fd, 0, 0)
	g.want(ENOTCAPABLE, "sock_recv", fd, v, 0, &n, &ro)
	g.want(ENOTCAPABLE, "sock_send", fd, ciov{"x"}, 0, &n)
	g.want(ENOTCAPABLE, "sock_shutdown", fd, sdRd)
	st := g.fdstat(listenerFD)
	g.must("fd_fdstat_set_rights", listenerFD, st.base, RightFdRead)
	dial(t, "tcp", address)
	g.wantEvents("[{0 ESUCCESS 1 0 0}]", readSub(listenerFD))
	var fd2 uint32
	g.must("sock_accept", listenerFD, 0, &fd2)
	if got := g.fdstat(fd2); got.base != RightFdRead {
		t.Errorf("the connection got the rights %x", got.base)
	}
	g.must("fd_fdstat_set_rights", listenerFD, 0, 0)
	g.want(ENOTCAPABLE, "sock_accept", listenerFD, 0, &n)
}

func TestAcceptLimit(t *testing.T) {
	g := newGuest(t, func(c *Config) {
		c.Listeners = []Listener{{"tcp", "127.0.0.1:0"}}
		c.Limits.Descriptors = 6
	})
	address := g.address(listenerFD)
	fd, _ := g.accept(address)
	c := dial(t, "tcp", address)
	fmt.Fprint(c, "not lost")
	var n uint32
	g.want(EMFILE, "sock_accept", listenerFD, 0, &n)
	g.close(fd)
	g.must("sock_accept", listenerFD, 0, &fd)
	if got := g.read(fd, 100); got != "not lost" {
		t.Errorf("read %q", got)
	}
}

func TestRecvWaitall(t *testing.T) {
	g, address := newServer(t)
	fd, c := g.accept(address)
	go func(c net.Conn) {
		for _, s := range []string{"ab", "cd", "ef"} {
			fmt.Fprint(c, s)
			time.Sleep(10 * time.Millisecond)
		}
	}(c)
	if got, _ := g.recv(fd, riRecvWaitall|riRecvPeek, 3, 2); got != "abcde" {
		t.Errorf("peeked %q", got)
	}
	if got, _ := g.recv(fd, riRecvWaitall, 1, 3); got != "abcd" {
		t.Errorf("received %q", got)
	}
	if got, _ := g.recv(fd, riRecvWaitall, 2); got != "ef" {
		t.Errorf("received %q", got)
	}
	go func(c net.Conn) {
		fmt.Fprint(c, "last")
		time.Sleep(10 * time.Millisecond)
		c.Close()
	}(c)
	if got, _ := g.recv(fd, riRecvWaitall|riRecvPeek, 10); got != "last" {
		t.Errorf("peeked %q", got)
	}
	if got, _ := g.recv(fd, riRecvWaitall, 10); got != "last" {
		t.Errorf("received %q", got)
	}

	// A reset in the middle: what came is returned, and the error next time.
	fd, c = g.accept(address)
	got := make(chan struct{})
	go func(c net.Conn) {
		defer close(got)
		fmt.Fprint(c, "part")
		time.Sleep(30 * time.Millisecond)
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}(c)
	v := &iov{lens: []int{10}}
	var n, ro uint32
	if e := g.call("sock_recv", fd, v, riRecvWaitall, &n, &ro); e != ESUCCESS || n != 4 {
		t.Errorf("received %d, %v", n, e)
	}
	<-got
	g.want(ECONNRESET, "sock_recv", fd, v, 0, &n, &ro)
}

func TestSendWaitsForRoom(t *testing.T) {
	g, address := newServer(t)
	g.mem = make(memory, 32<<20)
	fd, c := g.accept(address)
	big := strings.Repeat("0123456789abcdef", 1<<19) // 8 MiB
	done := make(chan bool)
	go func() {
		time.Sleep(20 * time.Millisecond)
		var got []byte
		b := make([]byte, 1<<16)
		for len(got) < len(big) {
			n, err := c.Read(b)
			if err != nil {
				break
			}
			got = append(got, b[:n]...)
		}
		done <- string(got) == big
	}()
	g.write(fd, big)
	if !<-done {
		t.Error("the peer got something else")
	}
}

func TestListeners(t *testing.T) {
	dir := t.TempDir()
	sock := filepath.Join(dir, "sock")
	g := newGuest(t, func(c *Config) {
		c.Listeners = []Listener{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}, {"unix", sock}, {"tcp", ":0"}, {"tcp", "localhost:0"}}
	})
	for i, network := range []string{"tcp4", "tcp6", "unix", "tcp", "tcp"} {
		fd := uint32(listenerFD + i)
		address := sock
		if network != "unix" {
			address = g.address(fd)
		}
		c := dial(t, network, address)
		var conn uint32
		g.must("sock_accept", fd, 0, &conn)
		fmt.Fprint(c, "x")
		if got := g.read(conn, 10); got != "x" {
			t.Errorf("%s: read %q", network, got)
		}
	}
	// A socket file that somebody serves is not taken away; one that nobody
	// serves is replaced.
	if _, err := listen("unix", sock); err == nil {
		t.Error("took over a socket that is in use")
	}
	g.h.Close()
	if _, err := os.Lstat(sock); err != nil {
		t.Fatal(err)
	}
	fd, err := listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

// TestSocketAsStandardStream is how a super-server starts a program.
func TestSocketAsStandardStream(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	g := newGuest(t, stdio(pair[0], pair[0], pair[0]))
	g.closeLater(pair[0])
	if _, err := unix.Write(pair[1], []byte("in")); err != nil {
		t.Fatal(err)
	}
	if got := g.read(0, 10); got != "in" {
		t.Errorf("read %q", got)
	}
	g.write(1, "out")
	b := make([]byte, 10)
	if n, err := unix.Read(pair[1], b); err != nil || string(b[:n]) != "out" {
		t.Errorf("the peer got %q, %v", b[:n], err)
	}
	g.must("sock_shutdown", 1, sdWr)
	g.noWarnings(g.restart())
	g.wantEvents("[{0 ESUCCESS 0 0 0}]", clockSub{id: ClockMonotonic}, readSub(0))
}
