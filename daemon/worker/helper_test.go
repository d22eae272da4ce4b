package worker

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"perdure/config"
	"perdure/runtime"
)

// patience is how long a test waits for anything.
const patience = 2 * time.Minute

// asWorker is the variable that makes the test binary a worker, and asDaemon one that starts a worker and exits.
const (
	asWorker = "PERDURE_TEST_WORKER"
	asDaemon = "PERDURE_TEST_DAEMON"
)

// TestMain lets the test binary be something else when a test calls it so.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asDaemon) != "":
		os.Exit(beDaemon())
	case os.Getenv(asWorker) != "":
		os.Exit(beWorker())
	}
	os.Exit(m.Run())
}

// beWorker is perdure worker, which tries what it should not be able to do if it finds questions.
func beWorker() int {
	w, err := Enter(os.Stdin)
	if err == nil {
		err = answer(&w.spec)
	}
	if err == nil {
		_, err = w.Run(context.Background())
	}
	var locked *runtime.LockedError
	switch {
	case err == nil:
		return 0
	case asError(err, &locked):
		return ExitLocked
	}
	os.Stderr.WriteString(err.Error() + "\n")
	return 125
}

// beDaemon starts the worker that its standard input describes, and is gone.
func beDaemon() int {
	o, err := readOrder(os.Stdin)
	if err == nil {
		os.Unsetenv(asDaemon)
		_, err = startSelf(o.Spec)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return 0
}

// startSelf starts the test binary as a worker.
func startSelf(s Spec) (*Handle, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(exe, []string{"perdure", "worker"}, append(os.Environ(), asWorker+"=1"), s)
}

// guest returns the path of a guest of testdata.
func guest(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "testdata", "guests", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// cache is shared by all tests of the package, so that a guest is compiled once.
func cache(t testing.TB) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		return t.TempDir()
	}
	return filepath.Join(dir, "perdure-worker-tests")
}

// newSpec returns the spec of a process that runs a guest, with the default settings.
func newSpec(t testing.TB, guestName string, args ...string) Spec {
	t.Helper()
	dir := t.TempDir()
	path := guest(t, guestName)
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	settings := config.Default().Process(guestName)
	settings.Args = args
	return Spec{
		Version: SpecVersion, Name: guestName, Dir: filepath.Join(dir, "state", guestName), CacheDir: cache(t),
		Log: filepath.Join(dir, "logs", guestName+".log"), Program: path, SHA256: sumOf(src), Settings: settings,
	}
}

// begin starts a worker, which is ended with the test.
func begin(t testing.TB, s Spec) *Handle {
	t.Helper()
	h, err := startSelf(s)
	if err != nil {
		t.Fatal(err)
	}
	endWith(t, h)
	return h
}

// endWith ends a worker with the test.
func endWith(t testing.TB, h *Handle) {
	t.Cleanup(func() {
		if err := h.Signal(9); err != nil {
			t.Error(err)
		}
		await(t, "the end of the worker", func() bool { return isClosed(h.Done()) })
	})
}

// beginRunning starts a worker and waits until its guest runs.
func beginRunning(t testing.TB, s Spec) (*Handle, *Client) {
	t.Helper()
	h := begin(t, s)
	c := NewClient(s.Dir)
	await(t, "the guest to run", func() bool {
		if isClosed(h.Done()) {
			_, err := h.Outcome()
			t.Fatalf("the worker has ended: %v", err)
		}
		st, err := c.Status(context.Background())
		return err == nil && st.PID == h.PID() && st.Phase != PhaseStarting
	})
	return h, c
}

// ends waits for the end of a worker and returns how it ended.
func ends(t testing.TB, h *Handle) (Outcome, error) {
	t.Helper()
	await(t, "the end of the worker", func() bool { return isClosed(h.Done()) })
	return h.Outcome()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// await waits until something holds.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

// logged returns what the guest has written.
func logged(t testing.TB, s Spec) string {
	t.Helper()
	b, err := os.ReadFile(s.Log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

func lines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }

// generation returns the number of the newest generation.
func generation(t testing.TB, c *Client) uint64 {
	t.Helper()
	st, err := c.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return st.Generation
}

// seed returns a random source that PERDURE_SEED repeats, and prints its seed.
func seed(t testing.TB) *rand.Rand {
	t.Helper()
	s := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("PERDURE_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("PERDURE_SEED=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}
