package wasm

// AppendUleb appends v in the shortest unsigned LEB128 encoding.
func AppendUleb(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// AppendSleb appends v in the shortest signed LEB128 encoding.
func AppendSleb(b []byte, v int64) []byte {
	for {
		c := byte(v) & 0x7f
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// ulebSize returns the number of bytes that AppendUleb appends.
func ulebSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// readU32 reads an unsigned 32-bit LEB128 integer at b[pos:] and returns the position behind it, or the
// position 0 when there is none; lebFault then says why.
func readU32(b []byte, pos int) (v uint32, next int) {
	if uint(pos) < uint(len(b)) && b[pos] < 0x80 {
		return uint32(b[pos]), pos + 1
	}
	for shift := 0; uint(pos) < uint(len(b)); shift += 7 {
		c := b[pos]
		pos++
		if shift == 28 {
			if c > 0x0f {
				return 0, 0
			}
			return v | uint32(c)<<28, pos
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v, pos
		}
	}
	return 0, 0
}

// readSigned reads a signed LEB128 integer of the given width (32, 33 or 64 bits) as readU32 does.
func readSigned(b []byte, pos int, width int) (v int64, next int) {
	for shift := 0; uint(pos) < uint(len(b)); shift += 7 {
		c := b[pos]
		pos++
		v |= int64(c&0x7f) << shift
		if left := width - shift; left <= 7 {
			// The last byte that the width allows: all bits from the sign on must be equal.
			if sign := int8(c<<1) >> left; c >= 0x80 || (sign != 0 && sign != -1) {
				return 0, 0
			}
		}
		if c < 0x80 {
			if c&0x40 != 0 && shift+7 < 64 {
				v |= -1 << (shift + 7)
			}
			return v, pos
		}
	}
	return 0, 0
}

// lebFault says why there is no LEB128 integer of the given width at b[pos:].
func lebFault(b []byte, pos, width int) string {
	for n := 1; pos < len(b); n, pos = n+1, pos+1 {
		if n*7 >= width {
			if b[pos] >= 0x80 {
				return "integer representation too long"
			}
			return "integer too large"
		}
	}
	return "unexpected end in an integer"
}
