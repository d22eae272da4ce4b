package worker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"perdure/runtime"
)

// hold is what one worker at a time has of the directory of a process: the lock, and with it the right to the socket
// and to the outcome.
type hold struct {
	lock   *os.File
	dir    *os.File
	socket *net.UnixListener
}

// takeHold locks the directory, forgets the outcome of the worker before, and binds the socket. It fails with
// *runtime.LockedError if another worker has it.
func takeHold(dir, name string) (h *hold, err error) {
	h = &hold{}
	got := h
	defer func() {
		if err != nil {
			got.release()
		}
	}()
	if h.lock, err = os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := flock(h.lock); err != nil {
		return nil, lockError(err, h.lock, name)
	}
	if h.dir, err = os.Open(dir); err != nil {
		return nil, err
	}
	// The directory may have got another name meanwhile, and then its lock is of no use.
	mine, err := h.lock.Stat()
	if err != nil {
		return nil, err
	}
	if now, err := os.Stat(h.lock.Name()); err != nil || !os.SameFile(mine, now) {
		return nil, &runtime.LockedError{Name: name}
	}
	if err := os.Remove(filepath.Join(dir, OutcomeFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := h.lock.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := h.lock.WriteAt(fmt.Appendf(nil, "%d %d\n", pid(), h.lock.Fd()), 0); err != nil {
		return nil, err
	}
	return h, h.bind()
}

// flock takes the lock of a file, or fails with EWOULDBLOCK.
func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// lockError is the error of flock.
func lockError(err error, f *os.File, name string) error {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	pid, _, _ := readLock(f) // a missing number is as good as an unreadable one
	return &runtime.LockedError{Name: name, PID: pid}
}

// bind replaces the socket of the worker before.
func (h *hold) bind() error {
	if err := unix.Unlinkat(int(h.dir.Fd()), SocketFile, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove the old %s: %w", SocketFile, err)
	}
	l, err := net.ListenUnix("unix", socketAddr(h.dir))
	if err != nil {
		return fmt.Errorf("bind %s: %w", SocketFile, err)
	}
	l.SetUnlinkOnClose(false) // by release, while the lock is held
	h.socket = l
	return unix.Fchmodat(int(h.dir.Fd()), SocketFile, 0o600, 0)
}

// release gives everything back; the lock last.
func (h *hold) release() {
	if h.socket != nil {
		// What fails here is repaired by the next worker.
		_ = unix.Unlinkat(int(h.dir.Fd()), SocketFile, 0)
		_ = h.socket.Close()
	}
	if h.dir != nil {
		_ = h.dir.Close()
	}
	if h.lock != nil {
		_ = h.lock.Close()
	}
}

// readLock reads the process id and the descriptor from a lock file.
func readLock(f *os.File) (pid, fd int, err error) {
	b := make([]byte, 64)
	n, rerr := f.ReadAt(b, 0)
	words := strings.Fields(string(b[:n]))
	if len(words) != 2 {
		return 0, 0, fmt.Errorf("%s does not say who has it: %w", f.Name(), errors.Join(rerr, errors.New("not two numbers")))
	}
	if pid, err = strconv.Atoi(words[0]); err != nil {
		return 0, 0, err
	}
	fd, err = strconv.Atoi(words[1])
	return pid, fd, err
}
