package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"perdure/runtime/internal/wasi"
	"time"
)

// workerEnv makes the test binary a worker: it holds a workerSpec as JSON.
const workerEnv = "PERDURE_TEST_WORKER"

// Exit statuses of a worker beside the guest's own.
const (
	statusTrap      = 134
	statusSuspended = 143
	statusError     = 125
)

// workerSpec is what a worker is told.
type workerSpec struct {
	Options Options
	// Full is the path of a file: while it exists, the file system of the generations
	// is full.
	Full string
	// LastFor takes the place of the constant.
	LastFor time.Duration
	// Stdout is the path of a file that the guest's output is appended to.
	Stdout string
	// KillAt makes the worker kill itself at that call to the outside, counted from 1: before
	// it, or after its effect.
	KillAt    int
	KillAfter bool
	// RotateAt is after how many bytes a cut begins a new segment of the journal.
	RotateAt int
	// SnapshotOnUSR1 makes the worker take a generation when it gets that signal.
	SnapshotOnUSR1 bool
	// Calls makes the worker call what its standard input says, a call a line, and print each
	// answer like an event, of the kind Answer and with its number.
	Calls bool
}

// The events of a worker go to its standard output, among what the guest prints, so that
// both are in order. These bytes enclose them.
const eventBegin, eventEnd = "\x01", "\x02"

func TestMain(m *testing.M) {
	if spec := os.Getenv(workerEnv); spec != "" {
		os.Exit(worker(spec))
	}
	status := m.Run()
	if sharedCache != "" {
		_ = os.RemoveAll(sharedCache) // a temporary directory
	}
	os.Exit(status)
}

var (
	sharedCache string
	cacheDir    = sync.OnceValue(func() string {
		dir, err := os.MkdirTemp("", "perdure-test-cache-")
		if err != nil {
			panic(err)
		}
		sharedCache = dir
		return dir
	})
)

// worker runs one process until it ends, as the command line does.
func worker(text string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "worker:", err)
		var trap *TrapError
		if errors.As(err, &trap) {
			return statusTrap
		}
		return statusError
	}
	var spec workerSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return fail(err)
	}
	o := spec.Options
	o.Events = func(e Event) {
		// One write, so that it is whole when the worker is killed.
		fmt.Fprintf(os.Stdout, eventBegin+"%T %d %s"+eventEnd, e, generationOf(e), e)
	}
	o.hooks.lastFor = spec.LastFor
	if spec.Full != "" {
		o.hooks.fs = fullFS{flag: spec.Full}
	}
	o.hooks.rotateAt = spec.RotateAt
	if spec.Stdout != "" {
		f, err := os.OpenFile(spec.Stdout, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
		if err != nil {
			return fail(err)
		}
		o.hooks.stdio = &[3]wasi.Handle{0, wasi.Handle(f.Fd()), 2}
		defer f.Close()
	}
	calls := &countingKernel{at: spec.KillAt, after: spec.KillAfter}
	if spec.KillAt != 0 {
		o.hooks.kernel = func(k wasi.Kernel) wasi.Kernel { calls.Kernel = k; return calls }
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	p, err := Open(ctx, o)
	if errors.Is(err, context.Canceled) {
		return statusSuspended
	}
	if err != nil {
		return fail(err)
	}
	if spec.SnapshotOnUSR1 {
		usr1 := make(chan os.Signal, 1)
		signal.Notify(usr1, syscall.SIGUSR1)
		go func() {
			for range usr1 {
				if info, err := p.Snapshot(ctx); err != nil {
					fmt.Fprintln(os.Stderr, "snapshot:", err)
				} else {
					fmt.Fprintln(os.Stderr, "snapshot", info.Number)
				}
			}
		}()
	}
	if spec.Calls {
		go answerCalls(p)
	}
	r, err := p.Run(ctx)
	if err == nil {
		err = p.Close()
	}
	if err != nil {
		return fail(err)
	}
	if spec.KillAt < 0 {
		calls.tell()
	}
	if r.Suspended {
		return statusSuspended
	}
	return int(r.ExitCode)
}

// answerCalls makes calls for as long as the worker lives.
func answerCalls(p *Process) {
	lines := bufio.NewScanner(os.Stdin)
	for n := 0; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		vs, err := p.Call(context.Background(), words[0], words[1:])
		fmt.Fprintf(os.Stdout, eventBegin+"Answer %d %s"+eventEnd, n, answerText(vs, err))
	}
}

// generationOf returns the number of the generation that an event is about, or 0.
func generationOf(e Event) uint64 {
	switch e := e.(type) {
	case RestoredEvent:
		return e.Generation.Number
	case CommittedEvent:
		return e.Generation.Number
	case SkippedEvent:
		return e.Generation
	}
	return 0
}

// seed returns a random source that PERDURE_SEED repeats, and prints its seed.
func seed(t testing.TB) *rand.Rand {
	s := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("PERDURE_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("PERDURE_SEED=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// processDir returns a directory for a process.
func processDir(t testing.TB) string { return filepath.Join(t.TempDir(), "process") }
