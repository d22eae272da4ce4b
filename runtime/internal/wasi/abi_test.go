package wasi

import (
	"strings"
	"testing"
)

func TestThereAre46Functions(t *testing.T) {
	fs := Functions()
	if fs[45].Name != "sock_shutdown" || fs[46].Name != "sock_open" {
		t.Fatalf("function 45 is %s, 46 is %s", fs[45].Name, fs[46].Name)
	}
	seen := map[string]bool{}
	for i, f := range fs {
		if j, ok := FunctionIndex(f.Name); !ok || j != i || seen[f.Name] {
			t.Errorf("%s: index %d, found at %d", f.Name, i, j)
		}
		seen[f.Name] = true
		if want := 1; f.Name != "proc_exit" && len(f.Results) != want {
			t.Errorf("%s has %d results", f.Name, len(f.Results))
		}
	}
	fs[0].Params[0] = 0
	if Functions()[0].Params[0] != I32 {
		t.Error("Functions gives its table away")
	}
}

func TestErrnoNames(t *testing.T) {
	if ENOTCAPABLE != 76 || ENOENT != 44 || EBADF != 8 {
		t.Fatal("error numbers are not those of preview 1")
	}
	for e, want := range map[Errno]string{ESUCCESS: "ESUCCESS", EPERM: "EPERM", EXDEV: "EXDEV", ENOTCAPABLE: "ENOTCAPABLE", 99: "errno 99"} {
		if got := e.String(); got != want || e.Error() != want {
			t.Errorf("%d: %q, want %q", e, got, want)
		}
	}
}

func TestCallRefusesWrongUse(t *testing.T) {
	g := newGuest(t)
	for _, i := range []int{-1, 46, 1 << 30} {
		if _, err := g.h.Call(i, g.mem, nil); err == nil {
			t.Errorf("function %d: no error", i)
		}
	}
	if _, err := g.h.Call(index(t, "fd_read"), g.mem, make([]uint64, 3)); err == nil || !strings.Contains(err.Error(), "fd_read") {
		t.Errorf("too few arguments: %v", err)
	}
	if _, err := g.h.Resume(g.mem); err == nil {
		t.Error("Resume without a pending call: no error")
	}
}

// badPointer is one pointer argument of a function.
type badPointer struct {
	function string
	args     []any
}

// TestPointersOutsideMemory gives each function that takes pointers a bad one in
// each place, and demands EFAULT.
func TestPointersOutsideMemory(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("f", "content")
	g.hostSymlink("f", "link")
	fd := g.open("f", 0, readWrite)
	end := uint32(len(g.mem))
	for _, bad := range []raw{raw(end), raw(end - 1), raw(end - 3), 0xffffffff, 0xfffffffe, 0x80000000} {
		var n uint32
		b8 := make(out, 8)
		stat := make(out, sizeFilestat)
		cases := []badPointer{
			{"args_get", []any{bad, b8}}, {"args_get", []any{b8, bad}},
			{"args_sizes_get", []any{bad, &n}}, {"args_sizes_get", []any{&n, bad}},
			{"environ_sizes_get", []any{bad, &n}}, {"environ_sizes_get", []any{&n, bad}},
			{"clock_res_get", []any{1, bad}}, {"clock_time_get", []any{1, 0, bad}},
			{"fd_fdstat_get", []any{fd, bad}}, {"fd_filestat_get", []any{fd, bad}},
			{"fd_pread", []any{fd, bad, 1, 0, &n}}, {"fd_pread", []any{fd, &iov{lens: []int{4}}, 0, bad}},
			{"fd_pwrite", []any{fd, bad, 1, 0, &n}}, {"fd_pwrite", []any{fd, ciov{"x"}, 0, bad}},
			{"fd_read", []any{fd, bad, 1, &n}}, {"fd_read", []any{fd, &iov{lens: []int{4}}, bad}},
			{"fd_write", []any{fd, bad, 1, &n}}, {"fd_write", []any{fd, ciov{"x"}, bad}},
			{"fd_prestat_get", []any{rootFD, bad}},
			{"fd_readdir", []any{rootFD, bad, 100, 0, &n}}, {"fd_readdir", []any{rootFD, make(buf, 100), 0, bad}},
			{"fd_seek", []any{fd, 0, 0, bad}}, {"fd_tell", []any{fd, bad}},
			{"path_create_directory", []any{rootFD, bad, 100}},
			{"path_filestat_get", []any{rootFD, 0, bad, 100, stat}}, {"path_filestat_get", []any{rootFD, 0, "f", bad}},
			{"path_filestat_set_times", []any{rootFD, 0, bad, 100, 0, 0, 0}},
			{"path_link", []any{rootFD, 0, bad, 100, rootFD, "l"}}, {"path_link", []any{rootFD, 0, "f", rootFD, bad, 100}},
			{"path_open", []any{rootFD, 0, bad, 100, 0, 0, 0, 0, &n}}, {"path_open", []any{rootFD, 0, "f", 0, 0, 0, 0, bad}},
			{"path_readlink", []any{rootFD, bad, 100, make(buf, 10), &n}},
			{"path_readlink", []any{rootFD, "link", bad, 100, &n}}, {"path_readlink", []any{rootFD, "link", make(buf, 10), bad}},
			{"path_remove_directory", []any{rootFD, bad, 100}},
			{"path_rename", []any{rootFD, bad, 100, rootFD, "x"}}, {"path_rename", []any{rootFD, "f", rootFD, bad, 100}},
			{"path_symlink", []any{bad, 100, rootFD, "x"}}, {"path_symlink", []any{"f", rootFD, bad, 100}},
			{"path_unlink_file", []any{rootFD, bad, 100}},
			{"poll_oneoff", []any{bad, make(out, sizeEvent), 1, &n}}, {"poll_oneoff", []any{make(out, sizeSubscription), bad, 1, &n}},
			{"poll_oneoff", []any{make(out, sizeSubscription), make(out, sizeEvent), 1, bad}},
			{"random_get", []any{bad, 100}},
		}
		for _, c := range cases {
			g.want(EFAULT, c.function, c.args...)
		}
	}
	if got := g.hostRead("f"); got != "content" {
		t.Errorf("the file was changed: %q", got)
	}
	if got := len(g.h.table); got != 5 {
		t.Errorf("%d descriptors, want 5", got)
	}
}

