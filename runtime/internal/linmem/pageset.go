package linmem

import "math/bits"

// pageSet is a set of page indexes below a fixed bound, one bit each.
type pageSet []uint64

func newPageSet(nPages uint64) pageSet { return make(pageSet, (nPages+63)/64) }

func (s pageSet) has(page uint64) bool { return s[page/64]&(1<<(page%64)) != 0 }

// add adds the pages [first, end).
func (s pageSet) add(first, end uint64) {
	for first < end {
		word, mask, next := wordMask(first, end)
		s[word] |= mask
		first = next
	}
}

// remove removes the pages [first, end).
func (s pageSet) remove(first, end uint64) {
	for first < end {
		word, mask, next := wordMask(first, end)
		s[word] &^= mask
		first = next
	}
}

// addAll adds every page of o, which has the same bound.
func (s pageSet) addAll(o pageSet) {
	for i, w := range o {
		s[i] |= w
	}
}

// nextRun returns the first run of consecutive members in [from, end); ok is false when there is none.
func (s pageSet) nextRun(from, end uint64) (first, runEnd uint64, ok bool) {
	first = s.next(from, end, 0)
	if first >= end {
		return 0, 0, false
	}
	return first, s.next(first, end, ^uint64(0)), true
}

// next returns the first page in [from, end) whose bit, flipped by flip, is one; end if there is none.
func (s pageSet) next(from, end uint64, flip uint64) uint64 {
	for from < end {
		w := (s[from/64] ^ flip) >> (from % 64)
		if w != 0 {
			return min(from+uint64(bits.TrailingZeros64(w)), end)
		}
		from = (from/64 + 1) * 64
	}
	return end
}

// wordMask returns the word that holds page first, the bits of [first, end) in it, and the first page after it.
func wordMask(first, end uint64) (word, mask, next uint64) {
	word = first / 64
	next = min((word+1)*64, end)
	mask = ^uint64(0) << (first % 64)
	if n := next - word*64; n < 64 {
		mask &= 1<<n - 1
	}
	return word, mask, next
}
