package journal

import (
	"encoding/binary"
	"strings"

	"perdure/runtime/internal/wasi"
)

// standing is how things stood before a call with an effect that is not to happen twice.
type standing struct {
	asked    bool
	there    bool // the name
	dev, ino uint64
	size     int64
	from, to string // absolute paths of the names that the call is about, for what is attached later
}

func (s *standing) encode() []byte {
	var b [33]byte
	if s.there {
		b[0] = 1
	}
	binary.LittleEndian.PutUint64(b[1:], s.dev)
	binary.LittleEndian.PutUint64(b[9:], s.ino)
	binary.LittleEndian.PutUint64(b[17:], uint64(s.size))
	binary.LittleEndian.PutUint64(b[25:], uint64(len(s.from)))
	return append(append(b[:], s.from...), s.to...)
}

func decodeStanding(b []byte) standing {
	s := standing{asked: true}
	if len(b) < 33 {
		return s
	}
	s.there = b[0] != 0
	s.dev, s.ino = binary.LittleEndian.Uint64(b[1:]), binary.LittleEndian.Uint64(b[9:])
	s.size = int64(binary.LittleEndian.Uint64(b[17:]))
	n := binary.LittleEndian.Uint64(b[25:])
	if n > uint64(len(b)-33) {
		return s
	}
	s.from, s.to = string(b[33:33+n]), string(b[33+n:])
	return s
}

// intend comes before a call whose effect is not to happen twice: it notes how things stand,
// as look tells. When the past is played it returns what look told then. settle tells that the
// call may have been under way when the past ended: its effect may be there.
func (j *Journal) intend(o op, k key, look func() standing) (pre standing, settle bool) {
	k = k.num(int64(o))
	if r, ok := j.replay(opIntent, k); ok {
		pre = decodeStanding(r.payload)
		if _, more := j.peek(); more {
			return pre, false
		}
		if err := j.goLive(); err != nil {
			panic(&liveError{err})
		}
		return pre, true
	}
	pre = look()
	pre.asked = true
	b := pre.encode()
	j.bytes(opIntent, k, wasi.ESUCCESS, nil, [][]byte{b}, len(b))
	return pre, false
}

// look tells how a name stands.
func (j *Journal) look(dir wasi.Handle, name string) standing {
	real, errno := j.outside(dir)
	if errno != wasi.ESUCCESS {
		return standing{}
	}
	h, errno := j.k.Open(real, strings.TrimRight(name, "/"), wasi.OpenName|wasi.OpenNoFollow)
	if errno != wasi.ESUCCESS {
		return standing{}
	}
	st, errno := j.k.Stat(h)
	j.k.Close(h) // it only named the file
	if errno != wasi.ESUCCESS {
		return standing{}
	}
	return standing{there: true, dev: st.Dev, ino: st.Ino, size: int64(st.Size)}
}

// is tells whether two standings are of the same file.
func (s *standing) is(o standing) bool { return s.there && o.there && s.dev == o.dev && s.ino == o.ino }

// name carries out a call that changes names. done tells, from how things stand now, whether
// it has been carried out already.
func (j *Journal) name(o op, k key, look func() standing, done func(pre standing) bool, do func() wasi.Errno) (standing, wasi.Errno) {
	pre, settle := j.intend(o, k, look)
	if r, ok := j.replay(o, k); ok {
		return pre, r.err()
	}
	j.commit()
	errno := wasi.ESUCCESS
	if !settle || !done(pre) {
		errno = do()
	}
	j.put(o, k, errno)
	return pre, errno
}

// Mkdir implements wasi.Kernel.
func (j *Journal) Mkdir(dir wasi.Handle, name string) wasi.Errno {
	look := func() standing { return j.look(dir, name) }
	_, errno := j.name(opMkdir, key(0).text(name), look, func(pre standing) bool {
		now := look()
		return !pre.there && now.there
	}, func() wasi.Errno {
		real, errno := j.outside(dir)
		if errno != wasi.ESUCCESS {
			return errno
		}
		return j.k.Mkdir(real, name)
	})
	return errno
}

// Unlink implements wasi.Kernel.
func (j *Journal) Unlink(dir wasi.Handle, name string, directory bool) wasi.Errno {
	k := key(0).text(name)
	if directory {
		k = k.num(1)
	}
	pre, errno := j.name(opUnlink, k, func() standing {
		s := j.look(dir, name)
		if real, errno := j.outside(dir); errno == wasi.ESUCCESS {
			s.from = j.where(real, name)
		}
		return s
	}, func(pre standing) bool {
		now := j.look(dir, name)
		return pre.there && !now.is(pre)
	}, func() wasi.Errno {
		real, errno := j.outside(dir)
		if errno != wasi.ESUCCESS {
			return errno
		}
		return j.k.Unlink(real, name, directory)
	})
	if errno == wasi.ESUCCESS && j.playing {
		j.removed(pre.from)
	}
	return errno
}

