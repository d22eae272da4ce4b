package runtime

import (
	"fmt"
	"os"
	"syscall"

	"perdure/runtime/internal/wasi"
)

// countingKernel is a Kernel that kills its process at one of the calls to it: before the call,
// or after its effect. At the end it tells on standard error how many there were, if at is
// negative.
type countingKernel struct {
	wasi.Kernel
	at    int
	after bool
	n     int
}

// call counts a call and carries it out.
func (k *countingKernel) call(do func()) {
	k.n++
	if k.n == k.at && !k.after {
		k.kill()
	}
	do()
	if k.n == k.at {
		k.kill()
	}
}

func (k *countingKernel) kill() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// tell prints the number of calls.
func (k *countingKernel) tell() { fmt.Fprintf(os.Stderr, "calls %d\n", k.n) }

func (k *countingKernel) Now(c wasi.Clock) (t int64, e wasi.Errno) {
	k.call(func() { t, e = k.Kernel.Now(c) })
	return t, e
}

func (k *countingKernel) Random(p []byte) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Random(p) })
	return e
}

func (k *countingKernel) Poll(fds []wasi.PollFD, deadline int64) (n int, e wasi.Errno) {
	k.call(func() { n, e = k.Kernel.Poll(fds, deadline) })
	return n, e
}

func (k *countingKernel) OpenRoot(path string) (h wasi.Handle, err error) {
	k.call(func() { h, err = k.Kernel.OpenRoot(path) })
	return h, err
}

func (k *countingKernel) Open(dir wasi.Handle, path string, flags wasi.OpenFlags) (h wasi.Handle, e wasi.Errno) {
	k.call(func() { h, e = k.Kernel.Open(dir, path, flags) })
	return h, e
}

func (k *countingKernel) Mkdir(dir wasi.Handle, name string) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Mkdir(dir, name) })
	return e
}

func (k *countingKernel) Unlink(dir wasi.Handle, name string, directory bool) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Unlink(dir, name, directory) })
	return e
}

func (k *countingKernel) Rename(oldDir wasi.Handle, oldName string, newDir wasi.Handle, newName string) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Rename(oldDir, oldName, newDir, newName) })
	return e
}

func (k *countingKernel) Link(oldDir wasi.Handle, oldName string, newDir wasi.Handle, newName string) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Link(oldDir, oldName, newDir, newName) })
	return e
}

func (k *countingKernel) Symlink(target string, dir wasi.Handle, name string) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Symlink(target, dir, name) })
	return e
}

func (k *countingKernel) ReadDir(h wasi.Handle, most int) (l []wasi.DirEntry, e wasi.Errno) {
	k.call(func() { l, e = k.Kernel.ReadDir(h, most) })
	return l, e
}

func (k *countingKernel) Close(h wasi.Handle) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Close(h) })
	return e
}

func (k *countingKernel) Stat(h wasi.Handle) (st wasi.Stat, e wasi.Errno) {
	k.call(func() { st, e = k.Kernel.Stat(h) })
	return st, e
}

func (k *countingKernel) Read(h wasi.Handle, bufs [][]byte, offset int64) (n int, e wasi.Errno) {
	k.call(func() { n, e = k.Kernel.Read(h, bufs, offset) })
	return n, e
}

func (k *countingKernel) Write(h wasi.Handle, bufs [][]byte, offset int64, flags wasi.WriteFlags) (n int, end int64, e wasi.Errno) {
	k.call(func() { n, end, e = k.Kernel.Write(h, bufs, offset, flags) })
	return n, end, e
}

func (k *countingKernel) Seek(h wasi.Handle, offset int64, whence int) (pos int64, e wasi.Errno) {
	k.call(func() { pos, e = k.Kernel.Seek(h, offset, whence) })
	return pos, e
}

func (k *countingKernel) Truncate(h wasi.Handle, size int64) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Truncate(h, size) })
	return e
}

func (k *countingKernel) Sync(h wasi.Handle, dataOnly bool) (e wasi.Errno) {
	k.call(func() { e = k.Kernel.Sync(h, dataOnly) })
	return e
}
