package journal

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// segmentOf makes segment 2, with that many records and a durable copy of all but the last of them.
func segmentOf(t *testing.T, dir string, boot bootID, records int) {
	t.Helper()
	s, err := createSegment(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if i == records-1 {
			if err := s.keepCopy(dir, boot, (*durableCopy).sync); err != nil {
				t.Fatal(err)
			}
		}
		s.seal(opSync, 1, 0, 0)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// recordsOf counts the records of segment 2.
func recordsOf(t *testing.T, dir string, boot bootID, write bool) (n int) {
	t.Helper()
	s, err := openSegment(dir, 2, boot, write)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close() // nothing was written
	for at := headerSize; ; n++ {
		r, found := s.at(at)
		if found != foundRecord {
			return n
		}
		at = r.end
	}
}

// While the machine runs on, what the process wrote is there; after that what was made durable, and it takes the
// place of the segment when somebody goes on with it.
func TestCopyIsTheSourceAfterAnotherStart(t *testing.T) {
	dir := t.TempDir()
	first, second := bootID{1}, bootID{2}
	segmentOf(t, dir, first, 5)
	for boot, want := range map[bootID]int{first: 5, second: 4, {}: 4} {
		if got := recordsOf(t, dir, boot, false); got != want {
			t.Errorf("boot %x: %d records, want %d", boot, got, want)
		}
	}
	if got := recordsOf(t, dir, first, true); got != 5 {
		t.Errorf("%d records for who goes on", got)
	}
	for range 2 { // a crash there changes nothing
		if got := recordsOf(t, dir, second, true); got != 4 {
			t.Errorf("%d records for who goes on in another start", got)
		}
	}
	if names, err := copies(dir, 2); err != nil || len(names) > 0 {
		t.Errorf("%v are left, %v", names, err)
	}
}

// A segment of which the name did not last is there as long as its copy is.
func TestCopyIsASegment(t *testing.T) {
	dir := t.TempDir()
	segmentOf(t, dir, bootID{1}, 5)
	if err := os.Remove(filepath.Join(dir, segmentName(2))); err != nil {
		t.Fatal(err)
	}
	list, err := segments(dir)
	if err != nil || len(list) != 1 || list[0] != 2 {
		t.Errorf("segments %v, %v", list, err)
	}
	if got := recordsOf(t, dir, bootID{2}, true); got != 4 {
		t.Errorf("%d records", got)
	}
	segmentOf(t, dir, bootID{1}, 5)
	if err := removeSegments(dir, list); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
}

// A copy that a life left is made what the segment is, whatever it has.
func TestCopyFollowsTheSegment(t *testing.T) {
	mem := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	for what, content := range map[string]string{
		"nothing": "", "a part": string(mem[:70_000]), "all": string(mem), "zeros behind": string(mem[:99]) + strings.Repeat("\x00", 200_000),
		"another past": string(mem[:80_001]) + strings.Repeat("x", 200_000), "another": "x" + string(mem), "more": string(mem) + "records",
	} {
		path := filepath.Join(t.TempDir(), "copy")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := openCopy(path, mem)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.write(mem), c.sync(), c.f.Close()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(got, mem) || len(bytes.Trim(got[len(mem):], "\x00")) > 0 {
			t.Errorf("%s: it has other bytes, or some behind", what)
		}
	}
	if _, err := openCopy(filepath.Join(t.TempDir(), "none"), mem); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

// After a sync that failed nobody knows what is durable: all is written once more.
func TestCopyIsWrittenAgainAfterAFailure(t *testing.T) {
	r, w, err := os.Pipe() // which cannot be synced
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := &durableCopy{f: w, path: "pipe", done: 7, room: 9}
	if err := c.sync(); err == nil || c.done != 0 {
		t.Errorf("%v, done %d", err, c.done)
	}
}

func TestCopyNames(t *testing.T) {
	name := copyName(0x2a, bootID{0xab})
	if want := "000000000000002a.ab" + strings.Repeat("00", 15) + ".durable"; name != want {
		t.Errorf("%s, want %s", name, want)
	}
	if seq, boot, ok := parseCopyName(name); !ok || seq != 0x2a || boot != (bootID{0xab}) {
		t.Errorf("parsed as %d, %x, %v", seq, boot, ok)
	}
	for _, bad := range []string{
		"", spareCopyName, newCopyName, segmentName(1), "x" + name, name + "x", strings.ToUpper(name), strings.Replace(name, "ab", "b", 1),
		strings.Replace(name, "2a", "2A", 1), strings.Replace(name, "ab", "AB", 1),
	} {
		if seq, boot, ok := parseCopyName(bad); ok {
			t.Errorf("%q is parsed as %d, %x", bad, seq, boot)
		}
	}
}
