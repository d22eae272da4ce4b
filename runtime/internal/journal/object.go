package journal

import (
	"fmt"
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

	socket *wasi.SocketState // as the keeper knows it; nil if it does not
	made   *wasi.MadeSocket  // that the guest made; nil if it is none
	early  []byte            // was received by the call under way at the crash
	sent   int               // bytes that the call under way had sent

	stream bool       // a connection that was accepted
	room   int        // how much may wait to be sent; 0 if not known yet
	third  int        // of the connection's buffer
	free   int        // at least so much of that is free
	out    []byte     // waits to be sent; while the past is played, the end of what it sends
	failed wasi.Errno // of what waited
}

// is tells whether o is a file that is open, and the one that was so described.
func (o *object) is(dev, ino uint64) bool {
	return o.used && o.kind == wasi.KindFile && o.flags&wasi.OpenName == 0 && o.stat.Ino == ino && o.stat.Dev == dev && ino != 0
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
	if i < 0 || i >= len(j.objects) {
		return
	}
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
	if a.Kind != wasi.KindFile {
		o.kind, o.dead, o.stream = wasi.KindConnection, wasi.ECONNRESET, a.Kind == wasi.KindConnection
		if a.Made != nil {
			made := *a.Made
			made.Options = append([]wasi.SocketOptionValue(nil), made.Options...)
			o.made = &made
		}
		if a.Socket != nil {
			s := *a.Socket
			o.socket = &s
		}
	}
	if a.Root {
		if p := j.RootPath(a.Path); p != "" {
			o.path = p
		}
	}
	return j.add(o)
}

// PromiseStandard says that the standard stream is moved to a position when the past has been
// played, further on by what the past reads.
func (j *Journal) PromiseStandard(h wasi.Handle, position int64) {
	if j.positions == nil {
		j.positions = map[wasi.Handle]int64{}
	}
	j.positions[h] = position
}

// attach attaches all that is promised and returns what is lost. under is the call that was
// under way at the crash and may have moved a name; nil if there is none.
func (j *Journal) attach(under *standing) []wasi.Warning {
	var lost []wasi.Warning
	warn := func(o *object, what string) {
		lost = append(lost, wasi.Warning{FD: o.fd, Path: o.path, What: what})
	}
	for pass := range 2 { // directories that were given come first
		for i := range j.objects {
			o := &j.objects[i]
			if !o.used || o.real != wasi.NoHandle || o.root != (pass == 0) || o.kind == wasi.KindListener {
				continue
			}
			switch {
			case o.kind == wasi.KindConnection:
				if err := j.attachSocket(o); err != nil {
					warn(o, "connection is lost: "+err.Error()+"; the guest gets ECONNRESET")
				}
			case o.root:
				if what := j.attachRoot(o); what != "" {
					warn(o, what)
				}
			default:
				if what := j.attachFile(o, under); what != "" {
					warn(o, what)
				}
			}
		}
	}
	for h, position := range j.positions {
		if _, errno := j.k.Seek(h, position, 0); errno != wasi.ESUCCESS {
			lost = append(lost, wasi.Warning{FD: -1, Path: "standard stream", What: "cannot go on where it was: " + errno.Error()})
		}
	}
	j.positions = nil
	j.attachWaiting()
	switch reset, err := j.k.Settle(); {
	case err != nil:
		lost = append(lost, wasi.Warning{FD: -1, What: "the keeper of sockets: " + err.Error()})
	case reset > 0:
		lost = append(lost, wasi.Warning{FD: -1, What: fmt.Sprintf("%d connections were reset that the guest does not know", reset)})
	}
	j.sweepOrphans()
	return lost
}

// attachRoot opens a directory that the guest was given, and tells what is wrong with it.
func (j *Journal) attachRoot(o *object) string {
	real, err := j.k.OpenRoot(o.path)
	if err != nil {
		return fmt.Sprintf("directory cannot be opened again: %v", err)
	}
	o.real = real
	if p, errno := j.k.Path(real); errno == wasi.ESUCCESS {
		o.path = p
	}
	if st, errno := j.k.Stat(real); errno == wasi.ESUCCESS && o.stat.Ino != 0 && st.Ino != o.stat.Ino {
		return "another directory than before"
	}
	return ""
}

// attachFile opens a file or directory again, and tells what is wrong with it.
func (j *Journal) attachFile(o *object, under *standing) string {
	var paths []string
	if !o.gone {
		paths = append(paths, o.path)
		if under != nil && under.from != "" && under.to != "" {
			if rel, ok := beneath(under.from, o.path); ok {
				paths = append(paths, path.Join(under.to, rel))
			}
		}
	}
	why, other := wasi.ENOENT, wasi.NoHandle
	for _, p := range paths {
		real, errno := j.reopen(o, p)
		if errno != wasi.ESUCCESS {
			why = errno
			continue
		}
		st, errno := j.k.Stat(real)
		switch {
		case errno != wasi.ESUCCESS:
			why = errno
		case o.stat.Ino == 0 || same(&st, &o.stat):
			o.real, o.stat = real, st
			j.close(other)
			return ""
		case st.Type != o.stat.Type:
			why = wasi.ESTALE
		case other == wasi.NoHandle:
			other = real
			continue
		}
		j.close(real)
	}
	if real, errno := j.openOrphan(o.stat.Dev, o.stat.Ino, o.flags); errno == wasi.ESUCCESS {
		o.real = real
		j.close(other)
		return ""
	}
	switch {
	case other != wasi.NoHandle:
		o.real = other
		return "is another file than before"
	case o.gone:
		return "the file had been removed while it was open; the guest gets EIO"
	}
	return "cannot be opened again: " + why.Error() + "; the guest gets EIO"
}

// close closes a handle of the outside that was opened for reading or not used, if it is one.
func (j *Journal) close(h wasi.Handle) {
	if h != wasi.NoHandle {
		j.k.Close(h) // nothing was written
	}
}

// same tells whether two descriptions are of one file, or directory.
func same(a, b *wasi.Stat) bool {
	return a.Ino == b.Ino && a.Type == b.Type && (a.Born == b.Born || a.Born == 0 || b.Born == 0)
}

// reopen opens o again, at a path.
func (j *Journal) reopen(o *object, p string) (wasi.Handle, wasi.Errno) {
	dir, rel := j.rootOf(p)
	if dir == wasi.NoHandle {
		return dir, wasi.ENOTCAPABLE
	}
	flags := again(o.flags)
	real, errno := j.k.Open(dir, rel, flags)
	if errno == wasi.ENXIO && flags&wasi.OpenRead == 0 {
		real, errno = j.k.Open(dir, rel, flags|wasi.OpenRead) // a named pipe without a reader, for the moment
	}
	return real, errno
}

// again returns how something is opened that was opened before with flags.
func again(flags wasi.OpenFlags) wasi.OpenFlags {
	return flags &^ (wasi.OpenCreate | wasi.OpenExclusive | wasi.OpenTruncate)
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
	real, errno := j.outside(h)
	if errno != wasi.ESUCCESS {
		return ""
	}
	dir, errno := j.k.Path(real)
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
