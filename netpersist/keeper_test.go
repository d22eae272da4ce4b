package netpersist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait; on an idle machine one takes milliseconds.
const patience = 2 * time.Minute

// rig is a keeper in this process, with its socket in a directory of the test.
type rig struct {
	t    testing.TB
	path string
	stop context.CancelFunc
	done chan error
}

func newRig(t testing.TB, leaves bool) *rig {
	t.Helper()
	// Longer than a unix socket's address may be.
	r := &rig{t: t, path: filepath.Join(t.TempDir(), strings.Repeat("long", 30), "keeper.sock")}
	r.start(leaves)
	t.Cleanup(r.end)
	return r
}

func (r *rig) start(leaves bool) {
	r.t.Helper()
	fd, err := Listen(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.serve(KeeperOptions{Socket: fd, Path: r.path, Leaves: leaves}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) serve(o KeeperOptions) error {
	k, err := NewKeeper(o)
	if err != nil {
		return err
	}
	r.serveKeeper(k, true)
	return nil
}

// serveKeeper runs a keeper until end, and closes it then if it shall.
func (r *rig) serveKeeper(k *Keeper, closes bool) {
	ctx, stop := context.WithCancel(context.Background())
	r.stop, r.done = stop, make(chan error, 1)
	done := r.done
	go func() {
		err := k.Run(ctx)
		if closes {
			err = errors.Join(err, k.Close())
		}
		done <- err
	}()
}

// end stops the keeper as its death would.
func (r *rig) end() {
	r.t.Helper()
	if r.stop == nil {
		return
	}
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Error(err)
	}
	r.stop = nil
}

func (r *rig) options() ClientOptions {
	return ClientOptions{Path: r.path, Owner: "process", KeepFor: time.Minute,
		Report: func(s string) { r.t.Log("report:", s) }}
}

func (r *rig) connect() *Client {
	r.t.Helper()
	c, err := Connect(r.options())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// listenTCP makes a listening socket and returns it and its address.
func listenTCP(t testing.TB, family int) (int, string) {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil && family == unix.AF_INET {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	} else if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet6{Addr: [16]byte{15: 1}})
	}
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	if err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if sa, ok := sa.(*unix.SockaddrInet4); ok {
		return fd, fmt.Sprintf("127.0.0.1:%d", sa.Port)
	}
	return fd, fmt.Sprintf("[::1]:%d", sa.(*unix.SockaddrInet6).Port)
}

func dialTCP(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// awaitInput waits until there is something to be read.
func awaitInput(t testing.TB, fd int) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(0, time.Until(end).Milliseconds())))
		switch {
		case err != nil && err != unix.EINTR:
			t.Fatal(err)
		case n > 0:
			return
		case time.Now().After(end):
			t.Fatal("nothing came")
		}
	}
}

// accept waits for a connection.
func accept(t testing.TB, c *Client, l Listening) Held {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		h, err := c.Accept(l)
		if err == nil {
			return h
		}
		if err != unix.EAGAIN {
			t.Fatal(err)
		}
		awaitInput(t, l.Queue)
	}
	t.Fatal("no connection")
	return Held{}
}

