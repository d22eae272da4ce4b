package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time, never negative, written like "200ms", "1m30s" or "7d".
type Duration time.Duration

const day = 24 * time.Hour

var _ encoding.TextUnmarshaler = (*Duration)(nil)

// ParseDuration parses a span of time as time.ParseDuration does, with days in front: "7d", "1d12h". There is no sign.
func ParseDuration(s string) (Duration, error) {
	wrong := errors.New("not a time; write it like 200ms, 30s, 10m, 12h or 7d")
	var sum time.Duration
	rest := s
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 64)
		if err != nil {
			return 0, wrong
		}
		if n > uint64(math.MaxInt64/day) {
			return 0, errors.New("too long a time; it has to be less than 292 years")
		}
		sum, rest = time.Duration(n)*day, after
		if rest == "" {
			return Duration(sum), nil
		}
	}
	if rest == "" || rest[0] == '+' || rest[0] == '-' {
		return 0, wrong
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, wrong
	}
	if d > math.MaxInt64-sum {
		return 0, errors.New("too long a time; it has to be less than 292 years")
	}
	return Duration(sum + d), nil
}

// Std returns the time in the terms of the standard library.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns the time so that ParseDuration gives it back, without units that are zero.
func (d Duration) String() string {
	if d > 0 && time.Duration(d)%day == 0 {
		return strconv.FormatInt(int64(time.Duration(d)/day), 10) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText returns String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDuration.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

func (d *Duration) fromInteger(n int64) error {
	if n != 0 {
		return fmt.Errorf("a time needs a unit; write it in quotes, like \"%ds\"", max(n, 1))
	}
	*d = 0
	return nil
}

func (*Duration) want() string { return `a time in quotes, like "30s"` }
