package wasi

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// faultKernel is a Kernel that fails one of its calls, or records their names.
// It stands for any decorator: that it can be written shows that everything goes
// through the interface.
type faultKernel struct {
	Kernel
	failAt int   // the call that fails, from 1; 0 for none
	with   Errno // how
	calls  []string
}

// fail counts a call and reports whether it is to fail.
func (k *faultKernel) fail(name string) bool {
	k.calls = append(k.calls, name)
	return len(k.calls) == k.failAt
}

func (k *faultKernel) Now(c Clock) (int64, Errno) {
	if k.fail("Now") {
		return 0, k.with
	}
	return k.Kernel.Now(c)
}

func (k *faultKernel) Resolution(c Clock) (int64, Errno) {
	if k.fail("Resolution") {
		return 0, k.with
	}
	return k.Kernel.Resolution(c)
}

func (k *faultKernel) Random(p []byte) Errno {
	if k.fail("Random") {
		return k.with
	}
	return k.Kernel.Random(p)
}

func (k *faultKernel) Poll(fds []PollFD, deadline int64) (int, Errno) {
	if k.fail("Poll") {
		return 0, k.with
	}
	return k.Kernel.Poll(fds, deadline)
}

func (k *faultKernel) OpenRoot(path string) (Handle, error) {
	if k.fail("OpenRoot") {
		return NoHandle, k.with
	}
	return k.Kernel.OpenRoot(path)
}

func (k *faultKernel) Listen(key, network, address, last string) (Handle, error) {
	if k.fail("Listen") {
		return NoHandle, k.with
	}
	return k.Kernel.Listen(key, network, address, last)
}

func (k *faultKernel) Open(dir Handle, path string, flags OpenFlags) (Handle, Errno) {
	if k.fail("Open") {
		return NoHandle, k.with
	}
	return k.Kernel.Open(dir, path, flags)
}

func (k *faultKernel) Mkdir(dir Handle, name string) Errno {
	if k.fail("Mkdir") {
		return k.with
	}
	return k.Kernel.Mkdir(dir, name)
}

func (k *faultKernel) Unlink(dir Handle, name string, directory bool) Errno {
	if k.fail("Unlink") {
		return k.with
	}
	return k.Kernel.Unlink(dir, name, directory)
}

func (k *faultKernel) Rename(oldDir Handle, oldName string, newDir Handle, newName string) Errno {
	if k.fail("Rename") {
		return k.with
	}
	return k.Kernel.Rename(oldDir, oldName, newDir, newName)
}

func (k *faultKernel) Link(oldDir Handle, oldName string, newDir Handle, newName string) Errno {
	if k.fail("Link") {
		return k.with
	}
	return k.Kernel.Link(oldDir, oldName, newDir, newName)
}

func (k *faultKernel) Symlink(target string, dir Handle, name string) Errno {
	if k.fail("Symlink") {
		return k.with
	}
	return k.Kernel.Symlink(target, dir, name)
}

func (k *faultKernel) Readlink(h Handle) (string, Errno) {
	if k.fail("Readlink") {
		return "", k.with
	}
	return k.Kernel.Readlink(h)
}

func (k *faultKernel) ReadDir(h Handle, maxBytes int) ([]DirEntry, Errno) {
	if k.fail("ReadDir") {
		return nil, k.with
	}
	return k.Kernel.ReadDir(h, maxBytes)
}

// Close fails as close(2) does: the descriptor is gone all the same.
func (k *faultKernel) Close(h Handle) Errno {
	errno := k.Kernel.Close(h)
	if k.fail("Close") {
		return k.with
	}
	return errno
}

func (k *faultKernel) Stat(h Handle) (Stat, Errno) {
	if k.fail("Stat") {
		return Stat{}, k.with
	}
	return k.Kernel.Stat(h)
}

func (k *faultKernel) SetTimes(h Handle, atim, mtim TimeUpdate) Errno {
	if k.fail("SetTimes") {
		return k.with
	}
	return k.Kernel.SetTimes(h, atim, mtim)
}

func (k *faultKernel) Path(h Handle) (string, Errno) {
	if k.fail("Path") {
		return "", k.with
	}
	return k.Kernel.Path(h)
}

func (k *faultKernel) Read(h Handle, bufs [][]byte, offset int64) (int, Errno) {
	if k.fail("Read") {
		return 0, k.with
	}
	return k.Kernel.Read(h, bufs, offset)
}

