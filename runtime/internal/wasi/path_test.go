package wasi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPathArguments(t *testing.T) {
	g := newGuest(t)
	b := make(out, sizeFilestat)
	for _, c := range []struct {
		path string
		want Errno
	}{
		{"", ENOENT}, {"a\x00b", EINVAL}, {"f\x00", EINVAL}, {strings.Repeat("x", maxPathBytes), ENAMETOOLONG},
		{strings.Repeat("x", 256), ENAMETOOLONG}, {"/", ENOTCAPABLE}, {"/f", ENOTCAPABLE}, {"//f", ENOTCAPABLE},
		{"..", ENOTCAPABLE}, {"../x", ENOTCAPABLE}, {"./../x", ENOTCAPABLE}, {"none", ENOENT}, {"none/x", ENOENT},
	} {
		g.want(c.want, "path_filestat_get", rootFD, 0, c.path, b)
		g.want(c.want, "path_open", rootFD, 0, c.path, 0, 0, 0, 0, new(uint32))
		g.want(c.want, "path_readlink", rootFD, c.path, make(buf, 9), new(uint32))
		g.want(c.want, "path_unlink_file", rootFD, c.path)
		g.want(c.want, "path_remove_directory", rootFD, c.path)
		g.want(c.want, "path_rename", rootFD, c.path, rootFD, "y")
		g.want(c.want, "path_link", rootFD, 0, c.path, rootFD, "y")
		g.want(c.want, "path_filestat_set_times", rootFD, 0, c.path, 0, 0, fstMtimNow)
		if c.want != ENOENT {
			g.want(c.want, "path_create_directory", rootFD, c.path)
			g.want(c.want, "path_symlink", "t", rootFD, c.path)
		}
	}
	g.want(EINVAL, "path_filestat_get", rootFD, 2, "f", b)
	g.want(EINVAL, "path_open", rootFD, 2, "f", 0, 0, 0, 0, new(uint32))
	g.want(EINVAL, "path_filestat_set_times", rootFD, 0xffffffff, "f", 0, 0, 0)
	g.want(EINVAL, "path_link", rootFD, 4, "f", rootFD, "g")
}

func TestCreateAndRemoveDirectory(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("file", "")
	for _, c := range []struct {
		function, path string
		want           Errno
	}{
		{"path_create_directory", "d", ESUCCESS}, {"path_create_directory", "d", EEXIST}, {"path_create_directory", "d/", EEXIST},
		{"path_create_directory", "d/e/", ESUCCESS}, {"path_create_directory", "d//e///f", ESUCCESS},
		{"path_create_directory", "file", EEXIST}, {"path_create_directory", "file/x", ENOTDIR}, {"path_create_directory", "none/x", ENOENT},
		{"path_create_directory", ".", EEXIST}, {"path_create_directory", "d/..", EEXIST}, {"path_create_directory", "d/.", EEXIST},
		{"path_create_directory", "none/..", ENOENT},
		{"path_remove_directory", "d", ENOTEMPTY}, {"path_remove_directory", "d/e/f/", ESUCCESS}, {"path_remove_directory", "d/e", ESUCCESS},
		{"path_remove_directory", "d/.", EINVAL}, {"path_remove_directory", "d/..", ENOTEMPTY}, {"path_remove_directory", "d", ESUCCESS},
		{"path_remove_directory", "d", ENOENT}, {"path_remove_directory", "file", ENOTDIR}, {"path_remove_directory", "file/", ENOTDIR},
		{"path_remove_directory", ".", EINVAL},
	} {
		g.want(c.want, c.function, rootFD, c.path)
	}
}

func TestUnlink(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("f", "")
	g.hostWrite("d/f", "")
	g.hostSymlink("d", "link")
	for _, c := range []struct {
		path string
		want Errno
	}{
		{"f/", ENOTDIR}, {"f", ESUCCESS}, {"f", ENOENT}, {"d", EISDIR}, {"d/", EISDIR}, {"d/.", EISDIR}, {"d/..", EISDIR},
		{"link/", ENOTDIR}, {"link/f", ESUCCESS}, {"link", ESUCCESS}, {"none/x", ENOENT},
	} {
		g.want(c.want, "path_unlink_file", rootFD, c.path)
	}
	if _, err := os.Stat(filepath.Join(g.dir, "d")); err != nil {
		t.Error(err)
	}
}

