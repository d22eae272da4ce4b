package config

import (
	"encoding"
	"errors"
	"math/bits"
	"strconv"
	"strings"
)

// Size is a number of bytes, written like "64MiB", "1.5 GiB" or as a plain number.
type Size uint64

// Units of sizes.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// Percent is a share in per cent, written like "25%". It may be more than 100.
type Percent float64

// Space is an amount of disk space: a part of what the disk has if Percent is not 0, else Bytes.
type Space struct {
	Bytes   Size
	Percent Percent
}

var (
	_ encoding.TextUnmarshaler = (*Size)(nil)
	_ encoding.TextUnmarshaler = (*Percent)(nil)
	_ encoding.TextUnmarshaler = (*Space)(nil)
)

// ParseSize parses a number of bytes: digits, perhaps with a fraction, and one of B, K, M, G, T, KiB, MiB, GiB, TiB, of
// 1024, or kB, KB, MB, GB, TB, of 1000, or no unit. A part of a byte is cut off.
func ParseSize(s string) (Size, error) {
	number := strings.TrimRight(s, "BKMGTik")
	unit, ok := sizeUnit(s[len(number):])
	whole, fraction, isNumber := parseDecimal(strings.TrimRight(number, " "))
	if !ok || !isNumber {
		return 0, errors.New("not a size; write it like 64MiB or 1GiB")
	}
	hi, lo := bits.Mul64(whole, unit)
	// The fraction is less than 1e9, and so is the high word below 1e9: the quotient fits.
	fhi, flo := bits.Mul64(fraction, unit)
	part, _ := bits.Div64(fhi, flo, 1e9)
	sum, carry := bits.Add64(lo, part, 0)
	if hi != 0 || carry != 0 {
		return 0, errors.New("too large a size; it has to be less than 16777216TiB")
	}
	return Size(sum), nil
}

func sizeUnit(s string) (uint64, bool) {
	switch s {
	case "", "B":
		return 1, true
	case "kB", "KB":
		return 1e3, true
	case "MB":
		return 1e6, true
	case "GB":
		return 1e9, true
	case "TB":
		return 1e12, true
	case "K", "KiB":
		return uint64(KiB), true
	case "M", "MiB":
		return uint64(MiB), true
	case "G", "GiB":
		return uint64(GiB), true
	case "T", "TiB":
		return uint64(TiB), true
	}
	return 0, false
}

// parseDecimal parses digits, perhaps with a point and up to nine digits more, which it returns as billionths.
func parseDecimal(s string) (whole, billionths uint64, ok bool) {
	integer, fraction, point := strings.Cut(s, ".")
	whole, err := strconv.ParseUint(integer, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	if !point {
		return whole, 0, true
	}
	if len(fraction) == 0 || len(fraction) > 9 {
		return 0, 0, false
	}
	billionths, err = strconv.ParseUint(fraction+strings.Repeat("0", 9-len(fraction)), 10, 64)
	return whole, billionths, err == nil
}

// String returns the size so that ParseSize gives it back, in the largest unit of 1024 that it is a multiple of.
func (s Size) String() string {
	for _, u := range []struct {
		size Size
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatUint(uint64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatUint(uint64(s), 10)
}

// MarshalText returns String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseSize.
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

func (s *Size) fromInteger(n int64) error {
	if n < 0 {
		return errors.New("a size cannot be negative")
	}
	*s = Size(n)
	return nil
}

func (*Size) want() string { return `a size, like "64MiB" or a number of bytes` }

// ParsePercent parses a share, like "25%" or "12.5%".
func ParsePercent(s string) (Percent, error) {
	number, ok := strings.CutSuffix(s, "%")
	number = strings.TrimRight(number, " ")
	if _, _, isNumber := parseDecimal(number); !ok || !isNumber {
		return 0, errors.New("not a share; write it like 25%")
	}
	f, err := strconv.ParseFloat(number, 64)
	return Percent(f), err
}

// Share returns the share as a part of one.
func (p Percent) Share() float64 { return float64(p) / 100 }

// String returns the share so that ParsePercent gives it back.
func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%" }

// MarshalText returns String.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePercent.
func (p *Percent) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePercent(string(text))
	return err
}

func (*Percent) want() string { return `a share in quotes, like "25%"` }

// ParseSpace parses an amount of disk space: a share with a per cent sign, or a size.
func ParseSpace(s string) (Space, error) {
	if strings.HasSuffix(s, "%") {
		p, err := ParsePercent(s)
		return Space{Percent: p}, err
	}
	n, err := ParseSize(s)
	if err != nil {
		return Space{}, errors.New("not an amount of space; write it like 256MiB or 5%")
	}
	return Space{Bytes: n}, nil
}

// Of returns the space in bytes on a disk that has total bytes.
func (s Space) Of(total uint64) uint64 {
	if s.Percent == 0 {
		return uint64(s.Bytes)
	}
	if s.Percent >= 100 {
		return total
	}
	return uint64(float64(total) * s.Percent.Share())
}

// String returns the space so that ParseSpace gives it back.
func (s Space) String() string {
	if s.Percent != 0 {
		return s.Percent.String()
	}
	return s.Bytes.String()
}

// MarshalText returns String.
func (s Space) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseSpace.
func (s *Space) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSpace(string(text))
	return err
}

func (s *Space) fromInteger(n int64) error {
	*s = Space{}
	return s.Bytes.fromInteger(n)
}

func (*Space) want() string { return `an amount of space, like "256MiB" or "5%"` }
