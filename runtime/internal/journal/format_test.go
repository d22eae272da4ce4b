package journal

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"perdure/runtime/internal/wasi"
)

var update = flag.Bool("update", false, "make the example of the format anew; only for a version that was never released")

// FORMAT.md and the code have the same numbers.
func TestFormatDocument(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| ([\w ]+?) \|`)
	have := map[op]string{}
	_, operations, _ := strings.Cut(string(doc), "## Operations")
	operations, _, _ = strings.Cut(operations, "## Mark")
	for _, m := range row.FindAllStringSubmatch(operations, -1) {
		n, _ := strconv.Atoi(m[1])
		have[op(n)] = m[2]
	}
	for o, name := range opNames {
		if have[o] != name {
			t.Errorf("operation %d is %q in FORMAT.md and %q in the code", o, have[o], name)
		}
	}
	if len(have) != len(opNames) {
		t.Errorf("FORMAT.md has %d operations, the code %d", len(have), len(opNames))
	}
	for _, want := range []string{
		fmt.Sprintf("| 0 | 8 | magic | `%s` |", magic), fmt.Sprintf("| 8 | 4 | version | %d |", formatVersion),
		fmt.Sprintf("| %d | | records |", headerSize), fmt.Sprintf("at a multiple of %d", recordAlign),
		fmt.Sprintf("at most %d |", maxPayload), fmt.Sprintf("| %d | | payload |", recordHeader),
		fmt.Sprintf("| %d | | paths |", standingSize), fmt.Sprintf("| %d | 8 | flags |", len(bootID{})),
		fmt.Sprintf("| %d | 0.2 | the first |", formatVersion),
	} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("FORMAT.md does not have %q", want)
		}
	}
}

// example writes a segment that has every kind of record.
func example(t testing.TB, dir string) Position {
	t.Helper()
	s, err := createSegment(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	at := Position{2, s.tail, 77}
	put := func(o op, errno wasi.Errno, payload string) {
		copy(s.mem[s.tail+recordHeader:], payload)
		s.seal(o, uint32(key(0).text(o.String())), uint16(errno), len(payload))
	}
	b := base{nonce: at.Nonce, clocks: [clocks]int64{1, 2, 3, 4}, mark: mark{flags: markSynced}}
	var p [baseSize]byte
	b.put(p[:])
	put(opBase, 0, string(p[:]))
	number := strings.Repeat("\x07", 8)
	st := make([]byte, statSize)
	encodeStat(st, &wasi.Stat{Dev: 1, Ino: 2, Nlink: 3, Size: 4, Type: wasi.FileRegular})
	pre := standing{there: true, file: fileID{1, 2}, size: 3, target: fileID{4, 5}, from: "/a/b", to: "/c"}
	for o := opIntent; o <= opReturn; o++ {
		if opNames[o] == "" || o == opGap {
			continue
		}
		payload := map[op]string{
			opIntent: string(pre.encode()), opNow: number, opResolution: number, opRandom: "chance",
			opPoll: strings.Repeat("\x01", 24), opInterrupted: number, opOpen: "/data/file", opReadlink: "target",
			opStat: string(st), opRead: "what was read", opWrite: number + number, opSeek: number,
			opRecv: number + "received", opSend: number, opLive: string(p[8+8*clocks:]),
			opReadDir: string(encodeEntries([]wasi.DirEntry{{Name: "one", Ino: 1}, {Name: "two", Ino: 2}})),
		}[o]
		put(o, wasi.Errno(int(o)%3), payload)
	}
	if err := errors.Join(s.f.Truncate(int64(s.tail)), s.close()); err != nil {
		t.Fatal(err)
	}
	return at
}

// dumped returns what Dump tells, a record a line.
func dumped(t testing.TB, dir string) (string, error) {
	t.Helper()
	var b strings.Builder
	flaw, err := Dump(dir, func(e Entry) error {
		fmt.Fprintf(&b, "%d %d %d %s %v %d %s\n", e.Segment, e.Offset, e.Record, e.Op, e.Errno, e.Bytes, e.Text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), flaw
}

// A segment of every released version is read, and written as it was.
func TestFormatExample(t *testing.T) {
	golden := filepath.Join("..", "..", "..", "testdata", "formats", "journal-v1")
	dir := t.TempDir()
	at := example(t, dir)
	name := segmentName(at.Segment)
	text, flaw := dumped(t, dir)
	if flaw != nil {
		t.Fatal(flaw)
	}
	written, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := errors.Join(os.MkdirAll(golden, 0o755), os.WriteFile(filepath.Join(golden, name), written, 0o644),
			os.WriteFile(filepath.Join(golden, "want.txt"), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(filepath.Join(golden, name))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, written) {
		t.Error("the example is not written as it was")
	}
	want, err := os.ReadFile(filepath.Join(golden, "want.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if got, flaw := dumped(t, golden); got != string(want) || flaw != nil {
		t.Errorf("flaw %v, dump\n%swant\n%s", flaw, got, want)
	}
}

// verdict scans a segment that was damaged, and returns how many records it has and its flaw.
func verdict(t testing.TB, dir string, at Position) (int, error) {
	t.Helper()
	p, err := scan(dir, at, thisBoot(), false)
	if err != nil {
		return 0, err
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
	return p.records, p.flaw
}

func named(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion) || errors.Is(err, ErrGap) || errors.Is(err, ErrRebooted)
}

// A segment that is cut off anywhere is read up to there, or refused by name.
func TestTruncated(t *testing.T) {
	dir := t.TempDir()
	at := example(t, dir)
	path := filepath.Join(dir, segmentName(at.Segment))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all, flaw := verdict(t, dir, at)
	if all < 20 || flaw != nil {
		t.Fatalf("%d records, %v", all, flaw)
	}
	last := all
	for n := len(whole) - 1; n >= 0; n-- {
		if err := os.Truncate(path, int64(n)); err != nil {
			t.Fatal(err)
		}
		records, flaw := verdict(t, dir, at)
		if flaw != nil && !named(flaw) {
			t.Fatalf("%d bytes: %v", n, flaw)
		}
		if records > last {
			t.Fatalf("%d bytes have %d records, more had %d", n, records, last)
		}
		last = records
	}
}

// No flipped bit goes unnoticed behind the position: the records end before it, with a named
// error.
func TestFlipped(t *testing.T) {
	dir := t.TempDir()
	at := example(t, dir)
	path := filepath.Join(dir, segmentName(at.Segment))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// As the guest's own machine sees it: there the end is no excuse.
	setBoot(whole, at.Offset)
	all, flaw := verdictOf(t, path, whole, dir, at)
	if flaw != nil {
		t.Fatal(flaw)
	}
	for i := range whole {
		for bit := range 8 {
			if i > headerSize && (i+bit)%3 > 0 {
				continue
			}
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			records, flaw := verdictOf(t, path, b, dir, at)
			padding := records == all && flaw == nil && isPadding(whole, i)
			if !padding && (flaw == nil || !named(flaw) || records >= all) {
				t.Fatalf("byte %d, bit %d: %d of %d records, %v", i, bit, records, all, flaw)
			}
		}
	}
}

func verdictOf(t *testing.T, path string, b []byte, dir string, at Position) (int, error) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return verdict(t, dir, at)
}

// setBoot makes a cut, and what says so behind it, one of this boot.
func setBoot(b []byte, offset int) {
	s := &segment{mem: b, room: len(b)}
	for at := offset; ; {
		r, found := s.at(at)
		if found != foundRecord {
			return
		}
		if r.op == opBase || r.op == opLive {
			m := mark{boot: thisBoot()}
			m.put(r.payload[len(r.payload)-markSize:])
			s.tail = at
			s.seal(r.op, r.key, r.errno, len(r.payload))
		}
		at = r.end
	}
}

// isPadding tells whether a byte lies between two records.
func isPadding(b []byte, i int) bool {
	s := &segment{mem: b, room: len(b)}
	for at := headerSize; ; {
		r, found := s.at(at)
		if found != foundRecord {
			return false
		}
		if end := at + recordHeader + len(r.payload); i >= end && i < r.end {
			return true
		}
		at = r.end
	}
}

// Whatever a file of the journal holds, it is read without a fault.
func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	at := example(f, dir)
	whole, err := os.ReadFile(filepath.Join(dir, segmentName(at.Segment)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, segmentName(at.Segment)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, flaw := verdict(t, dir, at); flaw != nil && !named(flaw) {
			t.Fatal(flaw)
		}
		dumped(t, dir)
	})
}

// A segment that somebody reads is not made another one.
func TestReadSegmentStays(t *testing.T) {
	dir := t.TempDir()
	s, err := createSegment(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.seal(opSync, 0, 0, 0)
	reader, err := openSegment(dir, 2, thisBoot(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.empty(dir); err == nil {
		t.Error("it was emptied while it was read")
	}
	if _, found := reader.at(headerSize); found != foundRecord {
		t.Errorf("found %v", found)
	}
	if err := reader.close(); err != nil {
		t.Fatal(err)
	}
	if err := s.empty(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := openSegment(dir, 2, thisBoot(), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the segment is there still: %v", err)
	}
	if err := s.reuse(dir, 7, thisBoot()); err != nil {
		t.Fatal(err)
	}
	again, err := openSegment(dir, 7, thisBoot(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if _, found := again.at(headerSize); found != foundEnd {
		t.Errorf("found %v", found)
	}
}

// What an earlier use of a segment has left is nowhere taken for a record.
func TestReusedSegmentEnds(t *testing.T) {
	rnd := seed(t)
	dir := t.TempDir()
	s, err := createSegment(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	put := func() {
		n := rnd.IntN(3000)
		if rnd.IntN(50) == 0 {
			n = rnd.IntN(100_000)
		}
		if err := s.ensure(recordHeader + n); err != nil {
			t.Fatal(err)
		}
		for i := range s.mem[s.tail+recordHeader : s.tail+recordHeader+n] {
			s.mem[s.tail+recordHeader+i] = 0xff
		}
		s.seal(opSync, 1, 0, n)
	}
	for use := range uint64(3) {
		for range 100 + rnd.IntN(300) {
			put()
			if _, found := s.at(s.tail); found != foundEnd {
				t.Fatalf("use %d: found %v at the end, %d", use, found, s.tail)
			}
		}
		s.seal(opEnd, 0, 0, 0)
		if _, found := s.at(s.tail); found != foundEnd {
			t.Fatalf("use %d: found %v behind the end, %d", use, found, s.tail)
		}
		if err := errors.Join(s.empty(dir), s.reuse(dir, 3+use, thisBoot())); err != nil {
			t.Fatal(err)
		}
		if _, found := s.at(s.tail); found != foundEnd {
			t.Fatalf("found %v in an empty segment", found)
		}
	}
}
