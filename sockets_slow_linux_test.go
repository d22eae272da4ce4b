//go:build slow

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"perdure/runtime"
)

// soak returns how often a soak test does its work: few times, or many where PERDURE_SOAK asks for long runs.
func soak(few, many int) int {
	if os.Getenv("PERDURE_SOAK") != "" {
		return many
	}
	return few
}

func TestSoakPlannedRestarts(t *testing.T) {
	plannedRestarts(t, guestPath(t, "server"), soak(40, 2000))
}

func TestSoakKills(t *testing.T) { randomKills(t, soak(40, 10000), "--durability", "none") }

func TestSoakConnectionsGoOn(t *testing.T) { goOn(t, soak(80, 10000)) }

// TestSoakManyConnections kills a worker that has very many idle connections, and wants each to go on.
func TestSoakManyConnections(t *testing.T) {
	n := soak(1000, 9500)
	s := newServer(t, guestPath(t, "server"), "--every", "0")
	s.start()
	conns := make([]client, n)
	began := time.Now()
	for i := range conns {
		conns[i] = s.dial()
		defer conns[i].Close()
	}
	echo := func(text string) time.Duration {
		t.Helper()
		began := time.Now()
		send := func(i int) {
			if _, err := io.WriteString(conns[i], text); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
		b := make([]byte, len(text))
		receive := func(i int) {
			if _, err := io.ReadFull(conns[i], b); err != nil || string(b) != text {
				t.Fatalf("connection %d: got %q, %v\n%s", i, b, err, end(s.stderr.String()))
			}
		}
		send(0)
		receive(0)
		first := time.Since(began)
		for i := range conns[1:] {
			send(i + 1)
		}
		for i := range conns[1:] {
			receive(i + 1)
		}
		return first
	}
	dialled := time.Since(began)
	echo("a")
	t.Logf("%d connections made in %v, %v each; echoed after %v", n, dialled, dialled/time.Duration(n), time.Since(began))
	for life := range 3 {
		durable := strings.Count(s.stderr.String(), "is durable")
		if life != 1 { // the second one is planned
			_ = s.cmd.Process.Signal(syscall.SIGUSR1) // it runs
			waitFor(t, s, "a generation", func() bool { return strings.Count(s.stderr.String(), "is durable") > durable })
			s.kill()
		} else {
			s.suspend()
		}
		before := s.begun()
		began := time.Now()
		s.start()
		waitFor(t, s, "the next life", func() bool { return s.begun() > before })
		restored := time.Since(began)
		began = time.Now()
		first := echo(fmt.Sprint("life", life))
		t.Logf("life %d: goes on after %v; then the first answer within %v, all within %v", life, restored, first, time.Since(began))
	}
}

// savedSockets wants the newest generation to have that many sockets, each connection at its position.
func (s *server) savedSockets(n int) {
	s.t.Helper()
	saved, err := runtime.OpenSaved(filepath.Join(s.dir, "state", "server"))
	if err != nil {
		s.t.Fatal(err)
	}
	infos, err := saved.Generations()
	if err != nil {
		s.t.Fatal(err)
	}
	list, err := saved.Sockets(s.t.Context(), infos[len(infos)-1].Number)
	if err != nil || len(list) != n {
		s.t.Fatalf("%d sockets, %v, want %d", len(list), err, n)
	}
	for _, k := range list {
		is := k.Kind == "listener" && k.Local == s.address || k.Kind == "connection" && k.Remote != "" && k.Position.Consumed == 5 && k.Position.Written == 5
		if !is || !k.Kept {
			s.t.Errorf("saved socket %+v", k)
		}
	}
}

// TestConnectionStates takes connections in all sorts of states over a planned restart and over a kill.
func TestConnectionStates(t *testing.T) {
	s := newServer(t, guestPath(t, "server"), "--every", "0")
	s.start()
	read := func(c client, want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
			t.Fatalf("got %q, %v, want %q\n%s", b, err, want, end(s.stderr.String()))
		}
	}
	for _, planned := range []bool{true, false} {
		idle, halfClosed, closing, urgent, gone := s.dial(), s.dial(), s.dial(), s.dial(), s.dial()
		for _, c := range []client{idle, halfClosed, closing, urgent, gone} {
			fmt.Fprint(c, "hello")
			read(c, "hello")
		}
		durable := strings.Count(s.stderr.String(), "is durable")
		if planned {
			s.suspend()
		} else {
			_ = s.cmd.Process.Signal(syscall.SIGUSR1) // it runs
			waitFor(t, s, "a generation", func() bool { return strings.Count(s.stderr.String(), "is durable") > durable })
			s.kill()
		}
		s.savedSockets(6)
		fmt.Fprint(halfClosed, "last words")
		if err := halfClosed.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := closing.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		raw, err := urgent.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(urgent, "be")
		err = raw.Write(func(fd uintptr) bool {
			if err := unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil); err != nil {
				t.Error(err)
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(urgent, "hind")
		fmt.Fprint(gone, "unread")
		if err := gone.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		gone.Close() // a reset
		s.start()
		read(urgent, "be!hind")
		read(halfClosed, "last words")
		for _, c := range []client{halfClosed, closing} {
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("planned %v: %d bytes, %v, want the end", planned, n, err)
			}
			c.Close()
		}
		fmt.Fprint(idle, "and on")
		read(idle, "and on")
		idle.Close()
		urgent.Close()
	}
	// Full in both directions: the server waits to write, the client does not read.
	full := s.dial()
	seed := uint64(7)
	c := &stream{seed: seed}
	var sent int64
	b := make([]byte, 64<<10)
	for stuck := false; !stuck; {
		for i := range b {
			b[i] = c.byteAt(sent + int64(i))
		}
		_ = full.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := full.TCPConn.Write(b) // by its own deadline
		sent += int64(n)
		stuck = errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !stuck {
			t.Fatal(err)
		}
	}
	for range 2 {
		s.suspend()
		s.start()
	}
	for at := int64(0); at < sent; {
		n, err := full.Read(b[:min(int64(len(b)), sent-at)])
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", at, sent, err)
		}
		for i := range b[:n] {
			if b[i] != c.byteAt(at+int64(i)) {
				t.Fatalf("a wrong byte at %d", at+int64(i))
			}
		}
		at += int64(n)
	}
	full.Close()
}

