package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"perdure/runtime/internal/wasi"
)

// rotateAt is the size of a segment behind which a cut begins a new one, in bytes.
const rotateAt = 4 << 20

// Options say how a Journal works.
type Options struct {
	Dir    string      // of the segments; made if missing
	Kernel wasi.Kernel // the outside
	// Sync makes each answer durable before the guest's next effect, so that it survives the
	// loss of power.
	Sync bool
	// Max is how many bytes may be recorded since the last cut before Full is called, once.
	Max  uint64
	Full func()
	// Live, if not nil, is called when the past has been played and the guest goes on for
	// real, on its goroutine. lost are warnings about what could not be attached again.
	Live func(records int, lost []wasi.Warning)
	// Lost, if not nil, is called when an answer cannot be recorded. The guest goes on; from
	// here to the next cut it is not covered.
	Lost func(error)
}

// Position is a place in the journal that belongs to a generation. Its fields are saved with
// that, as JSON.
type Position struct {
	Segment uint64 `json:"segment"`
	Offset  int    `json:"offset"`
	// Nonce is also in the record there, so that a generation never meets the journal of
	// another life.
	Nonce uint64 `json:"nonce"`
}

// Journal is a Kernel that records and replays. See the package comment.
type Journal struct {
	opt Options
	k   wasi.Kernel

	seg     *segment   // being played, or appended to
	spent   []*segment // that have been played; the last answer may lie in one
	next    int        // offset of the next record to be played
	playing bool       // there are answers of the past left, or nothing is attached yet
	over    chan struct{}
	told    bool // over is closed
	played  int  // records

	quiet  bool // calls of the host itself, which are no answers to the guest
	broken bool // since the last cut, an answer was not recorded
	dirty  bool // records since the last sync
	since  int  // bytes recorded since the last cut
	full   bool // Full has been called

	objects []object // by handle less FirstHandle
	free    []int    // indexes of objects that are not in use

	standards [3]standard

	// The clocks of the guest go on where they were: offset is added to the outside's, and
	// last is what was answered last.
	offset, last [4]int64
}

var _ wasi.Kernel = (*Journal)(nil)

// New returns a Journal that has nothing to play. It records once Begin or Continue has been
// called.
func New(opt Options) (*Journal, error) {
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, err
	}
	return &Journal{opt: opt, k: opt.Kernel, over: make(chan struct{})}, nil
}

