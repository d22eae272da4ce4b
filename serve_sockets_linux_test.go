package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"perdure/daemon"
	"perdure/daemon/worker"
	"perdure/runtime"
)

// servedServer is the echo server as a process of a daemon. The server in it knows its directory, its address and its
// keeper; its cmd is not used.
type servedServer struct {
	*server
	client *daemon.Client
	daemon *exec.Cmd
	log    buffer
}

const servedName = "server"

func newServedServer(t *testing.T) *servedServer {
	t.Helper()
	s := &servedServer{server: newServer(t, guestPath(t, servedName))}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.client = daemon.NewClient(filepath.Join(s.dir, "s"))
	// Every generation stays, however many are made before a test asks for it.
	conf := fmt.Sprintf("[memsnap]\nmax_snapshots = 0\n[snapshot]\nevery = \"50ms\"\n[restart]\nbackoff = \"1ms\"\n[process.%s]\nlisten = [\"tcp://%s\"]\n", servedName, s.address)
	must(os.WriteFile(filepath.Join(s.dir, "c.toml"), []byte(conf), 0o600))
	must(os.MkdirAll(filepath.Join(s.dir, "state", "modules"), 0o700))
	src, err := os.ReadFile(guestPath(t, servedName))
	must(err)
	must(os.WriteFile(filepath.Join(s.dir, "state", "modules", servedName+".wasm"), src, 0o600))
	t.Cleanup(func() {
		if s.daemon != nil {
			s.endDaemon(syscall.SIGKILL)
		}
		if h, err := worker.Find(filepath.Join(s.dir, "state", servedName)); err == nil {
			_ = h.Signal(syscall.SIGKILL) // it may have ended
			<-h.Done()
		}
	})
	return s
}

// within bounds a request to the daemon.
func (s *servedServer) within() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *servedServer) startDaemon() {
	s.t.Helper()
	s.daemon = exec.Command(os.Args[0], "serve", "--config", filepath.Join(s.dir, "c.toml"), "--state", filepath.Join(s.dir, "state"),
		"--cache", serverCache(), "--socket", filepath.Join(s.dir, "s"))
	s.daemon.Args[0] = "perdure"
	s.daemon.Stdout, s.daemon.Stderr = &s.log, &s.log
	if err := s.daemon.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the daemon", func() bool {
		_, err := s.client.Info(s.within())
		return err == nil
	})
}

func (s *servedServer) endDaemon(sig syscall.Signal) {
	s.t.Helper()
	_ = s.daemon.Process.Signal(sig) // it runs
	stuck := time.AfterFunc(2*patience, func() { _ = s.daemon.Process.Kill() })
	_ = s.daemon.Wait() // how is not the question
	if s.daemon = nil; !stuck.Stop() {
		s.t.Fatalf("the daemon did not end\n%s", end(s.log.String()))
	}
}

func (s *servedServer) eventually(what string, ok func() bool) {
	s.t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			i, err := s.client.Inspect(s.within(), servedName)
			s.t.Fatalf("waited for %s\n%+v, %v\nthe daemon's log ends:\n%s", what, i, err, end(s.log.String()))
		}
	}
}

// echoes wants more to come back of what the client sends.
func (s *servedServer) echoes(c *stream) {
	s.t.Helper()
	at := c.sent.Load()
	s.eventually("bytes", func() bool { return c.received.Load() > at })
}

// worker returns the process id of the worker, 0 for none.
func (s *servedServer) worker() int {
	i, err := s.client.Inspect(s.within(), servedName)
	if err != nil {
		return 0
	}
	return i.PID
}

func (s *servedServer) killWorker() {
	s.t.Helper()
	pid := 0
	s.eventually("a worker", func() bool { pid = s.worker(); return pid != 0 })
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	s.eventually("another worker", func() bool { p := s.worker(); return p != 0 && p != pid })
}

// shows wants inspect to tell of the listener and of the connection of c, which has gone on over two deaths of its worker.
func (s *servedServer) shows(c *stream) {
	s.t.Helper()
	s.eventually("the sockets in perdure inspect", func() bool {
		i, err := s.client.Inspect(s.within(), servedName)
		if err != nil || len(i.Sockets) != 2 || i.SocketCounts.Open != 2 || i.SocketCounts.Resumed < 2 || len(i.SocketsGone) > 0 {
			return false
		}
		l, k := i.Sockets[0], i.Sockets[1]
		return l.Kind == "listener" && l.Kept && l.Local == s.address &&
			k.Kind == "connection" && k.Kept && k.Local == s.address && k.Remote == c.conn.LocalAddr().String() &&
			k.Position.Consumed > 0 && k.Position.Written > 0 && !k.Since.IsZero() && k.Lives >= 2
	})
	var text strings.Builder
	i, err := s.client.Inspect(s.within(), servedName)
	if err == nil {
		err = printInspection(&text, i)
	}
	if want := c.conn.LocalAddr().String(); err != nil || !strings.Contains(text.String(), want) {
		s.t.Errorf("perdure inspect does not tell of %s: %v\n%s", want, err, text.String())
	}
}

