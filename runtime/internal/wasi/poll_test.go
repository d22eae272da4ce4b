package wasi

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The subscriptions of a test. userdata is the index plus 100.
type (
	// clockSub waits for a time.
	clockSub struct {
		id      Clock
		timeout time.Duration
		at      uint64 // instead of timeout, with flags
		flags   uint16
	}
	readSub  uint32
	writeSub uint32
	// badSub has an unknown tag.
	badSub uint8
)

func encodeSubs(subs []any) out {
	b := make(out, len(subs)*sizeSubscription)
	for i, s := range subs {
		p := b[i*sizeSubscription:]
		binary.LittleEndian.PutUint64(p, uint64(100+i))
		switch s := s.(type) {
		case clockSub:
			p[8] = eventClock
			binary.LittleEndian.PutUint32(p[16:], uint32(s.id))
			binary.LittleEndian.PutUint64(p[24:], uint64(s.timeout)+s.at)
			binary.LittleEndian.PutUint64(p[32:], 1e6)
			binary.LittleEndian.PutUint16(p[40:], s.flags)
		case readSub:
			p[8] = eventFdRead
			binary.LittleEndian.PutUint32(p[16:], uint32(s))
		case writeSub:
			p[8] = eventFdWrite
			binary.LittleEndian.PutUint32(p[16:], uint32(s))
		case badSub:
			p[8] = byte(s)
		}
	}
	return b
}

// event is a decoded event. sub is the index of its subscription.
type event struct {
	sub    int
	errno  Errno
	typ    uint8
	nbytes uint64
	flags  uint16
}

func (e event) String() string {
	return fmt.Sprintf("{%d %v %d %d %d}", e.sub, e.errno, e.typ, e.nbytes, e.flags)
}

func decodeEvents(b []byte, n uint32) (list []event) {
	for i := range n {
		p := b[i*sizeEvent:]
		list = append(list, event{int(binary.LittleEndian.Uint64(p)) - 100, Errno(binary.LittleEndian.Uint16(p[8:])), p[10],
			binary.LittleEndian.Uint64(p[16:]), binary.LittleEndian.Uint16(p[24:])})
	}
	return list
}

func (g *guest) poll(subs ...any) []event {
	g.t.Helper()
	events := make(out, len(subs)*sizeEvent)
	var n uint32
	g.must("poll_oneoff", encodeSubs(subs), events, len(subs), &n)
	return decodeEvents(events, n)
}

func (g *guest) wantEvents(want string, subs ...any) {
	g.t.Helper()
	if got := fmt.Sprint(g.poll(subs...)); got != want {
		g.t.Errorf("poll of %v: %v, want %v", subs, got, want)
	}
}

func TestPollClocks(t *testing.T) {
	g := newGuest(t)
	hour := clockSub{id: ClockMonotonic, timeout: time.Hour}
	for _, id := range []Clock{ClockMonotonic, ClockRealtime} {
		start := time.Now()
		g.wantEvents("[{1 ESUCCESS 0 0 0}]", hour, clockSub{id: id, timeout: 30 * time.Millisecond})
		if d := time.Since(start); d < 30*time.Millisecond || d > patience {
			t.Errorf("clock %d: slept %v", id, d)
		}
		start = time.Now()
		var now uint64
		g.must("clock_time_get", uint32(id), 0, &now)
		g.wantEvents("[{0 ESUCCESS 0 0 0}]", clockSub{id: id, at: now + 30e6, flags: subclockAbstime})
		if d := time.Since(start); d < 20*time.Millisecond || d > patience {
			t.Errorf("clock %d: slept %v until a time", id, d)
		}
		// A time that is past, and no time at all.
		g.wantEvents("[{0 ESUCCESS 0 0 0}]", clockSub{id: id, at: now, flags: subclockAbstime}, hour)
		g.wantEvents("[{1 ESUCCESS 0 0 0} {2 ESUCCESS 0 0 0}]", hour, clockSub{id: id}, clockSub{id: id})
	}
	g.wantEvents("[{0 ENOTSUP 0 0 0} {1 ENOTSUP 0 0 0}]", clockSub{id: ClockProcessCPU}, clockSub{id: ClockThreadCPU}, hour)
	g.wantEvents("[{1 EINVAL 0 0 0} {2 EINVAL 0 0 0}]", hour, clockSub{id: 9}, clockSub{flags: 2})
	// The largest timeouts do not overflow.
	g.wantEvents("[{2 ESUCCESS 0 0 0}]", clockSub{id: ClockMonotonic, at: 1<<64 - 1},
		clockSub{id: ClockRealtime, at: 1<<64 - 1, flags: subclockAbstime}, clockSub{id: ClockMonotonic})
}

