package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"perdure/internal/durable"
	"perdure/runtime/internal/wasi"
)

// rotateAt is the size of a segment behind which a cut begins a new one, in bytes.
const rotateAt = 4 << 20

// MaxBytes is the most that Options.Max may be.
const MaxBytes = reserve / 2

// Options say how a Journal works.
type Options struct {
	Dir    string      // of the segments; made if missing
	Kernel wasi.Kernel // the outside
	// Unlinked is a directory for files that the guest has open though their names are gone, so
	// that they can be opened again. It is made when it is needed; empty means that such files are
	// lost in a crash.
	Unlinked string
	// Sync makes each answer durable before the guest's next effect, and each change of a file
	// before the guest goes on, so that both survive the loss of power.
	Sync bool
	// Max is how many bytes may be recorded since the last cut before Full is called, once; 0
	// means MaxBytes. Full, if not nil, asks for a cut.
	Max  uint64
	Full func()
	// RotateAt is the size of a segment behind which a cut begins a new one, in bytes; 0 means
	// 4 MiB.
	RotateAt int
	// Live, if not nil, is called when the past has been played and the guest goes on for
	// real, on its goroutine. lost are warnings about what could not be attached again.
	Live func(records int, lost []wasi.Warning)
	// Lost, if not nil, is called when an answer cannot be recorded, once until a cut mends
	// that. The guest goes on, and is not covered meanwhile.
	Lost func(error)
	// Offline plays the past and touches nothing outside and nothing in Dir. Where the past ends,
	// or behind record number StopAt if that is not 0, the methods panic with a *StoppedError.
	Offline bool
	StopAt  int

	// For tests: boot takes the place of the machine's, and syncing makes durable what is at a path
	// in the place of sync.
	boot    bootID
	syncing func(path string, sync func() error) error
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
	opt  Options
	k    wasi.Kernel
	mark mark // of what is recorded now

	// Of the past, while it is played.
	past    *past
	spent   []*segment // that have been played; the last answer may lie in one
	playing bool       // there are answers of the past left, or nothing is attached yet
	played  int        // records
	over    chan struct{}
	early   map[uint64][]byte // by the keeper's number: received, and not yet given to the guest
	passed  []early           // behind the answer that was played last
	landed  *object           // whose early bytes lie behind the past
	told    bool              // over is closed

	// Of the present.
	seg    *segment // appended to; nil when there is none
	seq    uint64   // of the newest segment
	broken bool     // since the last cut, an answer was not recorded
	ailing bool     // Lost has been called for that
	ended  bool     // nothing is recorded any more
	dirty  bool     // records since the last sync
	since  int      // bytes recorded since the last cut
	full   bool     // Full has been called

	// Of Retire too, which may run beside the guest.
	spares struct {
		sync.Mutex
		old  []*segment // the last ones before seg, ascending; the files may be gone
		next *segment   // of zeros, to be the one behind seg
	}

	// Of any goroutine: since, and when the last cut was, or the past began to be played.
	length atomic.Int64
	cutAt  atomic.Pointer[time.Time]

	quiet  bool // calls of the host itself, which are no answers to the guest
	failed bool // by a panic

	objects   []object              // by handle less FirstHandle
	free      []int                 // indexes of objects that are not in use
	positions map[wasi.Handle]int64 // of promised standard streams
	orphanage wasi.Handle           // the directory of orphans; NoHandle if it is not open
	adopted   map[fileID]bool       // files that have a name there

	// The clocks of the guest go on where they were: offset is added to the outside's, and
	// last is what was answered last.
	offset, last [clocks]int64

	// Of what waits to be sent; see putOff.
	waiting []wasi.Handle // connections for which something waits
	calls   int           // the guest's since then

	// Scratch, to keep calls from allocating.
	polled []wasi.PollFD
	index  []int
	fields []byte
	one    [1]wasi.PollFD
	into   [1][]byte
}

var _ wasi.Kernel = (*Journal)(nil)

