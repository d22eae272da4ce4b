package daemon

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func write(t *testing.T, path, s string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(s); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func rotate(t *testing.T, path string, files int) {
	t.Helper()
	for n := files; n > 0; n-- {
		from := path
		if n > 1 {
			from += "." + strconv.Itoa(n-1)
		}
		if err := os.Rename(from, path+"."+strconv.Itoa(n)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

func TestLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	long := strings.Repeat("y", 200<<10)
	write(t, path, "1\n2\n3\n")
	rotate(t, path, 4)
	write(t, path, "4\n"+long+"\n")
	rotate(t, path, 4)
	write(t, path, "6\n7\n8")
	for _, c := range []struct {
		lines int
		want  string
	}{
		{-1, "1\n2\n3\n4\n" + long + "\n6\n7\n8"}, {0, ""}, {1, "8"}, {2, "7\n8"}, {3, "6\n7\n8"}, {4, long + "\n6\n7\n8"}, {5, "4\n" + long + "\n6\n7\n8"},
		{6, "3\n4\n" + long + "\n6\n7\n8"}, {8, "1\n2\n3\n4\n" + long + "\n6\n7\n8"}, {100, "1\n2\n3\n4\n" + long + "\n6\n7\n8"},
	} {
		var got bytes.Buffer
		if err := copyLogs(t.Context(), &got, path, c.lines, false, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if got.String() != c.want {
			t.Errorf("%d lines: got %d bytes, want %d", c.lines, got.Len(), len(c.want))
		}
	}
	if err := removeLogs(path); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	var got bytes.Buffer
	if err := copyLogs(t.Context(), &got, path, -1, false, func() error { return nil }); err != nil || got.Len() != 0 {
		t.Errorf("no log: got %q, %v", got.String(), err)
	}
}

// TestLogsAreFollowed rotates a log again and again under a reader, who must see each line once.
func TestLogsAreFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var got bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- copyLogs(ctx, writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return got.Write(p)
		}), path, -1, true, func() error { return nil })
	}()
	var want strings.Builder
	for n := range 300 {
		line := strconv.Itoa(n) + "\n"
		write(t, path, line)
		want.WriteString(line)
		if n%7 == 0 {
			rotate(t, path, 60)
		}
		if n%50 == 0 {
			<-time.After(lookAgain)
		}
	}
	for limit := time.Now().Add(30 * time.Second); ; {
		mu.Lock()
		same := got.String() == want.String()
		text := got.String()
		mu.Unlock()
		if same {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("got %d bytes, want %d: %q", len(text), want.Len(), text)
		}
		<-time.After(lookAgain)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestSlots(t *testing.T) {
	var s slots
	s.resize(2)
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		if err := s.acquire(ctx); err != nil {
			t.Fatal(err)
		}
	}
	third := make(chan error)
	go func() { third <- s.acquire(ctx) }()
	fourth := make(chan error)
	waiting := func(n int) {
		for limit := time.Now().Add(30 * time.Second); ; {
			s.mu.Lock()
			have := len(s.waiting)
			s.mu.Unlock()
			if have == n {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("%d wait, want %d", have, n)
			}
			<-time.After(time.Millisecond)
		}
	}
	waiting(1)
	s.release()
	if err := <-third; err != nil {
		t.Fatal(err)
	}
	go func() { fourth <- s.acquire(ctx) }()
	waiting(1)
	cancel()
	if err := <-fourth; err == nil {
		t.Fatal("it waited for nothing")
	}
	waiting(0)
	s.resize(3)
	if err := s.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestHub(t *testing.T) {
	var h hub
	all, one := h.subscribe(""), h.subscribe("one")
	for _, name := range []string{"one", "two"} {
		h.publish(Event{Process: name})
	}
	if len(all.c) != 2 || len(one.c) != 1 {
		t.Errorf("got %d and %d events", len(all.c), len(one.c))
	}
	for range maxBehind + 8 {
		h.publish(Event{Process: "one"})
	}
	if n := one.takeLost(); n != 9 {
		t.Errorf("%d events were lost, want 9", n)
	}
	if n := one.takeLost(); n != 0 {
		t.Errorf("%d events were lost again", n)
	}
	all.close()
	one.close()
	if len(h.subs) != 0 {
		t.Error("they still listen")
	}
}
