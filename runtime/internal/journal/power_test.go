package journal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"perdure/runtime/internal/wasi"
)

// disk knows what of a directory is there after the loss of power: what was synced, and nothing
// else that POSIX does not promise. It gives files numbers of its own, which they keep over a loss,
// as inodes do.
type disk struct {
	t      *testing.T
	root   string
	ids    map[identity]uint64 // of what is there now
	nodes  map[uint64]*inode
	lastID uint64
}

// identity is what the operating system knows a file by.
type identity struct{ ino, born uint64 }

// identify returns what is at a path, and its mode. It follows no symbolic link there.
func identify(path string) (who identity, mode uint16, err error) {
	var x unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return identity{x.Ino, uint64(x.Btime.Sec)*1e9 + uint64(x.Btime.Nsec)}, x.Mode, err
}

// inode is what is durable of a file.
type inode struct {
	kind   wasi.FileType
	data   []byte            // of a file, up to zeros
	size   int64             // of a file
	names  map[string]uint64 // of a directory
	target string            // of a symbolic link
}

// newDisk returns the disk of a directory, of which everything is durable.
func newDisk(t *testing.T, root string) *disk {
	d := &disk{t: t, root: root, ids: map[identity]uint64{}, nodes: map[uint64]*inode{}}
	err := filepath.WalkDir(root, func(p string, e os.DirEntry, err error) error {
		if err == nil {
			d.synced(p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// id returns the number of a file.
func (d *disk) id(who identity, kind wasi.FileType) uint64 {
	id, ok := d.ids[who]
	if !ok {
		d.lastID++
		id = d.lastID
		d.ids[who] = id
		d.nodes[id] = &inode{kind: kind}
	}
	return id
}

// idAt returns the number of what is at a path, which may end in a symbolic link.
func (d *disk) idAt(path string) uint64 {
	who, mode, err := identify(path)
	if err != nil {
		d.t.Fatal(err)
	}
	kind := wasi.FileRegular
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		kind = wasi.FileDirectory
	case unix.S_IFLNK:
		kind = wasi.FileSymlink
	}
	id := d.id(who, kind)
	if kind == wasi.FileSymlink {
		target, err := os.Readlink(path)
		if err != nil {
			d.t.Fatal(err)
		}
		d.nodes[id].target = target
	}
	return id
}

// synced notes that what is at a path was made durable.
func (d *disk) synced(path string) { d.sync(d.idAt(path), path) }

// sync is synced for a file of that number, which may have another path.
func (d *disk) sync(id uint64, path string) {
	n := d.nodes[id]
	switch n.kind {
	case wasi.FileRegular:
		n.data, n.size = d.read(path)
	case wasi.FileDirectory:
		entries, err := os.ReadDir(path)
		if err != nil {
			d.t.Fatal(err)
		}
		before := n.names
		n.names = map[string]uint64{}
		for _, e := range entries {
			n.names[e.Name()] = d.idAt(filepath.Join(path, e.Name()))
		}
		for name, id := range n.names {
			if before[name] != id {
				d.moved(id)
			}
		}
	}
}

// moved follows a rename from one directory to another, of which no half is durable: the names
// that a file had and has no more are gone.
func (d *disk) moved(id uint64) {
	for dir, n := range d.nodes {
		for name, was := range n.names {
			if was != id {
				continue
			}
			if path, ok := d.path(dir); ok {
				if _, err := os.Lstat(filepath.Join(path, name)); err != nil {
					delete(n.names, name)
				}
			}
		}
	}
}

// path returns where a directory is now.
func (d *disk) path(id uint64) (path string, ok bool) {
	_ = filepath.WalkDir(d.root, func(p string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() && d.idAt(p) == id {
			path, ok = p, true
		}
		return nil // what cannot be read is not it
	})
	return path, ok
}

// wrote notes that a piece of a file was made durable.
func (d *disk) wrote(id uint64, path string, from, to int64) {
	now, _ := d.read(path)
	n := d.nodes[id]
	if int64(len(n.data)) < to {
		n.data = append(n.data, make([]byte, to-int64(len(n.data)))...)
	}
	copy(n.data[from:to], now[from:])
	n.size = max(n.size, to)
}

// read returns what is in a file up to the zeros at its end, and its size.
func (d *disk) read(path string) (data []byte, size int64) {
	f, err := os.Open(path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		d.t.Fatal(err)
	}
	b := make([]byte, 16<<10)
	for {
		n, err := f.Read(b)
		if data = append(data, b[:n]...); err != nil || len(bytes.Trim(b[:n], "\x00")) == 0 {
			return data, st.Size()
		}
	}
}

// fail lets the power fail. With a nil rnd only what is durable is left; else there is also some of
// what is not: pages of files, and whole directories.
func (d *disk) fail(rnd *rand.Rand) {
	old := d.root + ".old"
	if err := os.Rename(d.root, old); err != nil {
		d.t.Fatal(err)
	}
	ids := map[identity]uint64{}
	made := map[uint64]string{}
	d.ids, ids = ids, d.ids
	var build func(id uint64, path, was string)
	build = func(id uint64, path, was string) {
		n := d.nodes[id]
		var err error
		now := func(kind wasi.FileType) bool { // there is more that may have come through
			if rnd == nil || was == "" || rnd.IntN(2) == 0 {
				return false
			}
			who, _, err := identify(was)
			return err == nil && ids[who] == id && n.kind == kind
		}
		switch {
		case made[id] != "":
			err = os.Link(made[id], path)
		case n.kind == wasi.FileSymlink:
			err = os.Symlink(n.target, path)
		case n.kind == wasi.FileRegular:
			if now(n.kind) {
				d.someOf(n, was, rnd)
			}
			if err = os.WriteFile(path, n.data, 0o600); err == nil {
				err = os.Truncate(path, n.size)
			}
		default:
			err = os.Mkdir(path, 0o700)
			for name, id := range n.names {
				build(id, filepath.Join(path, name), filepath.Join(was, name))
			}
		}
		if err != nil {
			d.t.Fatal(err)
		}
		if n.kind != wasi.FileDirectory {
			made[id] = path
		}
		who, _, err := identify(path)
		if err != nil {
			d.t.Fatal(err)
		}
		d.ids[who] = id
	}
	who, _, err := identify(old)
	if err != nil {
		d.t.Fatal(err)
	}
	build(ids[who], d.root, old)
	if err := os.RemoveAll(old); err != nil {
		d.t.Fatal(err)
	}
}

// sector is what a disk writes as a whole, in bytes.
const sector = 512

// someOf adds sectors of a file that were not synced.
func (d *disk) someOf(n *inode, path string, rnd *rand.Rand) {
	now, size := d.read(path)
	n.size = max(n.size, size)
	if len(now) > len(n.data) {
		n.data = append(n.data, make([]byte, len(now)-len(n.data))...)
	}
	for at := 0; at < len(now); at += sector {
		if rnd.IntN(2) == 0 {
			copy(n.data[at:min(at+sector, len(n.data))], now[at:])
		}
	}
}

// powered is the operating system with such a disk.
type powered struct {
	*wasi.System
	d *disk
}

func fdPath(h wasi.Handle) string { return fmt.Sprintf("/proc/self/fd/%d", h) }

func (k *powered) idOf(h wasi.Handle) (uint64, bool) {
	st, errno := k.System.Stat(h)
	if errno != wasi.ESUCCESS {
		return 0, false
	}
	return k.d.id(identity{st.Ino, st.Born}, st.Type), true
}

func (k *powered) Stat(h wasi.Handle) (wasi.Stat, wasi.Errno) {
	st, errno := k.System.Stat(h)
	if errno == wasi.ESUCCESS {
		st.Ino, st.Born = k.d.id(identity{st.Ino, st.Born}, st.Type), 0
	}
	return st, errno
}

func (k *powered) ReadDir(h wasi.Handle, most int) ([]wasi.DirEntry, wasi.Errno) {
	list, errno := k.System.ReadDir(h, most)
	for i := range list {
		list[i].Ino = 1 // nobody looks at it
	}
	return list, errno
}

func (k *powered) Sync(h wasi.Handle, dataOnly bool) wasi.Errno {
	if id, ok := k.idOf(h); ok {
		k.d.sync(id, fdPath(h))
	}
	return wasi.ESUCCESS
}

func (k *powered) Write(h wasi.Handle, bufs [][]byte, offset int64, flags wasi.WriteFlags) (int, int64, wasi.Errno) {
	n, end, errno := k.System.Write(h, bufs, offset, flags&wasi.WriteAppend)
	if id, ok := k.idOf(h); ok && n > 0 && flags&(wasi.WriteDsync|wasi.WriteSync) != 0 {
		switch {
		case flags&wasi.WriteAppend != 0:
			offset = end - int64(n)
		case offset == wasi.AtPosition:
			pos, errno := k.Seek(h, 0, 1)
			if errno != wasi.ESUCCESS {
				k.d.t.Fatal(errno)
			}
			offset = pos - int64(n)
		}
		k.d.wrote(id, fdPath(h), offset, offset+int64(n))
	}
	return n, end, errno
}

// putOn gives a life a disk whose power fails.
func (l *life) putOn() *disk {
	d := newDisk(l.t, l.dir)
	l.opt.Sync = true
	l.opt.boot = bootID{1}
	l.opt.syncing = func(path string, _ func() error) error {
		l.k.call(func() { d.synced(path) })
		return nil
	}
	l.kernel = func(s *wasi.System) wasi.Kernel { return &powered{s, d} }
	return d
}

// A guest of a machine whose power fails at any moment, or that is killed there, leaves what an undisturbed one does.
func TestPower(t *testing.T) { power(t, 151) }

// power lets the power fail at every stride-th moment, and once more later.
func power(t *testing.T, stride int) {
	for _, c := range []struct {
		name   string
		cuts   int
		rotate int
	}{{"from birth", 0, 0}, {"cuts", 2, 0}, {"segments", 1, 2000}} {
		t.Run(c.name, func(t *testing.T) {
			rnd := seed(t)
			start := func(t *testing.T) (*life, *disk) {
				l := newLife(t, c.cuts)
				l.dir = filepath.Join(l.dir, "disk")
				for _, name := range []string{"out", "stdin", "stdout"} {
					if err := os.MkdirAll(l.dir, 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.Rename(filepath.Join(filepath.Dir(l.dir), name), filepath.Join(l.dir, name)); err != nil {
						t.Fatal(err)
					}
				}
				l.opt.RotateAt = c.rotate
				return l, l.putOn()
			}
			l, _ := start(t)
			l.run(0, false)
			want, calls := l.left(), l.k.n
			failures, deaths := 0, 0
			for first := 1 + rnd.IntN(stride); first <= calls; first += stride {
				l, d := start(t)
				what, at := "", first
				for life := 0; !l.done; life++ {
					after := rnd.IntN(2) == 0
					what += fmt.Sprintf("; at %d of %d, after it: %v", at, calls, after)
					l.run(at, after)
					if !l.done && rnd.IntN(3) == 0 {
						what += ", and the machine runs on"
						deaths++
					} else if !l.done {
						failures++
						some := rnd
						if life == 0 && failures%2 == 0 {
							some = nil
						}
						d.fail(some)
						l.opt.boot[0]++
					}
					if t.Failed() {
						t.Fatal("power fails" + what)
					}
					if at = 0; life == 0 {
						at = rnd.IntN(120)
					}
				}
				if got := l.left(); got != want || len(l.lost) > 0 {
					t.Fatalf("power fails%s: %v\n%s", what, l.lost, difference(got, want))
				}
			}
			t.Logf("%d moments, %d failures, %d deaths", calls, failures, deaths)
		})
	}
}
