package runtime

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"perdure/runtime/internal/wasm"
)

// Value is a number of WebAssembly as text: integers in decimal, signed; floating-point
// numbers with as few digits as tell them apart, inf, nan, or nan:0x… with a payload.
type Value struct {
	Type  string `json:"type"` // i32, i64, f32, f64
	Value string `json:"value"`
}

// String returns the value with its type.
func (v Value) String() string { return v.Type + " " + v.Value }

// parseValue reads a number: decimal or hexadecimal with 0x, signed or not; for
// floating-point also inf, nan and nan:0x….
func parseValue(t wasm.ValType, s string) (uint64, error) {
	if strings.Contains(s, "_") {
		return 0, notOf(t, s)
	}
	switch t {
	case wasm.I32:
		return parseInt(t, s, 32)
	case wasm.I64:
		return parseInt(t, s, 64)
	case wasm.F32:
		return parseFloat(t, s, 32)
	case wasm.F64:
		return parseFloat(t, s, 64)
	}
	return 0, fmt.Errorf("a %v cannot be given as text", t)
}

func notOf(t wasm.ValType, s string) error {
	return fmt.Errorf("%.40q is not an %v", s, t)
}

func parseInt(t wasm.ValType, s string, bits int) (uint64, error) {
	digits, negative := s, false
	switch {
	case strings.HasPrefix(s, "-"):
		digits, negative = s[1:], true
	case strings.HasPrefix(s, "+"):
		digits = s[1:]
	}
	base := 10
	if len(digits) > 2 && (digits[:2] == "0x" || digits[:2] == "0X") {
		digits, base = digits[2:], 16
	}
	n, err := strconv.ParseUint(digits, base, 64)
	most := uint64(math.MaxUint64) >> (64 - bits)
	if negative {
		most = 1 << (bits - 1)
	}
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, notOf(t, s)
	case err != nil || n > most:
		return 0, fmt.Errorf("%.40q is out of the range of an %v", s, t)
	}
	if negative {
		n = -n
	}
	return n & (math.MaxUint64 >> (64 - bits)), nil
}

func parseFloat(t wasm.ValType, s string, bits int) (uint64, error) {
	sign, mantissa := uint64(1)<<(bits-1), 52
	if bits == 32 {
		mantissa = 23
	}
	digits := strings.ToLower(s)
	unsigned := digits
	if digits != "" && (digits[0] == '-' || digits[0] == '+') {
		unsigned = digits[1:]
	}
	if rest, ok := strings.CutPrefix(unsigned, "nan"); ok {
		payload := uint64(1) << (mantissa - 1)
		if hex, ok := strings.CutPrefix(rest, ":0x"); ok {
			n, err := strconv.ParseUint(hex, 16, 64)
			if err != nil || n == 0 || n >= 1<<mantissa {
				return 0, notOf(t, s)
			}
			payload = n
		} else if rest != "" {
			return 0, notOf(t, s)
		}
		v := (sign - 1<<mantissa) | payload
		if digits[0] == '-' {
			v |= sign
		}
		return v, nil
	}
	if strings.Contains(digits, "0x") && !strings.Contains(digits, "p") {
		digits += "p0" // which may be left out here
	}
	f, err := strconv.ParseFloat(digits, bits)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%.40q is out of the range of an %v", s, t)
	case err != nil:
		return 0, notOf(t, s)
	case bits == 32:
		return uint64(math.Float32bits(float32(f))), nil
	}
	return math.Float64bits(f), nil
}

// formatValue writes a number as parseValue reads it.
func formatValue(t wasm.ValType, v uint64) string {
	switch t {
	case wasm.I32:
		return strconv.FormatInt(int64(int32(v)), 10)
	case wasm.I64:
		return strconv.FormatInt(int64(v), 10)
	case wasm.F32:
		b := uint32(v)
		return formatFloat(float64(math.Float32frombits(b)), 32, b>>31 == 1, uint64(b&(1<<23-1)), 1<<22)
	case wasm.F64:
		return formatFloat(math.Float64frombits(v), 64, v>>63 == 1, v&(1<<52-1), 1<<51)
	}
	return t.String()
}

func formatFloat(f float64, bits int, negative bool, payload, plain uint64) string {
	if !math.IsNaN(f) && !math.IsInf(f, 0) {
		return strconv.FormatFloat(f, 'g', -1, bits)
	}
	s := "inf"
	if math.IsNaN(f) {
		if s = "nan"; payload != plain {
			s = fmt.Sprintf("nan:%#x", payload)
		}
	}
	if negative {
		s = "-" + s
	}
	return s
}
