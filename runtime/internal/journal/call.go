package journal

import (
	"encoding/binary"
	"fmt"

	"perdure/runtime/internal/wasi"
)

// Called records that a function of the guest is called from outside, with its arguments as
// words. It tells whether that could be recorded. The past has been played by then.
func (j *Journal) Called(name string, args []uint64) (recorded bool) {
	n := 8 + 8*len(args) + len(name)
	b := j.room(n)
	if b == nil {
		return false
	}
	binary.LittleEndian.PutUint64(b, uint64(len(args)))
	for i, v := range args {
		binary.LittleEndian.PutUint64(b[8+8*i:], v)
	}
	copy(b[8+8*len(args):], name)
	j.seal(opCall, callKey(name, args), wasi.ESUCCESS, n)
	return true
}

// NextCall returns the call with which the past goes on, and false when the past has been
// played. It is asked where the guest does nothing. The error is a *DivergenceError when
// the past has something else there.
func (j *Journal) NextCall() (name string, args []uint64, ok bool, err error) {
	if !j.playing {
		return "", nil, false, nil
	}
	defer Recover(&err)
	r, more := j.peek()
	if !more {
		return "", nil, false, nil
	}
	if r.op == opCall {
		n := uint64(r.number(0))
		if len(r.payload) < 8 || n > uint64(len(r.payload)-8)/8 {
			return "", nil, false, fmt.Errorf("%w: a call of %d bytes", ErrDamaged, len(r.payload))
		}
		args = make([]uint64, n)
		for i := range args {
			args[i] = uint64(r.number(1 + i))
		}
		name = string(r.payload[8+8*n:])
	}
	j.replay(opCall, callKey(name, args)) // which panics if that is not what is there
	return name, args, true, nil
}

// Returned notes that the call has returned these words, or has trapped. In the past, known
// tells that it had returned by the time of the crash; else that is recorded, and saved tells
// whether call and return are as safe as the Journal makes its records. The error is a
// *DivergenceError when it returned something else.
func (j *Journal) Returned(results []uint64, trapped bool) (known, saved bool, err error) {
	defer Recover(&err)
	k := callKey("", results)
	if trapped {
		k = callKey("trap", nil)
	}
	if _, known := j.replay(opReturn, k); known {
		return true, true, nil
	}
	b := j.room(8)
	if b == nil {
		return false, false, nil
	}
	clear(b)
	j.seal(opReturn, k, wasi.ESUCCESS, len(b))
	j.commit()
	return false, !j.opt.Sync || !j.dirty, nil
}

func callKey(name string, words []uint64) key {
	k := key(0).text(name)
	for _, w := range words {
		k = k.num(int64(w))
	}
	return k
}
