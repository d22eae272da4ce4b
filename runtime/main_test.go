package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
)

// workerEnv makes the test binary a worker: it holds the Options as JSON.
const workerEnv = "PERDURE_TEST_WORKER"

func TestMain(m *testing.M) {
	if spec := os.Getenv(workerEnv); spec != "" {
		os.Exit(worker(spec))
	}
	os.Exit(m.Run())
}

// worker runs one process until it ends, as the command line does. It tells on descriptor
// 3 what happens.
func worker(spec string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "worker:", err)
		var trap *TrapError
		if errors.As(err, &trap) {
			return 134
		}
		return 125
	}
	var o Options
	if err := json.Unmarshal([]byte(spec), &o); err != nil {
		return fail(err)
	}
	report := os.NewFile(3, "report")
	o.Events = func(e Event) { fmt.Fprintf(report, "%T %s\n", e, e) }
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	p, err := Open(ctx, o)
	if err != nil {
		return fail(err)
	}
	r, err := p.Run(ctx)
	if err == nil {
		err = p.Close()
	}
	if err != nil {
		return fail(err)
	}
	if r.Suspended {
		return 143
	}
	return int(r.ExitCode)
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
