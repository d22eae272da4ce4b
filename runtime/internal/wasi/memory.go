package wasi

import "encoding/binary"

// memory is the guest's whole linear memory. Its methods check every access;
// pointers and lengths are the guest's 32-bit values, summed in 64 bits.
type memory []byte

// has reports whether n bytes at p lie inside the memory.
func (m memory) has(p uint32, n uint64) bool {
	return n <= uint64(len(m)) && uint64(p) <= uint64(len(m))-n
}

// bytes returns the n bytes at p, which alias the memory.
func (m memory) bytes(p, n uint32) ([]byte, bool) {
	if !m.has(p, uint64(n)) {
		return nil, false
	}
	return m[p : uint64(p)+uint64(n) : uint64(p)+uint64(n)], true
}

func (m memory) putUint32(p, v uint32) bool {
	b, ok := m.bytes(p, 4)
	if ok {
		binary.LittleEndian.PutUint32(b, v)
	}
	return ok
}

func (m memory) putUint64(p uint32, v uint64) bool {
	b, ok := m.bytes(p, 8)
	if ok {
		binary.LittleEndian.PutUint64(b, v)
	}
	return ok
}

// maxIovecs bounds the buffers of one vectored call, as IOV_MAX does on Linux.
const maxIovecs = 1024

// iovecs returns the buffers that the count iovec structures at p describe,
// without the empty ones. They alias the memory. The result is valid until the
// next call of iovecs on the same scratch.
func (m memory) iovecs(scratch *[][]byte, p, count uint32) ([][]byte, Errno) {
	if count > maxIovecs {
		return nil, EINVAL
	}
	list, ok := m.bytes(p, count*sizeIovec)
	if !ok {
		return nil, EFAULT
	}
	out := (*scratch)[:0]
	total := uint64(0)
	for ; len(list) > 0; list = list[sizeIovec:] {
		n := binary.LittleEndian.Uint32(list[4:])
		b, ok := m.bytes(binary.LittleEndian.Uint32(list), n)
		if !ok {
			return nil, EFAULT
		}
		if n == 0 {
			continue
		}
		total += uint64(n)
		out = append(out, b)
	}
	*scratch = out
	// Buffers may overlap, so that the sum can exceed the memory; but the count
	// of bytes is returned in 32 bits, and POSIX wants it to fit a ssize_t.
	if total > 1<<31-1 {
		return nil, EINVAL
	}
	return out, ESUCCESS
}

// advance drops the first n bytes of bufs. It writes to bufs.
func advance(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 && len(bufs) > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

// totalBytes returns the summed length of bufs.
func totalBytes(bufs [][]byte) int {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	return n
}
