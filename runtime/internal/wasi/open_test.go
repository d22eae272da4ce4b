package wasi

import (
	"testing"
)

func TestOpenFlags(t *testing.T) {
	g := newGuest(t)
	open := func(want Errno, path string, lookup, oflags int, rights Rights, flags FdFlags) uint32 {
		t.Helper()
		var fd uint32
		g.want(want, "path_open", rootFD, lookup, path, oflags, rights, 0, flags, &fd)
		return fd
	}
	g.hostWrite("f", "content")
	g.hostMkdir("d")
	g.hostSymlink("f", "link")
	g.hostSymlink("d", "dirlink")
	g.hostSymlink("made", "dangling")

	open(ENOENT, "new", 0, 0, readWrite, 0)
	open(ESUCCESS, "new", 0, oflagCreate|oflagExclusive, readWrite, 0)
	open(EEXIST, "new", 0, oflagCreate|oflagExclusive, readWrite, 0)
	open(EEXIST, "dangling", 1, oflagCreate|oflagExclusive, readWrite, 0)
	open(ESUCCESS, "new", 0, oflagCreate, readWrite, 0)
	open(EISDIR, "new2/", 0, oflagCreate, readWrite, 0)
	open(EISDIR, "d", 0, oflagCreate, readWrite, 0)
	open(EISDIR, "d", 0, 0, readWrite, 0)
	open(EISDIR, "d", 0, oflagDirectory, RightFdRead|RightFdWrite, 0)
	open(ESUCCESS, "d", 0, oflagDirectory, RightFdRead, 0)
	open(ESUCCESS, "d", 0, 0, 0, 0)
	open(ESUCCESS, "d/", 0, 0, 0, 0)
	open(ESUCCESS, ".", 0, 0, dirAll, 0)
	open(ENOTDIR, "f", 0, oflagDirectory, 0, 0)
	open(ENOTDIR, "f/", 0, 0, 0, 0)
	open(EINVAL, "x", 0, oflagCreate|oflagDirectory, 0, 0)
	open(EINVAL, "f", 0, 16, 0, 0)
	open(EINVAL, "f", 0, 0, 0, 32)
	open(ELOOP, "link", 0, 0, 0, 0)
	open(ESUCCESS, "link", 1, 0, readWrite, 0)
	open(ENOTDIR, "dirlink", 0, oflagDirectory, 0, 0)
	open(ESUCCESS, "dirlink", 1, oflagDirectory, 0, 0)
	open(ENOENT, "dangling", 1, 0, 0, 0)
	open(ESUCCESS, "dangling", 1, oflagCreate, readWrite, 0)
	if got := g.hostRead("made"); got != "" {
		t.Errorf("content %q", got)
	}
	if got := g.hostRead("f"); got != "content" {
		t.Errorf("content %q", got)
	}
	open(ESUCCESS, "f", 0, oflagTruncate, 0, 0) // the right to truncate is the directory's
	if got := g.hostRead("f"); got != "" {
		t.Errorf("content %q", got)
	}
}

func TestOpenRights(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("d/f", "content")
	fd := g.open("d/f", 0, rightsAll)
	if st := g.fdstat(fd); st.base != rightsFile || st.inheriting != rightsFile {
		t.Errorf("a file got %x, %x", st.base, st.inheriting)
	}
	d := g.open("d", oflagDirectory, rightsAll&^RightFdWrite)
	if st := g.fdstat(d); st.base != rightsDirectory || st.inheriting&rightsFile != rightsFile {
		t.Errorf("a directory got %x, %x", st.base, st.inheriting)
	}
	// What a directory does not pass on, nothing beneath it has.
	pass := RightFdRead | RightFdSeek | RightPathOpen
	g.must("fd_fdstat_set_rights", d, dirAll, pass)
	var f uint32
	g.must("path_open", d, 0, "f", 0, readOnly, rightsAll, 0, &f)
	if st := g.fdstat(f); st.base != RightFdRead|RightFdSeek || st.inheriting&^pass != 0 {
		t.Errorf("a file got %x, %x", st.base, st.inheriting)
	}
	g.want(ENOTCAPABLE, "path_open", d, 0, "f", 0, readWrite, 0, 0, &f)
	g.want(ENOTCAPABLE, "path_open", d, 0, "f", 0, RightFdWrite, 0, 0, &f)
	g.want(ENOTCAPABLE, "path_open", d, 0, "f", 0, RightFdRead, 0, FlagSync, &f)
	g.want(ENOTCAPABLE, "path_open", d, 0, "f", 0, RightFdRead, 0, FlagRsync, &f)
	g.want(ENOTCAPABLE, "path_open", d, 0, "f", 0, RightFdRead, 0, FlagDsync, &f)
	g.must("path_open", d, 0, "f", 0, 0, 0, 0, &f)
	g.want(EBADF, "fd_read", f, &iov{lens: []int{1}}, new(uint32))
	if got := g.hostRead("d/f"); got != "content" {
		t.Errorf("content %q", got)
	}
}

