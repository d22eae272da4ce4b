package wasi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sink is an Output that takes so many bytes and then makes the guest wait.
type sink struct {
	got   [3]strings.Builder
	calls int
	room  int // bytes
	wait  time.Duration
	err   error
}

func (s *sink) Write(stream int, p []byte) (int, time.Duration, error) {
	s.calls++
	n := min(len(p), s.room)
	s.got[stream].Write(p[:n])
	s.room -= n
	if n == 0 && s.err == nil {
		return 0, s.wait, nil
	}
	return n, 0, s.err
}

// outputGuest is a guest whose output is a sink.
func outputGuest(t *testing.T, s *sink) *guest {
	t.Helper()
	g := newGuest(t)
	g.redirect(s, nil)
	return g
}

// redirect gives the guest a fresh host, restored from state if there is one.
func (g *guest) redirect(s *sink, state []byte) {
	g.t.Helper()
	g.h.Close()
	k, stdout, stderr := WithOutput(g.k, s)
	g.cfg.Stdio[1], g.cfg.Stdio[2] = stdout, stderr
	var err error
	if state == nil {
		g.h, err = New(g.cfg, k)
	} else {
		g.h, _, err = Restore(state, g.cfg, k)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

func TestOutputIsTerminal(t *testing.T) {
	g := outputGuest(t, &sink{room: 1 << 30})
	for fd := uint32(1); fd <= 2; fd++ {
		st := g.fdstat(fd)
		if st.typ != FileCharDevice || st.base&(RightFdSeek|RightFdTell|RightFdRead) != 0 || st.base&RightFdWrite == 0 {
			t.Errorf("descriptor %d: %+v", fd, st)
		}
		if f := g.stat(fd); f.typ != FileCharDevice {
			t.Errorf("descriptor %d: %+v", fd, f)
		}
		var n uint32
		var at uint64
		g.want(ESPIPE, "fd_seek", fd, int64(0), 1, &at)
		g.want(EINVAL, "fd_sync", fd)
		g.want(EPERM, "fd_filestat_set_times", fd, uint64(0), uint64(0), fstAtimNow)
		g.want(EBADF, "fd_read", fd, &iov{lens: []int{1}}, &n)
		g.want(ESPIPE, "fd_pwrite", fd, ciov{"x"}, uint64(0), &n)
	}
	g.must("fd_close", 1)
	var n uint32
	g.want(EBADF, "fd_write", 1, ciov{"x"}, &n)
}

// What is written in one call is handed on in one piece, up to a size, and none of it is lost.
func TestOutputPieces(t *testing.T) {
	s := &sink{room: 1 << 30}
	g := outputGuest(t, s)
	var n uint32
	g.must("fd_write", 1, ciov{"", "one ", "", "line", "\n"}, &n)
	if n != 9 || s.got[1].String() != "one line\n" || s.calls != 1 {
		t.Errorf("wrote %d in %d calls: %q", n, s.calls, s.got[1].String())
	}
	large, small := strings.Repeat("0123456789", 20000), strings.Repeat("x", 40000)
	g.must("fd_write", 2, ciov{small, small, large, "end"}, &n)
	if want := small + small + large + "end"; int(n) != len(want) || s.got[2].String() != want {
		t.Errorf("wrote %d of %d, or other bytes", n, len(want))
	}
	g.must("fd_write", 1, ciov{"", ""}, &n)
	if n != 0 {
		t.Errorf("wrote %d of nothing", n)
	}
}

func TestOutputErrors(t *testing.T) {
	s := &sink{room: 4, err: &os.PathError{Op: "write", Path: "log", Err: unix.ENOSPC}}
	g := outputGuest(t, s)
	var n uint32
	g.must("fd_write", 1, ciov{"12345"}, &n) // as a file does: a part, then the error
	if n != 4 {
		t.Errorf("wrote %d", n)
	}
	g.want(ENOSPC, "fd_write", 1, ciov{"5"}, &n)
	for _, err := range []error{errors.New("unknown"), unix.EAGAIN, fmt.Errorf("wrapped: %w", unix.EINTR), unix.EIO} {
		s.err = err
		g.want(EIO, "fd_write", 1, ciov{"5"}, &n)
	}
	s.err, s.room = nil, 1
	g.must("fd_write", 1, ciov{"5"}, &n) // and it may get better
	if got := s.got[1].String(); got != "12345" {
		t.Errorf("output %q", got)
	}
}

// A guest that is over its rate waits, and goes on when the wait is over.
func TestOutputWaits(t *testing.T) {
	const wait = 30 * time.Millisecond
	s := &sink{room: 2, wait: wait}
	g := outputGuest(t, s)
	began := time.Now()
	var n uint32
	done := false
	g.h.k.(*outputKernel).out = refill{s, func() { s.room = 3; done = true }}
	g.must("fd_write", 1, ciov{"12345"}, &n)
	if took := time.Since(began); n != 5 || !done || took < wait {
		t.Errorf("wrote %d, waited %v (%v)", n, took, done)
	}
	if s.calls > 4 {
		t.Errorf("asked %d times", s.calls)
	}
}

// refill is a sink that has room again after it refused.
type refill struct {
	*sink
	more func()
}

func (r refill) Write(stream int, p []byte) (int, time.Duration, error) {
	n, wait, err := r.sink.Write(stream, p)
	if n == 0 {
		r.more()
	}
	return n, wait, err
}

// An interrupt finds a guest that waits to write: nothing of the call has happened, and what
// resumes it, here or in a restored host, writes each byte once.
func TestOutputInterrupted(t *testing.T) {
	for _, restored := range []bool{false, true} {
		s := &sink{wait: time.Hour}
		g := outputGuest(t, s)
		g.h.Interrupt()
		var n uint32
		if _, err := g.try("fd_write", 1, ciov{"once\n"}, &n); err != ErrInterrupted {
			t.Fatalf("error %v", err)
		}
		g.h.ClearInterrupt()
		if p, ok := g.h.Pending(); !ok || p.Function != "fd_write" || p.Deadline != -1 {
			t.Errorf("pending %+v", p)
		}
		if restored {
			state, err := g.h.Save()
			if err != nil {
				t.Fatal(err)
			}
			s = &sink{room: 100}
			g.redirect(s, state)
		} else {
			s.room = 100
		}
		if errno, err := g.h.Resume(g.mem); errno != 0 || err != nil {
			t.Fatalf("%v, %v", errno, err)
		}
		if got := s.got[1].String(); got != "once\n" {
			t.Errorf("restored %v: output %q", restored, got)
		}
	}
}

// A part that was taken before the interrupt is what the call returns.
func TestOutputInterruptedInPart(t *testing.T) {
	s := &sink{room: 3, wait: time.Hour}
	g := outputGuest(t, s)
	g.h.Interrupt()
	var n uint32
	g.must("fd_write", 1, ciov{"12345"}, &n)
	if n != 3 || s.got[1].String() != "123" {
		t.Errorf("wrote %d: %q", n, s.got[1].String())
	}
	// Nor can a guest that is never refused put the interrupt off for long.
	s.room = 1 << 30
	g.mem = make(memory, 4*maxTransfer)
	list := uint32(64)
	g.mem.putUint32(list, 4096)
	g.mem.putUint32(list+4, 3*maxTransfer)
	if _, err := g.h.Call(index(t, "fd_write"), g.mem, []uint64{1, uint64(list), 1, 128}); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint32(g.mem[128:]); n != maxTransfer {
		t.Errorf("wrote %d", n)
	}
}

// poll_oneoff and a descriptor that does not wait see the refusal as those of a full pipe.
func TestOutputPoll(t *testing.T) {
	s := &sink{wait: 20 * time.Millisecond}
	r, w := newPipe(t)
	g := newGuest(t, stdio(r, 0, 0))
	g.redirect(s, nil)
	g.must("fd_fdstat_set_flags", 1, FlagNonblock)
	var n uint32
	events := make(out, 3*sizeEvent)
	poll := func(subs []any) []event {
		t.Helper()
		g.must("poll_oneoff", encodeSubs(subs), events, len(subs), &n)
		return decodeEvents(events, n)
	}
	if got := poll([]any{writeSub(1), readSub(0), writeSub(2)}); len(got) != 2 || got[0].sub != 0 || got[1].sub != 2 {
		t.Errorf("events %v", got)
	}
	began := time.Now()
	g.want(EAGAIN, "fd_write", 1, ciov{"x"}, &n)
	if got := poll([]any{writeSub(1), readSub(0)}); len(got) != 1 || got[0].sub != 0 || time.Since(began) < s.wait {
		t.Errorf("events %v after %v", got, time.Since(began))
	}
	s.wait = time.Hour // from now on only the pipe can be ready
	g.want(EAGAIN, "fd_write", 1, ciov{"x"}, &n)
	if _, err := pipeEnds[w].WriteString("in"); err != nil {
		t.Fatal(err)
	}
	if got := poll([]any{writeSub(1), readSub(0)}); len(got) != 1 || got[0].sub != 1 || got[0].nbytes != 2 {
		t.Errorf("events %v", got)
	}
}
