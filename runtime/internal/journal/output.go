package journal

import (
	"errors"
	"fmt"
	"time"

	"perdure/runtime/internal/wasi"
)

// Where records are durable before each effect, what the guest sends waits, so that one sync does
// for all that it sends before it polls again. It has been told that this is sent, and a
// connection takes it when it is: only so much waits as there is room for. After a crash what was
// still waiting is sent, which the kernel's counters tell.
const (
	// maxWaiting is how much may wait for one connection, in bytes, and waitingPart the part of the
	// connection's buffer that it may be.
	maxWaiting  = 16 << 10
	waitingPart = 8
	// maxCalls is after how many calls the guest is taken for one that does not poll.
	maxCalls = 4096
	// stuckRetry is how often a connection is tried that did not take all, which takes a machine
	// without memory, and maxStuck how long when it is about to end.
	stuckRetry = 20 * time.Millisecond
	maxStuck   = 10 * time.Second
)

// sendCost is more than the kernel takes of a connection's buffer to send n bytes at once, with what it needs
// itself.
func sendCost(n int) int { return 2*n + 4096 }

// putOff lets what is sent on a connection wait, if it may.
func (j *Journal) putOff(h, real wasi.Handle, bufs [][]byte) bool {
	o, n := j.object(h), total(bufs)
	if !j.opt.Sync || o == nil || !o.stream || n == 0 || j.quiet || j.broken || j.ended || j.seg == nil {
		return false
	}
	if o.room == 0 {
		size, errno := j.k.SocketOption(real, wasi.OptionSendBuffer)
		if errno != wasi.ESUCCESS {
			return false
		}
		o.room, o.third = min(int(size)/waitingPart, maxWaiting), int(size)/3
	}
	if len(o.out)+n > o.room {
		return false
	}
	if len(o.out) == 0 {
		if o.free < sendCost(o.room) {
			j.one[0] = wasi.PollFD{Handle: real, Events: wasi.PollOut}
			if _, errno := j.k.Poll(j.one[:], 0); errno != wasi.ESUCCESS || j.one[0].Revents != wasi.PollOut {
				return false
			}
			o.free = o.third // at least, when it can be written to
		}
		j.waiting = append(j.waiting, h)
	}
	for _, b := range bufs {
		o.out = append(o.out, b...)
	}
	return true
}

// Flush sends what waits. It precedes the saving of the host's State, which is not to be saved when
// that fails: it would tell of output that is nowhere else.
func (j *Journal) Flush() error {
	if len(j.waiting) == 0 {
		return nil
	}
	if j.release(); len(j.waiting) > 0 {
		return errStuck
	}
	return nil
}

var errStuck = errors.New("a connection does not take what it had room for")

// drain sends what waits for a connection that is about to end.
func (j *Journal) drain(h wasi.Handle) {
	o := j.object(h)
	if j.playing || o == nil || len(o.out) == 0 {
		return
	}
	for began := time.Now(); ; {
		j.release()
		if o.real == wasi.NoHandle || len(o.out) == 0 {
			return
		}
		if time.Since(began) > maxStuck && !j.quiet {
			j.fail(&LiveError{errStuck}) // and the next life tries again
		} else if j.quiet {
			return // there is no next one that could
		}
		time.Sleep(stuckRetry)
	}
}

// release makes what the guest knows durable, where that is asked for, and sends what waited
// for it.
func (j *Journal) release() {
	if j.opt.Sync && j.dirty && j.seg != nil {
		if err := j.sync(j.seg); err != nil {
			j.lose(fmt.Errorf("make the journal durable: %w", err))
		} else {
			j.dirty = false
		}
	}
	j.calls = 0
	stuck := j.waiting[:0]
	for _, h := range j.waiting {
		if o := j.object(h); o != nil && o.real != wasi.NoHandle && !j.sendOut(o) {
			stuck = append(stuck, h)
		}
	}
	j.waiting = stuck
}

// sendOut sends what waits for a connection, and returns false if that does not take it all.
func (j *Journal) sendOut(o *object) bool {
	for len(o.out) > 0 {
		n, errno := j.k.Send(o.real, [][]byte{o.out})
		o.free -= sendCost(n)
		switch {
		case errno == wasi.EAGAIN:
			return false
		case errno != wasi.ESUCCESS:
			o.failed, n = errno, len(o.out) // the guest hears of it when it sends again
		}
		o.out = o.out[:copy(o.out, o.out[n:])]
	}
	return true
}

// keepSent keeps the end of what the past sends on a connection, which may have waited.
func (j *Journal) keepSent(h wasi.Handle, bufs [][]byte, n int) {
	o := j.object(h)
	if o == nil || o.socket == nil || j.past == nil || !j.past.synced {
		return
	}
	for _, b := range bufs {
		b = b[:min(n, len(b))]
		n -= len(b)
		o.out = append(o.out, b...)
	}
	if len(o.out) > 2*maxWaiting {
		o.out = o.out[:copy(o.out, o.out[len(o.out)-maxWaiting:])]
	}
}

// settleWaiting finds out what of the past's output was not sent. Where known is false the past is
// not known to its end, and nothing else is.
func (j *Journal) settleWaiting(known bool) {
	for i := range j.objects {
		o := &j.objects[i]
		if len(o.out) == 0 || o.real != wasi.NoHandle {
			continue
		}
		missing := uint64(0)
		if now, ok := j.k.Held(*o.socket); ok && known && now.Written < o.socket.Position.Written {
			missing = o.socket.Position.Written - now.Written
		}
		if missing > uint64(len(o.out)) {
			missing = 0 // it was not this, and the connection will be reset
		}
		o.out = o.out[uint64(len(o.out))-missing:]
		o.socket.Position.Written -= missing
	}
}

// attachWaiting lets what was not sent wait again, of the connections that are attached.
func (j *Journal) attachWaiting() {
	for i := range j.objects {
		if o := &j.objects[i]; o.used && len(o.out) > 0 {
			if o.real == wasi.NoHandle {
				o.out = nil
				continue
			}
			j.waiting = append(j.waiting, FirstHandle+wasi.Handle(i))
		}
	}
}
