package wasi

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bothResolvers runs a test with the kernel's resolver and with ours.
func bothResolvers(t *testing.T, test func(t *testing.T, g *guest)) {
	for _, walk := range []bool{false, true} {
		name := "openat2"
		if walk {
			name = "walk"
		}
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			if !walk && g.k.noOpenat2 {
				t.Fatal("this kernel has no openat2")
			}
			g.k.noOpenat2 = walk
			test(t, g)
		})
	}
}

// secret is a file outside of the guest's directory. It returns its path
// relative to the directory.
func (g *guest) secret() string {
	g.t.Helper()
	outside := g.t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	rel, err := filepath.Rel(g.dir, outside)
	if err != nil {
		g.t.Fatal(err)
	}
	return rel
}

func TestNoEscape(t *testing.T) {
	bothResolvers(t, func(t *testing.T, g *guest) {
		out := g.secret()
		abs := filepath.Join(g.dir, out)
		g.hostMkdir("d/e")
		g.hostWrite("d/f", "inside")
		for name, target := range map[string]string{
			"abs": abs, "abssecret": abs + "/secret", "rel": out, "relsecret": out + "/secret", "root": "/", "up": "..",
			"d/up2": "../..", "chain": "rel", "d/chain": "../abs", "slash": abs + "/", "proc": "/proc/self/root", "dot": "./../" + filepath.Base(g.dir),
		} {
			g.hostSymlink(target, name)
		}
		for _, path := range []string{
			abs, abs + "/secret", "/", "//", "/etc/passwd", "/d/f", "..", "../", "../.", "../" + filepath.Base(g.dir), "../" + filepath.Base(g.dir) + "/d/f",
			out, out + "/secret", "d/../..", "d/../../x", "d/e/../../..", "./..", "d/../" + out + "/secret", "abs", "abs/", "abs/secret", "abssecret",
			"rel/secret", "relsecret", "root/etc/passwd", "up", "up/x", "d/up2", "d/up2/x", "chain", "chain/secret", "d/chain/secret", "slash/secret",
			"proc/etc/passwd", "proc", "dot/d/f", "abs/../d/f", "rel/..", "up/" + filepath.Base(g.dir) + "/d/f",
		} {
			g.wantNoEscape(path)
		}
		// Out of an inner directory, too, although it would stay in the outer one.
		d := g.openDir("d")
		for _, path := range []string{"..", "../d/f", "up2", "e/../../d", "/f"} {
			g.want(ENOTCAPABLE, "path_open", d, 1, path, 0, 0, 0, 0, new(uint32))
		}
		// What stays inside is no escape.
		g.hostSymlink("d/../d/./f", "in")
		g.hostSymlink("../f", "d/e/back")
		g.hostSymlink("d/e", "dir")
		for _, path := range []string{"d/e/../f", "./d//f", "d/../d/f", "in", "d/e/back", "dir/back", "dir/../f", "d/e/../../in", "dir/./../f"} {
			if got := g.read(g.open(path, 0, readOnly), 100); got != "inside" {
				t.Errorf("%s: read %q", path, got)
			}
		}
	})
}

// wantNoEscape demands that no path function reaches what path names.
func (g *guest) wantNoEscape(path string) {
	g.t.Helper()
	var n uint32
	stat := make(out, sizeFilestat)
	for _, oflags := range []int{0, oflagDirectory, oflagCreate, oflagTruncate} {
		rights := readOnly
		if oflags&(oflagCreate|oflagTruncate) != 0 {
			rights = readWrite
		}
		e := g.call("path_open", rootFD, lookupSymlinkFollow, path, oflags, rights, 0, 0, &n)
		// Linux looks no further when a file is to be made at a path with a slash
		// behind it.
		if e != ENOTCAPABLE && (e != EISDIR || oflags != oflagCreate || !strings.HasSuffix(path, "/")) {
			g.t.Errorf("open %q with %d: %v", path, oflags, e)
		}
	}
	g.want(ENOTCAPABLE, "path_filestat_get", rootFD, lookupSymlinkFollow, path, stat)
	g.want(ENOTCAPABLE, "path_filestat_set_times", rootFD, lookupSymlinkFollow, path, 1, 1, fstMtim)
	inner := strings.TrimRight(path, "/") + "/inner"
	for _, p := range []string{inner, inner + "/"} {
		if e := g.call("path_create_directory", rootFD, p); e != ENOTCAPABLE && e != ENOTDIR {
			g.t.Errorf("made %q: %v", p, e)
		}
		for _, e := range []Errno{
			g.call("path_unlink_file", rootFD, p), g.call("path_remove_directory", rootFD, p), g.call("path_symlink", "x", rootFD, p),
			g.call("path_rename", rootFD, p, rootFD, "got"), g.call("path_rename", rootFD, "d/f", rootFD, p),
			g.call("path_link", rootFD, 0, p, rootFD, "got"), g.call("path_link", rootFD, 0, "d/f", rootFD, p),
			g.call("path_readlink", rootFD, p, make(buf, 100), &n), g.call("path_open", rootFD, 0, p, oflagCreate, readWrite, 0, 0, &n),
		} {
			if e != ENOTCAPABLE && e != ENOTDIR {
				g.t.Errorf("%q: %v", p, e)
			}
		}
	}
	g.want(ENOENT, "path_filestat_get", rootFD, 0, "got", stat)
	if got := g.hostRead("d/f"); got != "inside" {
		g.t.Fatalf("d/f has %q after %q", got, path)
	}
}

