package wasi

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// pipeBuf is PIPE_BUF: what a pipe that polls as writable takes at once.
const pipeBuf = 4096

// Mkdir implements Kernel.
func (s *System) Mkdir(dir Handle, name string) Errno {
	return toErrno(unix.Mkdirat(int(dir), name, createMode|0o111))
}

// Unlink implements Kernel.
func (s *System) Unlink(dir Handle, name string, directory bool) Errno {
	flags := 0
	if directory {
		flags = unix.AT_REMOVEDIR
	}
	return toErrno(unix.Unlinkat(int(dir), name, flags))
}

// Rename implements Kernel.
func (s *System) Rename(oldDir Handle, oldName string, newDir Handle, newName string) Errno {
	return toErrno(unix.Renameat(int(oldDir), oldName, int(newDir), newName))
}

// Link implements Kernel.
func (s *System) Link(oldDir Handle, oldName string, newDir Handle, newName string) Errno {
	return toErrno(unix.Linkat(int(oldDir), oldName, int(newDir), newName, 0))
}

// Symlink implements Kernel.
func (s *System) Symlink(target string, dir Handle, name string) Errno {
	return toErrno(unix.Symlinkat(target, int(dir), name))
}

// Readlink implements Kernel.
func (s *System) Readlink(h Handle) (string, Errno) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(h), "", buf)
	if err == unix.ENOENT {
		return "", EINVAL // what readlinkat says of an O_PATH descriptor of anything but a link
	}
	if err != nil {
		return "", toErrno(err)
	}
	return string(buf[:n]), ESUCCESS
}

// ReadDir implements Kernel.
func (s *System) ReadDir(h Handle, maxBytes int) ([]DirEntry, Errno) {
	if _, err := unix.Seek(int(h), 0, 0); err != nil {
		return nil, toErrno(err)
	}
	if s.dirents == nil {
		s.dirents = make([]byte, 32<<10)
	}
	var out []DirEntry
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(int(h), s.dirents) })
		if err != nil {
			return nil, toErrno(err)
		}
		if n == 0 {
			return out, ESUCCESS
		}
		for b := s.dirents[:n]; len(b) >= 19; {
			// struct linux_dirent64: ino, off, reclen, type, name.
			size := int(binary.NativeEndian.Uint16(b[16:]))
			if size < 19 || size > len(b) {
				return nil, EIO
			}
			name, _, _ := bytes.Cut(b[19:size], []byte{0})
			maxBytes -= len(name) + entryBytes
			if maxBytes < 0 {
				return nil, ENOMEM
			}
			out = append(out, DirEntry{
				Name: string(name),
				Ino:  binary.NativeEndian.Uint64(b),
				Type: modeType(uint32(b[18]) << 12), // the DT_ constants are the S_IF ones, shifted
			})
			b = b[size:]
		}
	}
}

// Read implements Kernel.
func (s *System) Read(h Handle, bufs [][]byte, offset int64) (int, Errno) {
	if len(bufs) == 0 {
		return 0, ESUCCESS
	}
	fd := int(h)
	n, err := retry(func() (int, error) {
		switch {
		case offset == Streaming:
			return s.readStream(fd, bufs)
		case offset == AtPosition:
			return unix.Readv(fd, bufs)
		case len(bufs) == 1:
			return unix.Pread(fd, bufs[0], offset)
		}
		return unix.Preadv(fd, bufs, offset)
	})
	return max(n, 0), toErrno(err)
}

// readStream reads what is there. The open file description may be shared with
// whoever started us, so it cannot be made non-blocking: the kernel is asked
// not to wait this once, and where it cannot promise that, poll(2) is asked first.
func (s *System) readStream(fd int, bufs [][]byte) (int, error) {
	if !s.noNowait[int32(fd)] {
		n, err := unix.Preadv2(fd, bufs, -1, unix.RWF_NOWAIT)
		if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
			return n, err
		}
		s.noNowait[int32(fd)] = true
	}
	if !ready(fd, unix.POLLIN) {
		return 0, unix.EAGAIN
	}
	return unix.Readv(fd, bufs)
}

