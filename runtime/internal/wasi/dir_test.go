package wasi

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// dirent is a decoded directory entry.
type dirent struct {
	next, ino uint64
	typ       FileType
	name      string
}

// decodeDirents returns the whole entries in b.
func decodeDirents(b []byte) (list []dirent) {
	for len(b) >= sizeDirent {
		n := int(binary.LittleEndian.Uint32(b[16:]))
		if len(b) < sizeDirent+n {
			break
		}
		list = append(list, dirent{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), FileType(b[20]), string(b[sizeDirent : sizeDirent+n])})
		b = b[sizeDirent+n:]
	}
	return list
}

// readdir calls once, and returns the whole entries and whether the end was
// reached.
func (g *guest) readdir(fd uint32, cookie uint64, size int) ([]dirent, bool) {
	g.t.Helper()
	var used uint32
	b := make(buf, size)
	g.must("fd_readdir", fd, b, cookie, &used)
	if int(used) > size {
		g.t.Fatalf("fd_readdir used %d bytes of %d", used, size)
	}
	return decodeDirents(b[:used]), int(used) < size
}

// readdirAll reads to the end from cookie on, as a C library does.
func (g *guest) readdirAll(fd uint32, cookie uint64, size int) (all []dirent) {
	g.t.Helper()
	for {
		list, end := g.readdir(fd, cookie, size)
		all = append(all, list...)
		if end {
			return all
		}
		if len(list) == 0 {
			size *= 2 // not even one fitted
			continue
		}
		cookie = list[len(list)-1].next
	}
}

func names(list []dirent) string {
	var out []string
	for _, e := range list {
		out = append(out, e.name)
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func TestReaddir(t *testing.T) {
	g := newGuest(t)
	fd := g.openDir(".")
	list, end := g.readdir(fd, 0, 4096)
	if !end || names(list) != ". .." || list[0].name != "." || list[0].ino != g.stat(fd).ino || list[1].ino != list[0].ino {
		t.Fatalf("empty directory: %+v", list)
	}
	g.hostWrite("file", "")
	g.hostMkdir("dir")
	g.hostSymlink("file", "link")
	g.hostMkfifo("fifo")
	g.hostWrite("not UTF-8 \xff", "")
	list, _ = g.readdir(fd, 0, 4096)
	types := map[string]FileType{}
	for _, e := range list {
		types[e.name] = e.typ
		if e.name != ".." && e.name != "." && e.ino != g.pathStat(e.name, 0).ino {
			t.Errorf("inode of %q: %d", e.name, e.ino)
		}
	}
	want := map[string]FileType{".": FileDirectory, "..": FileDirectory, "file": FileRegular, "dir": FileDirectory,
		"link": FileSymlink, "fifo": FileUnknown, "not UTF-8 \xff": FileRegular}
	if fmt.Sprint(types) != fmt.Sprint(want) {
		t.Errorf("entries %v, want %v", types, want)
	}
	// Above a given directory there is nothing to see; above others there is.
	sub := g.openDir("dir")
	list, _ = g.readdir(sub, 0, 4096)
	if list[1].ino != g.stat(fd).ino {
		t.Errorf("inode of dir/..: %d, want %d", list[1].ino, g.stat(fd).ino)
	}
}

func TestReaddirBuffers(t *testing.T) {
	g := newGuest(t)
	for i := range 20 {
		g.hostWrite(fmt.Sprintf("file%0*d", i+1, i), "")
	}
	fd := g.openDir(".")
	want := names(g.readdirAll(fd, 0, 1<<16))
	if strings.Count(want, " ") != 21 {
		t.Fatalf("entries %q", want)
	}
	for size := sizeDirent + 1; size < 200; size++ {
		if got := names(g.readdirAll(fd, 0, size)); got != want {
			t.Fatalf("with a buffer of %d: %q, want %q", size, got, want)
		}
	}
	// The last entry is cut where the buffer ends, so that a full buffer means
	// that there is more.
	var used uint32
	for size := range 60 {
		b := make(buf, size)
		g.must("fd_readdir", fd, b, 0, &used)
		if int(used) != size {
			t.Errorf("a buffer of %d got %d bytes", size, used)
		}
	}
	all := g.readdirAll(fd, 0, 1<<16)
	for i, e := range all {
		if e.next != uint64(i+1) {
			t.Errorf("cookie %d of entry %d", e.next, i)
		}
		rest, _ := g.readdir(fd, e.next, 1<<16)
		if len(rest) != len(all)-i-1 {
			t.Errorf("%d entries from cookie %d", len(rest), e.next)
		}
	}
	for _, cookie := range []uint64{uint64(len(all)), 1000, 1 << 63, 1<<64 - 1} {
		if list, end := g.readdir(fd, cookie, 100); len(list) != 0 || !end {
			t.Errorf("cookie %d: %v", cookie, list)
		}
	}
}

func TestReaddirWhileItChanges(t *testing.T) {
	g := newGuest(t)
	for i := range 50 {
		g.hostWrite(fmt.Sprintf("old%02d", i), "")
	}
	fd := g.openDir(".")
	first, _ := g.readdir(fd, 0, 500)
	cookie := first[len(first)-1].next
	for i := range 50 {
		if err := os.Remove(filepath.Join(g.dir, fmt.Sprintf("old%02d", i))); err != nil {
			t.Fatal(err)
		}
		g.hostWrite(fmt.Sprintf("new%02d", i), "")
	}
	rest := g.readdirAll(fd, cookie, 300)
	seen := map[string]int{}
	for _, e := range append(first, rest...) {
		seen[e.name]++
	}
	for i := range 50 {
		if n := seen[fmt.Sprintf("old%02d", i)]; n != 1 {
			t.Errorf("old%02d was seen %d times", i, n)
		}
	}
	if list := g.readdirAll(fd, 0, 300); len(list) != 52 || strings.Contains(names(list), "old") {
		t.Errorf("after a rewind: %s", names(list))
	}
	// A descriptor that begins in the middle gets a listing of its own.
	other := g.openDir(".")
	if list := g.readdirAll(other, 2, 300); len(list) != 50 {
		t.Errorf("%d entries from cookie 2", len(list))
	}
}

func TestReaddirLimit(t *testing.T) {
	g := newGuest(t, func(c *Config) { c.Limits.ListingBytes = 1000 })
	fd := g.openDir(".")
	g.readdir(fd, 0, 4096)
	for i := range 20 {
		g.hostWrite(fmt.Sprintf("file%02d", i), "")
	}
	g.want(ENOMEM, "fd_readdir", fd, make(buf, 100), 0, new(uint32))
	// It is a limit for all directories that are being read together.
	g.hostWrite("d/1", "")
	var fds []uint32
	for range 4 {
		fds = append(fds, g.openDir("d"))
		g.readdir(fds[len(fds)-1], 0, 4096)
	}
	more := g.openDir("d")
	for range 2 {
		fds = append(fds, g.openDir("d"))
		g.call("fd_readdir", fds[len(fds)-1], make(buf, 100), 0, new(uint32))
	}
	g.want(ENOMEM, "fd_readdir", more, make(buf, 100), 0, new(uint32))
	for _, f := range fds {
		g.close(f)
	}
	g.readdir(more, 0, 4096)
}

func TestReaddirMany(t *testing.T) {
	g := newGuest(t)
	for i := range 1000 {
		g.hostWrite(fmt.Sprintf("a file with quite a long name, number %d", i), "")
	}
	if list := g.readdirAll(rootFD, 0, 256); len(list) != 1002 {
		t.Errorf("%d entries", len(list))
	}
}