// New returns a Journal that has nothing to play. It records once Begin, Continue or Restart
// has been called.
func New(opt Options) (*Journal, error) {
	if opt.RotateAt == 0 {
		opt.RotateAt = rotateAt
	}
	if opt.Max == 0 || opt.Max > MaxBytes {
		opt.Max = MaxBytes
	}
	if opt.boot == (bootID{}) {
		opt.boot = thisBoot()
	}
	if opt.syncing == nil {
		opt.syncing = func(_ string, sync func() error) error { return sync() }
	}
	j := &Journal{opt: opt, k: opt.Kernel, over: make(chan struct{}), orphanage: wasi.NoHandle, mark: mark{boot: opt.boot}}
	if opt.Sync {
		j.mark.flags |= markSynced
	}
	if opt.Offline {
		return j, nil
	}
	return j, j.makeDir(opt.Dir)
}

// makeDir makes a directory, and its name durable, where that is asked for.
func (j *Journal) makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return j.syncDir(filepath.Dir(dir))
}

// syncDir makes the names in a directory durable, where that is asked for.
func (j *Journal) syncDir(dir string) error {
	if !j.opt.Sync {
		return nil
	}
	return j.opt.syncing(dir, func() error { return durable.OS.SyncDir(dir) })
}

// sync makes what is recorded in a segment durable, where that is asked for.
func (j *Journal) sync(s *segment) error {
	if !j.opt.Sync {
		return nil
	}
	if err := j.writeCopy(s); err != nil {
		return err
	}
	return j.syncCopy(s.copy)
}

// Begin starts a new journal, for a life that begins: what was in the directory is removed.
// state is the host's State, which Birth returns until there is a generation.
func (j *Journal) Begin(state []byte) error {
	if err := Remove(j.opt.Dir); err != nil {
		return err
	}
	if err := j.makeDir(j.opt.Dir); err != nil {
		return err
	}
	j.nowPlayed()
	j.sweepOrphans()
	if !j.create(1) {
		return nil
	}
	if b := j.room(len(state)); b != nil {
		copy(b, state)
		j.seal(opBirth, 0, 0, len(state))
	}
	j.base()
	j.noteCut()
	return nil
}

// Birth returns the state that Begin was given and the position behind it, if the journal
// in dir has its first segment still.
func Birth(dir string) (state []byte, at Position, ok bool) {
	s, err := openSegment(dir, 1, thisBoot(), false)
	if err != nil {
		return nil, at, false
	}
	defer s.close() // nothing was written
	err = onFault(func() error {
		r, found := s.at(headerSize)
		if found != foundRecord || r.op != opBirth {
			return ErrDamaged
		}
		next, found := s.at(r.end)
		b, isBase := readBase(next)
		if found != foundRecord || !isBase {
			return ErrDamaged
		}
		state, at = append([]byte(nil), r.payload...), Position{1, r.end, b.nonce}
		return nil
	})
	return state, at, err == nil
}

// Restart begins a new journal for a generation that is gone on from without the answers that
// came after it, and asks for a cut: until that is made, the generation has no journal.
func (j *Journal) Restart() error {
	list, err := segments(j.opt.Dir)
	if err != nil {
		return err
	}
	seq := uint64(2) // the first is that of a birth
	if n := len(list); n > 0 {
		seq = max(seq, list[n-1]+1)
	}
	if err := j.closePast(); err != nil {
		return err
	}
	if err := errors.Join(removeSegments(j.opt.Dir, list), removeSpare(j.opt.Dir)); err != nil {
		return err
	}
	j.nowPlayed()
	if j.create(seq) {
		j.base()
	}
	j.wantCut()
	return nil
}

// create begins a segment. Where that cannot be, the guest goes on without.
func (j *Journal) create(seq uint64) bool {
	s, err := j.newSegment(seq)
	if err == nil {
		err = j.syncDir(j.opt.Dir)
	}
	if err != nil {
		j.lose(err)
		return false
	}
	j.seg, j.seq = s, seq
	return true
}

// wantCut asks for a cut, once until there is one.
func (j *Journal) wantCut() {
	if !j.full && j.opt.Full != nil {
		j.full = true
		j.opt.Full()
	}
}

// lose notes that answers are missing from here to the next cut.
func (j *Journal) lose(err error) {
	if !j.broken && j.seg != nil && j.seg.tail+spare <= j.seg.room {
		j.seg.seal(opGap, 0, 0, 0)
	}
	j.broken = true
	if !j.ailing && j.opt.Lost != nil {
		j.opt.Lost(err)
	}
	j.ailing = true
}

