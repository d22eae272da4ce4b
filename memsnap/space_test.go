package memsnap

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"perdure/internal/durable/faultfs"
)

func TestLowSpacePurgesTheOldestThenRefuses(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s, states := smallStore(t, fsys, "/s", 6)
	if err := s.Pin(1, ""); err != nil {
		t.Fatal(err)
	}
	size := storeBytes(t, fsys)
	fsys.SetLimit(size + 1000)
	s.policy.MinFree = Space{Bytes: 1001}
	s.policy.MinSnapshots = 3
	if err := evolve(s, states, 6, 6); err != nil {
		t.Fatal(err)
	}
	files, err := s.files()
	if err != nil {
		t.Fatal(err)
	}
	if files.isLive(2) || !files.isLive(1) || !files.isLive(6) || !files.isLive(7) {
		t.Errorf("left are %v", files.live)
	}
	// Nothing may go any more.
	s.policy.MinFree = Space{Bytes: 1 << 30}
	err = evolve(s, states, 7, 7)
	var low *LowSpaceError
	if !errors.Is(err, ErrLowSpace) || !errors.As(err, &low) || low.Want != 1<<30 || IsDamage(err) {
		t.Fatalf("%v", err)
	}
	files, err = s.files()
	if err != nil || len(files.live) < 3 || !files.isLive(1) || !files.isLive(7) {
		t.Errorf("left are %v, %v", files.live, err)
	}
	for _, n := range files.live {
		g, err := s.OpenGeneration(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Verify(ctx), checkState(g, states[n], rand.New(rand.NewPCG(1, 1)))); err != nil {
			t.Fatalf("generation %d: %v", n, err)
		}
	}
	// When there is space again, the next commit carries everything.
	fsys.SetLimit(-1)
	if err := evolve(s, states, 7, 7); err != nil {
		t.Fatal(err)
	}
	s.policy.MinFree = Space{Percent: 99.9}
	if err := evolve(s, states, 8, 8); err != nil {
		t.Fatal(err)
	}
	fsys.SetLimit(storeBytes(t, fsys) * 2)
	s.policy.MinFree = Space{Percent: 80}
	if err := evolve(s, states, 9, 8); !errors.Is(err, ErrLowSpace) {
		t.Fatalf("by percent: %v", err)
	}
}

func TestIntegrityRefusesToGoBack(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	_, _ = smallStore(t, fsys, "/s", 4)
	s, err := Open("/s", Options{FS: fsys, Policy: Policy{Integrity: true}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.OpenNewest(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.OpenNewestBelow(ctx, 4); !errors.Is(err, ErrIntegrity) {
		t.Errorf("going back after a page was bad: %v", err)
	}
	flip(t, fsys, fileName(4), len(must(fsys.ReadFile("/s/"+fileName(4))))-1)
	_, _, err = s.OpenNewest(ctx)
	var integrity *IntegrityError
	if !errors.Is(err, ErrIntegrity) || !errors.Is(err, ErrCorrupt) || !errors.As(err, &integrity) || integrity.Number != 4 {
		t.Errorf("%v", err)
	}
	s.policy.Integrity = false
	g, skipped, err := s.OpenNewest(ctx)
	if err != nil || g.Info().Number != 3 || len(skipped) != 1 || skipped[0].Number != 4 {
		t.Errorf("%v, %v", skipped, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
