package folder

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

// TestMain fails if the tests leave goroutines behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && !alone() {
		fmt.Printf("left behind: %d goroutines\n", runtime.NumGoroutine()-1)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stdout, 1)
		code = 1
	}
	os.Exit(code)
}

// alone gives goroutines that are about to end a second for it.
func alone() bool {
	for range 100 {
		if runtime.NumGoroutine() <= 1 {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}