func TestPollArguments(t *testing.T) {
	g := newGuest(t)
	var n uint32
	one, event := encodeSubs([]any{clockSub{}}), make(out, sizeEvent)
	g.want(EINVAL, "poll_oneoff", one, event, 0, &n)
	g.want(EINVAL, "poll_oneoff", one, event, 1<<20, &n)
	g.want(EINVAL, "poll_oneoff", one, event, 0xffffffff, &n)
	g.want(EINVAL, "poll_oneoff", encodeSubs([]any{badSub(3)}), event, 1, &n)
	g.want(EINVAL, "poll_oneoff", encodeSubs([]any{badSub(255)}), event, 1, &n)
	many := make([]any, 16000)
	for i := range many {
		many[i] = clockSub{}
	}
	if got := g.poll(many...); len(got) != len(many) {
		t.Errorf("%d events", len(got))
	}
}

// TestPollOverlapping lets the events be written over the subscriptions.
func TestPollOverlapping(t *testing.T) {
	g := newGuest(t)
	subs := encodeSubs([]any{clockSub{}, readSub(99), clockSub{}})
	copy(g.mem[1000:], subs)
	if e, err := g.h.Call(index(t, "poll_oneoff"), g.mem, []uint64{1000, 1000, 3, 992}); e != 0 || err != nil {
		t.Fatal(e, err)
	}
	if got := fmt.Sprint(decodeEvents(g.mem[1000:], 3)); got != "[{0 ESUCCESS 0 0 0} {1 EBADF 1 0 0} {2 ESUCCESS 0 0 0}]" {
		t.Error(got)
	}
}

func TestPollFiles(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	g.write(fd, "0123456789")
	g.seek(fd, 4, whenceSet)
	ro := g.open("f", 0, readOnly)
	hour := clockSub{id: ClockMonotonic, timeout: time.Hour}
	g.wantEvents("[{0 ESUCCESS 1 6 0} {1 ESUCCESS 2 4096 0}]", readSub(fd), writeSub(fd), hour)
	g.wantEvents("[{0 ESUCCESS 1 0 0}]", readSub(rootFD), hour)
	g.wantEvents("[{0 EBADF 1 0 0} {2 EBADF 2 0 0}]", readSub(77), hour, writeSub(0xffffffff))
	g.wantEvents("[{0 ENOTCAPABLE 2 0 0}]", writeSub(ro))
	g.must("fd_fdstat_set_rights", ro, RightFdRead, 0)
	g.wantEvents("[{0 ENOTCAPABLE 1 0 0}]", readSub(ro))
	g.seek(fd, 100, whenceSet)
	g.wantEvents("[{0 ESUCCESS 1 0 0}]", readSub(fd))
	g.wantEvents("[{0 ESUCCESS 1 0 0} {1 ESUCCESS 2 4096 0} {2 ESUCCESS 2 4096 0}]", readSub(0), writeSub(1), writeSub(2), hour)
}

func TestPollPipes(t *testing.T) {
	inR, inW := newPipe(t)
	outR, outW := newPipe(t)
	g := newGuest(t, stdio(inR, outW, outW))
	soon := clockSub{id: ClockMonotonic, timeout: time.Millisecond}
	hour := clockSub{id: ClockMonotonic, timeout: time.Hour}
	g.wantEvents("[{1 ESUCCESS 0 0 0}]", readSub(0), soon)
	g.wantEvents("[{0 ESUCCESS 2 4096 0} {2 ESUCCESS 2 4096 0}]", writeSub(1), readSub(0), writeSub(2), hour)
	if _, err := pipeEnds[inW].WriteString("12345"); err != nil {
		t.Fatal(err)
	}
	g.wantEvents("[{0 ESUCCESS 1 5 0} {1 ESUCCESS 1 5 0}]", readSub(0), readSub(0), hour)
	// With no time to wait what is ready is told too.
	g.wantEvents("[{0 ESUCCESS 0 0 0} {1 ESUCCESS 1 5 0}]", clockSub{id: ClockMonotonic}, readSub(0))
	hangUp(t, inW)
	g.wantEvents("[{0 ESUCCESS 1 5 1}]", readSub(0), hour)
	g.read(0, 10)
	g.wantEvents("[{0 ESUCCESS 1 0 1}]", readSub(0), hour)
	g.must("fd_fdstat_set_flags", 1, FlagNonblock)
	var n uint32
	for g.call("fd_write", 1, ciov{strings.Repeat("x", 1<<16)}, &n) == ESUCCESS {
	}
	g.wantEvents("[{1 ESUCCESS 0 0 0}]", writeSub(1), soon)
	hangUp(t, outR)
	g.wantEvents("[{0 ESUCCESS 2 4096 1}]", writeSub(1), hour)
	g.close(0)
	g.wantEvents("[{0 EBADF 1 0 0}]", readSub(0), hour)
}