// TestServedConnectionsGoOn takes connections to a process of the daemon through all that can happen to its worker, to the
// daemon and to the keeper.
func TestServedConnectionsGoOn(t *testing.T) {
	r := testSeed(t)
	s := newServedServer(t)
	s.startDaemon()
	c := newStream(s.dial(), r.Uint64(), 2*time.Millisecond)
	s.echoes(c)
	ask := func(what string, f func(context.Context, string) error) {
		t.Helper()
		if err := f(s.within(), servedName); err != nil {
			t.Fatalf("%s: %v\n%s", what, err, end(s.log.String()))
		}
	}

	s.killWorker()
	s.echoes(c)
	ask("snapshot", func(ctx context.Context, name string) error { // which is what counts this life
		_, err := s.client.Snapshot(ctx, name)
		return err
	})
	s.endDaemon(syscall.SIGKILL)
	s.echoes(c)
	s.startDaemon()
	s.killWorker()
	s.echoes(c)
	s.shows(c)
	ask("restart", func(ctx context.Context, name string) error { return s.client.Restart(ctx, name, false) })
	s.echoes(c)
	// An upgrade: the next daemon adopts the worker.
	s.endDaemon(syscall.SIGQUIT)
	s.startDaemon()
	s.echoes(c)
	// A stop of everything but the keeper.
	s.endDaemon(syscall.SIGTERM)
	late := newStream(s.dial(), r.Uint64(), 2*time.Millisecond)
	s.startDaemon()
	s.echoes(c)
	s.echoes(late)

	// The keeper dies while the worker has the sockets: another one gets them.
	pid := s.keeperPID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.eventually("another keeper", func() bool { p := s.keeperPID(); return p != 0 && p != pid })
	s.eventually("the worker to tell of it", func() bool { return strings.Contains(s.log.String(), "another one has the sockets now") })
	s.echoes(c) // without a new connection
	later := newStream(s.dial(), r.Uint64(), 2*time.Millisecond)
	s.echoes(later)
	s.killWorker()
	for i, c := range []*stream{c, late, later} {
		s.echoes(c)
		if err := c.finish(); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}

	// It dies when nobody else has them: the peer is told, and the process goes on.
	idle := s.dial()
	defer idle.Close()
	fmt.Fprint(idle, "x")
	if _, err := io.ReadFull(idle, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ask("stop", s.client.Stop)
	if i, err := s.client.Inspect(s.within(), servedName); err != nil || i.PID != 0 || i.SocketCounts.Open != len(i.Sockets) ||
		!slices.ContainsFunc(i.Sockets, func(k runtime.SavedSocket) bool { return k.Remote == idle.LocalAddr().String() }) {
		t.Errorf("without a worker inspect tells of %+v: %v", i.Sockets, err)
	}
	if err := syscall.Kill(s.keeperPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a connection that is lost: %v, want a reset", err)
	}
	ask("start", func(ctx context.Context, name string) error { return s.client.Start(ctx, name, false) })
	c = newStream(s.dial(), r.Uint64(), 2*time.Millisecond)
	s.echoes(c)
	s.eventually("the lost connection in perdure inspect", func() bool {
		i, err := s.client.Inspect(s.within(), servedName)
		return err == nil && i.SocketCounts.Lost == 1 && len(i.SocketsGone) == 1 && !i.SocketsGone[0].Reset &&
			i.SocketsGone[0].Remote == idle.LocalAddr().String() && strings.Contains(i.SocketsGone[0].Why, "the keeper does not have it")
	})
	if err := c.finish(); err != nil {
		t.Error(err)
	}

	// A fresh start has the listener of the process before, and none of its connections.
	old := s.dial()
	defer old.Close()
	fmt.Fprint(old, "x")
	if _, err := io.ReadFull(old, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ask("restart --fresh", func(ctx context.Context, name string) error { return s.client.Restart(ctx, name, true) })
	if _, err := old.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a connection to the process before: %v, want a reset", err)
	}
	c = newStream(s.dial(), r.Uint64(), 2*time.Millisecond)
	s.echoes(c)
	if err := c.finish(); err != nil {
		t.Error(err)
	}

	// What is removed has no sockets left.
	ask("stop", s.client.Stop)
	s.dial().Close() // the keeper has the listener
	ask("rm", s.client.Remove)
	s.eventually("the end of the listener", func() bool {
		b, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		var port int
		if _, err := fmt.Sscanf(s.address, "127.0.0.1:%d", &port); err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(string(b), fmt.Sprintf("0100007F:%04X 00000000:0000 0A", port))
	})
}