func (k *faultKernel) Write(h Handle, bufs [][]byte, offset int64, flags WriteFlags) (int, int64, Errno) {
	if k.fail("Write") {
		return 0, 0, k.with
	}
	return k.Kernel.Write(h, bufs, offset, flags)
}

func (k *faultKernel) Seek(h Handle, offset int64, whence int) (int64, Errno) {
	if k.fail("Seek") {
		return 0, k.with
	}
	return k.Kernel.Seek(h, offset, whence)
}

func (k *faultKernel) Truncate(h Handle, size int64) Errno {
	if k.fail("Truncate") {
		return k.with
	}
	return k.Kernel.Truncate(h, size)
}

func (k *faultKernel) Allocate(h Handle, offset, length int64) Errno {
	if k.fail("Allocate") {
		return k.with
	}
	return k.Kernel.Allocate(h, offset, length)
}

func (k *faultKernel) Advise(h Handle, offset, length int64, advice int) Errno {
	if k.fail("Advise") {
		return k.with
	}
	return k.Kernel.Advise(h, offset, length, advice)
}

func (k *faultKernel) Sync(h Handle, dataOnly bool) Errno {
	if k.fail("Sync") {
		return k.with
	}
	return k.Kernel.Sync(h, dataOnly)
}

func (k *faultKernel) Accept(h Handle) (Handle, Errno) {
	if k.fail("Accept") {
		return NoHandle, k.with
	}
	return k.Kernel.Accept(h)
}

func (k *faultKernel) Recv(h Handle, bufs [][]byte, flags RecvFlags) (int, bool, Errno) {
	if k.fail("Recv") {
		return 0, false, k.with
	}
	return k.Kernel.Recv(h, bufs, flags)
}

func (k *faultKernel) Send(h Handle, bufs [][]byte) (int, Errno) {
	if k.fail("Send") {
		return 0, k.with
	}
	return k.Kernel.Send(h, bufs)
}

func (k *faultKernel) Shutdown(h Handle, how int) Errno {
	if k.fail("Shutdown") {
		return k.with
	}
	return k.Kernel.Shutdown(h, how)
}

// everything makes a host on k and makes it call most functions, save, and
// restore. It returns how many calls returned the error number, and the names of
// the directory's entries afterwards.
func everything(t *testing.T, k *faultKernel, want Errno) (seen int, err error) {
	g := &guest{t: t, mem: make(memory, 1<<20), dir: t.TempDir()}
	g.hostWrite("d/f", "content")
	g.hostWrite("g", "content")
	g.hostSymlink("g", "link")
	r, w := newPipe(t)
	if _, err := pipeEnds[w].WriteString("input"); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Args: []string{"prog"}, Preopens: []Preopen{{Host: g.dir, Guest: "/"}}, Stdio: &[3]Handle{Handle(r), Handle(w), Handle(w)},
		Listeners: []Listener{{"tcp", "127.0.0.1:0"}},
	}
	if g.h, err = New(cfg, k); err != nil {
		return 0, err
	}
	defer func() { g.h.Close() }()
	g.h.Interrupt() // nothing here has to block
	call := func(name string, args ...any) {
		t.Helper()
		e, err := g.try(name, args...)
		if err != nil && !errors.Is(err, ErrInterrupted) {
			t.Fatalf("%s: %v", name, err)
		}
		if e == want && err == nil {
			seen++
		}
	}
	var n, ro uint32
	var n8 uint64
	v := &iov{lens: []int{2, 2}}
	var fd uint32
	call("path_open", rootFD, 1, "d/f", oflagCreate, readWrite, 0, FlagAppend, &fd)
	if fd == 0 {
		return seen, nil
	}
	call("clock_time_get", 1, 0, &n8)
	call("clock_res_get", 1, &n8)
	call("random_get", make(buf, 10))
	call("fd_write", fd, ciov{"ab", "c"}, &n)
	call("fd_pwrite", fd, ciov{"ab", "c"}, 1, &n)
	call("fd_fdstat_set_flags", fd, FlagSync)
	call("fd_write", fd, ciov{"ab", "c"}, &n)
	call("fd_seek", fd, 0, whenceEnd, &n8)
	call("fd_seek", fd, 0, whenceSet, &n8)
	call("fd_read", fd, v, &n)
	call("fd_pread", fd, v, 1, &n)
	call("fd_sync", fd)
	call("fd_datasync", fd)
	call("fd_advise", fd, 0, 0, 1)
	call("fd_allocate", fd, 0, 100)
	call("fd_filestat_get", fd, make(out, sizeFilestat))
	call("fd_filestat_set_size", fd, 3)
	call("fd_filestat_set_times", fd, 1, 1, fstMtim)
	call("fd_readdir", rootFD, make(buf, 100), 0, &n)
	call("path_create_directory", rootFD, "d/new")
	call("path_remove_directory", rootFD, "d/new")
	call("path_filestat_get", rootFD, 1, "link", make(out, sizeFilestat))
	call("path_filestat_set_times", rootFD, 1, "link", 1, 1, fstAtim)
	call("path_readlink", rootFD, "link", make(buf, 10), &n)
	call("path_symlink", "g", rootFD, "d/link2")
	call("path_link", rootFD, 1, "link", rootFD, "d/hard")
	call("path_rename", rootFD, "d/hard", rootFD, "d/hard2")
	call("path_unlink_file", rootFD, "d/hard2")
	call("fd_read", 0, v, &n)
	call("fd_write", 1, ciov{"x"}, &n)
	call("poll_oneoff", encodeSubs([]any{clockSub{id: ClockMonotonic}, readSub(0), readSub(fd)}), make(out, 3*sizeEvent), 3, &n)
	call("sock_accept", listenerFD, 0, &n)
	call("sock_recv", listenerFD, v, 0, &n, &ro)
	state, err := g.h.Save()
	if err != nil {
		return seen, err
	}
	g.h.Close()
	h, _, err := Restore(state, cfg, k)
	if err != nil {
		return seen, err
	}
	g.h = h
	call("fd_read", fd, v, &n)
	call("fd_close", fd)
	return seen, nil
}

