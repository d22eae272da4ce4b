package journal

import (
	"fmt"
	"os"
	"path/filepath"

	"perdure/runtime/internal/wasi"
)

// Orphans are files that the guest has open and that have no name left but one in the directory
// Options.Unlinked. Without that nobody could open such a file again. It works where that
// directory is in the file system of the file.

// fileID identifies a file while it exists.
type fileID struct{ dev, ino uint64 }

func (f fileID) String() string { return fmt.Sprintf("%x-%x", f.dev, f.ino) }

// orphans returns the directory, NoHandle if there is none.
func (j *Journal) orphans(create bool) wasi.Handle {
	if j.orphanage == wasi.NoHandle && j.opt.Unlinked != "" && !j.opt.Offline {
		if create {
			_ = j.makeDir(j.opt.Unlinked) // without it there are none
		}
		if h, err := j.k.OpenRoot(j.opt.Unlinked); err == nil {
			j.orphanage = h
		}
	}
	return j.orphanage
}

// adopt keeps a file whose name in a directory is about to go, if the guest has it open.
func (j *Journal) adopt(dir wasi.Handle, name string, f fileID) {
	if !j.hasOpen(f) {
		return
	}
	home := j.orphans(true)
	if home == wasi.NoHandle {
		return
	}
	switch errno := j.k.Link(dir, name, home, f.String()); errno {
	case wasi.ESUCCESS, wasi.EEXIST:
	default:
		return // another file system: after a crash the guest gets EIO
	}
	if j.opt.Sync {
		if errno := j.k.Sync(home, false); errno != wasi.ESUCCESS {
			j.lose(errno)
		}
	}
	if j.adopted == nil {
		j.adopted = map[fileID]bool{}
	}
	j.adopted[f] = true
}

// hasOpen tells whether the guest has a file open.
func (j *Journal) hasOpen(f fileID) bool {
	for i := range j.objects {
		if j.objects[i].is(f.dev, f.ino) {
			return true
		}
	}
	return false
}

// openOrphan opens a file that had no name any more, if it was kept.
func (j *Journal) openOrphan(dev, ino uint64, flags wasi.OpenFlags) (wasi.Handle, wasi.Errno) {
	f := fileID{dev, ino}
	home := j.orphans(false)
	if home == wasi.NoHandle || ino == 0 {
		return wasi.NoHandle, wasi.ENOENT
	}
	h, errno := j.k.Open(home, f.String(), again(flags)|wasi.OpenNoFollow)
	if errno != wasi.ESUCCESS {
		return wasi.NoHandle, errno
	}
	if j.adopted == nil {
		j.adopted = map[fileID]bool{}
	}
	j.adopted[f] = true
	return h, wasi.ESUCCESS
}

// OpenUnlinked implements wasi.Deferrer.
func (j *Journal) OpenUnlinked(dev, ino uint64, flags wasi.OpenFlags) (wasi.Handle, wasi.Errno) {
	real, errno := j.openOrphan(dev, ino, flags)
	if errno != wasi.ESUCCESS {
		return wasi.NoHandle, errno
	}
	o := object{real: real, kind: wasi.KindFile, flags: flags, gone: true}
	o.stat.Dev, o.stat.Ino = dev, ino
	return j.add(o), wasi.ESUCCESS
}

// dropOrphan gives a file up that the guest has closed, if it was kept and is not open otherwise.
func (j *Journal) dropOrphan(o *object) {
	f := fileID{o.stat.Dev, o.stat.Ino}
	if j.adopted[f] && o.flags&wasi.OpenName == 0 && !j.hasOpen(f) {
		delete(j.adopted, f)
		if home := j.orphans(false); home != wasi.NoHandle {
			j.k.Unlink(home, f.String(), false) // if it stays, the next sweep removes it
		}
	}
}

// sweepOrphans removes the files that the guest has not open any more.
func (j *Journal) sweepOrphans() {
	if j.opt.Unlinked == "" || j.opt.Offline {
		return
	}
	entries, err := os.ReadDir(j.opt.Unlinked)
	if err != nil {
		return // there are none
	}
	for _, e := range entries {
		var f fileID
		if n, err := fmt.Sscanf(e.Name(), "%x-%x", &f.dev, &f.ino); n == 2 && err == nil && !j.hasOpen(f) {
			_ = os.Remove(filepath.Join(j.opt.Unlinked, e.Name())) // if it stays, it costs space
		}
	}
}
