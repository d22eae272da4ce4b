package memsnap

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

func at(minutes ...int) []Info {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	list := make([]Info, len(minutes))
	for i, m := range minutes {
		list[i] = Info{Number: uint64(i + 1), Time: start.Add(time.Duration(m) * time.Minute)}
	}
	return list
}

func TestPolicyExpired(t *testing.T) {
	bad := func(list []Info, numbers ...uint64) []Info {
		for _, n := range numbers {
			list[n-1].Err = ErrCorrupt
		}
		return list
	}
	pinned := func(list []Info, numbers ...uint64) []Info {
		for _, n := range numbers {
			list[n-1].Pinned = true
		}
		return list
	}
	day := 24 * 60
	for _, c := range []struct {
		name   string
		policy Policy
		list   []Info
		now    int // minutes
		want   []uint64
	}{
		{"the zero policy keeps all", Policy{}, at(0, 1, 2), 1 << 20, nil},
		{"nothing there", DefaultPolicy(), nil, 0, nil},
		{"the oldest go first", Policy{MaxSnapshots: 2}, at(0, 1, 2, 3), 4, []uint64{1, 2}},
		{"the minimum wins over the maximum", Policy{MaxSnapshots: 1, MinSnapshots: 3}, at(0, 1, 2, 3), 4, []uint64{1}},
		{"a pinned one stays", Policy{MaxSnapshots: 2}, pinned(at(0, 1, 2, 3), 1), 4, []uint64{2, 3}},
		{"pinned ones alone may be too many", Policy{MaxSnapshots: 1}, pinned(at(0, 1, 2), 1, 2), 4, nil},
		{"the newest stays though it is old", Policy{Expiration: time.Minute}, at(0, 1, 2), 9999, []uint64{1, 2}},
		{"the minimum stays though it is old", Policy{Expiration: time.Minute, MinSnapshots: 2}, at(0, 1, 2), 9999, []uint64{1}},
		{"expired is older than, not as old as", Policy{Expiration: 2 * time.Minute}, at(0, 1, 2, 3), 3, []uint64{1}},
		{"the newest good one stays, and what is newer", Policy{MaxSnapshots: 1}, bad(at(0, 1, 2, 3), 3, 4), 9, []uint64{1}},
		{"the minimum counts good ones", Policy{MaxSnapshots: 2, MinSnapshots: 2}, bad(at(0, 1, 2, 3, 4), 2, 3), 9, []uint64{1, 2, 3}},
		{"nothing is good", Policy{MaxSnapshots: 1, Expiration: 1}, bad(at(0, 1, 2), 1, 2, 3), 999, nil},
		{"a clock that was set back", Policy{Expiration: 10 * time.Minute}, at(100, 101, 0, 1, 2), 5, nil},
		{"a clock that was set back, later", Policy{Expiration: 10 * time.Minute}, at(100, 101, 0, 1, 12), 12, []uint64{1, 2, 3, 4}},
		{"now before all", Policy{Expiration: time.Minute}, at(0, 1, 2), -5000, nil},
		{"keep last", Policy{KeepLast: 2}, at(0, 1, 2, 3), 4, []uint64{1, 2}},
		{"keep hourly: the last of each", Policy{KeepHourly: 2}, at(0, 10, 59, 60, 61, 130), 131, []uint64{1, 2, 3, 4}},
		{"keep daily, gaps do not count", Policy{KeepDaily: 3}, at(0, day, 5*day, 5*day+1, 9*day), 9 * day, []uint64{1, 3}},
		{"rules add up", Policy{KeepLast: 1, KeepHourly: 2, KeepDaily: 2}, at(0, day, day+60, day+61), 2 * day, []uint64{3}},
		{"keep minutely while the clock goes back", Policy{KeepMinutely: 2}, at(5, 6, 3, 4), 4, []uint64{1, 2}},
		{"thinned and at most", Policy{KeepHourly: 10, MaxSnapshots: 2}, at(0, 60, 120, 180), 180, []uint64{1, 2}},
	} {
		got := c.policy.Expired(c.list, at(c.now)[0].Time)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v go, want %v", c.name, got, c.want)
		}
	}
}

// TestPolicyNeverTakesWhatMustStay tries random policies on random histories.
func TestPolicyNeverTakesWhatMustStay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20000 {
		minutes := make([]int, r.IntN(12))
		for i := range minutes {
			minutes[i] = r.IntN(4000)
		}
		if r.IntN(2) == 0 {
			slices.Sort(minutes)
		}
		list := at(minutes...)
		newest, good := -1, 0
		for i := range list {
			list[i].Pinned = r.IntN(6) == 0
			if r.IntN(5) == 0 {
				list[i].Err = errors.New("damaged")
			} else {
				newest = i
				good++
			}
		}
		n := func() uint64 { return uint64(max(0, r.IntN(8)-3)) }
		p := Policy{MaxSnapshots: n(), MinSnapshots: n(), KeepLast: n(), KeepMinutely: n(), KeepHourly: n(), KeepDaily: n(),
			Expiration: time.Duration(n()) * time.Hour}
		before := slices.Clone(list)
		now := at(r.IntN(8000) - 2000)[0].Time
		gone := p.Expired(list, now)
		if !reflect.DeepEqual(list, before) {
			t.Fatal("the list was changed")
		}
		if !slices.IsSorted(gone) {
			t.Fatalf("not in order: %v", gone)
		}
		lost := 0
		for _, number := range gone {
			i := int(number - 1)
			if i >= newest || list[i].Pinned {
				t.Fatalf("%+v takes generation %d of %+v", p, number, list)
			}
			if list[i].Err == nil {
				lost++
			}
		}
		if lost > 0 && uint64(good-lost) < p.MinSnapshots {
			t.Fatalf("%+v leaves %d good ones of %+v", p, good-lost, list)
		}
		if !slices.IsSorted(minutes) {
			continue // a generation that is gone no longer says when the clock was set back
		}
		// A second look takes nothing more.
		rest := slices.DeleteFunc(slices.Clone(list), func(i Info) bool { return slices.Contains(gone, i.Number) })
		if again := p.Expired(rest, now); len(again) > 0 {
			t.Fatalf("%+v takes %v, then %v of %+v", p, gone, again, list)
		}
	}
}
