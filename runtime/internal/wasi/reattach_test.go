package wasi

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestRestoreSockets(t *testing.T) {
	g, address := newServer(t)
	fd, c := g.accept(address)
	fmt.Fprint(c, "unread")
	g.cfg.Listeners[0].Address = address
	g.oneWarning(g.restart(), "connection is lost")
	var n, ro uint32
	for range 2 {
		g.want(ECONNRESET, "sock_recv", fd, &iov{lens: []int{1}}, 0, &n, &ro)
		g.want(ECONNRESET, "sock_send", fd, ciov{"x"}, 0, &n)
		g.want(ECONNRESET, "fd_read", fd, &iov{lens: []int{1}}, &n)
		g.want(ECONNRESET, "fd_write", fd, ciov{"x"}, &n)
		g.want(ECONNRESET, "sock_shutdown", fd, sdWr)
		g.wantEvents("[{0 ESUCCESS 1 0 1} {1 ESUCCESS 2 0 1}]", readSub(fd), writeSub(fd))
		g.oneWarning(g.restart(), "connection is lost")
	}
	g.close(fd)
	fd2, c2 := g.accept(address)
	fmt.Fprint(c2, "after")
	if got := g.read(fd2, 10); got != "after" || fd2 != fd {
		t.Errorf("read %q from %d", got, fd2)
	}
	g.close(fd2)
	// The address is taken: a warning, and errors on that descriptor.
	state, err := g.h.Save()
	if err != nil {
		t.Fatal(err)
	}
	g.h.Close()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	g.oneWarning(g.restore(state), "address already in use")
	g.want(EIO, "sock_accept", listenerFD, 0, &n)
	g.wantEvents("[{0 EIO 1 0 0}]", readSub(listenerFD))
	// And free again.
	l.Close()
	g.noWarnings(g.restart())
	g.accept(address)
	g.cfg.Listeners = nil
	if w := g.restart(); len(w) != 2 || !strings.Contains(w[0].What, "not given any more") {
		t.Errorf("warnings %v", w)
	}
	g.cfg.Listeners = []Listener{{"tcp", "127.0.0.1:0"}, {"tcp", "127.0.0.1:0"}}
	if w := g.restart(); len(w) != 2 || !strings.Contains(w[1].What, "not given at the start") {
		t.Errorf("warnings %v", w)
	}
	g.cfg.Listeners = g.cfg.Listeners[:1]
	g.close(listenerFD)
	if w := g.restart(); len(w) != 1 || w[0].FD != int64(fd2) {
		t.Errorf("warnings %v", w)
	}
}

func TestRestoreClocks(t *testing.T) {
	g := newGuest(t)
	now := func(c Clock) (v uint64) {
		g.must("clock_time_get", uint32(c), 0, &v)
		return v
	}
	const down = 60 * time.Millisecond
	begin := time.Now()
	lastM, lastC := now(ClockMonotonic), now(ClockProcessCPU)
	for range 5 {
		state, err := g.h.Save()
		if err != nil {
			t.Fatal(err)
		}
		g.h.Close()
		time.Sleep(down)
		g.noWarnings(g.restore(state))
		m, c := now(ClockMonotonic), now(ClockProcessCPU)
		if up := uint64(time.Since(begin) - down); m < lastM || m-lastM > up+1e6 {
			t.Errorf("monotonic time went from %d to %d, while a host ran for %d", lastM, m, up)
		}
		if c < lastC {
			t.Errorf("CPU time went from %d to %d", lastC, c)
		}
		begin = time.Now()
		lastM, lastC = now(ClockMonotonic), c
		if d := time.Since(time.Unix(0, int64(now(ClockRealtime)))); d < 0 || d > time.Minute {
			t.Errorf("wall clock is off by %v", d)
		}
	}
}

// TestRestoreOlder restores the same bytes more than once: the State is a value.
func TestRestoreOlder(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	g.write(fd, "one ")
	state, err := g.h.Save()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		g.write(fd, "two ")
		g.close(fd)
		g.h.Close()
		g.noWarnings(g.restore(state))
		if got := g.tell(fd); got != 4 {
			t.Errorf("position %d", got)
		}
	}
	if got := g.hostRead("f"); got != "one two " {
		t.Errorf("content %q", got)
	}
}
