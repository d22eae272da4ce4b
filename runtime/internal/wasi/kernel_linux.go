package wasi

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// System is the Kernel of the operating system that we run on. Make one with
// [OS]. It serves one Host at a time.
type System struct {
	sockets
	poller

	noOpenat2 bool           // resolve paths one component at a time
	wake      int            // eventfd, readable while an interrupt is pending
	proc      int            // /proc/self/fd, -1 if there is none
	dirents   []byte         // scratch of ReadDir
	noNowait  map[int32]bool // streams on which the kernel knows no RWF_NOWAIT, by handle

	mu      sync.Mutex // held while pending and wake change together
	pending bool       // guarded by mu; tells what wake holds
}

var _ Kernel = (*System)(nil)

// OS returns the Kernel of the operating system. The caller closes it, after
// the Host that uses it.
func OS() (*System, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make the interrupt descriptor: %w", err)
	}
	s := &System{wake: wake, proc: -1, noNowait: make(map[int32]bool)}
	if fd, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		s.proc = fd
	}
	// A sandbox may refuse openat2 with any errno, so anything but success means
	// that it is not to be had.
	fd, err := openat2(unix.AT_FDCWD, ".", unix.O_PATH)
	if err != nil {
		s.noOpenat2 = true
	} else {
		_ = unix.Close(fd) // nothing was written
	}
	return s, nil
}

// Release gives back what OS took. The System is of no use afterwards, but an
// Interrupt that comes late does no harm.
func (s *System) Release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc >= 0 {
		_ = unix.Close(s.proc) // it only named the directory
	}
	if s.epoll > 0 {
		_ = unix.Close(s.epoll) // it holds nothing
		s.epoll = 0
	}
	wake := s.wake
	s.proc, s.wake = -1, -1
	return unix.Close(wake)
}

var clockIDs = [...]int32{
	ClockRealtime:   unix.CLOCK_REALTIME,
	ClockMonotonic:  unix.CLOCK_MONOTONIC,
	ClockProcessCPU: unix.CLOCK_PROCESS_CPUTIME_ID,
	// The guest's only thread is not bound to one of ours.
	ClockThreadCPU: unix.CLOCK_PROCESS_CPUTIME_ID,
}

// Now implements Kernel.
func (s *System) Now(c Clock) (int64, Errno) {
	if int(c) >= len(clockIDs) {
		return 0, EINVAL
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(clockIDs[c], &ts); err != nil {
		return 0, toErrno(err)
	}
	return ts.Nano(), ESUCCESS
}

// Resolution implements Kernel.
func (s *System) Resolution(c Clock) (int64, Errno) {
	if int(c) >= len(clockIDs) {
		return 0, EINVAL
	}
	var ts unix.Timespec
	if err := unix.ClockGetres(clockIDs[c], &ts); err != nil {
		return 0, toErrno(err)
	}
	return ts.Nano(), ESUCCESS
}

// Random implements Kernel.
func (s *System) Random(p []byte) Errno {
	for len(p) > 0 {
		n, err := unix.Getrandom(p, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return toErrno(err)
		}
		p = p[n:]
	}
	return ESUCCESS
}

// Interrupt implements Kernel.
func (s *System) Interrupt(pending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == pending || s.wake < 0 {
		return
	}
	s.pending = pending
	var b [8]byte
	// Neither can fail: the counter moves between 0 and 1 only.
	if pending {
		binary.NativeEndian.PutUint64(b[:], 1)
		_, _ = unix.Write(s.wake, b[:])
	} else {
		_, _ = unix.Read(s.wake, b[:])
	}
}

// Interrupted implements Kernel.
func (s *System) Interrupted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending
}

// OpenRoot implements Kernel.
func (s *System) OpenRoot(path string) (Handle, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return NoHandle, &os.PathError{Op: "open directory", Path: path, Err: err}
	}
	return Handle(fd), nil
}

// Close implements Kernel.
func (s *System) Close(h Handle) Errno {
	delete(s.noNowait, int32(h))
	s.unwatch(h)
	var released error
	if k := s.known[h]; k != nil {
		released = s.closeSocket(h, k)
	}
	// Linux has freed the descriptor even where it says EINTR.
	if err := unix.Close(int(h)); err != nil && err != unix.EINTR {
		return toErrno(err)
	}
	return toErrno(released)
}

// Stat implements Kernel.
func (s *System) Stat(h Handle) (Stat, Errno) {
	var x unix.Statx_t
	_, err := retry(func() (int, error) {
		return 0, unix.Statx(int(h), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x)
	})
	if err != nil {
		return Stat{}, toErrno(err)
	}
	st := Stat{
		Dev:   unix.Mkdev(x.Dev_major, x.Dev_minor),
		Ino:   x.Ino,
		Nlink: uint64(x.Nlink),
		Size:  x.Size,
		Type:  modeType(uint32(x.Mode)),
		Fifo:  x.Mode&unix.S_IFMT == unix.S_IFIFO,
		Atim:  statxNanos(x.Atime),
		Mtim:  statxNanos(x.Mtime),
		Ctim:  statxNanos(x.Ctime),
	}
	if x.Mask&unix.STATX_BTIME != 0 {
		st.Born = statxNanos(x.Btime)
	}
	switch st.Type {
	case FileCharDevice:
		_, err := unix.IoctlGetTermios(int(h), unix.TCGETS)
		st.Terminal = err == nil
	case FileSocketStream:
		if kind, err := unix.GetsockoptInt(int(h), unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_DGRAM {
			st.Type = FileSocketDgram
		}
	}
	return st, ESUCCESS
}

// statxNanos returns t in nanoseconds since 1970, and 0 for a time before.
func statxNanos(t unix.StatxTimestamp) uint64 {
	if t.Sec < 0 {
		return 0
	}
	return uint64(t.Sec)*1e9 + uint64(t.Nsec)
}

// modeType returns preview 1's type for the S_IFMT bits of mode.
func modeType(mode uint32) FileType {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return FileRegular
	case unix.S_IFDIR:
		return FileDirectory
	case unix.S_IFLNK:
		return FileSymlink
	case unix.S_IFCHR:
		return FileCharDevice
	case unix.S_IFBLK:
		return FileBlockDevice
	case unix.S_IFSOCK:
		return FileSocketStream
	}
	return FileUnknown
}

// SetTimes implements Kernel.
func (s *System) SetTimes(h Handle, atim, mtim TimeUpdate) Errno {
	ts := []unix.Timespec{timespec(atim), timespec(mtim)}
	err := unix.UtimesNanoAt(int(h), "", ts, unix.AT_EMPTY_PATH)
	if err == unix.EINVAL || err == unix.ENOENT {
		// Before Linux 5.8 an empty path was not enough.
		err = unix.UtimesNanoAt(s.proc, strconv.Itoa(int(h)), ts, 0)
	}
	return toErrno(err)
}

func timespec(u TimeUpdate) unix.Timespec {
	switch {
	case !u.Set:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case u.Now:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: int64(u.At / 1e9), Nsec: int64(u.At % 1e9)}
}

// Path implements Kernel.
func (s *System) Path(h Handle) (string, Errno) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(s.proc, strconv.Itoa(int(h)), buf)
	if err != nil {
		return "", toErrno(err)
	}
	return string(buf[:n]), ESUCCESS
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