// ready reports whether poll(2) finds events, an error or a hang-up on fd.
func ready(fd int, events int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	n, err := retry(func() (int, error) { return unix.Poll(fds, 0) })
	return n > 0 || err != nil
}

// Write implements Kernel.
func (s *System) Write(h Handle, bufs [][]byte, offset int64, flags WriteFlags) (int, int64, Errno) {
	if len(bufs) == 0 {
		return 0, 0, ESUCCESS
	}
	fd := int(h)
	how := 0
	if flags&WriteDsync != 0 {
		how |= unix.RWF_DSYNC
	}
	if flags&WriteSync != 0 {
		how |= unix.RWF_SYNC
	}
	if flags&WriteAppend != 0 && offset != Streaming {
		return s.append(fd, bufs, how)
	}
	n, err := retry(func() (int, error) {
		switch {
		case offset == Streaming:
			return s.writeStream(fd, bufs)
		case how != 0:
			return unix.Pwritev2(fd, bufs, offset, how)
		case offset == AtPosition:
			return unix.Writev(fd, bufs)
		case len(bufs) == 1:
			return unix.Pwrite(fd, bufs[0], offset)
		}
		return unix.Pwritev(fd, bufs, offset)
	})
	return max(n, 0), 0, toErrno(err)
}

// append writes at the end of a file that is not open for appending, which
// leaves fd_pwrite its offset: Linux's pwrite ignores it on an O_APPEND file.
func (s *System) append(fd int, bufs [][]byte, how int) (int, int64, Errno) {
	n, err := retry(func() (int, error) { return unix.Pwritev2(fd, bufs, -1, how|unix.RWF_APPEND) })
	if err != nil {
		return 0, 0, toErrno(err)
	}
	end, err := unix.Seek(fd, 0, 1)
	if err != nil {
		end = 0 // a device without a position
	}
	return n, end, ESUCCESS
}

// writeStream writes what there is room for, without waiting for more. See
// readStream.
func (s *System) writeStream(fd int, bufs [][]byte) (int, error) {
	if !s.noNowait[int32(fd)] {
		n, err := unix.Pwritev2(fd, bufs, -1, unix.RWF_NOWAIT)
		if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
			return n, err
		}
		s.noNowait[int32(fd)] = true
	}
	if !ready(fd, unix.POLLOUT) {
		return 0, unix.EAGAIN
	}
	return unix.Write(fd, bufs[0][:min(len(bufs[0]), pipeBuf)])
}

// Seek implements Kernel.
func (s *System) Seek(h Handle, offset int64, whence int) (int64, Errno) {
	pos, err := unix.Seek(int(h), offset, whence)
	return pos, toErrno(err)
}

// Truncate implements Kernel.
func (s *System) Truncate(h Handle, size int64) Errno {
	_, err := retry(func() (int, error) { return 0, unix.Ftruncate(int(h), size) })
	return toErrno(err)
}

// Allocate implements Kernel.
func (s *System) Allocate(h Handle, offset, length int64) Errno {
	_, err := retry(func() (int, error) { return 0, unix.Fallocate(int(h), 0, offset, length) })
	return toErrno(err)
}

// advices are Linux's numbers for preview 1's; the two disagree.
var advices = [...]int{unix.FADV_NORMAL, unix.FADV_SEQUENTIAL, unix.FADV_RANDOM, unix.FADV_WILLNEED,
	unix.FADV_DONTNEED, unix.FADV_NOREUSE}

// Advise implements Kernel.
func (s *System) Advise(h Handle, offset, length int64, advice int) Errno {
	if advice < 0 || advice >= len(advices) {
		return EINVAL
	}
	return toErrno(unix.Fadvise(int(h), offset, length, advices[advice]))
}

// Sync implements Kernel.
func (s *System) Sync(h Handle, dataOnly bool) Errno {
	_, err := retry(func() (int, error) {
		if dataOnly {
			return 0, unix.Fdatasync(int(h))
		}
		return 0, unix.Fsync(int(h))
	})
	return toErrno(err)
}
