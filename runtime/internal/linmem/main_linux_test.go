package linmem

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain wants no more descriptors and goroutines after all tests than before.
func TestMain(m *testing.M) {
	files, goroutines := openFiles(), runtime.NumGoroutine()
	code := m.Run()
	deadline := time.Now().Add(30 * time.Second)
	for runtime.NumGoroutine() > goroutines && time.Now().Before(deadline) {
		runtime.Gosched() // ended, but not yet gone
	}
	if n := runtime.NumGoroutine(); n > goroutines && code == 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines leaked\n", n-goroutines)
		code = 1
	}
	if now := openFiles(); len(now) > len(files) && code == 0 {
		fmt.Fprintf(os.Stderr, "descriptors leaked: before %v, after %v\n", files, now)
		code = 1
	}
	os.Exit(code)
}

// openFiles lists what the descriptors of the process are, without those that Go's runtime opens once and keeps.
func openFiles() (names []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		name, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.Contains(name, "eventpoll") && !strings.Contains(name, "eventfd") {
			names = append(names, name)
		}
	}
	return names
}

// addressSpace returns how many bytes the mappings of the process span.
func addressSpace(t *testing.T) (nBytes uint64) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		var start, end uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
			t.Fatal(err)
		}
		nBytes += end - start
	}
	return nBytes
}

func TestCloseGivesEverythingBack(t *testing.T) {
	eachTracker(t, func(t *testing.T, kind Tracker) {
		const rounds = 50
		files, space := len(openFiles()), addressSpace(t)
		for range rounds {
			m, err := New(Options{Tracker: kind})
			if err != nil {
				t.Fatal(err)
			}
			m.Allocate(0, MaxLimit).Reallocate(mib)[5000] = 1
			if err := m.Track(); err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			runtime.GC() // the tables
		}
		if n := len(openFiles()); n != files {
			t.Errorf("%d descriptors, %d before", n, files)
		}
		if n := addressSpace(t); n > space+MaxLimit {
			t.Errorf("%d bytes of address space, %d before", n, space)
		}
	})
}
