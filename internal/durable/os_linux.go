package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func (osFS) Free(path string) (uint64, error) {
	st, err := statfs(path)
	return st.Bavail * uint64(st.Bsize), err
}

// Total returns the size of the file system that holds path.
func (osFS) Total(path string) (uint64, error) {
	st, err := statfs(path)
	return st.Blocks * uint64(st.Bsize), err
}

func statfs(path string) (unix.Statfs_t, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if err == nil {
			return st, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return unix.Statfs_t{}, &os.PathError{Op: "statfs", Path: path, Err: err}
		}
	}
}

func (f osFile) Allocated() (int64, error) {
	var st unix.Stat_t
	err := f.control("fstat", func(fd int) error { return unix.Fstat(fd, &st) })
	return st.Blocks * 512, err
}

// Sync uses fdatasync: the length is made durable with the data, and times and the like are not needed.
func (f osFile) Sync() error {
	return f.control("fdatasync", func(fd int) error { return unix.Fdatasync(fd) })
}

func (f osFile) StartWriteback(offset, length int64) {
	// A hint: where it is not known, Sync does all of the work.
	_ = f.control("sync_file_range", func(fd int) error {
		return unix.SyncFileRange(fd, offset, length, unix.SYNC_FILE_RANGE_WRITE)
	})
}

func (f osFile) PunchHole(offset, length int64) error {
	err := f.control("fallocate", func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return ErrUnsupported
	}
	return err
}

// control runs a system call on the descriptor, again when a signal interrupts it.
func (f osFile) control(op string, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	if err := raw.Control(func(fd uintptr) {
		for {
			if callErr = call(int(fd)); !errors.Is(callErr, unix.EINTR) {
				return
			}
		}
	}); err != nil {
		return err
	}
	if callErr != nil {
		return &os.PathError{Op: op, Path: f.Name(), Err: callErr}
	}
	return nil
}
