package wasi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// blocked is a call that blocks, what ends its waiting, and what must come of it.
type blocked struct {
	name    string
	prepare func(g *guest) (function string, args []any)
	wake    func(g *guest)
	check   func(g *guest)
	// survives tells that the call can be finished by a restored host. Without
	// it the other end of what it waits for is lost.
	survives bool
}

// blockedCalls returns every kind of call that blocks.
func blockedCalls() []blocked {
	var in, outR int
	var address string
	var fd, n, ro uint32
	var fifo uint32
	var peer net.Conn // the test's end of a connection
	v := &iov{lens: []int{3, 10}}
	events := make(out, 2*sizeEvent)
	feed := func(g *guest) {
		if _, err := pipeEnds[in].WriteString("input"); err != nil {
			g.t.Fatal(err)
		}
	}
	gotInput := func(g *guest) {
		if n != 5 || string(v.got[:5]) != "input" {
			g.t.Errorf("read %d: %q", n, v.got)
		}
		g.must("fd_fdstat_set_flags", 0, FlagNonblock)
		g.want(EAGAIN, "fd_read", 0, &iov{lens: []int{1}}, &n)
	}
	standard := func(g *guest) {
		var inR, outW int
		inR, in = newPipe(g.t)
		outR, outW = newPipe(g.t)
		g.cfg.Stdio = &[3]Handle{Handle(inR), Handle(outW), Handle(outW)}
		g.restart()
	}
	server := func(g *guest) {
		l, err := listen("tcp", loopback+":0")
		if err != nil {
			g.t.Fatal(err)
		}
		g.h.put(listenerFD, newListener(0, "tcp", Handle(l)))
		g.h.listeners = 1
		address = g.address(listenerFD)
		g.cfg.Listeners = []Listener{{"tcp", address}}
	}
	fill := func(g *guest, fd uint32) {
		st, calm := g.fdstat(fd), 1
		if st.typ == FileSocketStream {
			// It makes room again for a while: the kernel moves what was sent to the other end, at the latest with a
			// timer of 200 ms. It is full when it stays so.
			calm = 100
		}
		g.must("fd_fdstat_set_flags", fd, FlagNonblock)
		var n uint32
		for full := 0; full < calm; full++ {
			for g.call("fd_write", fd, ciov{strings.Repeat("x", 1<<16)}, &n) == ESUCCESS {
				full = 0
			}
			for g.call("fd_write", fd, ciov{"x"}, &n) == ESUCCESS {
				full = 0
			}
			time.Sleep(5 * time.Millisecond)
		}
		g.must("fd_fdstat_set_flags", fd, st.flags)
	}
	var drained string
	return []blocked{
		{"fd_read of a pipe", func(g *guest) (string, []any) {
			standard(g)
			return "fd_read", []any{0, v, &n}
		}, feed, gotInput, true},
		{"fd_read of a pipe without RWF_NOWAIT", func(g *guest) (string, []any) {
			standard(g)
			g.k.noNowait[int32(g.cfg.Stdio[0])] = true
			return "fd_read", []any{0, v, &n}
		}, feed, gotInput, true},
		{"fd_read at a hang-up", func(g *guest) (string, []any) {
			standard(g)
			n = 99
			return "fd_read", []any{0, v, &n}
		}, func(g *guest) { hangUp(g.t, in) }, func(g *guest) {
			if n != 0 {
				g.t.Errorf("read %d", n)
			}
		}, true},
		{"fd_write to a full pipe", func(g *guest) (string, []any) {
			standard(g)
			fill(g, 1)
			return "fd_write", []any{1, ciov{"out", "put"}, &n}
		}, func(g *guest) { drained = drain(g.t, outR, 1<<16) }, func(g *guest) {
			drained += drain(g.t, outR, 6)
			if n != 6 || !strings.HasSuffix(drained, "xoutput") || strings.Count(drained, "output") != 1 {
				g.t.Errorf("wrote %d, the end is %q", n, drained[max(0, len(drained)-12):])
			}
		}, true},
		{"poll_oneoff of a pipe", func(g *guest) (string, []any) {
			standard(g)
			return "poll_oneoff", []any{encodeSubs([]any{clockSub{id: ClockMonotonic, timeout: time.Hour}, readSub(0)}), events, 2, &n}
		}, feed, func(g *guest) {
			if got := fmt.Sprint(decodeEvents(events, n)); got != "[{1 ESUCCESS 1 5 0}]" {
				g.t.Error(got)
			}
		}, true},
		{"path_open of a named pipe", func(g *guest) (string, []any) {
			g.hostMkfifo("fifo")
			return "path_open", []any{rootFD, 0, "fifo", 0, RightFdWrite, 0, 0, &fifo}
		}, func(g *guest) {
			r, err := unix.Open(filepath.Join(g.dir, "fifo"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				g.t.Fatal(err)
			}
			g.closeLater(r)
		}, func(g *guest) { g.write(fifo, "x") }, true},
		{"fd_read of a named pipe", func(g *guest) (string, []any) {
			g.hostMkfifo("fifo")
			fifo = g.open("fifo", 0, readOnly)
			return "fd_read", []any{fifo, v, &n}
		}, func(g *guest) {
			if err := os.WriteFile(filepath.Join(g.dir, "fifo"), []byte("input"), 0); err != nil {
				g.t.Error(err)
			}
		}, func(g *guest) {
			if n != 5 || string(v.got[:5]) != "input" {
				g.t.Errorf("read %d: %q", n, v.got)
			}
		}, true},
		{"sock_accept", func(g *guest) (string, []any) {
			server(g)
			return "sock_accept", []any{listenerFD, 0, &fd}
		}, func(g *guest) { dial(g.t, "tcp", address) }, func(g *guest) {
			if st := g.fdstat(fd); fd != listenerFD+1 || st.typ != FileSocketStream {
				g.t.Errorf("descriptor %d: %+v", fd, st)
			}
		}, true},
		{"sock_recv", func(g *guest) (string, []any) {
			server(g)
			g.connection(address, &fd, &peer)
			return "sock_recv", []any{fd, v, 0, &n, &ro}
		}, func(g *guest) { fmt.Fprint(peer, "input") }, func(g *guest) {
			if n != 5 || string(v.got[:5]) != "input" {
				g.t.Errorf("received %d: %q", n, v.got)
			}
		}, false},
		{"fd_read of a socket", func(g *guest) (string, []any) {
			server(g)
			g.connection(address, &fd, &peer)
			return "fd_read", []any{fd, v, &n}
		}, func(g *guest) { fmt.Fprint(peer, "input") }, func(g *guest) {
			if n != 5 {
				g.t.Errorf("read %d", n)
			}
		}, false},
		{"sock_send", func(g *guest) (string, []any) {
			server(g)
			g.connection(address, &fd, &peer)
			// With small buffers there is next to nothing that the kernel could move later.
			if err := errors.Join(unix.SetsockoptInt(int(g.h.table[fd].handle), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096),
				peer.(*net.TCPConn).SetReadBuffer(4096)); err != nil {
				g.t.Fatal(err)
			}
			fill(g, fd)
			return "sock_send", []any{fd, ciov{"out", "put"}, 0, &n}
		}, func(g *guest) {
			// Until the end of the test: how much has to go before there is room is the
			// system's affair.
			go func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }(peer)
		}, func(g *guest) {
			if n != 6 {
				g.t.Errorf("sent %d", n)
			}
		}, false},
	}
}

