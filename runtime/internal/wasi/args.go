package wasi

func argsGet(h *Host, m memory, a []uint64) (Errno, error) {
	return putTexts(m, h.args, uint32(a[0]), uint32(a[1])), nil
}

func argsSizesGet(h *Host, m memory, a []uint64) (Errno, error) {
	return putTextSizes(m, h.args, uint32(a[0]), uint32(a[1])), nil
}

func environGet(h *Host, m memory, a []uint64) (Errno, error) {
	return putTexts(m, h.env, uint32(a[0]), uint32(a[1])), nil
}

func environSizesGet(h *Host, m memory, a []uint64) (Errno, error) {
	return putTextSizes(m, h.env, uint32(a[0]), uint32(a[1])), nil
}

// textBytes returns how many bytes texts take, each with a NUL behind it.
func textBytes(texts []Text) uint64 {
	n := uint64(0)
	for _, t := range texts {
		n += uint64(len(t)) + 1
	}
	return n
}

// putTextSizes writes how many texts there are, and how many bytes they take.
func putTextSizes(m memory, texts []Text, count, size uint32) Errno {
	if !m.has(count, 4) || !m.has(size, 4) {
		return EFAULT
	}
	m.putUint32(count, uint32(len(texts)))
	m.putUint32(size, uint32(textBytes(texts)))
	return ESUCCESS
}

// putTexts writes the texts one after another to buf, and the pointer to each
// to pointers.
func putTexts(m memory, texts []Text, pointers, buf uint32) Errno {
	if !m.has(pointers, 4*uint64(len(texts))) || !m.has(buf, textBytes(texts)) {
		return EFAULT
	}
	for _, t := range texts {
		m.putUint32(pointers, buf)
		pointers += 4
		n := copy(m[buf:], t)
		m[int(buf)+n] = 0
		buf += uint32(n) + 1
	}
	return ESUCCESS
}
