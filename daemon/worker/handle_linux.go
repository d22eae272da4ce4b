package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a worker: exe is a perdure, whose hidden command worker it is. The worker has a session of its own and
// outlives the caller. That the process is started means nothing yet; see Client.Status and Handle.Outcome.
func Start(exe string, s Spec) (*Handle, error) {
	return start(exe, []string{"perdure", "worker"}, os.Environ(), s)
}

func start(exe string, args, env []string, s Spec) (h *Handle, err error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	stdin, err := memoryFile("spec", b)
	if err != nil {
		return nil, err
	}
	defer stdin.Close() // the worker has its own
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	said, err := openLogFile(s.Dir)
	if err != nil {
		return nil, err
	}
	defer said.Close() // the same
	pidfd := -1
	p, err := os.StartProcess(exe, args, &os.ProcAttr{
		Dir: "/", Env: env, Files: []*os.File{stdin, said, said},
		Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	if pidfd < 0 {
		return nil, errors.Join(fmt.Errorf("watch worker %d: no process descriptor; Linux 5.3 or newer is needed", p.Pid), p.Kill())
	}
	if err := unix.SetNonblock(pidfd, true); err != nil { // for the poller
		return nil, errors.Join(fmt.Errorf("watch worker %d: %w", p.Pid, err), p.Kill())
	}
	h = &Handle{dir: s.Dir, name: s.Name, pid: p.Pid, process: os.NewFile(uintptr(pidfd), "pidfd"), done: make(chan struct{})}
	go func() {
		defer close(h.done)
		h.wait()
		h.state, _ = p.Wait() // it has ended, so there is nothing to wait for; and nothing to say if another has reaped it
		removeCgroup(filepath.Base(s.Dir))
	}()
	return h, nil
}

// Find returns the worker that runs the process in dir, whoever has started it; else ErrNoWorker.
func Find(dir string) (*Handle, error) {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s", ErrNoWorker, filepath.Join(dir, lockFile))
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was looked at only
	pid, fd, err := readLock(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoWorker, err)
	}
	pidfd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || pid <= 0 {
		return nil, fmt.Errorf("%w: worker %d is gone", ErrNoWorker, pid)
	}
	if err != nil {
		return nil, fmt.Errorf("watch worker %d: %w", pid, err)
	}
	h := &Handle{dir: dir, pid: pid, process: os.NewFile(uintptr(pidfd), "pidfd"), done: make(chan struct{})}
	// The number may belong to another by now; the lock does not. If it is the worker that has ended after this, the
	// descriptor says so.
	holds, err := holdsLock(pid, fd, f)
	if err != nil || !holds {
		h.process.Close()
		return nil, errors.Join(fmt.Errorf("%w: process %d has not the lock", ErrNoWorker, pid), err)
	}
	go func() {
		defer close(h.done)
		h.wait()
		removeCgroup(filepath.Base(dir))
	}()
	return h, nil
}

// holdsLock tells whether descriptor fd of process pid is the lock file f, locked.
func holdsLock(pid, fd int, f *os.File) (bool, error) {
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	its, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(mine, its) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	return bytes.Contains(info, []byte("FLOCK")), err
}

// wait returns when the process has ended. It waits in Go's poller, so that a thousand workers need no thousand threads.
func (h *Handle) wait() {
	defer h.process.Close() // it was looked at only
	c, err := h.process.SyscallConn()
	if err == nil {
		err = c.Read(func(fd uintptr) bool { return ended(int(fd), 0) })
	}
	if err != nil { // it cannot be polled: take a thread
		for !ended(int(h.process.Fd()), -1) {
		}
	}
}

// ended tells whether a process has ended, or does so within milliseconds; -1 for as long as it takes.
func ended(pidfd, within int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, within)
	return err == nil && n > 0
}

// Signal sends the worker a signal: SIGTERM suspends it, SIGKILL ends it at once. It is no error if it has ended.
func (h *Handle) Signal(sig syscall.Signal) error {
	c, err := h.process.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := c.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return nil // it is closed, since the worker has ended
	}
	if errors.Is(serr, unix.ESRCH) {
		return nil
	}
	return serr
}

// socketAddr returns the address of the socket in an open directory, however long its path is.
func socketAddr(dir *os.File) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), SocketFile)}
}

// memoryFile returns a file without a name, from which b can be read.
func memoryFile(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(b); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openLogFile opens LogFile, empty.
func openLogFile(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, LogFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
}

// signalOf returns the name of the signal that ended a process; empty if none did.
func signalOf(s *os.ProcessState) string {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return ws.Signal().String()
	}
	return ""
}