// TestIovecBounds checks the bounds of vectored calls.
func TestIovecBounds(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	var n uint32
	list := func(count int, p, size uint32) out {
		b := make(out, 0, count*sizeIovec)
		for range count {
			b = append(b, byte(p), byte(p>>8), byte(p>>16), byte(p>>24), byte(size), byte(size>>8), byte(size>>16), byte(size>>24))
		}
		return b
	}
	for _, f := range []string{"fd_read", "fd_write"} {
		g.want(EINVAL, f, fd, list(1, 0, 1), maxIovecs+1, &n)
		g.want(EINVAL, f, fd, list(1, 0, 1), 0xffffffff, &n)
		g.want(ESUCCESS, f, fd, list(maxIovecs, 0, 1), maxIovecs, &n)
		g.want(EFAULT, f, fd, list(1, uint32(len(g.mem)), 1), 1, &n)
		g.want(EFAULT, f, fd, list(1, 0xffffffff, 0xffffffff), 1, &n)
		g.want(EFAULT, f, fd, list(2, 1, 0xffffffff), 2, &n)
		// Overlapping buffers that sum up to more than a ssize_t.
		g.want(EINVAL, f, fd, list(600, 0, uint32(len(g.mem))), 600, &n)
		g.want(ESUCCESS, f, fd, list(3, 0, 0), 3, &n)
		g.want(ESUCCESS, f, fd, raw(0), 0, &n)
	}
}

