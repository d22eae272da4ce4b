//go:build slow

package worker

import (
	"context"
	"strconv"
	"testing"
	"time"
)

// TestLongAnswers wants answers that take longer than a client may take to ask to come all the same.
func TestLongAnswers(t *testing.T) {
	s := newSpec(t, "ledger")
	s.Settings.Snapshot.Every = 0
	_, c := beginRunning(t, s)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	con := attach(t, c)
	committed := make(chan struct{}, 1)
	over := make(chan error, 1)
	go func() {
		over <- c.Events(ctx, func(e Event) error {
			if e.Kind == EventCommitted {
				select {
				case committed <- struct{}{}:
				default:
				}
			}
			return nil
		})
	}()
	nap := (slowest + 2*time.Second).Milliseconds()
	if _, err := c.Call(ctx, "nap", []string{strconv.FormatInt(nap, 10)}); err != nil {
		t.Error(err)
	}
	if _, err := c.Snapshot(ctx); err != nil {
		t.Error(err)
	}
	select {
	case <-committed:
	case <-ctx.Done():
		t.Error("no event came")
	}
	if _, err := c.Suspend(ctx); err != nil {
		t.Error(err)
	}
	if err := <-over; err != nil {
		t.Errorf("events ended with %v", err)
	}
	if _, err := con.Read(make([]byte, 1)); err == nil {
		t.Error("the console goes on")
	}
}
