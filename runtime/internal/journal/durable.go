package journal

import (
	"strings"

	"perdure/runtime/internal/wasi"
)

// durableFile makes what was changed of a file durable, where that is asked for: an effect that
// is recorded is then never missing after the loss of power. Errors are those that the guest
// would not see of an ordinary write either; what they lose is told.
func (j *Journal) durableFile(real wasi.Handle) {
	if !j.opt.Sync || j.quiet {
		return
	}
	if errno := j.k.Sync(real, false); errno != wasi.ESUCCESS && errno != wasi.EINVAL && errno != wasi.EBADF {
		j.lose(errno)
	}
}

// durableName likewise makes a name in a directory durable, or that it is gone. p is a path
// beneath dir.
func (j *Journal) durableName(dir wasi.Handle, p string) {
	if !j.opt.Sync || j.quiet {
		return
	}
	real, errno := j.outside(dir)
	if errno != wasi.ESUCCESS {
		return
	}
	parent := "."
	if i := strings.LastIndexByte(strings.TrimRight(p, "/"), '/'); i >= 0 {
		parent = p[:i+1]
	}
	// A handle that only names the directory cannot be synced.
	d, errno := j.k.Open(real, parent, wasi.OpenRead|wasi.OpenDirectory)
	if errno != wasi.ESUCCESS {
		j.lose(errno)
		return
	}
	if errno := j.k.Sync(d, false); errno != wasi.ESUCCESS && errno != wasi.EINVAL {
		j.lose(errno)
	}
	j.k.Close(d) // nothing was written
}