// die closes all that a worker has, as its death does.
func die(t testing.TB, c *Client, fds ...int) {
	t.Helper()
	for _, fd := range fds {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func read(t testing.TB, fd int, want string) {
	t.Helper()
	b := make([]byte, len(want))
	for n := 0; n < len(b); {
		awaitInput(t, fd)
		k, err := unix.Read(fd, b[n:])
		if err != nil || k == 0 {
			t.Fatalf("read %q, then %d, %v; want %q", b[:n], k, err, want)
		}
		n += k
	}
	if string(b) != want {
		t.Fatalf("read %q, want %q", b, want)
	}
}

func write(t testing.TB, fd int, s string) {
	t.Helper()
	if n, err := unix.Write(fd, []byte(s)); n != len(s) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
}

// TestSocketsOutliveWorkers takes one listener and its connections through several workers.
func TestSocketsOutliveWorkers(t *testing.T) {
	r := newRig(t, false)
	c := r.connect()
	if l, ok, err := c.Find("web", 0); ok || err != nil {
		t.Fatalf("found %v, %v", l, err)
	}
	fd, address := listenTCP(t, unix.AF_INET)
	l, err := c.KeepListener(fd, "web")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	instance := c.Instance()

	first := dialTCP(t, address)
	defer first.Close()
	fmt.Fprint(first, "hello")
	h := accept(t, c, l)
	read(t, h.FD, "hel")
	if p, final, err := PositionOf(h.FD, false); err != nil || final || p != (Position{Consumed: 3}) {
		t.Fatalf("position %+v, %v, %v", p, final, err)
	}
	die(t, c, h.FD, l.Queue, l.Socket)

	// These find nobody, and wait in the backlog.
	var waiting []*net.TCPConn
	for i := range 5 {
		w := dialTCP(t, address)
		defer w.Close()
		fmt.Fprintf(w, "w%d", i)
		waiting = append(waiting, w)
	}

	c = r.connect()
	if c.Parked() != 0 || c.Instance() != instance {
		t.Fatalf("parked %d, instance %d", c.Parked(), c.Instance())
	}
	again, ok, err := c.Find("web", 0)
	if err != nil || !ok || again.ID != l.ID {
		t.Fatalf("found %+v, %v, %v", again, ok, err)
	}
	held, err := c.Take()
	if err != nil || len(held) != 1 || held[0].ID != h.ID || held[0].Listener != l.ID {
		t.Fatalf("took %+v, %v (first %+v)", held, err, h)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	p, _, err := PositionOf(held[0].FD, false)
	if err != nil || p.Consumed != 3 {
		t.Fatalf("position %+v, %v", p, err)
	}
	read(t, held[0].FD, "lo")
	write(t, held[0].FD, "back")
	b := make([]byte, 4)
	if _, err := io.ReadFull(first, b); err != nil || string(b) != "back" {
		t.Fatalf("the peer got %q, %v", b, err)
	}
	fds := []int{again.Queue, again.Socket, held[0].FD}
	for i := range waiting {
		w := accept(t, c, again)
		read(t, w.FD, fmt.Sprintf("w%d", i))
		fds = append(fds, w.FD)
	}
	// In good order: the peer sees an end.
	if err := c.Release(held[0].ID, false); err != nil {
		t.Fatal(err)
	}
	fds = slices.DeleteFunc(fds, func(fd int) bool { return fd == held[0].FD })
	if err := unix.Close(held[0].FD); err != nil {
		t.Fatal(err)
	}
	if n, err := first.Read(b); n != 0 || err != io.EOF {
		t.Fatalf("the peer got %d bytes, %v", n, err)
	}
	if err := c.Park(77); err != nil {
		t.Fatal(err)
	}
	die(t, c, fds...)

	// Without Find the listener goes; what is requeued comes again; a reset is a reset.
	c = r.connect()
	if c.Parked() != 77 {
		t.Errorf("parked %d", c.Parked())
	}
	if held, err = c.Take(); err != nil || len(held) != len(waiting) {
		t.Fatalf("took %+v, %v (first %+v)", held, err, h)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		t.Error("the listener is still there")
	}
	fds = nil
	for _, h := range held {
		fds = append(fds, h.FD)
	}
	if err := c.Release(held[0].ID, true); err != nil {
		t.Fatal(err)
	}
	if err := c.Forget(); err != nil {
		t.Fatal(err)
	}
	die(t, c, fds...)
	for i, w := range waiting {
		if _, err := w.Read(b); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("peer %d: %v, want a reset", i, err)
		}
	}
}

// TestRequeuedConnections wants what no worker used to be accepted again, in order and once.
func TestRequeuedConnections(t *testing.T) {
	r := newRig(t, false)
	c := r.connect()
	fd, address := listenTCP(t, unix.AF_INET6)
	l, err := c.KeepListener(fd, "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	const n = 700 // more than a queue holds
	for i := range n {
		w := dialTCP(t, address)
		defer w.Close()
		fmt.Fprintf(w, "%04d", i)
	}
	accepted := make([]int, 0, n)
	for range 100 {
		accepted = append(accepted, accept(t, c, l).FD)
	}
	die(t, c, append(accepted, l.Queue, l.Socket)...)

	c = r.connect()
	l, ok, err := c.Find("k", 0)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	held, err := c.Take()
	if err != nil || len(held) < 100 {
		t.Fatalf("took %d, %v", len(held), err)
	}
	var ids []uint64
	for _, h := range held {
		if p, _, err := PositionOf(h.FD, false); err != nil || p != (Position{}) {
			t.Fatalf("position %+v, %v", p, err)
		}
		ids = append(ids, h.ID)
		_ = unix.Close(h.FD)
	}
	if err := c.Requeue(ids); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	b := make([]byte, 4)
	fds := []int{l.Queue, l.Socket}
	for range n {
		h := accept(t, c, l)
		awaitInput(t, h.FD)
		if _, err := unix.Read(h.FD, b); err != nil || seen[string(b)] {
			t.Fatalf("read %q, %v", b, err)
		}
		seen[string(b)] = true
		fds = append(fds, h.FD)
	}
	if _, err := c.Accept(l); err != unix.EAGAIN {
		t.Errorf("one more: %v", err)
	}
	die(t, c, fds...)
}

// TestKeeperDies wants another keeper to get the sockets, without the peers seeing it.
func TestKeeperDies(t *testing.T) {
	r := newRig(t, false)
	o := r.options()
	started := 0
	o.Start = func(listener int) error {
		started++
		fd, err := unix.FcntlInt(uintptr(listener), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return r.serve(KeeperOptions{Socket: fd, Path: r.path})
	}
	c, err := Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	fd, address := listenTCP(t, unix.AF_INET)
	l, err := c.KeepListener(fd, "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	instance := c.Instance()
	peers := []*net.TCPConn{dialTCP(t, address), dialTCP(t, address)}
	h := accept(t, c, l)
	// The other one is in the queue when the keeper dies.
	awaitInput(t, l.Queue)
	r.end()
	peers = append(peers, dialTCP(t, address))
	fds := []int{h.FD, l.Queue, l.Socket}
	for range 2 {
		fds = append(fds, accept(t, c, l).FD)
	}
	if started != 1 {
		t.Errorf("%d keepers were started", started)
	}
	die(t, c, fds...)
	c = r.connect()
	held, err := c.Take()
	if err != nil || len(held) != 3 {
		t.Fatalf("took %+v, %v (first %+v)", held, err, h)
	}
	if c.Instance() != instance {
		t.Errorf("the ids go with keeper %d, of which the saved state does not know; it knows %d", c.Instance(), instance)
	}
	for i, p := range peers {
		sa, err := unix.Getpeername(held[i].FD)
		if err != nil {
			t.Fatal(err)
		}
		port := sa.(*unix.SockaddrInet4).Port
		at := slices.IndexFunc(peers, func(p *net.TCPConn) bool { return p.LocalAddr().(*net.TCPAddr).Port == port })
		if at < 0 {
			t.Fatalf("no peer has port %d", port)
		}
		fmt.Fprintf(peers[at], "from %d", at)
		read(t, held[i].FD, fmt.Sprintf("from %d", at))
		defer p.Close()
	}
	die(t, c, held[0].FD, held[1].FD, held[2].FD)
}

// TestKeeperCannotComeBack wants a worker to go on without one, and its peers to be reset when it dies.
func TestKeeperCannotComeBack(t *testing.T) {
	r := newRig(t, false)
	var said []string
	o := r.options()
	o.Report = func(s string) { said = append(said, s) }
	c, err := Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	fd, address := listenTCP(t, unix.AF_INET)
	l, err := c.KeepListener(fd, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	r.end()
	p := dialTCP(t, address)
	h := accept(t, c, l)
	p2 := dialTCP(t, address)
	h2 := accept(t, c, l)
	if len(said) != 1 {
		t.Errorf("said %q", said)
	}
	if _, err := c.Keep(h.FD, KindStream); err == nil {
		t.Error("kept by nobody")
	}
	die(t, c, h.FD, h2.FD, l.Queue, l.Socket)
	for _, p := range []*net.TCPConn{p, p2} {
		if _, err := p.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the peer got %v", err)
		}
	}
}

// TestKeeperLeaves wants a keeper of one process to leave when it holds nothing, and not before.
func TestKeeperLeaves(t *testing.T) {
	r := newRig(t, true)
	o := r.options()
	o.KeepFor = 200 * time.Millisecond
	c, err := Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	fd, address := listenTCP(t, unix.AF_INET)
	l, err := c.KeepListener(fd, "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	p := dialTCP(t, address)
	h := accept(t, c, l)
	die(t, c, h.FD, l.Queue, l.Socket)
	select {
	case err := <-r.done:
		r.stop = nil
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it stays")
	}
	if _, err := p.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the peer got %v", err)
	}
	if _, err := os.Stat(r.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket: %v", err)
	}
}
