package journal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// clocks is how many clocks there are.
const clocks = 4

// bootID identifies the time between two starts of the machine.
type bootID [16]byte

// thisBoot returns the present one; all zeros where the system does not tell.
func thisBoot() (id bootID) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	b, err = hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(b)), "-", ""))
	if err == nil && len(b) == len(id) {
		copy(id[:], b)
	}
	return id
}

// The flags of a mark.
const (
	markSynced uint64 = 1 << iota // what follows is made durable before each effect
	markGap                       // answers before it are missing
	markAll    = markSynced | markGap
)

// mark says under which circumstances the records behind it were made.
type mark struct {
	boot  bootID
	flags uint64
}

const markSize = len(bootID{}) + 8

func (m *mark) put(b []byte) {
	copy(b, m.boot[:])
	binary.LittleEndian.PutUint64(b[len(m.boot):], m.flags)
}

func readMark(b []byte) (m mark, ok bool) {
	if len(b) != markSize {
		return m, false
	}
	copy(m.boot[:], b)
	m.flags = binary.LittleEndian.Uint64(b[len(m.boot):])
	return m, m.flags&^markAll == 0
}

// baseSize is the payload of a cut: nonce 8, the clocks, the mark.
const baseSize = 8 + 8*clocks + markSize

// base is a cut.
type base struct {
	nonce  uint64
	clocks [clocks]int64
	mark
}

func (b *base) put(p []byte) {
	binary.LittleEndian.PutUint64(p, b.nonce)
	for i, v := range b.clocks {
		binary.LittleEndian.PutUint64(p[8+8*i:], uint64(v))
	}
	b.mark.put(p[8+8*clocks:])
}

func readBase(r record) (b base, ok bool) {
	if r.op != opBase || len(r.payload) != baseSize {
		return b, false
	}
	b.nonce = binary.LittleEndian.Uint64(r.payload)
	for i := range b.clocks {
		b.clocks[i] = r.number(1 + i)
	}
	b.mark, ok = readMark(r.payload[8+8*clocks:])
	return b, ok
}

// past is what there is to be played: all of it was read and checked.
type past struct {
	segs []*segment // open; the first is being played
	next int        // offset of the next record, in the first
	end  int        // offset behind the last record, in the last

	records, bytes int
	flaw           error // why there is no more; nil if all is there
	base           base
	synced         bool // some of it was made durable before each effect, so that output may have waited
}

// scan reads the past behind a position. The error says that there is none.
func scan(dir string, at Position, boot bootID, write bool) (p *past, err error) {
	s, err := openSegment(dir, at.Segment, boot, write)
	if err != nil {
		return nil, err
	}
	p = &past{segs: []*segment{s}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
			p = nil
		}
	}()
	return p, onFault(func() error { return p.scan(dir, at, boot, write) })
}

func (p *past) scan(dir string, at Position, boot bootID, write bool) error {
	s := p.segs[0]
	r, found := s.at(at.Offset)
	b, ok := readBase(r)
	if found != foundRecord || !ok || b.nonce != at.Nonce {
		return fmt.Errorf("%w: %s has no cut at %d that belongs to the generation", ErrDamaged, s.path, at.Offset)
	}
	p.base, p.next, p.end = b, r.end, r.end
	now := b.mark
	p.synced = now.flags&markSynced != 0
	for {
		s := p.segs[len(p.segs)-1]
		r, found := s.at(p.end)
		switch {
		case found == foundDamage && (now.boot == boot || now.flags&markSynced == 0):
			p.flaw = fmt.Errorf("%w: %s at %d", ErrDamaged, s.path, p.end)
		case found != foundRecord:
			return nil // the power failed while it was written, if it is not just the end
		case r.op == opGap:
			p.flaw = ErrGap
		case r.op == opEnd:
			next, err := openSegment(dir, s.seq+1, boot, write)
			if err != nil && now.boot != boot && now.flags&markSynced != 0 {
				return nil // it was begun when the power failed
			}
			if err != nil {
				p.flaw = fmt.Errorf("%w: the segment behind %s: %w", ErrDamaged, s.path, err)
				break
			}
			p.segs, p.end = append(p.segs, next), headerSize
			continue
		case r.op == opLive || r.op == opBase:
			m, ok := readMark(r.payload)
			if r.op == opBase {
				b, baseOK := readBase(r)
				m, ok = b.mark, baseOK
			}
			switch {
			case !ok:
				p.flaw = fmt.Errorf("%w: %s at %d", ErrDamaged, s.path, p.end)
			case m.flags&markGap != 0:
				p.flaw = ErrGap
			default:
				now = m
				p.synced = p.synced || now.flags&markSynced != 0
			}
		case !r.op.answers():
			// Nothing to be played.
		case opNames[r.op] == "":
			p.flaw = fmt.Errorf("%w: %v", ErrVersion, r.op)
		case now.boot != boot && now.flags&markSynced == 0:
			p.flaw = ErrRebooted
		default:
			p.records++
		}
		if p.flaw != nil {
			return nil
		}
		p.bytes += r.end - p.end
		p.end = r.end
	}
}

// close gives the mappings back.
func (p *past) close() error {
	var errs []error
	for _, s := range p.segs {
		errs = append(errs, s.close())
	}
	p.segs = nil
	return errors.Join(errs...)
}

// onFault runs f, which reads mapped files: what cannot be read is damage.
func onFault(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if fault, ok := r.(interface {
			runtime.Error
			Addr() uintptr
		}); ok {
			err = fmt.Errorf("%w: it cannot be read: %v", ErrDamaged, fault)
		} else if r != nil {
			panic(r)
		}
	}()
	return f()
}
