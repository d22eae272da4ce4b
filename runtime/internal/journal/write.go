package journal

import (
	"bytes"

	"perdure/runtime/internal/wasi"
)

// maxSearch bounds how much of a file is read to find out whether a write was carried out.
const maxSearch = 32 << 20

// Write implements wasi.Kernel.
func (j *Journal) Write(h wasi.Handle, bufs [][]byte, offset int64, flags wasi.WriteFlags) (int, int64, wasi.Errno) {
	bufs = clip(bufs, maxRead)
	k := key(0).num(offset, int64(flags)).data(bufs...)
	done, end := 0, int64(0) // by the call that was under way
	// Where the outside decides at which offset, doing it again would not be the same.
	if offset == wasi.AtPosition || flags&wasi.WriteAppend != 0 && offset != wasi.Streaming {
		if pre, settle := j.intend(opWrite, k, func() standing { return j.stand(h) }); settle {
			done, end = j.wrote(h, pre, bufs)
		}
	}
	if r, ok := j.replay(opWrite, k); ok {
		n := r.number(0)
		j.require(r, len(r.payload) == 16 && n >= 0 && n <= int64(total(bufs)))
		return int(n), r.number(1), r.err()
	}
	n, errno := done, wasi.ESUCCESS
	if done == 0 || done < total(bufs) {
		n, end, errno = j.write(h, bufs, offset, flags, done)
	}
	if flags&wasi.WriteAppend == 0 {
		end = 0
	}
	j.put(opWrite, k, errno, int64(n), end)
	return n, end, errno
}

// write writes what of bufs has not been written.
func (j *Journal) write(h wasi.Handle, bufs [][]byte, offset int64, flags wasi.WriteFlags, done int) (int, int64, wasi.Errno) {
	j.commit()
	real, errno := j.outside(h)
	if errno != wasi.ESUCCESS {
		return 0, 0, errno
	}
	if j.opt.Sync && offset != wasi.Streaming {
		flags |= wasi.WriteDsync
	}
	if done > 0 {
		bufs = from(bufs, done)
	}
	n, end, errno := j.k.Write(real, bufs, offset, flags)
	if n += done; n > 0 {
		errno = wasi.ESUCCESS
	}
	return n, end, errno
}

// wrote tells how much of bufs the call had written that was under way, at the end of a file
// that stood as pre, and where that ends.
func (j *Journal) wrote(h wasi.Handle, pre standing, bufs [][]byte) (n int, end int64) {
	now := j.stand(h)
	if !now.is(pre) || now.size <= pre.size {
		return 0, 0
	}
	real, errno := j.outside(h)
	if errno != wasi.ESUCCESS {
		return 0, 0
	}
	data := bytes.Join(bufs, nil)
	grown := make([]byte, min(now.size-pre.size, maxSearch))
	have, errno := j.k.Read(real, [][]byte{grown}, pre.size)
	if errno != wasi.ESUCCESS {
		// It is open for writing only: its size has to do.
		n = int(min(now.size-pre.size, int64(len(data))))
		return n, pre.size + int64(n)
	}
	grown = grown[:have]
	if n = min(len(grown), len(data)); bytes.Equal(grown[:n], data[:n]) {
		return n, pre.size + int64(n)
	}
	// Somebody else has written there first.
	if i := bytes.Index(grown, data); i >= 0 {
		return len(data), pre.size + int64(i+len(data))
	}
	return 0, 0
}
