package journal

import "hash/crc32"

// key is a checksum over the arguments of a call. A record has that of its call, so that a
// guest that asks for something else when it runs again is found out. Handles are left out:
// they may differ.
type key uint32

// num adds numbers, as data would add their bytes, and allocates nothing. It goes byte by byte: the
// calls that a server makes all the time lay theirs out for data, for which the processor has an
// instruction.
func (k key) num(vs ...int64) key {
	c := ^uint32(k)
	for _, v := range vs {
		for u, i := uint64(v), 0; i < 8; i++ {
			c = castagnoli[byte(c)^byte(u)] ^ c>>8
			u >>= 8
		}
	}
	return key(^c)
}

// text adds strings.
func (k key) text(vs ...string) key {
	for _, v := range vs {
		k = k.num(int64(len(v))).data([]byte(v))
	}
	return k
}

// data adds what the guest gives away.
func (k key) data(bufs ...[]byte) key {
	for _, b := range bufs {
		k = key(crc32.Update(uint32(k), castagnoli, b))
	}
	return k
}

// total returns the number of bytes in bufs.
func total(bufs [][]byte) int {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// scatter copies src to bufs.
func scatter(bufs [][]byte, src []byte) {
	for _, b := range bufs {
		n := copy(b, src)
		src = src[n:]
	}
}

// from returns bufs without their first n bytes.
func from(bufs [][]byte, n int) [][]byte {
	var rest [][]byte
	for _, b := range bufs {
		if n >= len(b) {
			n -= len(b)
			continue
		}
		rest = append(rest, b[n:])
		n = 0
	}
	return rest
}