// Begin starts a new journal, for a life that begins: what was in the directory is removed.
// state is the host's State, which Birth returns until there is a generation.
func (j *Journal) Begin(state []byte) error {
	if err := Remove(j.opt.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(j.opt.Dir, 0o700); err != nil {
		return err
	}
	if err := j.create(1); err != nil {
		return err
	}
	j.nowPlayed()
	if err := j.seg.ensure(recordHeader + len(state)); err != nil {
		return err
	}
	n := copy(j.seg.mem[j.seg.tail+recordHeader:], state)
	j.seal(opBirth, 0, 0, n)
	_, err := j.base()
	return err
}

// Birth returns the state that Begin was given and the position behind it, if the journal
// in dir has its first segment still.
func Birth(dir string) (state []byte, at Position, ok bool) {
	s, err := openSegment(dir, 1)
	if err != nil {
		return nil, at, false
	}
	defer s.close() // nothing was written
	r, ok := s.at(headerSize)
	if !ok || r.op != opBirth {
		return nil, at, false
	}
	b, ok := s.at(r.end)
	if !ok || b.op != opBase || len(b.payload) < 8 {
		return nil, at, false
	}
	return append([]byte(nil), r.payload...), Position{1, r.end, binary.LittleEndian.Uint64(b.payload)}, true
}

// Continue goes on from the position of a generation. There may be a past to play: Playing
// tells. An error says that the journal cannot be used, and is ErrDamaged, ErrVersion or one
// of the file system; the caller may go on from the generation alone, with Restart.
func (j *Journal) Continue(at Position) error {
	s, err := openSegment(j.opt.Dir, at.Segment)
	if err != nil {
		return err
	}
	r, ok := s.at(at.Offset)
	if !ok || r.op != opBase || len(r.payload) != 40 || binary.LittleEndian.Uint64(r.payload) != at.Nonce {
		return errors.Join(fmt.Errorf("%w: %s has no cut at %d that belongs to the generation", ErrDamaged, s.path, at.Offset), s.close())
	}
	for i := range j.last {
		j.last[i] = int64(binary.LittleEndian.Uint64(r.payload[8+8*i:]))
	}
	j.seg, j.next = s, r.end
	j.playing = true
	if _, more := j.peek(); !more {
		j.finishPlaying()
		return j.resume()
	}
	return nil
}

// Restart begins a new segment behind all that there are, for a generation that is gone on
// from without the answers that came after it.
func (j *Journal) Restart() error {
	list, err := segments(j.opt.Dir)
	if err != nil {
		return err
	}
	seq := uint64(1)
	if n := len(list); n > 0 {
		seq = list[n-1] + 1
	}
	if j.seg != nil {
		if err := j.seg.close(); err != nil {
			return err
		}
		j.seg = nil
	}
	if err := j.create(max(seq, 2)); err != nil { // the first is that of a birth
		return err
	}
	j.nowPlayed()
	_, err = j.base()
	return err
}

func (j *Journal) create(seq uint64) (err error) {
	j.seg, err = createSegment(j.opt.Dir, seq)
	return err
}

// Playing tells whether there is a past to be played, so that attaching has to wait.
func (j *Journal) Playing() bool { return j.playing }

// Replayed is closed when the past has been played, as far as it was recorded.
func (j *Journal) Replayed() <-chan struct{} { return j.over }

func (j *Journal) nowPlayed() {
	if !j.told {
		j.told = true
		close(j.over)
	}
}

// peek returns the next record of the past.
func (j *Journal) peek() (record, bool) {
	for {
		r, ok := j.seg.at(j.next)
		switch {
		case !ok:
			return record{}, false
		case r.op == opEnd:
			next, err := openSegment(j.opt.Dir, j.seg.seq+1)
			if err != nil {
				return record{}, false // it was not begun yet
			}
			j.spent = append(j.spent, j.seg)
			j.seg, j.next = next, headerSize
		case r.op == opBase:
			j.next = r.end // a cut whose generation is not the one that we went on from
		default:
			return r, true
		}
	}
}

// finishPlaying ends the time in which nothing is attached.
func (j *Journal) finishPlaying() {
	j.playing = false
	j.nowPlayed()
}

// resume makes the segment ready for new records, behind the last whole one.
func (j *Journal) resume() error {
	j.seg.tail = j.next
	if r, ok := j.seg.at(j.next); ok && r.op == opEnd { // whose next segment is not there
		j.seg.tail = r.end
		seq := j.seg.seq + 1
		if err := j.seg.close(); err != nil {
			return err
		}
		_ = os.Remove(filepath.Join(j.opt.Dir, segmentName(seq))) // one that was torn when it was begun
		return j.create(seq)
	}
	return j.seg.cut()
}

// Settled tells whether the past has been played and all is attached.
func (j *Journal) Settled() bool { return !j.playing }

// GoLive attaches what is promised, once the past has been played. It is called at a cut,
// before which the guest may have made no call.
func (j *Journal) GoLive() error {
	if !j.playing {
		return nil
	}
	if _, more := j.peek(); more {
		return errors.New("the past has not been played yet")
	}
	return j.goLive()
}

func (j *Journal) goLive() error {
	if err := j.resume(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for c := range j.offset {
		if c == int(wasi.ClockRealtime) {
			continue
		}
		if now, errno := j.k.Now(wasi.Clock(c)); errno == wasi.ESUCCESS {
			j.offset[c] = j.last[c] - now
		}
	}
	j.finishPlaying()
	lost := j.attach()
	if j.opt.Live != nil {
		j.opt.Live(j.played, lost)
	}
	return nil
}

// replay returns the recorded answer to a call, and false if the guest is live. k is the
// checksum of the arguments.
func (j *Journal) replay(o op, k key) (record, bool) {
	if !j.playing || j.quiet {
		return record{}, false
	}
	j.closeSpent()
	r, more := j.peek()
	if !more {
		if err := j.goLive(); err != nil {
			panic(&liveError{err})
		}
		return record{}, false
	}
	if r.op != o || r.key != uint32(k) {
		have := r.op.String()
		if r.op == o {
			have += " with other arguments"
		}
		panic(&DivergenceError{Segment: j.seg.seq, Offset: j.next, Have: have, Want: o.String()})
	}
	j.next = r.end
	j.played++
	if _, more := j.peek(); !more {
		j.nowPlayed() // what remains is to attach, at the next call
	}
	return r, true
}

func (j *Journal) closeSpent() {
	for _, s := range j.spent {
		_ = s.close() // nothing was written
	}
	j.spent = nil
}

// room returns n bytes for the payload of a record, nil if it cannot be recorded.
func (j *Journal) room(n int) []byte {
	if j.quiet || j.broken || j.seg == nil {
		return nil
	}
	if err := j.seg.ensure(recordHeader + n); err != nil {
		j.broken = true
		j.seg.lose()
		if j.opt.Lost != nil {
			j.opt.Lost(err)
		}
		return nil
	}
	at := j.seg.tail + recordHeader
	return j.seg.mem[at : at+n : at+n]
}

func (j *Journal) seal(o op, k key, errno wasi.Errno, n int) {
	before := j.seg.tail
	j.seg.seal(o, uint32(k), uint16(errno), n)
	j.dirty = true
	j.since += j.seg.tail - before
	if j.opt.Max != 0 && uint64(j.since) > j.opt.Max && !j.full && j.opt.Full != nil {
		j.full = true
		j.opt.Full()
	}
}

// put records an answer that is a few numbers.
func (j *Journal) put(o op, k key, errno wasi.Errno, vs ...int64) {
	b := j.room(8 * len(vs))
	if b == nil {
		return
	}
	for i, v := range vs {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(v))
	}
	j.seal(o, k, errno, 8*len(vs))
}

// number returns a number of a record's payload, 0 behind its end.
func (r record) number(i int) int64 {
	if len(r.payload) < 8*(i+1) {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(r.payload[8*i:]))
}

func (r record) err() wasi.Errno { return wasi.Errno(r.errno) }

// Quiet runs f, whose calls are the host's own: they are carried out and not recorded.
func (j *Journal) Quiet(f func() error) error {
	j.quiet = true
	defer func() { j.quiet = false }()
	return f()
}

// Cut notes a cut and returns its position, for the generation that is made of it. It follows
// the saving of the host's State, whose clocks it takes.
func (j *Journal) Cut() (Position, error) {
	if j.seg.tail >= rotateAt {
		if err := j.rotate(); err != nil {
			return Position{}, err
		}
	}
	at, err := j.base()
	if err == nil {
		j.broken, j.full, j.since = false, false, 0
	}
	return at, err
}

// rotate begins a new segment.
func (j *Journal) rotate() error {
	if err := j.seg.ensure(recordHeader); err != nil {
		return err
	}
	old := j.seg
	if err := j.create(old.seq + 1); err != nil {
		j.seg = old
		return err
	}
	old.seal(opEnd, 0, 0, 0)
	return old.close()
}

// base writes the record of a cut.
func (j *Journal) base() (Position, error) {
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return Position{}, err
	}
	const n = 8 + 8*len(j.last)
	if err := j.seg.ensure(recordHeader + n); err != nil {
		return Position{}, err
	}
	at := Position{j.seg.seq, j.seg.tail, binary.LittleEndian.Uint64(nonce[:])}
	b := j.seg.mem[j.seg.tail+recordHeader:]
	copy(b, nonce[:])
	for i, v := range j.last {
		binary.LittleEndian.PutUint64(b[8+8*i:], uint64(v))
	}
	j.seg.seal(opBase, 0, 0, n)
	j.dirty = true
	return at, nil
}

