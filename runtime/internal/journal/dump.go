package journal

import (
	"fmt"
	"strings"

	"perdure/runtime/internal/wasi"
)

// Entry is a record as Dump tells of it.
type Entry struct {
	Segment uint64
	Offset  int
	Record  int    // its number among the answers of the dump, from 1; 0 for a mark
	Op      string // the call or mark
	Errno   wasi.Errno
	Bytes   int    // of the payload
	Text    string // what of it can be told in a line
}

// Dump calls visit for each record in dir, in their order. It reads files only, which a Journal
// may be appending to. flaw is where and why it ended before the end, nil if it did not.
func Dump(dir string, visit func(Entry) error) (flaw, err error) {
	list, err := segments(dir)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, seq := range list {
		if flaw, err = dumpSegment(dir, seq, &n, visit); flaw != nil || err != nil {
			return flaw, err
		}
	}
	return nil, nil
}

func dumpSegment(dir string, seq uint64, n *int, visit func(Entry) error) (flaw, err error) {
	s, err := openSegment(dir, seq, thisBoot(), false)
	if err != nil {
		return err, nil
	}
	defer s.close() // nothing was written
	flaw = onFault(func() error {
		for at := headerSize; ; {
			r, found := s.at(at)
			switch found {
			case foundEnd:
				return nil
			case foundDamage:
				return fmt.Errorf("%w: %s at %d", ErrDamaged, s.path, at)
			}
			e := Entry{Segment: seq, Offset: at, Op: r.op.String(), Errno: r.err(), Bytes: len(r.payload), Text: r.describe()}
			if r.op.answers() {
				*n++
				e.Record = *n
			}
			if err = visit(e); err != nil {
				return nil
			}
			at = r.end
		}
	})
	return flaw, err
}

// describe tells what a record says.
func (r record) describe() string {
	switch r.op {
	case opBase:
		b, ok := readBase(r)
		if !ok {
			return "malformed"
		}
		return fmt.Sprintf("nonce %016x%s", b.nonce, b.describe())
	case opLive:
		m, ok := readMark(r.payload)
		if !ok {
			return "malformed"
		}
		return strings.TrimPrefix(m.describe(), ", ")
	case opIntent:
		s, ok := decodeStanding(r.payload)
		if !ok {
			return "malformed"
		}
		return s.describe()
	case opNow, opResolution, opSeek:
		return fmt.Sprint(r.number(0))
	case opPoll:
		return fmt.Sprintf("%d ready", r.number(0))
	case opInterrupted:
		return fmt.Sprint(r.number(0) != 0)
	case opOpen, opReadlink:
		if len(r.payload) > 0 {
			return fmt.Sprintf("%.200q", r.payload)
		}
	case opStat:
		if len(r.payload) == statSize {
			st := decodeStat(r.payload)
			return fmt.Sprintf("inode %d, %d bytes", st.Ino, st.Size)
		}
	case opRead, opRandom:
		return fmt.Sprintf("%d bytes", len(r.payload))
	case opRecv:
		return fmt.Sprintf("%d bytes", max(0, len(r.payload)-8))
	case opWrite, opSend:
		return fmt.Sprintf("%d bytes", r.number(0))
	case opReadDir:
		if list, ok := decodeEntries(r.payload); ok {
			return fmt.Sprintf("%d entries", len(list))
		}
	}
	return ""
}

func (m *mark) describe() string {
	s := ""
	if m.flags&markSynced != 0 {
		s += ", synced"
	}
	if m.flags&markGap != 0 {
		s += ", behind a gap"
	}
	return s
}

func (s *standing) describe() string {
	what := "not there"
	if s.there {
		what = fmt.Sprintf("inode %d, %d bytes", s.file.ino, s.size)
	}
	if s.from != "" {
		what += fmt.Sprintf(", %.200q", s.from)
	}
	if s.to != "" {
		what += fmt.Sprintf(" to %.200q", s.to)
	}
	return what
}
