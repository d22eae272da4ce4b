package faultfs

import (
	"io"
	"io/fs"
	"slices"
	"syscall"
)

// file is an open file.
type file struct {
	fs       *FS
	node     *node
	path     string
	writable bool
	closed   bool
}

// callLocked begins a call on the file.
func (f *file) callLocked(op string, writes bool) error {
	if f.closed {
		return &fs.PathError{Op: op, Path: f.path, Err: fs.ErrClosed}
	}
	if writes && !f.writable {
		return &fs.PathError{Op: op, Path: f.path, Err: syscall.EBADF}
	}
	return f.fs.callLocked(op, f.path)
}

func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.callLocked("read", false); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.path, Err: syscall.EINVAL}
	}
	if offset >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	before := f.fs.calls
	err := f.callLocked("write", true)
	if f.fs.calls == before {
		return 0, err // closed, not writable, or crashed before
	}
	n := len(p)
	if err != nil {
		n /= 2
	}
	if f.fs.limit >= 0 {
		room := f.fs.limit - f.fs.root.size() + int64(len(f.node.data)) - offset
		if int64(n) > room {
			n = int(max(0, room))
			if err == nil {
				err = &fs.PathError{Op: "write", Path: f.path, Err: syscall.ENOSPC}
			}
		}
	}
	f.node.data = overwrite(f.node.data, p[:n], offset)
	f.node.pending = append(f.node.pending, write{offset, slices.Clone(p[:n])})
	return n, err
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.callLocked("size", false); err != nil {
		return 0, err
	}
	return int64(len(f.node.data)), nil
}

func (f *file) Allocated() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.callLocked("allocated", false); err != nil {
		return 0, err
	}
	return int64(len(f.node.data)) - f.node.hole(), nil
}

func (f *file) StartWriteback(int64, int64) {}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.callLocked("sync", false); err != nil {
		return err
	}
	f.node.synced, f.node.pending = slices.Clone(f.node.data), nil
	return nil
}

func (f *file) PunchHole(offset, length int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.callLocked("punch", true); err != nil {
		return err
	}
	end := min(offset+length, int64(len(f.node.data)))
	if offset < 0 || offset >= end {
		return nil
	}
	hole := make([]byte, end-offset)
	copy(f.node.data[offset:], hole)
	f.node.punch(offset, end)
	f.node.pending = append(f.node.pending, write{offset, hole})
	return nil
}

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.path, Err: fs.ErrClosed}
	}
	f.closed = true
	return f.fs.callLocked("close", f.path)
}
