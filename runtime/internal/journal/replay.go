package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"perdure/runtime/internal/wasi"
)

// Continue goes on from the position of a generation. There may be a past to play: Playing
// tells, which may have no records. An error says that there is no journal from there on, and wraps ErrDamaged, ErrVersion
// or one of the file system; the caller may go on from the generation alone, with Restart.
// Where the past has a flaw, one of the errors above, accept decides: when it returns nil the
// past is played as far as it is known, and what came after it is forgotten; else Continue
// fails with its error and changes nothing.
func (j *Journal) Continue(at Position, accept func(flaw error) error) error {
	p, err := scan(j.opt.Dir, at, j.opt.boot, !j.opt.Offline)
	if err != nil {
		return err
	}
	if p.flaw != nil {
		if err := accept(p.flaw); err != nil {
			return errors.Join(err, p.close())
		}
	}
	j.past, j.last, j.playing = p, p.base.clocks, true
	j.noteCut()
	if p.records == 0 && !j.opt.Offline {
		j.nowPlayed() // yet a first call may have been under way, and is settled as any other
	}
	return nil
}

// Past tells how many records and bytes there are to be played.
func (j *Journal) Past() (records, bytes int) {
	if j.past == nil {
		return 0, 0
	}
	return j.past.records, j.past.bytes
}

// Playing tells whether there is a past to be played, or what there was is not attached yet.
func (j *Journal) Playing() bool { return j.playing }

// Replayed is closed when the past has been played.
func (j *Journal) Replayed() <-chan struct{} { return j.over }

func (j *Journal) nowPlayed() {
	if !j.told {
		j.told = true
		close(j.over)
	}
}

// peek returns the next answer of the past.
func (j *Journal) peek() (record, bool) {
	p := j.past
	for p != nil {
		if len(p.segs) == 1 && p.next >= p.end {
			break
		}
		r := p.segs[0].read(p.next)
		switch {
		case r.op.answers():
			return r, true
		case r.op == opEnd && len(p.segs) > 1:
			j.spent = append(j.spent, p.segs[0])
			p.segs, p.next = p.segs[1:], headerSize
		default:
			if r.op == opEarly && len(r.payload) > 8 {
				j.passed = append(j.passed, early{uint64(r.number(0)), append([]byte(nil), r.payload[8:]...)})
			}
			p.next = r.end
		}
	}
	return record{}, false
}

// resume makes the journal ready for new records, behind the past.
func (j *Journal) resume() error {
	p := j.past
	s := p.segs[len(p.segs)-1]
	if err := s.append(p.end, func() { j.keepEarly(s) }); err != nil {
		return fmt.Errorf("go on in journal %s: %w", s.path, err)
	}
	p.segs = p.segs[:len(p.segs)-1]
	j.seg, j.seq, j.since = s, s.seq, p.bytes
	flaw := p.flaw
	if err := j.closePast(); err != nil {
		return err
	}
	list, err := segments(j.opt.Dir)
	if err != nil {
		return err
	}
	if err := removeSpare(j.opt.Dir); err != nil {
		return err
	}
	for n, seq := range list {
		if seq > s.seq { // begun when the crash came, or behind a flaw
			if err := removeSegments(j.opt.Dir, list[n:]); err != nil {
				return err
			}
			break
		}
	}
	if j.opt.Sync {
		if err := j.writeCopy(s); err != nil { // the disk may be full
			j.lose(err)
			flaw = err
		}
	} else if err := removeCopies(j.opt.Dir, s.seq); err != nil {
		return err
	}
	if b := j.room(markSize); b != nil {
		j.mark.put(b)
		j.seal(opLive, 0, 0, markSize)
	}
	if flaw != nil {
		j.wantCut()
	}
	return nil
}

func (j *Journal) closePast() error {
	j.closeSpent()
	p := j.past
	j.past = nil
	if p == nil {
		return nil
	}
	return p.close()
}

func (j *Journal) closeSpent() {
	for _, s := range j.spent {
		_ = s.close() // nothing was written
	}
	j.spent = nil
}

// GoLive attaches what is promised, once the past has been played. It is called at a cut,
// before which the guest may have made no call.
func (j *Journal) GoLive() error {
	if !j.playing {
		return nil
	}
	if _, more := j.peek(); more {
		return errors.New("the past has not been played yet")
	}
	for i := range j.objects {
		if n, sent := j.ahead(&j.objects[i]); n > 0 || sent > 0 {
			return errors.New("the call that was under way at the crash is not finished yet")
		}
	}
	return j.goLive(nil)
}

