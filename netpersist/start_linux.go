package netpersist

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A unix socket's address has room for 108 bytes only, a path may have 4,096: /proc names what is open.

// Dial connects to the keeper's unix socket at path, and says nothing. The caller closes the result.
func Dial(path string) (int, error) {
	file, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(file)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for {
		err := unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(file)})
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			_ = unix.Close(fd) // nothing was said
			return -1, fmt.Errorf("connect to %s: %w", path, err)
		}
		return fd, nil
	}
}

// Listen makes the socket of a keeper at path, in a directory that is made if it is missing and that only its user may
// enter. A socket that is there is replaced, so that the caller has to know that nobody listens on it. The caller closes
// the result.
func Listen(path string) (fd int, err error) {
	dirPath, name := filepath.Split(path)
	if err := os.MkdirAll(dirPath, 0o700); err != nil {
		return -1, err
	}
	dir, err := unix.Open(dirPath, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dirPath, Err: err}
	}
	defer unix.Close(dir)
	if err := private(dir, dirPath); err != nil {
		return -1, err
	}
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd) // nobody can have connected
			fd = -1
		}
	}()
	temporary := ".new-" + strconv.Itoa(os.Getpid())
	if err := unix.Unlinkat(dir, temporary, 0); err != nil && err != unix.ENOENT {
		return fd, &os.PathError{Op: "remove", Path: filepath.Join(dirPath, temporary), Err: err}
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, temporary)}); err != nil {
		return fd, fmt.Errorf("make a socket in %s: %w", dirPath, err)
	}
	if err := unix.Fchmodat(dir, temporary, 0o600, 0); err != nil {
		return fd, fmt.Errorf("make a socket in %s private: %w", dirPath, err)
	}
	if err := unix.Listen(fd, 128); err != nil {
		return fd, fmt.Errorf("listen at %s: %w", path, err)
	}
	if err := unix.Renameat(dir, temporary, dir, name); err != nil {
		return fd, fmt.Errorf("name the socket %s: %w", path, err)
	}
	return fd, nil
}

// private refuses a directory that others may write to, or that is another user's.
func private(dir int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "look at", Path: path, Err: err}
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("the keeper's directory %s must belong to its user, and others must not write there", path)
	}
	return nil
}

// startAt makes the socket at path and starts a keeper on it.
func startAt(path string, start func(listener int) error) error {
	fd, err := Listen(path)
	if err != nil {
		return err
	}
	err = start(fd)
	return errors.Join(err, unix.Close(fd))
}