// room returns n bytes for the payload of a record, nil if it cannot be recorded.
func (j *Journal) room(n int) []byte {
	if j.quiet || j.broken || j.ended || j.seg == nil {
		return nil
	}
	if err := j.seg.ensure(recordHeader + n); err != nil {
		j.lose(err)
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
	j.length.Store(int64(j.since))
	if uint64(j.since) > j.opt.Max {
		j.wantCut()
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

// bytes records an answer that is the first n bytes of bufs.
func (j *Journal) bytes(o op, k key, errno wasi.Errno, n int, bufs ...[]byte) {
	b := j.room(n)
	if b == nil {
		return
	}
	at := 0
	for _, p := range bufs {
		at += copy(b[at:n], p)
	}
	j.seal(o, k, errno, n)
}

// Quiet runs f, whose calls are the host's own: they are carried out and not recorded.
func (j *Journal) Quiet(f func() error) error {
	j.quiet = true
	defer func() { j.quiet = false }()
	return f()
}

// Cut notes a cut and returns its position, for the generation that is made of it. It follows
// the saving of the host's State, whose clocks it takes. It returns false if it cannot be noted:
// the generation then has no journal.
func (j *Journal) Cut() (Position, bool) {
	if j.ended {
		return Position{}, false
	}
	if j.seg == nil && !j.create(j.seq+1) {
		return Position{}, false
	}
	if j.seg.tail >= j.opt.RotateAt {
		j.rotate()
	}
	at, ok := j.base()
	if ok {
		j.broken, j.ailing, j.full, j.since = false, false, false, 0
		j.noteCut()
	}
	return at, ok
}

// noteCut notes when a past begins, which the next crash would have played.
func (j *Journal) noteCut() {
	now := time.Now()
	j.length.Store(int64(j.since))
	j.cutAt.Store(&now)
}

// Length tells how many bytes are recorded since the last cut, and how long that is ago. To play them
// takes about as long at most: waiting is not played, and the past that was played before is counted.
// Any goroutine may call it.
func (j *Journal) Length() (bytes int64, since time.Duration) {
	if at := j.cutAt.Load(); at != nil {
		since = time.Since(*at)
	}
	return j.length.Load(), since
}

// base writes the record of a cut.
func (j *Journal) base() (Position, bool) {
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		j.lose(err)
		return Position{}, false
	}
	if err := j.seg.ensure(recordHeader + baseSize); err != nil {
		j.lose(err)
		return Position{}, false
	}
	b := base{nonce: binary.LittleEndian.Uint64(nonce[:]), clocks: j.last, mark: j.mark}
	if j.broken {
		b.flags |= markGap
	}
	at := Position{j.seg.seq, j.seg.tail, b.nonce}
	b.put(j.seg.mem[j.seg.tail+recordHeader:])
	j.seg.seal(opBase, 0, 0, baseSize)
	j.dirty = true
	if j.opt.Sync { // for Durable
		if err := j.writeCopy(j.seg); err != nil {
			j.lose(err)
			return Position{}, false
		}
	}
	return at, true
}

// End stops recording: what comes is covered by generations alone. Retire removes what there is.
func (j *Journal) End() { j.ended = true }

// Durable makes the record up to a position durable, for a Journal with Sync. Any goroutine may
// call it.
func (j *Journal) Durable(at Position) error {
	if !j.opt.Sync {
		return nil
	}
	// It has been written, with the cut.
	path := filepath.Join(j.opt.Dir, copyName(at.Segment, j.opt.boot))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	c := durableCopy{f: f, path: path}
	return errors.Join(j.syncCopy(&c), f.Close())
}

// Release gives the mappings back. What was recorded stays.
func (j *Journal) Release() error {
	j.playing = false
	j.nowPlayed()
	j.release()
	err := errors.Join(j.closePast(), j.closeSpares())
	if j.orphanage != wasi.NoHandle {
		j.k.Close(j.orphanage) // it only named the directory
		j.orphanage = wasi.NoHandle
	}
	if j.seg == nil {
		return err
	}
	s := j.seg
	j.seg = nil
	return errors.Join(err, s.close())
}

// commit makes what the guest knows durable before it has an effect, where that is asked
// for.
func (j *Journal) commit() {
	if j.opt.Sync && !j.quiet {
		j.release()
	}
}