// Retire removes the segments before the one of a position. Any goroutine may call it.
func (j *Journal) Retire(before Position) error {
	list, err := segments(j.opt.Dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, seq := range list {
		if seq < before.Segment {
			errs = append(errs, os.Remove(filepath.Join(j.opt.Dir, segmentName(seq))))
		}
	}
	return errors.Join(errs...)
}

// Remove removes the journal in a directory, if there is one.
func Remove(dir string) error {
	list, err := segments(dir)
	if err != nil {
		return err
	}
	for i := len(list) - 1; i >= 0; i-- { // the oldest last: without it, the others are of no use
		if err := os.Remove(filepath.Join(dir, segmentName(list[i]))); err != nil {
			return err
		}
	}
	return nil
}

// Release gives the mapping back. What was recorded stays.
func (j *Journal) Release() error {
	j.finishPlaying()
	j.closeSpent()
	if j.seg == nil {
		return nil
	}
	s := j.seg
	j.seg = nil
	return s.close()
}

// commit makes what the guest knows durable before it has an effect, where that is asked
// for.
func (j *Journal) commit() {
	if !j.opt.Sync || !j.dirty || j.seg == nil || j.quiet {
		return
	}
	if err := j.seg.sync(); err != nil {
		if j.opt.Lost != nil {
			j.opt.Lost(err)
		}
		return
	}
	j.dirty = false
}
