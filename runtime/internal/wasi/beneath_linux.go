package wasi

import (
	"strings"

	"golang.org/x/sys/unix"
)

// createMode is the mode of new files and, with the execute bits, of new
// directories, before the umask.
const createMode = 0o666

// maxSymlinks is how many symbolic links one path may lead through, as in Linux.
const maxSymlinks = 40

// maxResolveRetries is how often openat2 is asked again after a rename that
// raced it, before the path is walked instead.
const maxResolveRetries = 64

// Open implements Kernel.
func (s *System) Open(dir Handle, path string, flags OpenFlags) (Handle, Errno) {
	// Not blocking is for named pipes and devices; it means nothing to files.
	how := unix.O_CLOEXEC
	if flags&OpenName != 0 {
		how |= unix.O_PATH
	} else {
		how |= unix.O_NOCTTY | unix.O_NONBLOCK
		switch {
		case flags&OpenWrite == 0:
			how |= unix.O_RDONLY
		case flags&OpenRead == 0:
			how |= unix.O_WRONLY
		default:
			how |= unix.O_RDWR
		}
		if flags&OpenCreate != 0 {
			how |= unix.O_CREAT
		}
		if flags&OpenExclusive != 0 {
			how |= unix.O_EXCL
		}
		if flags&OpenTruncate != 0 {
			how |= unix.O_TRUNC
		}
	}
	if flags&OpenDirectory != 0 {
		how |= unix.O_DIRECTORY
	}
	if flags&OpenNoFollow != 0 {
		how |= unix.O_NOFOLLOW
	}

	if !s.noOpenat2 {
		for range maxResolveRetries {
			fd, err := openat2(int(dir), path, how)
			switch err {
			case nil:
				return Handle(fd), ESUCCESS
			case unix.EINTR, unix.EAGAIN:
				continue
			case unix.EXDEV:
				return NoHandle, ENOTCAPABLE
			}
			return NoHandle, toErrno(err)
		}
	}
	fd, errno := walk(int(dir), path, how)
	return Handle(fd), errno
}

// openat2 opens path beneath dir. EXDEV means that the path leaves it.
func openat2(dir int, path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = createMode
	}
	return unix.Openat2(dir, path, &how)
}

// walk opens path beneath dir one component at a time, for kernels without
// openat2. It never lets the kernel follow a symbolic link nor go up: links are
// read and spliced into the path, and ".." returns to a descriptor that was
// already passed on the way down. So whatever others rename or replace
// meanwhile, each step starts from a directory that was reached from dir.
func walk(dir int, path string, flags int) (int, Errno) {
	w := walker{root: dir}
	defer w.close()
	if path == "" {
		return -1, ENOENT
	}
	if len(path) >= unix.PathMax {
		return -1, ENAMETOOLONG
	}
	rest := path
	for {
		if strings.HasPrefix(rest, "/") {
			return -1, ENOTCAPABLE
		}
		name, tail, _ := strings.Cut(rest, "/")
		slashed := len(name) < len(rest)
		tail = strings.TrimLeft(tail, "/")
		if name == "." || name == ".." {
			if name == ".." && !w.up() {
				return -1, ENOTCAPABLE
			}
			if tail == "" {
				return w.openSelf(flags)
			}
			rest = tail
			continue
		}
		last := tail == ""
		if !last {
			link, errno := w.down(name)
			if errno != ESUCCESS {
				return -1, errno
			}
			rest = tail
			if link != "" {
				rest = link + "/" + tail
			}
			continue
		}
		fd, link, errno := w.open(name, flags, slashed)
		if link == "" {
			return fd, errno
		}
		rest = link
		if slashed {
			rest += "/"
		}
	}
}

// walker is a position beneath a directory.
type walker struct {
	root  int
	stack []int // the directories between root and here, opened by us
	links int   // symbolic links met so far
}

func (w *walker) here() int {
	if len(w.stack) == 0 {
		return w.root
	}
	return w.stack[len(w.stack)-1]
}

func (w *walker) close() {
	for _, fd := range w.stack {
		_ = unix.Close(fd) // nothing was written
	}
}

// up goes to the parent directory; false if that is outside.
func (w *walker) up() bool {
	if len(w.stack) == 0 {
		return false
	}
	_ = unix.Close(w.here()) // nothing was written
	w.stack = w.stack[:len(w.stack)-1]
	return true
}

// down enters the directory name, or returns the target if it is a link.
func (w *walker) down(name string) (link string, errno Errno) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(w.here(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return "", toErrno(err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil {
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			w.stack = append(w.stack, fd)
			return "", ESUCCESS
		case unix.S_IFLNK:
			link, errno = w.follow(fd, "")
		default:
			errno = ENOTDIR
		}
	} else {
		errno = toErrno(err)
	}
	_ = unix.Close(fd) // nothing was written
	return link, errno
}

// follow returns the target of the link name in the directory fd, or of fd
// itself if name is empty. EINVAL means that it is none.
func (w *walker) follow(fd int, name string) (string, Errno) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, name, buf)
	switch {
	case err == unix.EINVAL:
		return "", EINVAL
	case err != nil:
		return "", toErrno(err)
	case n == 0:
		return "", ENOENT
	case buf[0] == '/':
		return "", ENOTCAPABLE
	}
	if w.links++; w.links > maxSymlinks {
		return "", ELOOP
	}
	return string(buf[:n]), ESUCCESS
}

// openSelf opens the directory that the walk stands in.
func (w *walker) openSelf(flags int) (int, Errno) {
	if flags&unix.O_CREAT != 0 {
		if flags&unix.O_EXCL != 0 {
			return -1, EEXIST
		}
		return -1, EISDIR
	}
	fd, err := retry(func() (int, error) { return unix.Openat(w.here(), ".", flags, 0) })
	return fd, toErrno(err)
}

// open opens the last component, or returns the target if it is a link that is
// to be followed.
func (w *walker) open(name string, flags int, slashed bool) (fd int, link string, errno Errno) {
	if slashed {
		// A trailing slash demands a directory, and follows a link whatever the
		// caller said. Linux creates nothing at such a path.
		if flags&unix.O_CREAT != 0 {
			return -1, "", EISDIR
		}
		flags |= unix.O_DIRECTORY
		flags &^= unix.O_NOFOLLOW
	}
	followed := flags&unix.O_NOFOLLOW == 0 && flags&(unix.O_CREAT|unix.O_EXCL) != unix.O_CREAT|unix.O_EXCL
	if followed {
		link, errno = w.follow(w.here(), name)
		if errno == ESUCCESS || (errno != EINVAL && errno != ENOENT) {
			return -1, link, errno
		}
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(w.here(), name, flags|unix.O_NOFOLLOW, createMode)
	})
	if err != nil {
		// Had the name become a link since we looked, this says ELOOP: the same
		// as if the link led in a circle.
		return -1, "", toErrno(err)
	}
	if followed && flags&unix.O_PATH != 0 {
		// The same race: O_PATH opens the link itself. It must not pass for what
		// it points to.
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
			_ = unix.Close(fd) // nothing was written
			return -1, "", ELOOP
		}
	}
	return fd, "", ESUCCESS
}
