package memsnap

import (
	"slices"
	"time"
)

// Policy says what a store keeps. The zero value keeps everything as it is written. The names are those of the options
// that operators know; docs tell where they mean more than they did.
type Policy struct {
	// Redundancy is how many generations may lean on the only copy of a page before the next one stores it again;
	// 0 keeps one copy only.
	Redundancy uint64
	// Integrity refuses to fall back: a store whose newest generation is damaged is then ErrIntegrity for OpenNewest,
	// instead of the newest generation that is whole.
	Integrity bool

	// MaxSnapshots is how many generations are kept at most, the oldest go first; 0 is no bound.
	MaxSnapshots uint64
	// MinSnapshots is how many good generations stay whatever else is said. It wins over all others.
	MinSnapshots uint64
	// Expiration is the age after which a generation goes; 0 is never.
	Expiration time.Duration
	// KeepLast, KeepMinutely, KeepHourly and KeepDaily thin out: if any of them is set, only the newest KeepLast
	// generations stay and the last one of each of the newest so many minutes, hours and days that have one.
	KeepLast, KeepMinutely, KeepHourly, KeepDaily uint64

	// MinFree is how much of the file system has to stay free; below it the oldest generations go, and if none may,
	// commits fail with ErrLowSpace.
	MinFree Space
}

// Space is an amount of storage: bytes, or per cent of the file system. The larger of the two counts.
type Space struct {
	Bytes   uint64
	Percent float64
}

// DefaultPolicy is what is kept if nobody says anything: two copies of what is old, the last 64 generations and no more, and
// 64 MiB or 1 % of free space.
func DefaultPolicy() Policy {
	return Policy{Redundancy: 3, MaxSnapshots: 64, MinSnapshots: 2, MinFree: Space{Bytes: 64 << 20, Percent: 1}}
}

// Expired returns the numbers of the generations that have to go, ascending. It is a function of its arguments alone;
// the generations are ascending by number, as Store.Generations lists them.
//
// The newest good generation never goes, nor what is newer, nor what is pinned. Order is by number: where the clock was
// set back, generations count as no younger than those that came after them, so a clock that steps changes nothing
// but what its last reading says.
func (p Policy) Expired(generations []Info, now time.Time) []uint64 {
	list := slices.Clone(generations)
	good, newest := uint64(0), -1
	for i := range list {
		if list[i].Err == nil {
			good, newest = good+1, i
		}
	}
	if newest < 0 {
		return nil // nothing is well: whatever there is may be all that can be saved
	}
	for i := newest - 1; i >= 0; i-- {
		if list[i].Err != nil || list[i].Time.After(list[i+1].Time) && list[i+1].Err == nil {
			list[i].Time = list[i+1].Time
		}
	}
	stays := func(i int) bool { return i >= newest || list[i].Pinned }
	gone := make([]bool, len(list))
	count := uint64(len(list))
	remove := func(i int) {
		well := list[i].Err == nil
		if gone[i] || stays(i) || well && good <= p.MinSnapshots {
			return
		}
		gone[i] = true
		count--
		if well {
			good--
		}
	}

	if p.KeepLast > 0 || p.KeepMinutely > 0 || p.KeepHourly > 0 || p.KeepDaily > 0 {
		kept := p.thinned(list[:newest+1])
		for i := range list {
			if !kept[list[i].Number] {
				remove(i)
			}
		}
	}
	for i := range list {
		if p.Expiration > 0 && now.Sub(list[i].Time) > p.Expiration {
			remove(i)
		}
	}
	for i := range list {
		if p.MaxSnapshots > 0 && count > p.MaxSnapshots {
			remove(i)
		}
	}
	var numbers []uint64
	for i, g := range gone {
		if g {
			numbers = append(numbers, list[i].Number)
		}
	}
	return numbers
}

// thinned returns what stays of the list, whose times ascend.
func (p Policy) thinned(list []Info) map[uint64]bool {
	kept := map[uint64]bool{}
	for _, rule := range []struct {
		n      uint64
		bucket func(t time.Time) int64
	}{
		{p.KeepLast, nil},
		{p.KeepMinutely, func(t time.Time) int64 { return floor(t.Unix(), 60) }},
		{p.KeepHourly, func(t time.Time) int64 { return floor(t.Unix(), 3600) }},
		{p.KeepDaily, func(t time.Time) int64 { return floor(t.Unix(), 86400) }}, // days of UTC: no zone changes them
	} {
		left, last, any := rule.n, int64(0), false
		for _, g := range slices.Backward(list) {
			if left == 0 {
				break
			}
			if g.Err != nil {
				continue
			}
			if rule.bucket != nil {
				b := rule.bucket(g.Time)
				if any && b == last {
					continue
				}
				last, any = b, true
			}
			kept[g.Number] = true
			left--
		}
	}
	return kept
}

func floor(a, b int64) int64 {
	if a < 0 {
		return (a - b + 1) / b
	}
	return a / b
}
