package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"perdure/netpersist"
	"perdure/runtime"
)

// keepersDir holds the sockets of keepers, one for each process that has sockets, beside the
// processes themselves. No process's name begins with a dot.
const keepersDir = ".keepers"

// keeperPlace says which keeper a process uses.
type keeperPlace struct {
	shared  string // the path of one that runs already; empty: one for this process alone
	keepFor time.Duration
}

// connect returns the function with which the runtime connects to the keeper, nil if the
// process has no use for one.
func (k *keeperPlace) connect(o *runtime.Options, report func(string)) func() (runtime.SocketKeeper, error) {
	c := netpersist.ClientOptions{Path: k.shared, Owner: filepath.Base(o.Dir), KeepFor: k.keepFor, Report: report}
	if k.shared == "" {
		c.Path = filepath.Join(filepath.Dir(o.Dir), keepersDir, c.Owner+".sock")
		c.Start = func(listener int) error { return startKeeper(c.Path, listener) }
		if _, err := os.Lstat(c.Path); err != nil && len(o.Listeners)+len(o.AllowConnect)+len(o.AllowBind) == 0 {
			return nil
		}
	}
	return func() (runtime.SocketKeeper, error) {
		client, err := netpersist.Connect(c)
		if err != nil {
			return nil, err
		}
		return kept{client}, nil
	}
}

// startKeeper starts a keeper of its own for a process, which outlives this one.
func startKeeper(path string, listener int) error {
	// This very program, though its file may have been replaced.
	cmd := exec.Command("/proc/self/exe", "keeper", "--socket", path, "--fd", "3", "--leave")
	cmd.Args[0] = "perdure"
	fd, err := syscall.Dup(listener)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	cmd.ExtraFiles = []*os.File{f}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release() // it is not waited for
}

// kept joins the runtime with netpersist, which do not know each other.
type kept struct{ *netpersist.Client }

func (k kept) Take() ([]runtime.KeptSocket, error) {
	all, err := k.Client.Take()
	sockets := make([]runtime.KeptSocket, len(all))
	for i, h := range all {
		sockets[i] = keptSocket(h)
	}
	return sockets, err
}

func keptSocket(h netpersist.Held) runtime.KeptSocket {
	return runtime.KeptSocket{FD: h.FD, ID: h.ID, Listener: h.Listener, Datagram: h.Kind == netpersist.KindDatagram}
}

func (k kept) FindListener(key string, id uint64) (runtime.KeptListener, bool, error) {
	l, ok, err := k.Find(key, id)
	return runtime.KeptListener(l), ok, err
}

func (k kept) KeepListener(fd int, key string) (runtime.KeptListener, error) {
	l, err := k.Client.KeepListener(fd, key)
	return runtime.KeptListener(l), err
}

func (k kept) Keep(fd int, datagram bool) (uint64, error) {
	kind := netpersist.KindStream
	if datagram {
		kind = netpersist.KindDatagram
	}
	return k.Client.Keep(fd, kind)
}

func (k kept) Accept(l runtime.KeptListener) (runtime.KeptSocket, error) {
	h, err := k.Client.Accept(netpersist.Listening(l))
	return keptSocket(h), err
}

func (k kept) Unmoved(fd int, at runtime.SocketPosition) (same, over bool, err error) {
	now, over, err := netpersist.PositionOf(fd, at.Dialled)
	if err != nil {
		return false, false, fmt.Errorf("where the connection stands: %w", err)
	}
	saved := netpersist.Position{Consumed: at.Consumed, Written: at.Written, Closed: at.Closed, Deaf: at.Deaf}
	return saved.Unmoved(now, over), over, nil
}

func (k kept) Position(fd int, dialled bool) (at runtime.SocketPosition, over bool, err error) {
	now, over, err := netpersist.PositionOf(fd, dialled)
	if err != nil {
		return at, false, fmt.Errorf("where the connection stands: %w", err)
	}
	return runtime.SocketPosition{Dialled: dialled, Consumed: now.Consumed, Written: now.Written, Closed: now.Closed, Deaf: now.Deaf}, over, nil
}

var _ runtime.SocketKeeper = kept{}
