package wasi

import (
	"bytes"
	"strings"
)

// path returns the n bytes at p as a path of the guest.
func (m memory) path(p, n uint32) (string, Errno) {
	b, ok := m.bytes(p, n)
	switch {
	case !ok:
		return "", EFAULT
	case len(b) == 0:
		return "", ENOENT
	case len(b) >= maxPathBytes:
		return "", ENAMETOOLONG
	case bytes.IndexByte(b, 0) >= 0:
		return "", EINVAL
	}
	return string(b), ESUCCESS
}

// isDirectory reports whether paths can be relative to o. A directory that
// somebody gave us as a standard stream does not count: it is not the guest's.
func (o *open) isDirectory() bool {
	return o.Type == FileDirectory && o.Kind == KindFile
}

// directory returns the attached directory of that number if it has the right.
func (h *Host) directory(fd uint32, right Rights) (*open, Errno) {
	o, errno := h.live(fd)
	switch {
	case errno != ESUCCESS:
		return nil, errno
	case !o.isDirectory():
		return nil, ENOTDIR
	}
	return o, o.may(right)
}

// at is directory and path at once: what most path functions begin with.
func (h *Host) at(m memory, fd uint32, right Rights, p, n uint32) (*open, string, Errno) {
	path, errno := m.path(p, n)
	if errno != ESUCCESS {
		return nil, "", errno
	}
	o, errno := h.directory(fd, right)
	return o, path, errno
}

// place is a name in a directory, where something is or will be.
type place struct {
	dir   Handle
	owned bool // close dir
	// name is the last component of the path, with one slash behind it if the
	// path has some. It is empty if the path ends in "." or "..", which can be
	// neither made nor removed.
	name   string
	dotdot bool // the path ends in ".."
}

// place resolves all but the last component of path beneath o. The caller
// leaves the result.
func (h *Host) place(o *open, path string) (place, Errno) {
	if path[0] == '/' {
		return place{}, ENOTCAPABLE
	}
	trimmed := strings.TrimRight(path, "/")
	i := strings.LastIndexByte(trimmed, '/') + 1
	name := trimmed[i:]
	if name == "." || name == ".." {
		// Resolve the whole, for the errors: it must be there, and inside.
		dir, errno := h.k.Open(o.handle, path, OpenName|OpenDirectory)
		return place{dir: dir, owned: true, dotdot: name == ".."}, errno
	}
	pl := place{dir: o.handle, name: name}
	if len(trimmed) < len(path) {
		pl.name += "/"
	}
	if i > 0 {
		var errno Errno
		pl.dir, errno = h.k.Open(o.handle, trimmed[:i], OpenName|OpenDirectory)
		if errno != ESUCCESS {
			return place{}, errno
		}
		pl.owned = true
	}
	return pl, ESUCCESS
}

// leave gives back what place opened.
func (h *Host) leave(pl place) {
	if pl.owned && pl.dir != NoHandle {
		h.k.Close(pl.dir) // a directory holds no data to lose
	}
}

// refuse returns what a read-only directory says to something being made at pl.
func (h *Host) refuse(pl place) Errno {
	there, errno := h.k.Open(pl.dir, strings.TrimSuffix(pl.name, "/"), OpenName|OpenNoFollow)
	if errno != ESUCCESS {
		return EROFS
	}
	h.k.Close(there) // it only named the file
	return EEXIST
}

func pathCreateDirectory(h *Host, m memory, a []uint64) (Errno, error) {
	o, path, errno := h.at(m, uint32(a[0]), RightPathCreateDirectory, uint32(a[1]), uint32(a[2]))
	if errno != ESUCCESS {
		return errno, nil
	}
	pl, errno := h.place(o, path)
	if errno != ESUCCESS {
		return errno, nil
	}
	defer h.leave(pl)
	switch {
	case pl.name == "":
		return EEXIST, nil
	case o.readOnly:
		return h.refuse(pl), nil
	}
	return h.k.Mkdir(pl.dir, pl.name), nil
}

func pathRemoveDirectory(h *Host, m memory, a []uint64) (Errno, error) {
	return h.unlink(m, a, RightPathRemoveDirectory, true), nil
}

func pathUnlinkFile(h *Host, m memory, a []uint64) (Errno, error) {
	return h.unlink(m, a, RightPathUnlinkFile, false), nil
}

func (h *Host) unlink(m memory, a []uint64, right Rights, directory bool) Errno {
	o, path, errno := h.at(m, uint32(a[0]), right, uint32(a[1]), uint32(a[2]))
	if errno != ESUCCESS {
		return errno
	}
	pl, errno := h.place(o, path)
	if errno != ESUCCESS {
		return errno
	}
	defer h.leave(pl)
	switch {
	case pl.name == "" && !directory:
		return EISDIR
	case pl.name == "" && pl.dotdot:
		return ENOTEMPTY
	case pl.name == "":
		return EINVAL
	case o.readOnly:
		return EROFS
	}
	return h.k.Unlink(pl.dir, pl.name, directory)
}

