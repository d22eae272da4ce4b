package journal

import (
	"path"
	"strings"

	"perdure/runtime/internal/wasi"
)

// FirstHandle is the lowest handle that a Journal hands out; all are below endHandle.
const (
	FirstHandle wasi.Handle = 1 << 20
	endHandle   wasi.Handle = 1 << 30
)

// own tells whether h is one of the Journal's own.
func own(h wasi.Handle) bool { return h >= FirstHandle && h < endHandle }

// object is what a handle of the Journal stands for.
type object struct {
	used bool
	real wasi.Handle // NoHandle while it is not attached
	dead wasi.Errno  // what its use fails with, when it could not be attached

	// What it takes to attach it.
	kind  wasi.Kind
	root  bool   // a directory that the guest was given
	path  string // absolute, as the kernel tells it; empty if only the handle was known
	flags wasi.OpenFlags
	stat  wasi.Stat // what it was; zero if unknown
	fd    int64     // of the guest, for warnings; -1 if unknown
	gone  bool      // its name was removed, or never known
}

// standard is the position of a standard stream that is a file.
type standard struct {
	promised bool
	position int64
}

// add takes a handle for o.
func (j *Journal) add(o object) wasi.Handle {
	o.used = true
	if n := len(j.free); n > 0 {
		i := j.free[0]
		j.free = j.free[1:]
		j.objects[i] = o
		return FirstHandle + wasi.Handle(i)
	}
	j.objects = append(j.objects, o)
	return FirstHandle + wasi.Handle(len(j.objects)-1)
}

// object returns what h stands for, nil if that is the outside's.
func (j *Journal) object(h wasi.Handle) *object {
	if i := int(h - FirstHandle); own(h) && i < len(j.objects) && j.objects[i].used {
		return &j.objects[i]
	}
	return nil
}

// remove gives the handle back.
func (j *Journal) remove(h wasi.Handle) {
	i := int(h - FirstHandle)
	j.objects[i] = object{}
	j.free = append(j.free, i)
}

// outside returns the outside's handle for h, and why there is none.
func (j *Journal) outside(h wasi.Handle) (wasi.Handle, wasi.Errno) {
	if !own(h) {
		return h, wasi.ESUCCESS
	}
	o := j.object(h)
	switch {
	case o == nil:
		return wasi.NoHandle, wasi.EBADF
	case o.real == wasi.NoHandle:
		return wasi.NoHandle, o.dead
	}
	return o.real, wasi.ESUCCESS
}

// Deferred tells whether attaching waits, since the past is played first.
func (j *Journal) Deferred() bool { return j.playing }

// Promise returns the handle of what will be attached when the past has been played.
func (j *Journal) Promise(a wasi.Attachment) wasi.Handle {
	o := object{real: wasi.NoHandle, kind: a.Kind, root: a.Root, path: a.Path, flags: a.Flags, stat: a.Stat, fd: a.FD,
		dead: wasi.EIO, gone: a.Path == ""}
	if a.Kind == wasi.KindConnection {
		o.dead = wasi.ECONNRESET
	}
	return j.add(o)
}

// PromiseStandard says that the standard stream is moved to a position when the past has been
// played, further on by what the past reads.
func (j *Journal) PromiseStandard(h wasi.Handle, position int64) {
	if h >= 0 && int(h) < len(j.standards) {
		j.standards[h] = standard{true, position}
	}
}

// attach attaches all that is promised and returns what is lost.
func (j *Journal) attach() []wasi.Warning {
	var lost []wasi.Warning
	warn := func(o *object, what string) {
		if o.fd >= 0 || !o.root {
			lost = append(lost, wasi.Warning{FD: o.fd, Path: o.path, What: what})
		}
	}
	for pass := range 2 { // directories that were given come first
		for i := range j.objects {
			o := &j.objects[i]
			if !o.used || o.real != wasi.NoHandle || o.root != (pass == 0) {
				continue
			}
			if o.kind == wasi.KindConnection {
				warn(o, "connection is lost; the guest gets ECONNRESET")
				continue
			}
			if o.gone {
				warn(o, "the file had been removed while it was open; the guest gets EIO")
				continue
			}
			if errno := j.attachFile(o); errno != wasi.ESUCCESS {
				warn(o, "cannot be opened again: "+errno.Error()+"; the guest gets EIO")
			}
		}
	}
	for h := range j.standards {
		if s := &j.standards[h]; s.promised {
			s.promised = false
			if _, errno := j.k.Seek(wasi.Handle(h), s.position, 0); errno != wasi.ESUCCESS {
				lost = append(lost, wasi.Warning{FD: int64(h), What: "cannot go on where it was: " + errno.Error()})
			}
		}
	}
	return lost
}

