package wasm

import (
	"math"
	"testing"
)

func TestUnsignedIntegers(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 300, 1<<14 - 1, 1 << 14, 1<<28 - 1, 1 << 28, math.MaxUint32} {
		b := AppendUleb(nil, v)
		if got, next := readU32(b, 0); uint64(got) != v || next != len(b) {
			t.Errorf("%d is % x, read as %d up to %d", v, b, got, next)
		}
		if ulebSize(v) != len(b) {
			t.Errorf("ulebSize(%d) = %d, want %d", v, ulebSize(v), len(b))
		}
	}
}

func TestSignedIntegers(t *testing.T) {
	for _, width := range []int{32, 33, 64} {
		for shift := range width - 1 {
			for _, v := range []int64{1 << shift, 1<<shift - 1, -1 << shift, -1<<shift - 1, math.MinInt64 >> (64 - width), math.MaxInt64 >> (64 - width)} {
				b := AppendSleb(nil, v)
				if got, next := readSigned(b, 0, width); got != v || next != len(b) {
					t.Errorf("%d bits: %d is % x, read as %d up to %d", width, v, b, got, next)
				}
			}
		}
	}
}

func TestMalformedIntegers(t *testing.T) {
	const tooLong, tooLarge, end = "integer representation too long", "integer too large", "unexpected end in an integer"
	for _, c := range []struct {
		width  int
		signed bool
		bytes  string
		want   string // "" if it is well-formed
	}{
		{32, false, "\xff\xff\xff\xff\x0f", ""},
		{32, false, "\x80\x80\x80\x80\x00", ""},
		{32, false, "\xff\xff\xff\xff\x10", tooLarge},
		{32, false, "\x80\x80\x80\x80\x80\x00", tooLong},
		{32, false, "\x80\x80", end},
		{32, false, "", end},
		{32, true, "\xff\xff\xff\xff\x7f", ""},
		{32, true, "\xff\xff\xff\xff\x07", ""},
		{32, true, "\xff\xff\xff\xff\x0f", tooLarge},
		{32, true, "\x80\x80\x80\x80\x38", tooLarge},
		{32, true, "\x80\x80\x80\x80\xf8\x00", tooLong},
		{33, true, "\xff\xff\xff\xff\x0f", ""},
		{33, true, "\xff\xff\xff\xff\x1f", tooLarge},
		{64, true, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f", ""},
		{64, true, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", tooLarge},
		{64, true, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", tooLong},
	} {
		b := []byte(c.bytes)
		var next int
		if c.signed {
			_, next = readSigned(b, 0, c.width)
		} else {
			_, next = readU32(b, 0)
		}
		switch {
		case c.want == "" && next != len(b):
			t.Errorf("%d bits, signed %v: % x is refused: %s", c.width, c.signed, b, lebFault(b, 0, c.width))
		case c.want != "" && (next != 0 || lebFault(b, 0, c.width) != c.want):
			t.Errorf("%d bits, signed %v: % x is read up to %d, fault %q, want %q", c.width, c.signed, b, next, lebFault(b, 0, c.width), c.want)
		}
	}
}