// GoLiveSoon attaches what is promised if there is no past to be played and no connection shows that
// a call was under way: who restores is attached then before it says so. It follows the restoring
// of the host, and is no call of the host's own.
func (j *Journal) GoLiveSoon() error {
	if !j.playing || j.opt.Offline {
		return nil
	}
	if _, more := j.peek(); more {
		return nil
	}
	for i := range j.objects {
		if n, sent := j.ahead(&j.objects[i]); n > 0 || sent > 0 {
			return nil
		}
	}
	return j.goLive(nil)
}

// Left tells whether there are answers of the past that the guest, which has ended, has not
// asked for: it diverged.
func (j *Journal) Left() error {
	if !j.playing {
		return nil
	}
	r, more := j.peek()
	if !more {
		return nil
	}
	return j.divergence(r, r.op.String(), "nothing more")
}

// goLive ends the time in which nothing is attached. under is the call that was under way at
// the crash, if it is one that moves names.
func (j *Journal) goLive(under *standing) error {
	if j.opt.Offline {
		j.fail(&StoppedError{Record: j.played, End: true})
	}
	j.setEarly()
	j.settleWaiting(j.settleSockets())
	if err := j.resume(); err != nil {
		return err
	}
	// Processor time of the thread is that of the process.
	j.last[wasi.ClockProcessCPU] = max(j.last[wasi.ClockProcessCPU], j.last[wasi.ClockThreadCPU])
	j.last[wasi.ClockThreadCPU] = j.last[wasi.ClockProcessCPU]
	for c := range j.offset {
		if c == int(wasi.ClockRealtime) {
			continue
		}
		if now, errno := j.k.Now(wasi.Clock(c)); errno == wasi.ESUCCESS {
			j.offset[c] = j.last[c] - now
		}
	}
	j.playing = false
	j.nowPlayed()
	lost := j.attach(under)
	if j.opt.Live != nil {
		j.opt.Live(j.played, lost)
	}
	return nil
}

// mustGoLive is goLive in a call of the guest.
func (j *Journal) mustGoLive(under *standing) {
	if err := j.goLive(under); err != nil {
		j.fail(&LiveError{err})
	}
}

// replay returns the recorded answer to a call, and false if the guest is live. k is the
// checksum of the arguments.
func (j *Journal) replay(o op, k key) (record, bool) {
	if !j.playing || j.quiet {
		if len(j.waiting) > 0 && !j.quiet {
			if j.calls++; j.calls > maxCalls {
				j.commit() // the guest does not poll
			}
		}
		return record{}, false
	}
	j.closeSpent()
	if j.opt.StopAt != 0 && j.played >= j.opt.StopAt {
		j.fail(&StoppedError{Record: j.played})
	}
	r, more := j.peek()
	j.setEarly()
	if !more {
		j.mustGoLive(nil)
		return record{}, false
	}
	if r.op != o || r.key != uint32(k) {
		have := r.op.String()
		if r.op == o {
			have += " with other arguments"
		}
		j.fail(j.divergence(r, have, o.String()))
	}
	j.past.next = r.end
	j.played++
	if _, more := j.peek(); !more && !j.opt.Offline {
		j.nowPlayed() // what remains is to attach, at the next call
	}
	return r, true
}

// fail says by a panic that the guest cannot go on. Its host gives back what the call under way
// had opened, which is no call of the guest.
func (j *Journal) fail(err error) {
	j.failed = true
	panic(err)
}

func (j *Journal) divergence(r record, have, want string) *DivergenceError {
	return &DivergenceError{Segment: j.past.segs[0].seq, Offset: j.past.next, Record: j.played, Have: have, Want: want}
}

// require panics unless an answer can be one to the call: it does not come from a Journal.
func (j *Journal) require(r record, ok bool) {
	if !ok {
		j.fail(j.divergence(r, fmt.Sprintf("an impossible answer of %d bytes to %v", len(r.payload), r.op), r.op.String()))
	}
}

// number returns a number of a record's payload, 0 behind its end.
func (r record) number(i int) int64 {
	if len(r.payload) < 8*(i+1) {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(r.payload[8*i:]))
}

func (r record) err() wasi.Errno { return wasi.Errno(r.errno) }
