package memsnap

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

// TestMain fails if the tests leave goroutines or descriptors behind.
func TestMain(m *testing.M) {
	if r, w, err := os.Pipe(); err == nil { // the runtime opens descriptors of its own with the first one
		_ = r.Close()
		_ = w.Close()
	}
	before := openFiles()
	code := m.Run()
	if code == 0 && !keepsOpen() {
		code = leaks(before)
	}
	os.Exit(code)
}

// keepsOpen says whether the test program itself has workers or files of its own.
func keepsOpen() bool {
	for _, name := range []string{"test.fuzz", "test.cpuprofile", "test.trace"} {
		if flag.Lookup(name).Value.String() != "" {
			return true
		}
	}
	return false
}

func leaks(before int) int {
	goroutines := 0
	for range 3000 { // those that are about to end have half a minute for it
		if goroutines = runtime.NumGoroutine(); goroutines <= 1 && openFiles() <= before {
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Printf("left behind: %d goroutines, %d open files\n", goroutines-1, openFiles()-before)
	_ = pprof.Lookup("goroutine").WriteTo(os.Stdout, 1)
	return 1
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