// attachFile opens a file or directory again.
func (j *Journal) attachFile(o *object) wasi.Errno {
	if o.root {
		real, err := j.k.OpenRoot(o.path)
		if err != nil {
			return wasi.EIO
		}
		o.real = real
		if p, errno := j.k.Path(real); errno == wasi.ESUCCESS {
			o.path = p
		}
		return wasi.ESUCCESS
	}
	dir, rel := j.rootOf(o.path)
	if dir == wasi.NoHandle {
		return wasi.ENOTCAPABLE
	}
	flags := o.flags &^ (wasi.OpenCreate | wasi.OpenExclusive | wasi.OpenTruncate)
	real, errno := j.k.Open(dir, rel, flags)
	if errno == wasi.ENXIO && flags&wasi.OpenRead == 0 {
		real, errno = j.k.Open(dir, rel, flags|wasi.OpenRead) // a named pipe without a reader, for the moment
	}
	if errno != wasi.ESUCCESS {
		return errno
	}
	st, errno := j.k.Stat(real)
	if errno == wasi.ESUCCESS && o.stat.Ino != 0 && (st.Ino != o.stat.Ino || st.Type != o.stat.Type) && rel != "." {
		errno = wasi.ESTALE
	}
	if errno != wasi.ESUCCESS {
		j.k.Close(real) // nothing was written
		return errno
	}
	o.real = real
	return wasi.ESUCCESS
}

// rootOf returns the attached directory of the guest that has the path, the deepest one, and
// the path beneath it.
func (j *Journal) rootOf(p string) (wasi.Handle, string) {
	best, rel, depth := wasi.NoHandle, "", -1
	for i := range j.objects {
		o := &j.objects[i]
		if !o.used || !o.root || o.real == wasi.NoHandle || len(o.path) <= depth {
			continue
		}
		if r, ok := beneath(o.path, p); ok {
			best, rel, depth = o.real, r, len(o.path)
		}
	}
	return best, rel
}

// beneath returns p relative to dir, if it is in there.
func beneath(dir, p string) (string, bool) {
	if p == dir {
		return ".", true
	}
	rel, ok := strings.CutPrefix(p, strings.TrimSuffix(dir, "/")+"/")
	return rel, ok
}

// moved follows a rename of the past: what lay at or below oldPath lies at newPath, and what
// had that name is gone.
func (j *Journal) moved(oldPath, newPath string) {
	if oldPath == newPath {
		return
	}
	for i := range j.objects {
		o := &j.objects[i]
		if !o.used || o.real != wasi.NoHandle || o.gone || o.root {
			continue
		}
		if rel, ok := beneath(oldPath, o.path); ok {
			o.path = path.Join(newPath, rel)
		} else if o.path == newPath {
			o.gone = true
		}
	}
}

// removed follows the removal of a name.
func (j *Journal) removed(p string) {
	for i := range j.objects {
		if o := &j.objects[i]; o.used && o.real == wasi.NoHandle && o.path == p && !o.root {
			o.gone = true
		}
	}
}

// where returns the absolute path of name in the directory h, empty if it is not known.
func (j *Journal) where(h wasi.Handle, name string) string {
	dir, errno := j.k.Path(h)
	if errno != wasi.ESUCCESS {
		return ""
	}
	return path.Join(dir, strings.TrimSuffix(name, "/"))
}

// RootPath returns the path of a host's directory as the kernel tells it.
func (j *Journal) RootPath(dir string) string {
	h, err := j.k.OpenRoot(dir)
	if err != nil {
		return ""
	}
	p, errno := j.k.Path(h)
	j.k.Close(h) // it only named the directory
	if errno != wasi.ESUCCESS {
		return ""
	}
	return p
}

var _ wasi.Deferrer = (*Journal)(nil)
