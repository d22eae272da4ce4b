package worker

import "time"

// slice is the part of a second for which a rate makes its user wait at least, so that it does not get single bytes.
const slice = 20

// rate is a bound on bytes in a second, a bucket that has room for those of one second. The zero value is no bound.
type rate struct {
	perSecond float64
	left      float64
	since     time.Time // left is of then
}

// set changes the bound; 0 is none.
func (r *rate) set(perSecond uint64, now time.Time) {
	r.refill(now)
	if r.perSecond == 0 { // it is full at first
		r.left = float64(perSecond)
	}
	r.perSecond = float64(perSecond)
	r.left = min(r.left, r.perSecond)
}

func (r *rate) refill(now time.Time) {
	if d := now.Sub(r.since); d > 0 {
		r.left = min(r.perSecond, r.left+r.perSecond*d.Seconds())
	}
	r.since = now
}

// take takes up to n > 0 bytes. When it is 0 that it took, there will be some after wait.
func (r *rate) take(n int, now time.Time) (took int, wait time.Duration) {
	if r.perSecond == 0 {
		return n, 0
	}
	r.refill(now)
	if least := min(float64(n), max(1, r.perSecond/slice)); r.left < least {
		return 0, time.Duration((least-r.left)/r.perSecond*float64(time.Second)) + time.Microsecond
	}
	took = min(n, int(r.left))
	r.left -= float64(took)
	return took, 0
}

// giveBack returns bytes that were taken and not used.
func (r *rate) giveBack(n int) { r.left = min(r.perSecond, r.left+float64(n)) }
