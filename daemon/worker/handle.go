package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"perdure/runtime"
)

// maxLogTail is how much of LogFile a CrashError has, in bytes.
const maxLogTail = 2 << 10

// Handle is a worker that was started or found. Its methods may be called from any goroutine.
type Handle struct {
	dir     string
	name    string // of the process, if it is known
	pid     int
	process *os.File // its process descriptor, closed when it has ended
	done    chan struct{}

	// Set before done is closed, and only for a child.
	state *os.ProcessState
}

// PID returns the process id of the worker.
func (h *Handle) PID() int { return h.pid }

// Done is closed when the worker has ended, however it did.
func (h *Handle) Done() <-chan struct{} { return h.done }

// Outcome says how the worker ended, after Done. The error is a *runtime.LockedError if another worker ran the process
// already, and a *CrashError if the worker did not say how it ended.
func (h *Handle) Outcome() (Outcome, error) {
	out, err := ReadOutcome(h.dir)
	if err == nil && out.PID == h.pid {
		return out, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Outcome{}, err
	}
	if h.state != nil && h.state.ExitCode() == ExitLocked {
		return Outcome{}, &runtime.LockedError{Name: h.name, PID: holder(h.dir)}
	}
	crash := &CrashError{PID: h.pid, Status: -1, Log: h.logTail()}
	if h.state != nil {
		crash.Status = h.state.ExitCode()
		crash.Signal = signalOf(h.state)
	}
	return Outcome{}, crash
}

// ReadOutcome reads how the last worker of the process in dir ended. The error is fs.ErrNotExist if none has said so.
func ReadOutcome(dir string) (out Outcome, err error) {
	b, err := os.ReadFile(filepath.Join(dir, OutcomeFile))
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("%s in %s is not understood: %w: %.200q", OutcomeFile, dir, err, b)
	}
	if out.Version != SpecVersion {
		return out, fmt.Errorf("%s in %s has version %d, this program knows %d", OutcomeFile, dir, out.Version, SpecVersion)
	}
	return out, nil
}

// logTail returns the end of what the worker wrote.
func (h *Handle) logTail() string {
	f, err := os.Open(filepath.Join(h.dir, LogFile))
	if err != nil {
		return ""
	}
	defer f.Close() // it was read only
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	b := make([]byte, min(st.Size(), maxLogTail))
	n, _ := f.ReadAt(b, st.Size()-int64(len(b))) // what is there will do
	return strings.TrimSpace(string(b[:n]))
}

// holder returns the process id in the lock file; 0 if there is none.
func holder(dir string) int {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return 0
	}
	defer f.Close() // it was read only
	pid, _, err := readLock(f)
	if err != nil {
		return 0
	}
	return pid
}