// TestHTTPServer loads an HTTP server written in Go and restarts it: no request may fail.
func TestHTTPServer(t *testing.T) {
	s := newServer(t, goGuest(t, "web"))
	s.start()
	s.dial().Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done atomic.Int64
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: patience}
	defer client.CloseIdleConnections()
	for i := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for ctx.Err() == nil {
				body := bytes.Repeat([]byte{byte('a' + i)}, r.IntN(20000))
				resp, err := client.Post("http://"+s.address+"/echo", "text/plain", bytes.NewReader(body))
				if err != nil {
					t.Errorf("request %d: %v", done.Load(), err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, body) {
					t.Errorf("request %d: status %d, %d bytes of %d, %v", done.Load(), resp.StatusCode, len(got), len(body), err)
					return
				}
				done.Add(1)
			}
		})
	}
	restarts := soak(3, 50)
	for range restarts {
		at := done.Load()
		waitFor(t, s, "requests", func() bool { return done.Load() > at+20 || t.Failed() })
		s.suspend()
		s.start()
	}
	at := done.Load()
	waitFor(t, s, "requests", func() bool { return done.Load() > at+20 || t.Failed() })
	cancel()
	wg.Wait()
	t.Logf("%d requests over %d restarts", done.Load(), restarts)
}

// TestTLSServer ends TLS in a guest and restarts it.
func TestTLSServer(t *testing.T) {
	s := newServer(t, goGuest(t, "web"))
	s.args = append(s.args, "tls")
	s.start()
	c := tls.Client(s.dial(), &tls.Config{InsecureSkipVerify: true})
	defer c.Close()
	r := testSeed(t)
	restarts := soak(3, 100)
	for i := range restarts {
		sent := make([]byte, 1+r.IntN(100000))
		for i := range sent {
			sent[i] = byte(r.Uint32())
		}
		failed := make(chan error, 1)
		go func() {
			_, err := c.Write(sent)
			failed <- err
		}()
		s.suspend() // in the middle of the records
		s.start()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("restart %d: %v\n%s", i, err, end(s.stderr.String()))
		}
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d restarts of one connection", restarts)
}