// TestInterruptEveryBlockingCall interrupts each before and while it blocks,
// demands that nothing was done, and finishes it: in the same host, and in a
// restored one.
func TestInterruptEveryBlockingCall(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for i := range blockedCalls() {
			c := blockedCalls()[i]
			if restart && !c.survives {
				continue
			}
			t.Run(fmt.Sprintf("%s, restart %v", c.name, restart), func(t *testing.T) {
				g := newGuest(t)
				function, args := c.prepare(g)
				raws, fetch := g.marshal(args)
				call := func() (uint32, error) { return g.h.Call(index(t, function), g.mem, raws) }
				before := len(g.h.table)

				// Pending from the start.
				g.h.Interrupt()
				if e, err := call(); !errors.Is(err, ErrInterrupted) {
					t.Fatalf("with an interrupt pending: %d, %v", e, err)
				}
				// It stays so, also for Resume.
				if e, err := g.h.Resume(g.mem); !errors.Is(err, ErrInterrupted) {
					t.Fatalf("resumed with an interrupt pending: %d, %v", e, err)
				}
				g.h.ClearInterrupt()

				// While it blocks.
				g.interruptSoon(t)
				if e, err := g.h.Resume(g.mem); !errors.Is(err, ErrInterrupted) {
					t.Fatalf("interrupted while it blocks: %d, %v", e, err)
				}
				if p, ok := g.h.Pending(); !ok || p.Function != function || fmt.Sprint(p.Args) != fmt.Sprint(raws) {
					t.Fatalf("pending %+v", p)
				}
				if len(g.h.table) != before {
					t.Fatal("an interrupted call made a descriptor")
				}
				g.h.ClearInterrupt()
				if restart {
					noNowait := g.k.noNowait
					g.noWarnings(g.restart())
					for fd := range noNowait {
						g.k.noNowait[fd] = true
					}
				}

				// What it waited for comes while it blocks again.
				var wg sync.WaitGroup
				wg.Add(1)
				go func() {
					defer wg.Done()
					time.Sleep(20 * time.Millisecond)
					c.wake(g)
				}()
				e, err := g.h.Resume(g.mem)
				wg.Wait()
				if e != 0 || err != nil {
					t.Fatalf("resumed: %v, %v", Errno(e), err)
				}
				fetch()
				c.check(g)
				if _, ok := g.h.Pending(); ok {
					t.Error("a finished call is still pending")
				}
			})
		}
	}
}

