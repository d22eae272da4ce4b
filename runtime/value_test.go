package runtime

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"perdure/runtime/internal/wasm"
)

func TestParseValue(t *testing.T) {
	f32 := func(f float32) uint64 { return uint64(math.Float32bits(f)) }
	for _, c := range []struct {
		t     wasm.ValType
		text  string
		want  uint64
		write string // if it is another text
	}{
		{wasm.I32, "0", 0, ""},
		{wasm.I32, "-1", math.MaxUint32, ""},
		{wasm.I32, "+7", 7, "7"},
		{wasm.I32, "2147483647", math.MaxInt32, ""},
		{wasm.I32, "4294967295", math.MaxUint32, "-1"},
		{wasm.I32, "-2147483648", 1 << 31, ""},
		{wasm.I32, "0x10", 16, "16"},
		{wasm.I32, "-0X1", math.MaxUint32, "-1"},
		{wasm.I32, "010", 10, "10"},
		{wasm.I64, "-9223372036854775808", 1 << 63, ""},
		{wasm.I64, "18446744073709551615", math.MaxUint64, "-1"},
		{wasm.I64, "0xffffffffffffffff", math.MaxUint64, "-1"},
		{wasm.F32, "1.5", f32(1.5), ""},
		{wasm.F32, "0.1", f32(0.1), ""},
		{wasm.F32, "16777217", f32(16777216), "1.6777216e+07"},
		{wasm.F32, "-0", 1 << 31, ""},
		{wasm.F32, "1e-50", 0, "0"},
		{wasm.F32, "inf", f32(float32(math.Inf(1))), ""},
		{wasm.F32, "-Infinity", f32(float32(math.Inf(-1))), "-inf"},
		{wasm.F32, "nan", 0x7fc00000, ""},
		{wasm.F32, "-nan:0x1", 0xff800001, ""},
		{wasm.F64, "0x1.8p1", math.Float64bits(3), "3"},
		{wasm.F64, "0x10", math.Float64bits(16), "16"},
		{wasm.F64, "0.1", math.Float64bits(0.1), ""},
		{wasm.F64, "1e300", math.Float64bits(1e300), "1e+300"},
		{wasm.F64, "NaN", 0x7ff8000000000000, "nan"},
		{wasm.F64, "nan:0x8000000000000", 0x7ff8000000000000, "nan"},
		{wasm.F64, "nan:0xfffffffffffff", 0x7fffffffffffffff, ""},
	} {
		got, err := parseValue(c.t, c.text)
		if err != nil || got != c.want {
			t.Errorf("%v %q: got %#x, %v; want %#x", c.t, c.text, got, err, c.want)
			continue
		}
		want := c.write
		if want == "" {
			want = c.text
		}
		text := formatValue(c.t, got)
		if text != want {
			t.Errorf("%v %q is written as %q, want %q", c.t, c.text, text, want)
		}
		if again, err := parseValue(c.t, text); err != nil || again != got {
			t.Errorf("%v %q: read again %#x, %v", c.t, text, again, err)
		}
	}
	for typ, texts := range map[wasm.ValType][]string{
		wasm.I32:  {"", "-", "+", "0x", "x", "1.0", "1_0", "--1", "+-1", "0x-1", " 1", "1 ", "4294967296", "-2147483649", "0b1", "nan", "-0x80000001", strings.Repeat("9", 200)},
		wasm.I64:  {"", "18446744073709551616", "-9223372036854775809", "1e3", "0x10000000000000000"},
		wasm.F32:  {"", "1_0", "one", "1e39", "nan:0x800000", "nan:0x0", "nan:1", "nanx", "--nan", "+-1", "0x", "1 "},
		wasm.F64:  {"", ".", "1e309", "nan:0x10000000000000", "in", "0xp1", "-"},
		wasm.V128: {"0"}, wasm.ExternRef: {"0", "null"},
	} {
		for _, text := range texts {
			if v, err := parseValue(typ, text); err == nil {
				t.Errorf("%v %q: got %#x, want an error", typ, text, v)
			} else if len(err.Error()) > 200 {
				t.Errorf("%v: a long error: %v", typ, err)
			}
		}
	}
}

// What is written is read as the same bits, whatever they are.
func TestValuesRoundTrip(t *testing.T) {
	rnd := seed(t)
	for range 20000 {
		for _, c := range []struct {
			t wasm.ValType
			v uint64
		}{{wasm.I32, rnd.Uint64() >> 32}, {wasm.I64, rnd.Uint64()}, {wasm.F32, rnd.Uint64() >> 32}, {wasm.F64, rnd.Uint64()},
			{wasm.F32, 0x7f800000 | rnd.Uint64()>>41}, {wasm.F64, 0xfff<<52 | rnd.Uint64()>>12}} {
			text := formatValue(c.t, c.v)
			if got, err := parseValue(c.t, text); err != nil || got != c.v {
				t.Fatalf("%v %s: got %s, %v", c.t, strconv.FormatUint(c.v, 16), text, err)
			}
		}
	}
}
