package wasi

import "strings"

// maxLinkHops is how many symbolic links the source of a hard link may lead
// through, as in Linux.
const maxLinkHops = 40

func pathLink(h *Host, m memory, a []uint64) (Errno, error) {
	oldDir, oldPath, errno := h.at(m, uint32(a[0]), RightPathLinkSource, uint32(a[2]), uint32(a[3]))
	if errno != ESUCCESS {
		return errno, nil
	}
	newDir, newPath, errno := h.at(m, uint32(a[4]), RightPathLinkTarget, uint32(a[5]), uint32(a[6]))
	if errno != ESUCCESS {
		return errno, nil
	}
	flags, errno := follow(uint32(a[1]))
	if errno != ESUCCESS {
		return errno, nil
	}
	from, errno := h.linkSource(oldDir, oldPath, flags == 0)
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
	case to.name == "":
		return EEXIST, nil
	case newDir.readOnly:
		return h.refuse(to), nil
	case oldDir.readOnly:
		// A second name would be a way to write to the file.
		return EROFS, nil
	}
	return h.k.Link(from.dir, from.name, to.dir, to.name), nil
}

// linkSource finds the name that a hard link is to be made of. To follow a
// symbolic link is done here and not in the kernel, whose link would not stay
// beneath the directory. The caller leaves the result.
func (h *Host) linkSource(o *open, path string, follow bool) (place, Errno) {
	for range maxLinkHops {
		pl, errno := h.place(o, path)
		if errno != ESUCCESS {
			return place{}, errno
		}
		if pl.name == "" || strings.HasSuffix(pl.name, "/") {
			// It names a directory, or nothing.
			h.leave(pl)
			dir, errno := h.k.Open(o.handle, path, OpenName|OpenDirectory)
			if errno != ESUCCESS {
				return place{}, errno
			}
			h.k.Close(dir) // it only named the directory
			return place{}, EPERM
		}
		if !follow {
			return pl, ESUCCESS
		}
		target, errno := h.linkTarget(pl)
		if errno == EINVAL {
			return pl, ESUCCESS // no symbolic link
		}
		h.leave(pl)
		switch {
		case errno != ESUCCESS:
			return place{}, errno
		case target == "":
			return place{}, ENOENT
		case target[0] == '/':
			return place{}, ENOTCAPABLE
		}
		path = path[:strings.LastIndexByte(path, '/')+1] + target
	}
	return place{}, ELOOP
}

// linkTarget returns where the symbolic link at pl leads; EINVAL if it is none.
func (h *Host) linkTarget(pl place) (string, Errno) {
	file, errno := h.k.Open(pl.dir, pl.name, OpenName|OpenNoFollow)
	if errno != ESUCCESS {
		return "", errno
	}
	target, errno := h.k.Readlink(file)
	h.k.Close(file) // it only named the file
	return target, errno
}
