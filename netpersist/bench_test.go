package netpersist

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkAccept measures what a connection costs until a worker has it, through a keeper and without one, in turns.
func BenchmarkAccept(b *testing.B) {
	r := newRig(b, false)
	c := r.connect()
	kept, keptAddress := listenTCP(b, unix.AF_INET)
	l, err := c.KeepListener(kept, "k")
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		b.Fatal(err)
	}
	plain, plainAddress := listenTCP(b, unix.AF_INET)
	var keptTook, plainTook time.Duration
	n := 0
	for b.Loop() {
		n++
		began := time.Now()
		p := dialTCP(b, keptAddress)
		h := accept(b, c, l)
		keptTook += time.Since(began)
		if err := c.Release(h.ID, false); err != nil {
			b.Fatal(err)
		}
		_ = unix.Close(h.FD) // nothing was sent
		p.Close()

		began = time.Now()
		var q net.Conn = dialTCP(b, plainAddress)
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(plain), Events: unix.POLLIN}}, -1); err != nil && err != unix.EINTR {
			b.Fatal(err)
		}
		fd, _, err := unix.Accept4(plain, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		plainTook += time.Since(began)
		if err != nil {
			b.Fatal(err)
		}
		_ = unix.Close(fd) // nothing was sent
		q.Close()
	}
	b.ReportMetric(float64(keptTook.Microseconds())/float64(n), "µs/kept")
	b.ReportMetric(float64(plainTook.Microseconds())/float64(n), "µs/plain")
	b.StopTimer()
	die(b, c, l.Queue, l.Socket, plain)
}

// BenchmarkTake measures how fast a worker gets 5,000 connections back, and learns where they stand.
func BenchmarkTake(b *testing.B) {
	const many = 5000
	r := newRig(b, false)
	c := r.connect()
	fd, address := listenTCP(b, unix.AF_INET)
	l, err := c.KeepListener(fd, "k")
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		b.Fatal(err)
	}
	fds := []int{l.Queue, l.Socket}
	for range many {
		p := dialTCP(b, address)
		defer p.Close()
		fds = append(fds, accept(b, c, l).FD)
	}
	for b.Loop() {
		die(b, c, fds...)
		c = r.connect()
		held, err := c.Take()
		if err != nil || len(held) != many {
			b.Fatal(len(held), err)
		}
		fds = fds[:0]
		for _, h := range held {
			if _, _, err := PositionOf(h.FD, false); err != nil {
				b.Fatal(err)
			}
			fds = append(fds, h.FD)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/many, "µs/connection")
	b.StopTimer()
	die(b, c, fds...)
}