func TestOpenLimit(t *testing.T) {
	g := newGuest(t, func(c *Config) { c.Limits.Descriptors = 8 })
	var last uint32
	for range 4 {
		last = g.open("f", oflagCreate, readWrite)
	}
	fds := openFDs()
	g.want(EMFILE, "path_open", rootFD, 0, "new", oflagCreate, 0, 0, 0, new(uint32))
	if got := openFDs(); got != fds {
		t.Errorf("%d descriptors, were %d", got, fds)
	}
	g.want(ENOENT, "path_filestat_get", rootFD, 0, "new", make(out, sizeFilestat))
	g.close(last)
	if got := g.open("new", oflagCreate, readWrite); got != last {
		t.Errorf("got descriptor %d", got)
	}
}

// TestReadOnlyDirectory tries everything that would change a read-only
// directory.
func TestReadOnlyDirectory(t *testing.T) {
	rw := t.TempDir()
	g := newGuest(t, func(c *Config) {
		c.Preopens[0].ReadOnly = true
		c.Preopens = append(c.Preopens, Preopen{Host: rw, Guest: "/rw"})
	})
	g.hostWrite("f", "content")
	g.hostWrite("d/f", "content")
	g.hostSymlink("f", "link")
	before := g.pathStat("f", 0)
	var fd uint32
	for _, c := range []struct {
		path   string
		oflags int
		rights Rights
		want   Errno
	}{
		{"f", 0, readWrite, EROFS}, {"f", 0, RightFdWrite, EROFS}, {"f", oflagTruncate, 0, EROFS}, {"new", oflagCreate, 0, EROFS},
		{"new", oflagCreate, readWrite, EROFS}, {"new", oflagCreate | oflagExclusive, readWrite, EROFS},
		{"f", oflagCreate | oflagExclusive, 0, EEXIST}, {"f", oflagCreate, readOnly, ESUCCESS}, {"none", 0, readWrite, ENOENT},
		{"f", 0, readOnly, ESUCCESS}, {"d", oflagDirectory, dirAll, ESUCCESS}, {"none/x", oflagCreate, readWrite, ENOENT},
	} {
		g.want(c.want, "path_open", rootFD, 0, c.path, c.oflags, c.rights, rightsAll, 0, &fd)
	}
	file := g.open("f", 0, readOnly)
	dir := g.openDir("d")
	g.want(EROFS, "fd_filestat_set_times", file, 1, 1, fstMtim)
	g.want(EROFS, "fd_filestat_set_times", dir, 1, 1, fstMtim)
	g.want(EBADF, "fd_filestat_set_size", file, 0)
	for _, d := range []uint32{rootFD, dir} {
		g.want(EROFS, "path_create_directory", d, "new")
		g.want(EEXIST, "path_create_directory", d, "f")
		g.want(EROFS, "path_unlink_file", d, "f")
		g.want(EROFS, "path_remove_directory", d, "d")
		g.want(EROFS, "path_rename", d, "f", d, "g")
		g.want(EROFS, "path_rename", d, "f", rootFD+1, "g")
		g.want(EROFS, "path_symlink", "f", d, "new")
		g.want(EEXIST, "path_symlink", "f", d, "f")
		g.want(EROFS, "path_link", d, 0, "f", d, "new")
		g.want(EROFS, "path_link", d, 0, "f", rootFD+1, "new")
		g.want(EROFS, "path_filestat_set_times", d, 0, "f", 1, 1, fstMtim)
		g.want(EROFS, "path_open", d, 0, "f", 0, readWrite, 0, 0, &fd)
	}
	g.must("path_create_directory", rootFD+1, "x")
	g.want(EROFS, "path_rename", rootFD+1, "x", rootFD, "x")
	g.want(EROFS, "path_link", rootFD+1, 0, "x", rootFD, "x2")
	if after := g.pathStat("f", 0); after.mtim != before.mtim || after.ctim != before.ctim || g.hostRead("f") != "content" {
		t.Errorf("the file was changed: %+v, %+v", before, after)
	}
	if got := names(g.readdirAll(rootFD, 0, 1000)); got != ". .. d f link" {
		t.Errorf("entries %q", got)
	}
}
