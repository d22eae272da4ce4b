package wasi

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPollManyIsPoll asks for many descriptors at once and for each alone, and wants the same of both, whatever happens to
// them in between.
func TestPollManyIsPoll(t *testing.T) {
	seed := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("PERDURE_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("PERDURE_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := newSystem(t)
	var handles []Handle
	peers := map[Handle]int{}
	add := func() {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, Handle(pair[0]))
		peers[Handle(pair[0])] = pair[1]
	}
	drop := func(i int) {
		h := handles[i]
		// A keeper has a duplicate, with which the socket lives on.
		other, err := unix.Dup(int(h))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(other) })
		if errno := s.Close(h); errno != ESUCCESS {
			t.Fatal(errno)
		}
		if p := peers[h]; p >= 0 {
			_ = unix.Close(p)
		}
		handles = append(handles[:i], handles[i+1:]...)
	}
	file, err := unix.Open(filepath.Join(t.TempDir(), "f"), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	handles = append(handles, Handle(file))
	peers[Handle(file)] = -1
	for range 60 {
		add()
	}
	b := make([]byte, 70000)
	for round := range 600 {
		h := handles[r.IntN(len(handles))]
		switch p := peers[h]; r.IntN(8) {
		case 0, 1:
			if p >= 0 {
				_, _ = unix.Write(p, b[:1+r.IntN(100)]) // it may be closed or full
			}
		case 2:
			_, _ = unix.Read(int(h), b) // it may be empty
		case 3:
			_, _ = unix.Write(int(h), b) // until it is full
		case 4:
			if p >= 0 {
				_, _ = unix.Read(p, b)
			}
		case 5:
			if p >= 0 {
				_ = unix.Shutdown(p, r.IntN(2)) // it may be closed
			}
		case 6:
			if p >= 0 {
				_ = unix.Close(p)
				peers[h] = -1
			}
		case 7:
			drop(r.IntN(len(handles)))
			add()
		}
		var many []PollFD
		for _, h := range handles {
			if r.IntN(3) > 0 {
				many = append(many, PollFD{Handle: h, Events: PollIn})
			}
			if r.IntN(3) == 0 {
				many = append(many, PollFD{Handle: h, Events: PollOut})
			}
		}
		if r.IntN(5) == 0 {
			many = append(many, PollFD{Handle: 1 << 20, Events: PollIn})
		}
		want := 0
		alone := append([]PollFD(nil), many...)
		for i := range alone {
			n, errno := s.Poll(alone[i:i+1], 0)
			if errno != ESUCCESS {
				t.Fatal(errno)
			}
			want += n
		}
		n, errno := s.Poll(many, 0)
		if errno != ESUCCESS || n != want {
			t.Fatalf("round %d: %d have events (%v), want %d", round, n, errno, want)
		}
		for i := range many {
			if many[i] != alone[i] {
				t.Fatalf("round %d: got %+v, want %+v", round, many[i], alone[i])
			}
		}
	}
	for len(handles) > 0 {
		drop(0)
	}
}

// TestPollManyWaits wants a wait for many to end by one of them, by its deadline and by an interrupt.
func TestPollManyWaits(t *testing.T) {
	s := newSystem(t)
	var fds []PollFD
	var peer int
	for range 100 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		peer = pair[1]
		fds = append(fds, PollFD{Handle: Handle(pair[0]), Events: PollIn})
		t.Cleanup(func() {
			_ = unix.Close(pair[1])
			s.Close(Handle(pair[0]))
		})
	}
	now, _ := s.Now(ClockMonotonic)
	until := now + (20 * time.Millisecond).Nanoseconds()
	if n, errno := s.Poll(fds, until); n != 0 || errno != ESUCCESS {
		t.Errorf("deadline: %d, %v", n, errno)
	}
	if now, _ := s.Now(ClockMonotonic); now < until {
		t.Errorf("it ended %v early", time.Duration(until-now))
	}
	time.AfterFunc(10*time.Millisecond, func() { s.Interrupt(true) })
	if n, errno := s.Poll(fds, -1); n != 0 || errno != EINTR {
		t.Errorf("interrupt: %d, %v", n, errno)
	}
	s.Interrupt(false)
	time.AfterFunc(10*time.Millisecond, func() { _, _ = unix.Write(peer, []byte("x")) })
	if n, errno := s.Poll(fds, -1); n != 1 || errno != ESUCCESS || fds[99].Revents != PollIn || fds[99].Available != 1 {
		t.Errorf("one is ready: %d, %v, %+v", n, errno, fds[99])
	}
	// Ready, but not asked for: the wait is not ended by it, and costs nothing.
	if n, errno := s.Poll(fds[:99], now+1); n != 0 || errno != ESUCCESS {
		t.Errorf("another is ready: %d, %v", n, errno)
	}
}