// TestReadyCallsIgnoreInterrupts: a call that need not block is carried out.
func TestReadyCallsIgnoreInterrupts(t *testing.T) {
	inR, inW := newPipe(t)
	_, outW := newPipe(t)
	g := newGuest(t, stdio(inR, outW, outW))
	g.h.Interrupt()
	if _, err := pipeEnds[inW].WriteString("x"); err != nil {
		t.Fatal(err)
	}
	g.wantEvents("[{1 ESUCCESS 1 1 0}]", clockSub{id: ClockMonotonic, timeout: time.Hour}, readSub(0))
	if got := g.read(0, 10); got != "x" {
		t.Errorf("read %q", got)
	}
	g.write(1, "y")
	g.wantEvents("[{0 ESUCCESS 0 0 0}]", clockSub{id: ClockMonotonic})
	g.must("fd_fdstat_set_flags", 0, FlagNonblock)
	g.want(EAGAIN, "fd_read", 0, &iov{lens: []int{1}}, new(uint32))
	fd := g.open("f", oflagCreate, readWrite)
	g.write(fd, "z")
	g.noWarnings(g.restart())
}

// TestInterruptAfterTheEnd: the one who interrupts need not know that all is over.
func TestInterruptAfterTheEnd(t *testing.T) {
	k, err := OS()
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{}, k)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if err := k.Release(); err != nil {
		t.Fatal(err)
	}
	h.Interrupt()
	h.ClearInterrupt()
}

