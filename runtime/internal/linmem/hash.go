package linmem

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/zeebo/xxh3"
)

// hashTracker finds changed pages by comparing hashes. It hashes and emits one and the same copy: if the
// guest writes meanwhile, the hash stays that of what the caller was given.
type hashTracker struct {
	space     *space
	residency *residency
	// seed is random, so that no guest can prepare two pages of the same hash.
	seed uint64
	// zero is the hash of a page of zeros.
	zero xxh3.Uint128
	// hashes has, per page, the hash of what the caller has, combined with zero by exclusive or: a fresh table says
	// "all zero".
	hashes []xxh3.Uint128
	// absent are those of the pages being looked at that the kernel does not keep: they are zero.
	absent pageSet
	// scratch and fresh have the copies and the hashes of the run that is being gathered.
	scratch []byte
	fresh   []xxh3.Uint128
}

// unknown stands in the table for "the caller may have anything". That a page has this hash is no likelier than
// any other collision.
var unknown = xxh3.Uint128{Hi: ^uint64(0), Lo: ^uint64(0)}

// residencyBatch is the number of pages that are looked up in one step.
const residencyBatch = 4096

func newHashTracker(s *space, limit uint64) (tracker, error) {
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("random seed: %w", err)
	}
	t := &hashTracker{
		space:     s,
		residency: openResidency(s),
		seed:      binary.LittleEndian.Uint64(seed[:]),
		hashes:    make([]xxh3.Uint128, limit/PageSize),
		absent:    newPageSet(residencyBatch),
		scratch:   make([]byte, MaxRun*PageSize),
		fresh:     make([]xxh3.Uint128, MaxRun),
	}
	t.zero = xxh3.Hash128Seed(zeros[:PageSize], t.seed)
	return t, nil
}

func (t *hashTracker) kind() Tracker { return Hash }

func (t *hashTracker) collect(nPages uint64, emit func(first uint64, data []byte)) error {
	for batch := uint64(0); batch < nPages; batch += residencyBatch {
		end := min(batch+residencyBatch, nPages)
		clear(t.absent)
		t.residency.absent(batch, end, t.absent)
		for page := batch; page < end; {
			if runEnd := batch + t.absent.next(page-batch, end-batch, ^uint64(0)); runEnd > page {
				t.collectAbsent(page, runEnd, emit)
				page = runEnd
				continue
			}
			runEnd := batch + t.absent.next(page-batch, end-batch, 0)
			t.collectPresent(page, runEnd, emit)
			page = runEnd
		}
	}
	return nil
}

// peek is collect: protecting costs nothing here.
func (t *hashTracker) peek(nPages uint64, emit func(first uint64, data []byte)) error {
	return t.collect(nPages, emit)
}

func (t *hashTracker) settle(uint64, []byte) error { return nil }

// collectAbsent emits those of the pages [first, end), all zero, of which the caller has something else.
func (t *hashTracker) collectAbsent(first, end uint64, emit func(first uint64, data []byte)) {
	for page := first; page < end; {
		if t.hashes[page] == (xxh3.Uint128{}) {
			page++
			continue
		}
		run := page
		for page < end && t.hashes[page] != (xxh3.Uint128{}) {
			t.hashes[page] = unknown
			page++
		}
		if emit != nil {
			emitZeros(run, page, emit)
		}
		clear(t.hashes[run:page])
	}
}

// collectPresent copies the pages [first, end) one after the other and emits runs of those whose copy is news.
func (t *hashTracker) collectPresent(first, end uint64, emit func(first uint64, data []byte)) {
	n := uint64(0) // changed pages just before page, in scratch and fresh
	for page := first; page < end; page++ {
		copied := t.scratch[n*PageSize : (n+1)*PageSize]
		copy(copied, unsafe.Slice((*byte)(unsafe.Add(t.space.base, page*PageSize)), PageSize))
		h := xxh3.Hash128Seed(copied, t.seed)
		h.Hi ^= t.zero.Hi
		h.Lo ^= t.zero.Lo
		if h == t.hashes[page] {
			t.emitFresh(page-n, n, emit)
			n = 0
			continue
		}
		t.hashes[page] = unknown
		t.fresh[n] = h
		if n++; n == MaxRun {
			t.emitFresh(page+1-n, n, emit)
			n = 0
		}
	}
	t.emitFresh(end-n, n, emit)
}

// emitFresh emits the n pages in scratch, and only then takes their hashes for known.
func (t *hashTracker) emitFresh(first, n uint64, emit func(first uint64, data []byte)) {
	if n == 0 {
		return
	}
	if emit != nil {
		emit(first, t.scratch[:n*PageSize:n*PageSize])
	}
	copy(t.hashes[first:], t.fresh[:n])
}

func (t *hashTracker) markDirty(first, end uint64) {
	for page := first; page < end; page++ {
		t.hashes[page] = unknown
	}
}

func (t *hashTracker) zeroed() {} // the table still says what the caller has

func (t *hashTracker) close() error { return t.residency.close() }