// follow returns the flags that lookupflags stand for.
func follow(lookup uint32) (OpenFlags, Errno) {
	switch lookup {
	case 0:
		return OpenNoFollow, ESUCCESS
	case lookupSymlinkFollow:
		return 0, ESUCCESS
	}
	return 0, EINVAL
}

func pathFilestatGet(h *Host, m memory, a []uint64) (Errno, error) {
	result := uint32(a[4])
	if !m.has(result, sizeFilestat) {
		return EFAULT, nil
	}
	o, path, errno := h.at(m, uint32(a[0]), RightPathFilestatGet, uint32(a[2]), uint32(a[3]))
	if errno != ESUCCESS {
		return errno, nil
	}
	flags, errno := follow(uint32(a[1]))
	if errno != ESUCCESS {
		return errno, nil
	}
	file, errno := h.k.Open(o.handle, path, OpenName|flags)
	if errno != ESUCCESS {
		return errno, nil
	}
	st, errno := h.k.Stat(file)
	h.k.Close(file) // it only named the file
	if errno == ESUCCESS {
		putFilestat(m, result, &st)
	}
	return errno, nil
}

func pathFilestatSetTimes(h *Host, m memory, a []uint64) (Errno, error) {
	o, path, errno := h.at(m, uint32(a[0]), RightPathFilestatSetTimes, uint32(a[2]), uint32(a[3]))
	if errno != ESUCCESS {
		return errno, nil
	}
	flags, errno := follow(uint32(a[1]))
	if errno != ESUCCESS {
		return errno, nil
	}
	atim, mtim, errno := timeUpdates(a[4], a[5], uint32(a[6]))
	if errno != ESUCCESS {
		return errno, nil
	}
	file, errno := h.k.Open(o.handle, path, OpenName|flags)
	if errno != ESUCCESS {
		return errno, nil
	}
	errno = EROFS
	if !o.readOnly {
		errno = h.k.SetTimes(file, atim, mtim)
	}
	h.k.Close(file) // it only named the file
	return errno, nil
}

func pathReadlink(h *Host, m memory, a []uint64) (Errno, error) {
	result := uint32(a[5])
	buf, ok := m.bytes(uint32(a[3]), uint32(a[4]))
	if !ok || !m.has(result, 4) {
		return EFAULT, nil
	}
	o, path, errno := h.at(m, uint32(a[0]), RightPathReadlink, uint32(a[1]), uint32(a[2]))
	if errno != ESUCCESS {
		return errno, nil
	}
	link, errno := h.k.Open(o.handle, path, OpenName|OpenNoFollow)
	if errno != ESUCCESS {
		return errno, nil
	}
	target, errno := h.k.Readlink(link)
	h.k.Close(link) // it only named the link
	if errno != ESUCCESS {
		return errno, nil
	}
	m.putUint32(result, uint32(copy(buf, target)))
	return ESUCCESS, nil
}

func pathRename(h *Host, m memory, a []uint64) (Errno, error) {
	oldDir, oldPath, errno := h.at(m, uint32(a[0]), RightPathRenameSource, uint32(a[1]), uint32(a[2]))
	if errno != ESUCCESS {
		return errno, nil
	}
	newDir, newPath, errno := h.at(m, uint32(a[3]), RightPathRenameTarget, uint32(a[4]), uint32(a[5]))
	if errno != ESUCCESS {
		return errno, nil
	}
	from, errno := h.place(oldDir, oldPath)
	if errno != ESUCCESS {
		return errno, nil
	}
	defer h.leave(from)
	to, errno := h.place(newDir, newPath)
	if errno != ESUCCESS {
		return errno, nil
	}
	defer h.leave(to)
	switch {
	case from.name == "" || to.name == "":
		return EBUSY, nil
	case oldDir.readOnly || newDir.readOnly:
		return EROFS, nil
	}
	return h.k.Rename(from.dir, from.name, to.dir, to.name), nil
}

func pathSymlink(h *Host, m memory, a []uint64) (Errno, error) {
	target, errno := m.path(uint32(a[0]), uint32(a[1]))
	if errno != ESUCCESS {
		return errno, nil
	}
	o, path, errno := h.at(m, uint32(a[2]), RightPathSymlink, uint32(a[3]), uint32(a[4]))
	if errno != ESUCCESS {
		return errno, nil
	}
	if target[0] == '/' {
		// The guest could not follow it, but others outside might.
		return ENOTCAPABLE, nil
	}
	pl, errno := h.place(o, path)
	if errno != ESUCCESS {
		return errno, nil
	}
	defer h.leave(pl)
	switch {
	case pl.name == "":
		return EEXIST, nil
	case o.readOnly:
		return h.refuse(pl), nil
	}
	return h.k.Symlink(target, pl.dir, pl.name), nil
}
