package worker

import (
	"context"
	"errors"
	"testing"

	"perdure/runtime"
)

func asError[T error](err error, target *T) bool { return errors.As(err, target) }

// TestLife takes a worker through its life: start, status, snapshot, suspend, resume.
func TestLife(t *testing.T) {
	ctx := context.Background()
	s := newSpec(t, "counter", "10")
	h, c := beginRunning(t, s)
	st, err := c.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if st.Name != "counter" || st.PID != h.PID() || st.Program != s.SHA256 || st.RestoredFrom != 0 {
		t.Errorf("status is %+v", st)
	}
	info, err := c.Snapshot(ctx)
	if err != nil || info.Number == 0 || info.Pages == 0 {
		t.Fatalf("snapshot: %+v, %v", info, err)
	}
	found, err := Find(s.Dir)
	if err != nil || found.PID() != h.PID() {
		t.Fatalf("found %+v, %v; want worker %d", found, err, h.PID())
	}
	out, err := c.Suspend(ctx)
	if err != nil || out.Kind != OutcomeSuspended || out.Generation <= info.Number {
		t.Fatalf("suspend: %+v, %v", out, err)
	}
	for _, h := range []*Handle{h, found} {
		if got, err := ends(t, h); err != nil || got.Generation != out.Generation {
			t.Errorf("outcome %+v, %v; want %+v", got, err, out)
		}
	}
	if _, err := Find(s.Dir); !errors.Is(err, ErrNoWorker) {
		t.Errorf("found after the end: %v", err)
	}
	if _, err := c.Status(ctx); !errors.Is(err, ErrNoWorker) {
		t.Errorf("status after the end: %v", err)
	}

	_, c = beginRunning(t, s)
	await(t, "the restored generation", func() bool {
		st, err = c.Status(ctx)
		return err == nil && st.RestoredFrom == out.Generation
	})
}

// TestSecondWorker wants a second worker to fail with a clear error and to leave the first alone.
func TestSecondWorker(t *testing.T) {
	s := newSpec(t, "counter", "10")
	h, c := beginRunning(t, s)
	second := begin(t, s)
	_, err := ends(t, second)
	var locked *runtime.LockedError
	if !errors.As(err, &locked) || locked.PID != h.PID() {
		t.Errorf("the second ended with %v, want LockedError of %d", err, h.PID())
	}
	if st, err := c.Status(context.Background()); err != nil || st.PID != h.PID() {
		t.Errorf("the first answers %+v, %v", st, err)
	}
	if f, err := Find(s.Dir); err != nil || f.PID() != h.PID() {
		t.Errorf("found %v, %v", f, err)
	}
}
