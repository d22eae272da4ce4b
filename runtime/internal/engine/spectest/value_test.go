package spectest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// value is a parameter or an expected result in a script. Value is a string, for v128 a list of strings, one for each
// lane; it is absent where a script gives only the type.
type value struct {
	Type     string          `json:"type"`
	LaneType string          `json:"lane_type"`
	Value    json.RawMessage `json:"value"`
}

// nanClass says which set of bit patterns a lane stands for.
type nanClass int

const (
	notNaN        nanClass = iota // exactly the bits
	canonicalNaN                  // the payload's top bit and nothing else; either sign
	arithmeticNaN                 // the payload's top bit and anything below it; either sign
)

// lane is a piece of a value: a number is one lane, a vector several.
type lane struct {
	width uint // in bits
	bits  uint64
	nan   nanClass
}

var errNoValue = errors.New("value is absent")

// words returns how many stack words of the engine a value of the type takes.
func (v value) words() int {
	if v.Type == "v128" {
		return 2
	}
	return 1
}

// ref reports whether the value is a reference.
func (v value) ref() bool { return v.Type == "funcref" || v.Type == "externref" }

// lanes returns the lanes of the value, lowest first. References are one lane in the engine's terms: 0 is null.
func (v value) lanes() ([]lane, error) {
	if len(v.Value) == 0 || string(v.Value) == "null" {
		return nil, errNoValue
	}
	if v.Type == "v128" {
		width, err := laneWidth(v.LaneType)
		if err != nil {
			return nil, err
		}
		var texts []string
		if err := json.Unmarshal(v.Value, &texts); err != nil {
			return nil, fmt.Errorf("decode v128: %w", err)
		}
		if uint(len(texts))*width != 128 {
			return nil, fmt.Errorf("%d lanes of %d bits in a v128", len(texts), width)
		}
		lanes := make([]lane, 0, len(texts))
		for _, text := range texts {
			l, err := parseLane(text, v.LaneType, width)
			if err != nil {
				return nil, err
			}
			lanes = append(lanes, l)
		}
		return lanes, nil
	}
	var text string
	if err := json.Unmarshal(v.Value, &text); err != nil {
		return nil, fmt.Errorf("decode %s: %w", v.Type, err)
	}
	if v.ref() {
		if text == "null" {
			return []lane{{width: 64}}, nil
		}
		if v.Type == "funcref" {
			return nil, fmt.Errorf("funcref %q: only null can be written in a script", text)
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("externref: %w", err)
		}
		// The engine takes 0 for null, so the script's reference n is n+1.
		return []lane{{width: 64, bits: n + 1}}, nil
	}
	width, err := laneWidth(v.Type)
	if err != nil {
		return nil, err
	}
	l, err := parseLane(text, v.Type, width)
	if err != nil {
		return nil, err
	}
	return []lane{l}, nil
}

// laneWidth returns the bits of a number type or of a vector's lane type.
func laneWidth(typ string) (uint, error) {
	switch typ {
	case "i8":
		return 8, nil
	case "i16":
		return 16, nil
	case "i32", "f32":
		return 32, nil
	case "i64", "f64":
		return 64, nil
	}
	return 0, fmt.Errorf("unknown type %q", typ)
}

// parseLane reads one number: unsigned or negative decimal, floats as the decimal of their bits, or a NaN pattern.
func parseLane(text, typ string, width uint) (lane, error) {
	switch {
	case typ[0] == 'f' && text == "nan:canonical":
		return lane{width: width, nan: canonicalNaN}, nil
	case typ[0] == 'f' && text == "nan:arithmetic":
		return lane{width: width, nan: arithmeticNaN}, nil
	case strings.HasPrefix(text, "-"):
		n, err := strconv.ParseInt(text, 10, int(width))
		return lane{width: width, bits: uint64(n) & mask(width)}, err
	}
	n, err := strconv.ParseUint(text, 10, int(width))
	return lane{width: width, bits: n}, err
}

func mask(width uint) uint64 { return ^uint64(0) >> (64 - width) }

// matches reports whether the bits are in the set that the lane stands for.
func (l lane) matches(bits uint64) bool {
	if l.nan == notNaN {
		return bits == l.bits
	}
	exponent, quiet := uint64(0xff)<<23, uint64(1)<<22
	if l.width == 64 {
		exponent, quiet = 0x7ff<<52, 1<<51
	}
	bits &= mask(l.width - 1) // without the sign
	if l.nan == canonicalNaN {
		return bits == exponent|quiet
	}
	return bits&(exponent|quiet) == exponent|quiet
}

func (l lane) String() string {
	switch l.nan {
	case canonicalNaN:
		return "nan:canonical"
	case arithmeticNaN:
		return "nan:arithmetic"
	}
	return fmt.Sprintf("%#0*x", int(l.width/4)+2, l.bits)
}

// encode turns values into the engine's stack words: a v128 is its low, then its high half.
func encode(values []value) ([]uint64, error) {
	var words []uint64
	for i, v := range values {
		lanes, err := v.lanes()
		if err != nil {
			return nil, fmt.Errorf("value %d: %w", i, err)
		}
		packed := make([]uint64, v.words())
		bit := uint(0)
		for _, l := range lanes {
			if l.nan != notNaN {
				return nil, fmt.Errorf("value %d: %s stands for more than one value", i, l)
			}
			packed[bit/64] |= l.bits << (bit % 64)
			bit += l.width
		}
		words = append(words, packed...)
	}
	return words, nil
}

// check compares result words with the values that a script expects.
func check(expected []value, words []uint64) error {
	at := 0
	for i, v := range expected {
		lanes, err := v.lanes()
		if err != nil {
			return fmt.Errorf("result %d: %w", i, err)
		}
		if at+v.words() > len(words) {
			return fmt.Errorf("got %d result words, want more than %d", len(words), at)
		}
		bit := uint(0)
		for j, l := range lanes {
			got := words[at+int(bit/64)] >> (bit % 64) & mask(l.width)
			if !l.matches(got) {
				return fmt.Errorf("result %d (%s), lane %d: got %s, want %s", i, v.Type, j, lane{width: l.width, bits: got}, l)
			}
			bit += l.width
		}
		at += v.words()
	}
	if at != len(words) {
		return fmt.Errorf("got %d result words, want %d", len(words), at)
	}
	return nil
}

// normalise makes result words comparable between two machines: bits beyond a type's width are nothing, and a
// function reference is an address, so that only whether it is null can be compared.
func normalise(types []value, words []uint64) []uint64 {
	out := append([]uint64(nil), words...)
	at := 0
	for _, v := range types {
		if at+v.words() > len(out) {
			break // a wrong number of words is check's to report
		}
		switch v.Type {
		case "i32", "f32":
			out[at] &= mask(32)
		case "funcref":
			out[at] = min(out[at], 1)
		}
		at += v.words()
	}
	return out
}