func TestPathFilestat(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("d/f", "12345")
	g.hostSymlink("d/f", "link")
	g.hostSymlink("none", "dangling")
	if st := g.pathStat("d/f", 0); st.typ != FileRegular || st.size != 5 {
		t.Errorf("%+v", st)
	}
	if st := g.pathStat("link", 0); st.typ != FileSymlink || st.size != 3 {
		t.Errorf("%+v", st)
	}
	if st := g.pathStat("link", lookupSymlinkFollow); st.typ != FileRegular || st.ino != g.pathStat("d/f", 0).ino {
		t.Errorf("%+v", st)
	}
	if st := g.pathStat("dangling", 0); st.typ != FileSymlink {
		t.Errorf("%+v", st)
	}
	for _, p := range []string{".", "d/..", "./", "d/../."} {
		if st := g.pathStat(p, 0); st.typ != FileDirectory || st.ino != g.stat(rootFD).ino {
			t.Errorf("%s: %+v", p, st)
		}
	}
	b := make(out, sizeFilestat)
	g.want(ENOENT, "path_filestat_get", rootFD, lookupSymlinkFollow, "dangling", b)
	g.want(ENOTDIR, "path_filestat_get", rootFD, 0, "d/f/", b)
	g.want(ENOTDIR, "path_filestat_get", rootFD, 0, "d/f/x", b)
	g.want(ENOTDIR, "path_filestat_get", rootFD, 0, "link/", b)
}

func TestPathFilestatSetTimes(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("f", "")
	g.hostSymlink("f", "link")
	g.must("path_filestat_set_times", rootFD, 0, "f", 1_000, 2_000, fstAtim|fstMtim)
	g.must("path_filestat_set_times", rootFD, 0, "link", 3_000, 4_000, fstAtim|fstMtim)
	if f, l := g.pathStat("f", 0), g.pathStat("link", 0); f.mtim != 2000 || l.mtim != 4000 || f.atim != 1000 {
		t.Errorf("times %d, %d", f.mtim, l.mtim)
	}
	g.must("path_filestat_set_times", rootFD, lookupSymlinkFollow, "link", 0, 5_000, fstMtim)
	if f, l := g.pathStat("f", 0), g.pathStat("link", 0); f.mtim != 5000 || l.mtim != 4000 {
		t.Errorf("times %d, %d", f.mtim, l.mtim)
	}
	g.must("path_filestat_set_times", rootFD, 0, "f", 0, 0, fstMtimNow|fstAtimNow)
	if f := g.pathStat("f", 0); f.mtim < 1e18 || f.atim < 1e18 {
		t.Errorf("times %d, %d", f.mtim, f.atim)
	}
	g.want(EINVAL, "path_filestat_set_times", rootFD, 0, "f", 0, 0, fstMtim|fstMtimNow)
	g.want(EINVAL, "path_filestat_set_times", rootFD, 0, "f", 0, 0, fstAtim|fstAtimNow)
	g.want(EINVAL, "path_filestat_set_times", rootFD, 0, "f", 0, 0, 16)
	g.want(ENOENT, "path_filestat_set_times", rootFD, 0, "none", 0, 0, 0)
}

func TestRename(t *testing.T) {
	g := newGuest(t)
	rename := func(want Errno, from, to string) {
		t.Helper()
		g.want(want, "path_rename", rootFD, from, rootFD, to)
	}
	g.hostWrite("f", "content")
	g.hostMkdir("d")
	rename(ESUCCESS, "f", "g")
	rename(ENOENT, "f", "g")
	rename(ESUCCESS, "g", "d/f")
	g.hostWrite("g", "other")
	rename(ESUCCESS, "g", "d/f")
	if got := g.hostRead("d/f"); got != "other" {
		t.Errorf("content %q", got)
	}
	g.hostMkdir("empty")
	rename(ENOTEMPTY, "empty", "d")
	rename(ENOTDIR, "empty", "d/f")
	rename(EISDIR, "d/f", "empty")
	rename(EINVAL, "d", "d/sub")
	rename(ENOTDIR, "d/f", "new/")
	rename(ENOTDIR, "d/f/", "new")
	rename(ESUCCESS, "d/", "moved/")
	rename(ESUCCESS, "moved", "empty/")
	rename(ESUCCESS, "empty/", "e2")
	rename(EBUSY, ".", "x")
	rename(EBUSY, "e2/..", "x")
	rename(EBUSY, "e2", ".")
	rename(ENOENT, "e2", "none/x")
	if got := g.hostRead("e2/f"); got != "other" {
		t.Errorf("content %q", got)
	}
	sub := g.openDir("e2")
	g.must("path_rename", sub, "f", rootFD, "out")
	g.must("path_rename", rootFD, "out", sub, "in")
	if got := g.hostRead("e2/in"); got != "other" {
		t.Errorf("content %q", got)
	}
}

func TestRenameAcrossFileSystems(t *testing.T) {
	shm, err := os.MkdirTemp("/dev/shm", "wasi")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(shm)
	g := newGuest(t, func(c *Config) { c.Preopens = append(c.Preopens, Preopen{Host: shm, Guest: "/shm"}) })
	g.hostWrite("f", "")
	if b := g.pathStat(".", 0); b.dev == g.stat(rootFD+1).dev {
		t.Fatal("the two directories are on one file system: the test needs /dev/shm")
	}
	g.want(EXDEV, "path_rename", rootFD, "f", rootFD+1, "f")
	g.want(EXDEV, "path_link", rootFD, 0, "f", rootFD+1, "f")
}