// Rename implements wasi.Kernel.
func (j *Journal) Rename(oldDir wasi.Handle, oldName string, newDir wasi.Handle, newName string) wasi.Errno {
	pre, errno := j.name(opRename, key(0).text(oldName, newName), func() standing {
		s := j.look(oldDir, oldName)
		if real, errno := j.outside(oldDir); errno == wasi.ESUCCESS {
			s.from = j.where(real, oldName)
		}
		if real, errno := j.outside(newDir); errno == wasi.ESUCCESS {
			s.to = j.where(real, newName)
		}
		return s
	}, func(pre standing) bool {
		old, now := j.look(oldDir, oldName), j.look(newDir, newName)
		return now.is(pre) && !old.is(pre)
	}, func() wasi.Errno {
		oldReal, errno := j.outside(oldDir)
		if errno != wasi.ESUCCESS {
			return errno
		}
		newReal, errno := j.outside(newDir)
		if errno != wasi.ESUCCESS {
			return errno
		}
		return j.k.Rename(oldReal, oldName, newReal, newName)
	})
	if errno == wasi.ESUCCESS && j.playing {
		j.moved(pre.from, pre.to)
	}
	return errno
}

// Link implements wasi.Kernel.
func (j *Journal) Link(oldDir wasi.Handle, oldName string, newDir wasi.Handle, newName string) wasi.Errno {
	_, errno := j.name(opLink, key(0).text(oldName, newName), func() standing { return j.look(newDir, newName) }, func(pre standing) bool {
		old, now := j.look(oldDir, oldName), j.look(newDir, newName)
		return !pre.there && now.is(old)
	}, func() wasi.Errno {
		oldReal, errno := j.outside(oldDir)
		if errno != wasi.ESUCCESS {
			return errno
		}
		newReal, errno := j.outside(newDir)
		if errno != wasi.ESUCCESS {
			return errno
		}
		return j.k.Link(oldReal, oldName, newReal, newName)
	})
	return errno
}

// Symlink implements wasi.Kernel.
func (j *Journal) Symlink(target string, dir wasi.Handle, name string) wasi.Errno {
	look := func() standing { return j.look(dir, name) }
	_, errno := j.name(opSymlink, key(0).text(target, name), look, func(pre standing) bool {
		now := look()
		return !pre.there && now.there
	}, func() wasi.Errno {
		real, errno := j.outside(dir)
		if errno != wasi.ESUCCESS {
			return errno
		}
		return j.k.Symlink(target, real, name)
	})
	return errno
}

// Write implements wasi.Kernel.
func (j *Journal) Write(h wasi.Handle, bufs [][]byte, offset int64, flags wasi.WriteFlags) (int, int64, wasi.Errno) {
	bufs = clip(bufs, maxRead)
	k := key(0).num(offset, int64(flags)).data(bufs)
	var pre standing
	skip := 0
	// Where the outside decides at which offset, doing it again would not be the same.
	if offset == wasi.AtPosition || flags&wasi.WriteAppend != 0 && offset != wasi.Streaming {
		var settle bool
		if pre, settle = j.intend(opWrite, k, func() standing { return j.stand(h) }); settle {
			if now := j.stand(h); now.is(pre) && now.size > pre.size {
				skip = int(min(now.size-pre.size, int64(total(bufs))))
			}
		}
	}
	if r, ok := j.replay(opWrite, k); ok {
		return int(r.number(0)), r.number(1), r.err()
	}
	j.commit()
	n, end, errno := skip, pre.size+int64(skip), wasi.ESUCCESS
	if skip < total(bufs) || skip == 0 {
		var real wasi.Handle
		if real, errno = j.outside(h); errno == wasi.ESUCCESS {
			rest := bufs
			if skip > 0 {
				rest = from(bufs, skip)
			}
			n, end, errno = j.k.Write(real, rest, offset, flags)
			n += skip
			if n > 0 {
				errno = wasi.ESUCCESS
			}
		}
	}
	j.put(opWrite, k, errno, int64(n), end)
	return n, end, errno
}

// stand tells how the file stands that h is.
func (j *Journal) stand(h wasi.Handle) standing {
	real, errno := j.outside(h)
	if errno != wasi.ESUCCESS {
		return standing{}
	}
	st, errno := j.k.Stat(real)
	if errno != wasi.ESUCCESS {
		return standing{}
	}
	return standing{there: true, dev: st.Dev, ino: st.Ino, size: int64(st.Size)}
}