// TestInterruptedWriteIsShort: of a write that was partly done the count is
// returned, and what is left goes out once.
func TestInterruptedWriteIsShort(t *testing.T) {
	inR, _ := newPipe(t)
	outR, outW := newPipe(t)
	g := newGuest(t, stdio(inR, outW, outW))
	var text strings.Builder
	for i := range 60000 {
		fmt.Fprintf(&text, "%06d ", i)
	}
	want := text.String()
	g.interruptSoon(t)
	var n uint32
	g.must("fd_write", 1, ciov{want}, &n)
	if n == 0 || int(n) >= len(want) {
		t.Fatalf("wrote %d of %d", n, len(want))
	}
	if _, ok := g.h.Pending(); ok {
		t.Error("a short write is pending")
	}
	g.h.ClearInterrupt()
	got := make(chan string)
	go func() { got <- drain(t, outR, len(want)) }()
	g.write(1, want[n:])
	if s := <-got; s != want {
		t.Error("something was lost or doubled")
	}
}

// TestInterruptHammer interrupts a guest that copies a stream, all the time, and
// demands that every byte arrives once.
func TestInterruptHammer(t *testing.T) {
	inR, inW := newPipe(t)
	outR, outW := newPipe(t)
	g := newGuest(t, stdio(inR, outW, outW))
	var text strings.Builder
	for i := range 40000 {
		fmt.Fprintf(&text, "%06d ", i)
	}
	want := text.String()
	var interrupted atomic.Int64
	go func() {
		for s, limit := want, time.Now().Add(patience); len(s) > 0; {
			n := min(len(s), 3001)
			// The guest waits for the last piece until it has been interrupted.
			for n == len(s) && interrupted.Load() == 0 && time.Now().Before(limit) {
				time.Sleep(time.Millisecond)
			}
			_, _ = pipeEnds[inW].WriteString(s[:n])
			s = s[n:]
			time.Sleep(time.Millisecond)
		}
		pipeEnds[inW].Close()
	}()
	got := make(chan string)
	go func() { got <- drain(t, outR, len(want)) }()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			g.h.Interrupt()
		}
	}()
	finish := func(e uint32, err error) uint32 {
		for err != nil {
			if !errors.Is(err, ErrInterrupted) {
				t.Fatal(err)
			}
			interrupted.Add(1)
			g.h.ClearInterrupt()
			e, err = g.h.Resume(g.mem)
		}
		return e
	}
	for {
		v := &iov{lens: []int{5000}}
		var n uint32
		raws, fetch := g.marshal([]any{0, v, &n})
		if e := finish(g.h.Call(index(t, "fd_read"), g.mem, raws)); e != 0 {
			t.Fatal(Errno(e))
		}
		fetch()
		if n == 0 {
			break
		}
		for rest := string(v.got[:n]); len(rest) > 0; {
			raws, fetch := g.marshal([]any{1, ciov{rest}, &n})
			if e := finish(g.h.Call(index(t, "fd_write"), g.mem, raws)); e != 0 {
				t.Fatal(Errno(e))
			}
			fetch()
			rest = rest[n:]
		}
	}
	close(stop)
	wg.Wait()
	if s := <-got; s != want {
		t.Errorf("something was lost or doubled: %d bytes of %d", len(s), len(want))
	}
	if interrupted.Load() == 0 {
		t.Error("no call was interrupted: that was no hammer")
	}
}

// connection accepts a connection on listenerFD.
func (g *guest) connection(address string, fd *uint32, end *net.Conn) {
	g.t.Helper()
	*end = dial(g.t, "tcp", address)
	g.must("sock_accept", listenerFD, 0, fd)
}

// drain reads n bytes from a pipe.
func drain(t *testing.T, fd, n int) string {
	t.Helper()
	b := make([]byte, n)
	got := 0
	for got < n {
		k, err := pipeEnds[fd].Read(b[got:])
		if err != nil {
			t.Errorf("drain a pipe: %v after %d bytes of %d", err, got, n)
			break
		}
		got += k
	}
	return string(b[:got])
}

// interruptSoon interrupts from another goroutine.
func (g *guest) interruptSoon(t *testing.T) {
	h := g.h
	timer := time.AfterFunc(20*time.Millisecond, h.Interrupt)
	t.Cleanup(func() { timer.Stop() })
}