func TestSymlinkAndReadlink(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("f", "content")
	g.hostMkdir("d")
	for _, c := range []struct {
		target, path string
		want         Errno
	}{
		{"f", "link", ESUCCESS}, {"f", "link", EEXIST}, {"f", "f", EEXIST}, {"f", "d", EEXIST}, {"f", "d/", EEXIST},
		{"../f", "d/up", ESUCCESS}, {"none", "dangling", ESUCCESS}, {"f", "new/", ENOENT}, {"f", "f/", ENOTDIR},
		{"/etc/passwd", "abs", ENOTCAPABLE}, {"/", "abs", ENOTCAPABLE}, {"", "empty", ENOENT}, {"f", ".", EEXIST}, {"f", "d/..", EEXIST},
		{"not UTF-8 \xff", "bytes", ESUCCESS}, {"f", "none/x", ENOENT}, {"a\x00", "nul", EINVAL}, {strings.Repeat("x", maxPathBytes), "long", ENAMETOOLONG},
	} {
		got := g.call("path_symlink", c.target, rootFD, c.path)
		// Linux has said both of a file with a slash behind it.
		if got != c.want && (c.want != ENOTDIR || got != EEXIST) {
			t.Errorf("symlink %q at %q: %v, want %v", c.target, c.path, got, c.want)
		}
	}
	for path, want := range map[string]string{"link": "f", "d/up": "../f", "dangling": "none", "bytes": "not UTF-8 \xff"} {
		for size := range len(want) + 3 {
			b := make(buf, size)
			for i := range b {
				b[i] = '#'
			}
			var n uint32
			g.must("path_readlink", rootFD, path, b, &n)
			short := want[:min(size, len(want))]
			if int(n) != len(short) || string(b) != short+strings.Repeat("#", size-len(short)) {
				t.Errorf("readlink of %s into %d bytes: %q", path, size, b)
			}
		}
	}
	var n uint32
	b := make(buf, 10)
	g.want(EINVAL, "path_readlink", rootFD, "f", b, &n)
	g.want(EINVAL, "path_readlink", rootFD, "d", b, &n)
	g.want(EINVAL, "path_readlink", rootFD, ".", b, &n)
	g.hostSymlink("d", "dirlink")
	g.want(EINVAL, "path_readlink", rootFD, "dirlink/", b, &n)
	g.want(ENOENT, "path_readlink", rootFD, "none", b, &n)
	fd := g.open("d/up", 0, readOnly)
	if got := g.read(fd, 10); got != "content" {
		t.Errorf("read %q", got)
	}
}

func TestLink(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("f", "content")
	g.hostMkdir("d")
	g.hostSymlink("f", "sym")
	g.hostSymlink("sym", "sym2")
	g.hostSymlink("../f", "d/up")
	g.hostSymlink("none", "dangling")
	g.hostSymlink("loop", "loop")
	g.hostSymlink("/etc/passwd", "abs")
	g.hostSymlink("../../../../etc/passwd", "escape")
	link := func(want Errno, flags int, from, to string) {
		t.Helper()
		g.want(want, "path_link", rootFD, flags, from, rootFD, to)
	}
	link(ESUCCESS, 0, "f", "l1")
	link(ESUCCESS, 0, "f", "d/l2")
	if a, b := g.pathStat("f", 0), g.pathStat("d/l2", 0); a.ino != b.ino || b.nlink != 3 {
		t.Errorf("%+v, %+v", a, b)
	}
	link(EEXIST, 0, "f", "l1")
	link(EEXIST, 0, "f", "f")
	link(EEXIST, 0, "f", "d")
	link(EEXIST, 0, "f", ".")
	link(EEXIST, 0, "f", "dangling")
	link(EPERM, 0, "d", "dl")
	link(EPERM, 0, "d/", "dl")
	link(EPERM, 0, ".", "dl")
	link(ENOTDIR, 0, "f/", "fl")
	link(ENOENT, 0, "f", "new/")
	link(ENOENT, 0, "none", "x")
	link(ENOENT, 0, "none/", "x")
	link(ENOENT, 0, "f", "none/x")
	// Without following: the link itself gets a second name.
	link(ESUCCESS, 0, "dangling", "dangling2")
	link(ESUCCESS, 0, "loop", "loop2")
	link(ESUCCESS, 0, "abs", "abs2")
	link(ESUCCESS, 0, "sym", "sym3")
	if st := g.pathStat("sym3", 0); st.typ != FileSymlink {
		t.Errorf("%+v", st)
	}
	// Following.
	const f = lookupSymlinkFollow
	link(ESUCCESS, f, "f", "m0")
	link(ESUCCESS, f, "sym", "m1")
	link(ESUCCESS, f, "sym2", "m2")
	link(ESUCCESS, f, "d/up", "m3")
	for _, p := range []string{"m0", "m1", "m2", "m3"} {
		if st := g.pathStat(p, 0); st.ino != g.pathStat("f", 0).ino {
			t.Errorf("%s: %+v", p, st)
		}
	}
	link(ENOENT, f, "dangling", "x")
	link(ELOOP, f, "loop", "x")
	link(ENOTCAPABLE, f, "abs", "x")
	link(ENOTCAPABLE, f, "escape", "x")
	link(EEXIST, f, "sym", "l1")
}