// TestFaultSweep fails the first, the second, … call of the Kernel. The guest
// gets the error number, or New, Save or Restore the error; nothing panics,
// nothing hangs, no descriptor leaks.
func TestFaultSweep(t *testing.T) {
	k := &faultKernel{Kernel: newSystem(t)}
	if n, err := everything(t, k, EIO); err != nil || n != 0 {
		t.Fatalf("without a fault: %d, %v", n, err)
	}
	total := len(k.calls)
	named := map[string]int{}
	for _, c := range k.calls {
		named[c]++
	}
	system := newSystem(t)
	told := 0
	for i := 1; i <= total; i++ {
		with := []Errno{EIO, ENOMEM}[i%2]
		fds := openFDs()
		k := &faultKernel{Kernel: system, failAt: i, with: with}
		n, err := everything(t, k, with)
		if n > 0 || err != nil {
			told++
		}
		// newPipe's descriptors live until the test ends.
		if got := openFDs(); got != fds+2 {
			t.Errorf("call %d (%s) fails: %d descriptors leaked", i, k.calls[min(i, len(k.calls))-1], got-fds-2)
		}
	}
	// Faults of what only looks (is it a named pipe?) or tidies up are not told.
	if told < total/2 {
		t.Errorf("of %d faults %d were told", total, told)
	}
	t.Logf("%d calls: %v; %d faults told", total, named, told)
}

// staleKernel is a Kernel that is asked in vain about one handle.
type staleKernel struct {
	Kernel
	stale Handle
}

func (k staleKernel) Stat(h Handle) (Stat, Errno) {
	if h == k.stale {
		return Stat{}, ESTALE
	}
	return k.Kernel.Stat(h)
}

// TestStaleFile holds that a file about which the kernel cannot be asked is saved as it was known last, and
// found again or missed when it is restored.
func TestStaleFile(t *testing.T) {
	for _, moved := range []bool{false, true} {
		g := newGuest(t)
		g.hostWrite("f", "0123456789")
		fd := g.open("f", 0, readOnly)
		g.seek(fd, 3, whenceSet)
		g.h.k = staleKernel{g.h.k, g.h.table[fd].handle}
		state, err := g.h.Save()
		if err != nil {
			t.Fatal(err)
		}
		g.h.Close()
		if moved {
			g.hostWrite("new", "other content")
			if err := os.Rename(filepath.Join(g.dir, "new"), filepath.Join(g.dir, "f")); err != nil {
				t.Fatal(err)
			}
			g.oneWarning(g.restore(state), "another file")
			continue
		}
		g.noWarnings(g.restore(state))
		if got := g.read(fd, 3); got != "345" {
			t.Errorf("read %q", got)
		}
	}
}
