package instrument

import (
	"sort"
	"unicode/utf8"

	"perdure/runtime/internal/wasm"
)

// subsectionFunctions is the part of the name section which names functions (core
// specification, appendix "Custom Sections").
const subsectionFunctions = 1

// FuncNames returns the names of functions by original index, from the module's name
// section. What cannot be read of that section is left out: it has no bearing on
// execution.
func FuncNames(m *wasm.Module) map[uint32]string {
	names := map[uint32]string{}
	for i := range m.Customs {
		if m.Customs[i].Name != "name" {
			continue
		}
		b := m.Customs[i].Bytes
		for len(b) > 0 {
			id := b[0]
			size, rest, ok := uleb(b[1:])
			if !ok || uint64(size) > uint64(len(rest)) {
				break
			}
			if id == subsectionFunctions {
				readNames(rest[:size], names, m.NumFuncs())
			}
			b = rest[size:]
		}
	}
	return names
}

func readNames(b []byte, names map[uint32]string, nFuncs int) {
	count, b, ok := uleb(b)
	for ; ok && count > 0; count-- {
		var index, n uint32
		if index, b, ok = uleb(b); !ok {
			return
		}
		if n, b, ok = uleb(b); !ok || uint64(n) > uint64(len(b)) {
			return
		}
		if int(index) < nFuncs && utf8.Valid(b[:n]) {
			names[index] = string(b[:n])
		}
		b = b[n:]
	}
}

// encodeNames makes the content of a name section.
func encodeNames(names map[uint32]string) []byte {
	var order []int
	for i := range names {
		order = append(order, int(i))
	}
	sort.Ints(order)
	sub := wasm.AppendUleb(nil, uint64(len(order)))
	for _, i := range order {
		sub = wasm.AppendUleb(sub, uint64(i))
		sub = wasm.AppendUleb(sub, uint64(len(names[uint32(i)])))
		sub = append(sub, names[uint32(i)]...)
	}
	out := append([]byte{subsectionFunctions}, wasm.AppendUleb(nil, uint64(len(sub)))...)
	return append(out, sub...)
}

// uleb reads an unsigned 32-bit LEB128 number.
func uleb(b []byte) (v uint32, rest []byte, ok bool) {
	for i := 0; i < len(b) && i < 5; i++ {
		v |= uint32(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, b[i+1:], true
		}
	}
	return 0, nil, false
}