// TestBadDescriptors gives each function that takes a descriptor one that is not
// open.
func TestBadDescriptors(t *testing.T) {
	g := newGuest(t)
	for _, fd := range []uint32{4, 5, 4096, 1 << 20, 0x7fffffff, 0xffffffff} {
		var n uint32
		var n8 uint64
		for _, c := range []badPointer{
			{"fd_advise", []any{fd, 0, 0, 0}}, {"fd_allocate", []any{fd, 0, 1}}, {"fd_close", []any{fd}},
			{"fd_datasync", []any{fd}}, {"fd_fdstat_get", []any{fd, make(out, sizeFdstat)}},
			{"fd_fdstat_set_flags", []any{fd, 0}}, {"fd_fdstat_set_rights", []any{fd, 0, 0}},
			{"fd_filestat_get", []any{fd, make(out, sizeFilestat)}}, {"fd_filestat_set_size", []any{fd, 0}},
			{"fd_filestat_set_times", []any{fd, 0, 0, 0}}, {"fd_pread", []any{fd, &iov{lens: []int{1}}, 0, &n}},
			{"fd_prestat_get", []any{fd, make(out, sizePrestat)}}, {"fd_prestat_dir_name", []any{fd, make(buf, 10)}},
			{"fd_pwrite", []any{fd, ciov{"x"}, 0, &n}}, {"fd_read", []any{fd, &iov{lens: []int{1}}, &n}},
			{"fd_readdir", []any{fd, make(buf, 10), 0, &n}}, {"fd_renumber", []any{fd, rootFD}}, {"fd_renumber", []any{rootFD, fd}},
			{"fd_seek", []any{fd, 0, 0, &n8}}, {"fd_sync", []any{fd}}, {"fd_tell", []any{fd, &n8}}, {"fd_write", []any{fd, ciov{"x"}, &n}},
			{"path_create_directory", []any{fd, "x"}}, {"path_filestat_get", []any{fd, 0, "x", make(out, sizeFilestat)}},
			{"path_filestat_set_times", []any{fd, 0, "x", 0, 0, 0}}, {"path_link", []any{fd, 0, "x", rootFD, "y"}},
			{"path_link", []any{rootFD, 0, "x", fd, "y"}}, {"path_open", []any{fd, 0, "x", 0, 0, 0, 0, &n}},
			{"path_readlink", []any{fd, "x", make(buf, 10), &n}}, {"path_remove_directory", []any{fd, "x"}},
			{"path_rename", []any{fd, "x", rootFD, "y"}}, {"path_rename", []any{rootFD, "x", fd, "y"}},
			{"path_symlink", []any{"x", fd, "y"}}, {"path_unlink_file", []any{fd, "x"}},
			{"sock_accept", []any{fd, 0, &n}}, {"sock_recv", []any{fd, &iov{lens: []int{1}}, 0, &n, &n}},
			{"sock_send", []any{fd, ciov{"x"}, 0, &n}}, {"sock_shutdown", []any{fd, 1}},
		} {
			g.want(EBADF, c.function, c.args...)
		}
	}
	if got := len(g.h.table); got != 4 {
		t.Errorf("%d descriptors, want 4", got)
	}
}

// TestNoDirectory gives the path functions a descriptor of a file.
func TestNoDirectory(t *testing.T) {
	g := newGuest(t)
	fd := g.open("f", oflagCreate, readWrite)
	var n uint32
	for _, c := range []badPointer{
		{"path_create_directory", []any{fd, "x"}}, {"path_filestat_get", []any{fd, 0, "x", make(out, sizeFilestat)}},
		{"path_filestat_set_times", []any{fd, 0, "x", 0, 0, 0}}, {"path_link", []any{fd, 0, "x", rootFD, "y"}},
		{"path_link", []any{rootFD, 0, "f", fd, "y"}}, {"path_open", []any{fd, 0, "x", 0, 0, 0, 0, &n}},
		{"path_readlink", []any{fd, "x", make(buf, 10), &n}}, {"path_remove_directory", []any{fd, "x"}},
		{"path_rename", []any{fd, "x", rootFD, "y"}}, {"path_rename", []any{rootFD, "f", fd, "y"}},
		{"path_symlink", []any{"x", fd, "y"}}, {"path_unlink_file", []any{fd, "x"}}, {"fd_readdir", []any{fd, make(buf, 10), 0, &n}},
	} {
		g.want(ENOTDIR, c.function, c.args...)
	}
}