func TestPollWakesUp(t *testing.T) {
	inR, inW := newPipe(t)
	g := newGuest(t, stdio(inR, inR, inR))
	go func() {
		time.Sleep(20 * time.Millisecond)
		_, _ = pipeEnds[inW].WriteString("x")
	}()
	g.wantEvents("[{1 ESUCCESS 1 1 0}]", clockSub{id: ClockMonotonic, timeout: time.Hour}, readSub(0))
}

func TestPollClosedStream(t *testing.T) {
	g := newGuest(t, func(c *Config) { c.Stdio[0] = NoHandle; c.Stdio[1] = 9999 })
	g.wantEvents("[{0 EBADF 1 0 0} {1 EBADF 2 0 0} {2 ESUCCESS 2 4096 0}]", readSub(0), writeSub(1), writeSub(2))
	g.want(EBADF, "fd_fdstat_get", 0, make(out, sizeFdstat))
}

// TestPollManySubscriptions subscribes one descriptor more often than the
// process may have descriptors.
func TestPollManySubscriptions(t *testing.T) {
	inR, inW := newPipe(t)
	g := newGuest(t, stdio(inR, inR, inR))
	g.mem = make(memory, 8<<20)
	if _, err := pipeEnds[inW].WriteString("x"); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	subs := make([]any, 16000)
	for i := range subs {
		subs[i] = readSub(0)
	}
	if got := g.poll(subs...); len(got) != len(subs) || got[15999].nbytes != 1 {
		t.Errorf("%d events", len(got))
	}
	if n := len(g.h.poll.fds); n != 1 {
		t.Errorf("the kernel was asked about %d descriptors", n)
	}
}

func TestFifo(t *testing.T) {
	g := newGuest(t)
	g.hostMkfifo("fifo")
	path := filepath.Join(g.dir, "fifo")
	var fd uint32
	g.want(ENXIO, "path_open", rootFD, 0, "fifo", 0, RightFdWrite, 0, FlagNonblock, &fd)
	r := g.open("fifo", 0, readOnly)
	// Without a writer yet there is nothing to read, but it is not the end.
	g.must("fd_fdstat_set_flags", r, FlagNonblock)
	g.want(EAGAIN, "fd_read", r, &iov{lens: []int{1}}, new(uint32))
	g.must("fd_fdstat_set_flags", r, 0)
	g.wantEvents("[{1 ESUCCESS 0 0 0}]", readSub(r), clockSub{id: ClockMonotonic, timeout: time.Millisecond})
	done := make(chan error, 1)
	go func() {
		time.Sleep(20 * time.Millisecond)
		done <- os.WriteFile(path, []byte("through"), 0)
	}()
	// The read waits for the first writer.
	if got := g.read(r, 100); got != "through" {
		t.Errorf("read %q", got)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := g.read(r, 100); got != "" {
		t.Errorf("read %q at the end", got)
	}
	g.must("fd_fdstat_set_flags", r, FlagNonblock)
	if got := g.read(r, 100); got != "" {
		t.Errorf("read %q at the end, without waiting", got)
	}
	g.close(r)
	got := make(chan string, 1)
	go func() {
		time.Sleep(20 * time.Millisecond)
		b, _ := os.ReadFile(path)
		got <- string(b)
	}()
	// To open it for writing waits for a reader.
	w := g.open("fifo", 0, RightFdWrite|RightFdFdstatSetFlags)
	g.write(w, "back")
	g.close(w)
	if s := <-got; s != "back" {
		t.Errorf("the reader got %q", s)
	}
	// A socket has the same error number as a named pipe without a reader.
	l, err := listen("unix", filepath.Join(g.dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	g.closeLater(l)
	g.want(ENXIO, "path_open", rootFD, 0, "sock", 0, RightFdWrite, 0, 0, &fd)
}

// clockCounter is a Kernel that counts how often its clocks are read.
type clockCounter struct {
	Kernel
	n map[Clock]int
}

func (k clockCounter) Now(c Clock) (int64, Errno) {
	k.n[c]++
	return k.Kernel.Now(c)
}

// TestPollReadsNoClock holds that a clock is read only where it is waited for: it is a system call, and recorded.
func TestPollReadsNoClock(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("f", "text")
	file := readSub(g.open("f", 0, readOnly))
	k := clockCounter{g.h.k, map[Clock]int{}}
	g.h.k = k
	if got := fmt.Sprint(g.poll(file, readSub(0))); len(k.n) > 0 {
		t.Errorf("%s: read clocks %v", got, k.n)
	}
	g.poll(file, clockSub{id: ClockMonotonic, timeout: time.Hour})
	if k.n[ClockMonotonic] == 0 || k.n[ClockRealtime] > 0 {
		t.Errorf("waiting for the monotonic clock reads clocks %v", k.n)
	}
	g.poll(file, clockSub{id: ClockRealtime, at: 1, flags: subclockAbstime})
	if k.n[ClockRealtime] == 0 {
		t.Errorf("waiting for the wall clock reads clocks %v", k.n)
	}
}