// TestResolversAgree compares our resolver with the kernel's, error for error.
func TestResolversAgree(t *testing.T) {
	g := newGuest(t)
	g.hostWrite("d/e/f", "x")
	g.hostWrite("f", "x")
	g.hostMkfifo("fifo")
	for name, target := range map[string]string{
		"tofile": "f", "todir": "d", "toslash": "d/", "dangling": "none", "dangling2": "none/x", "loop": "loop", "a": "b", "b": "a",
		"abs": "/etc", "up": "..", "self": ".", "d/parent": "..", "tofifo": "fifo", "fileslash": "f/",
	} {
		g.hostSymlink(target, name)
	}
	long := "self"
	for range 39 {
		long += "/self"
	}
	paths := []string{"", ".", "./", "..", "/", "f", "f/", "f/.", "f/..", "f/x", "d", "d/", "d//", "d/.", "d/..", "d/../f", "d/e/../../f", "none", "none/", "none/x",
		"none/..", "tofile", "tofile/", "todir", "todir/", "todir/e/f", "toslash", "toslash/e", "dangling", "dangling/", "dangling2", "loop", "loop/", "loop/x", "a", "abs", "abs/x",
		"up", "up/x", "self", "self/", "self/f", "self/self/todir/e", "d/parent", "d/parent/f", "d/parent/..", "fileslash", "fileslash/", "tofile/x",
		long + "/f", long + "/self/f", strings.Repeat("d/../", 400) + "f", strings.Repeat("x", 256), strings.Repeat("x/", 3000)}
	flagSets := []OpenFlags{OpenRead, OpenRead | OpenWrite, OpenName, OpenName | OpenDirectory, OpenRead | OpenDirectory, OpenRead | OpenTruncate | OpenWrite}
	for _, path := range paths {
		for _, flags := range flagSets {
			for _, more := range []OpenFlags{0, OpenNoFollow} {
				compare(t, g, path, flags|more)
			}
		}
		for _, flags := range []OpenFlags{OpenCreate, OpenCreate | OpenExclusive, OpenCreate | OpenNoFollow, OpenCreate | OpenExclusive | OpenNoFollow} {
			compare(t, g, path, flags|OpenRead|OpenWrite)
		}
	}
}

// compare opens with both resolvers, and demands the same file or error.
func compare(t *testing.T, g *guest, path string, flags OpenFlags) {
	t.Helper()
	type result struct {
		errno Errno
		ino   uint64
		typ   FileType
	}
	var got [2]result
	for i, walk := range []bool{false, true} {
		g.k.noOpenat2 = walk
		h, errno := g.k.Open(g.h.preopens[0].handle, path, flags)
		got[i].errno = errno
		if errno == ESUCCESS {
			st, errno := g.k.Stat(h)
			if errno != ESUCCESS {
				t.Fatal(errno)
			}
			got[i].ino, got[i].typ = st.Ino, st.Type
			g.k.Close(h)
		}
		// What O_CREAT made must not be there for the other.
		for _, made := range []string{"none", strings.Repeat("x", 255)} {
			_ = os.Remove(filepath.Join(g.dir, made))
		}
	}
	made := flags&OpenCreate != 0 && got[0].errno == ESUCCESS && got[1].errno == ESUCCESS && got[0].typ == got[1].typ
	if got[0] != got[1] && !made {
		t.Errorf("open %.60q with %#x: the kernel says %+v, we say %+v", path, flags, got[0], got[1])
	}
}

// TestEscapeRace swaps directories for symbolic links to the outside while the
// guest opens what is beneath them.
func TestEscapeRace(t *testing.T) {
	bothResolvers(t, func(t *testing.T, g *guest) {
		secretDir := filepath.Join(g.dir, g.secret())
		g.hostWrite("real/sub/secret", "inside")
		g.hostWrite("deep/a/b/c/secret", "inside")
		g.hostSymlink(secretDir, "evil")
		root, err := unix.Open(g.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		g.closeLater(root)
		outside, err := unix.Open(filepath.Dir(secretDir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		g.closeLater(outside)
		var stop atomic.Bool
		var swaps atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ; !stop.Load(); swaps.Add(1) {
				// The link and the directory change places, in one step.
				_ = unix.Renameat2(root, "evil", root, "real/sub", unix.RENAME_EXCHANGE)
				_ = unix.Renameat2(root, "evil", root, "real", unix.RENAME_EXCHANGE)
				// A directory in which a walk may stand is moved out, and back.
				_ = unix.Renameat(root, "deep/a/b", outside, "moved")
				_ = unix.Renameat(outside, "moved", root, "deep/a/b")
			}
		}()
		opened, limit := 0, time.Now().Add(patience)
		for i := 0; i < 8000 || (swaps.Load() < 100 || opened == 0) && time.Now().Before(limit); i++ {
			path := []string{"real/sub/secret", "real/secret", "evil/secret", "evil/sub/secret", "deep/a/b/c/../../../secret",
				"deep/a/b/../../../../secret", "deep/a/b/c/../../../../real/secret"}[i%7]
			var fd uint32
			if g.call("path_open", rootFD, lookupSymlinkFollow, path, 0, readOnly, 0, 0, &fd) != ESUCCESS {
				continue
			}
			opened++
			if got := g.read(fd, 100); got != "inside" {
				t.Fatalf("%s: read %q", path, got)
			}
			g.close(fd)
			if g.call("path_link", rootFD, lookupSymlinkFollow, path, rootFD, "linked") == ESUCCESS {
				if got := g.hostRead("linked"); got != "inside" {
					t.Fatalf("%s: linked %q", path, got)
				}
				g.must("path_unlink_file", rootFD, "linked")
			}
		}
		stop.Store(true)
		<-done
		if n := swaps.Load(); n < 100 || opened == 0 {
			t.Errorf("%d swaps, %d opened: that was no race", n, opened)
		}
	})
}