// TestMissingRights takes the rights of a descriptor away and demands that each
// function that needs one says ENOTCAPABLE.
func TestMissingRights(t *testing.T) {
	var n uint32
	var n8 uint64
	const file, dir = 4, 5
	cases := []struct {
		right Rights
		call  badPointer
	}{
		{RightFdAdvise, badPointer{"fd_advise", []any{file, 0, 0, 0}}},
		{RightFdAllocate, badPointer{"fd_allocate", []any{file, 0, 10}}},
		{RightFdDatasync, badPointer{"fd_datasync", []any{file}}},
		{RightFdSync, badPointer{"fd_sync", []any{file}}},
		{RightFdFdstatSetFlags, badPointer{"fd_fdstat_set_flags", []any{file, 0}}},
		{RightFdFilestatGet, badPointer{"fd_filestat_get", []any{file, make(out, sizeFilestat)}}},
		{RightFdFilestatSetSize, badPointer{"fd_filestat_set_size", []any{file, 10}}},
		{RightFdFilestatSetTimes, badPointer{"fd_filestat_set_times", []any{file, 0, 0, fstMtimNow}}},
		{RightFdRead, badPointer{"fd_read", []any{file, &iov{lens: []int{1}}, &n}}},
		{RightFdRead, badPointer{"fd_pread", []any{file, &iov{lens: []int{1}}, 0, &n}}},
		{RightFdSeek, badPointer{"fd_pread", []any{file, &iov{lens: []int{1}}, 0, &n}}},
		{RightFdWrite, badPointer{"fd_write", []any{file, ciov{"x"}, &n}}},
		{RightFdWrite, badPointer{"fd_pwrite", []any{file, ciov{"x"}, 0, &n}}},
		{RightFdSeek, badPointer{"fd_pwrite", []any{file, ciov{"x"}, 0, &n}}},
		{RightFdSeek, badPointer{"fd_seek", []any{file, 1, whenceSet, &n8}}},
		{RightFdSeek | RightFdTell, badPointer{"fd_tell", []any{file, &n8}}},
		{RightFdSeek | RightFdTell, badPointer{"fd_seek", []any{file, 0, whenceCur, &n8}}},
		{RightFdReaddir, badPointer{"fd_readdir", []any{dir, make(buf, 100), 0, &n}}},
		{RightPathCreateDirectory, badPointer{"path_create_directory", []any{dir, "new"}}},
		{RightPathFilestatGet, badPointer{"path_filestat_get", []any{dir, 0, "f", make(out, sizeFilestat)}}},
		{RightPathFilestatSetTimes, badPointer{"path_filestat_set_times", []any{dir, 0, "f", 0, 0, fstMtimNow}}},
		{RightPathLinkSource, badPointer{"path_link", []any{dir, 0, "f", rootFD, "l"}}},
		{RightPathLinkTarget, badPointer{"path_link", []any{rootFD, 0, "f", dir, "l"}}},
		{RightPathOpen, badPointer{"path_open", []any{dir, 0, "f", 0, 0, 0, 0, &n}}},
		{RightPathCreateFile, badPointer{"path_open", []any{dir, 0, "f", oflagCreate, 0, 0, 0, &n}}},
		{RightPathFilestatSetSize, badPointer{"path_open", []any{dir, 0, "f", oflagTruncate, 0, 0, 0, &n}}},
		{RightPathReadlink, badPointer{"path_readlink", []any{dir, "link", make(buf, 10), &n}}},
		{RightPathRemoveDirectory, badPointer{"path_remove_directory", []any{dir, "d"}}},
		{RightPathRenameSource, badPointer{"path_rename", []any{dir, "f", rootFD, "y"}}},
		{RightPathRenameTarget, badPointer{"path_rename", []any{rootFD, "f", dir, "y"}}},
		{RightPathSymlink, badPointer{"path_symlink", []any{"x", dir, "y"}}},
		{RightPathUnlinkFile, badPointer{"path_unlink_file", []any{dir, "f"}}},
	}
	for _, c := range cases {
		t.Run(c.call.function, func(t *testing.T) {
			g := newGuest(t)
			g.hostWrite("f", "content")
			g.hostWrite("sub/f", "content")
			g.hostMkdir("sub/d")
			g.hostSymlink("f", "sub/link")
			if fd := g.open("f", 0, readWrite); fd != file {
				t.Fatalf("file is %d", fd)
			}
			if fd := g.openDir("sub"); fd != dir {
				t.Fatalf("directory is %d", fd)
			}
			target := uint32(file)
			if c.right&rightsFile&^rightsDirectory == 0 && strings.HasPrefix(c.call.function, "path_") || c.right == RightFdReaddir {
				target = dir
			}
			st := g.fdstat(target)
			if st.base&c.right != c.right {
				t.Fatalf("right %x is not there to be taken: %x", c.right, st.base)
			}
			g.must("fd_fdstat_set_rights", target, st.base&^c.right, st.inheriting)
			g.want(ENOTCAPABLE, c.call.function, c.call.args...)
			g.want(ENOTCAPABLE, "fd_fdstat_set_rights", target, st.base, st.inheriting)
			if got := g.hostRead("f") + g.hostRead("sub/f"); got != "contentcontent" {
				t.Errorf("a file was changed: %q", got)
			}
		})
	}
}
