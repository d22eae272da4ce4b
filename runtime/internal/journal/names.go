package journal

import "perdure/runtime/internal/wasi"

// Mkdir implements wasi.Kernel.
func (j *Journal) Mkdir(dir wasi.Handle, name string) wasi.Errno {
	return j.make(opMkdir, key(0).text(name), dir, name, func(real wasi.Handle) wasi.Errno { return j.k.Mkdir(real, name) })
}

// Symlink implements wasi.Kernel.
func (j *Journal) Symlink(target string, dir wasi.Handle, name string) wasi.Errno {
	return j.make(opSymlink, key(0).text(target, name), dir, name, func(real wasi.Handle) wasi.Errno {
		return j.k.Symlink(target, real, name)
	})
}

// make makes a name. When it was not there before the call that was under way, and is now, that
// call has made it.
func (j *Journal) make(o op, k key, dir wasi.Handle, name string, do func(real wasi.Handle) wasi.Errno) wasi.Errno {
	n := naming{op: o, key: k,
		look: func() standing { return j.look(dir, name) },
		done: func(pre standing) bool { now := j.look(dir, name); return !pre.there && now.there },
		do: func(standing) wasi.Errno {
			real, errno := j.outside(dir)
			if errno != wasi.ESUCCESS {
				return errno
			}
			return do(real)
		},
	}
	n.changed[0].dir, n.changed[0].name = dir, name
	_, errno := j.name(&n)
	return errno
}

// Unlink implements wasi.Kernel.
func (j *Journal) Unlink(dir wasi.Handle, name string, directory bool) wasi.Errno {
	k := key(0).text(name)
	if directory {
		k = k.num(1)
	}
	n := naming{op: opUnlink, key: k,
		look: func() standing {
			s := j.look(dir, name)
			s.from = j.where(dir, name)
			return s
		},
		done: func(pre standing) bool { now := j.look(dir, name); return pre.there && !now.is(pre) },
		do: func(standing) wasi.Errno {
			real, errno := j.outside(dir)
			if errno != wasi.ESUCCESS {
				return errno
			}
			if now := j.look(dir, name); now.there && !directory {
				j.adopt(real, name, now.file)
			}
			return j.k.Unlink(real, name, directory)
		},
	}
	n.changed[0].dir, n.changed[0].name = dir, name
	pre, errno := j.name(&n)
	if errno == wasi.ESUCCESS && j.playing {
		j.removed(pre.from)
	}
	return errno
}

// Rename implements wasi.Kernel.
func (j *Journal) Rename(oldDir wasi.Handle, oldName string, newDir wasi.Handle, newName string) wasi.Errno {
	n := naming{op: opRename, key: key(0).text(oldName, newName),
		look: func() standing {
			s, target := j.look(oldDir, oldName), j.look(newDir, newName)
			s.target = target.file
			s.from, s.to = j.where(oldDir, oldName), j.where(newDir, newName)
			return s
		},
		done: func(pre standing) bool {
			old, now := j.look(oldDir, oldName), j.look(newDir, newName)
			return now.is(pre) && !old.is(pre)
		},
		do: func(pre standing) wasi.Errno {
			oldReal, errno := j.outside(oldDir)
			if errno != wasi.ESUCCESS {
				return errno
			}
			newReal, errno := j.outside(newDir)
			if errno != wasi.ESUCCESS {
				return errno
			}
			if pre.target != (fileID{}) && pre.target != pre.file {
				j.adopt(newReal, newName, pre.target)
			}
			return j.k.Rename(oldReal, oldName, newReal, newName)
		},
	}
	n.changed[0].dir, n.changed[0].name = newDir, newName
	n.changed[1].dir, n.changed[1].name = oldDir, oldName
	pre, errno := j.name(&n)
	if errno == wasi.ESUCCESS && j.playing && pre.file != pre.target {
		j.moved(pre.from, pre.to)
	}
	return errno
}

// Link implements wasi.Kernel.
func (j *Journal) Link(oldDir wasi.Handle, oldName string, newDir wasi.Handle, newName string) wasi.Errno {
	n := naming{op: opLink, key: key(0).text(oldName, newName),
		look: func() standing { return j.look(newDir, newName) },
		done: func(pre standing) bool {
			old, now := j.look(oldDir, oldName), j.look(newDir, newName)
			return !pre.there && now.is(old)
		},
		do: func(standing) wasi.Errno {
			oldReal, errno := j.outside(oldDir)
			if errno != wasi.ESUCCESS {
				return errno
			}
			newReal, errno := j.outside(newDir)
			if errno != wasi.ESUCCESS {
				return errno
			}
			return j.k.Link(oldReal, oldName, newReal, newName)
		},
	}
	n.changed[0].dir, n.changed[0].name = newDir, newName
	_, errno := j.name(&n)
	return errno
}
