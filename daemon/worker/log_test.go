package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newLog(t *testing.T, limit int64, keep int) *outputLog {
	l := &outputLog{path: filepath.Join(t.TempDir(), "x.log"), limit: limit, keep: keep, warn: t.Errorf}
	t.Cleanup(l.close)
	return l
}

// files returns what a log and its older files have, newest first, up to the first that is missing.
func (l *outputLog) files(t *testing.T) (list []string) {
	t.Helper()
	for i := 0; ; i++ {
		path := l.path
		if i > 0 {
			path = l.numbered(i)
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(b))
	}
}

func TestLogRotates(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		claim  string
		keep   int
		writes []string
		want   []string // newest first
	}{
		{"what fits stays in one file", 2, []string{"123456789\n"}, []string{"123456789\n"}},
		{"a line that does not fit begins another file", 2, []string{"12345\n", "abcdef\n"}, []string{"abcdef\n", "12345\n"}},
		{"a line is not split, whoever writes it in pieces", 2, []string{"123456", "789abc", "d\n", "ef\n"}, []string{"ef\n", "123456789abcd\n"}},
		{"one write of many lines is split between them", 9, []string{"123\n456\n789\nabc\n"}, []string{"789\nabc\n", "123\n456\n"}},
		{"a line of more than twice the size is split", 9, []string{strings.Repeat("x", 45)},
			[]string{strings.Repeat("x", 5), strings.Repeat("x", 20), strings.Repeat("x", 20)}},
		{"only so many are kept", 1, []string{"1234567\n", "2345678\n", "3456789\n"}, []string{"3456789\n", "2345678\n"}},
		{"none is kept", 0, []string{"1234567\n", "2345678\n"}, []string{"2345678\n"}},
		{"nothing is written", 1, []string{""}, []string{""}},
	} {
		l := newLog(t, 10, c.keep)
		for _, w := range c.writes {
			if n, err := l.write([]byte(w), now); n != len(w) || err != nil {
				t.Errorf("%s: wrote %d, %v", c.claim, n, err)
			}
		}
		if _, err := l.write(nil, now); err != nil {
			t.Error(err)
		}
		if c.writes[0] == "" {
			if err := l.open(now); err != nil {
				t.Error(err)
			}
		}
		if got := l.files(t); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
			t.Errorf("%s: got %q, want %q", c.claim, got, c.want)
		}
	}
}

// TestLogGoesOn wants a log to be appended to by the next worker, its mode to be its owner's alone, and its size to
// count.
func TestLogGoesOn(t *testing.T) {
	l := newLog(t, 10, 2)
	if _, err := l.write([]byte("12345\n"), time.Now()); err != nil {
		t.Fatal(err)
	}
	next := &outputLog{path: l.path, limit: 10, keep: 2, warn: t.Errorf}
	defer next.close()
	for _, w := range []string{"67", "8\n", "9\n"} {
		if _, err := next.write([]byte(w), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if got := next.files(t); fmt.Sprintf("%q", got) != `["9\n" "12345\n678\n"]` {
		t.Errorf("got %q", got)
	}
	if st, err := os.Stat(l.path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// TestLogIsTakenAway wants a log that someone else has renamed or removed to be made anew.
func TestLogIsTakenAway(t *testing.T) {
	l := newLog(t, 1000, 2)
	now := time.Now()
	if _, err := l.write([]byte("1\n"), now); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(l.path, l.path+".old"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.write([]byte("2\n"), now.Add(lookEvery)); err != nil {
		t.Fatal(err)
	}
	if got := l.files(t); fmt.Sprintf("%q", got) != `["2\n"]` {
		t.Errorf("got %q", got)
	}
}

// TestLogCannotRotate wants nothing to be lost when files cannot be renamed, and the operator to be told once.
func TestLogCannotRotate(t *testing.T) {
	l := newLog(t, 10, 1)
	told := 0
	l.warn = func(string, ...any) { told++ }
	if err := os.MkdirAll(filepath.Join(l.numbered(1), "not empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := ""
	for i := range 20 {
		line := fmt.Sprintf("line %d\n", i)
		want += line
		if n, err := l.write([]byte(line), time.Now()); n != len(line) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if b, err := os.ReadFile(l.path); string(b) != want || told != 1 {
		t.Errorf("got %q, %v; told %d times", b, err, told)
	}
}

// TestLogFull wants a full disk to be an error that names it.
func TestLogFull(t *testing.T) {
	l := newLog(t, 10, 1)
	l.path = "/dev/full"
	if n, err := l.write([]byte("1\n"), time.Now()); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d, %v", n, err)
	}
}

func TestLogConfigure(t *testing.T) {
	l := newLog(t, 4, 5)
	for i := range 5 {
		if _, err := l.write(fmt.Appendf(nil, "%d__\n", i), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	l.configure(1000, 2)
	if got := l.files(t); fmt.Sprintf("%q", got) != `["4__\n" "3__\n" "2__\n"]` {
		t.Errorf("got %q", got)
	}
}

func TestRate(t *testing.T) {
	now := time.Unix(1000, 0)
	var r rate
	if n, wait := r.take(1<<30, now); n != 1<<30 || wait != 0 {
		t.Errorf("without a bound: %d, %v", n, wait)
	}
	r.set(1000, now)
	if n, _ := r.take(400, now); n != 400 {
		t.Errorf("of 1000: %d", n)
	}
	if n, _ := r.take(10_000, now); n != 600 {
		t.Errorf("of 600: %d", n)
	}
	n, wait := r.take(10_000, now)
	if n != 0 || wait < 50*time.Millisecond || wait > 51*time.Millisecond {
		t.Errorf("of nothing: %d, wait %v", n, wait)
	}
	if n, _ := r.take(10_000, now.Add(wait)); n != 50 {
		t.Errorf("after the wait: %d", n)
	}
	now = now.Add(wait)
	if n, wait := r.take(1, now); n != 0 || wait > 2*time.Millisecond {
		t.Errorf("a single byte: %d, wait %v", n, wait)
	}
	r.giveBack(10)
	if n, _ := r.take(10, now); n != 10 {
		t.Errorf("given back: %d", n)
	}
	if n, _ := r.take(5000, now.Add(time.Hour)); n != 1000 {
		t.Errorf("after an hour: %d", n)
	}
	r.set(10, now.Add(2*time.Hour))
	if n, _ := r.take(5000, now.Add(2*time.Hour)); n != 10 {
		t.Errorf("after a change: %d", n)
	}
	if n, wait := r.take(5000, now.Add(time.Hour)); n != 0 || wait <= 0 {
		t.Errorf("a clock that is set back: %d, %v", n, wait)
	}
}
