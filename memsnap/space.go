package memsnap

import (
	"context"
	"errors"
	"fmt"

	"perdure/internal/durable"
)

// lowSpace returns nil if enough storage is free.
func (s *Store) lowSpace() error {
	keep := s.rules().MinFree
	want := keep.Bytes
	if keep == (Space{}) {
		return nil
	}
	if keep.Percent > 0 {
		total, err := durable.Total(s.fsys, s.dir)
		if err != nil && !errors.Is(err, durable.ErrUnsupported) {
			return fmt.Errorf("size of the file system: %w", err)
		}
		want = max(want, uint64(keep.Percent/100*float64(total)))
	}
	free, err := s.fsys.Free(s.dir)
	if errors.Is(err, durable.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("free storage: %w", err)
	}
	if free >= want {
		return nil
	}
	return &LowSpaceError{Free: free, Want: want}
}

// makeRoom purges the oldest generations as long as less is free than the policy wants: never the newest good one, the base
// of the session, a pinned one, or one of the last min_snapshots. If that is not enough the error is ErrLowSpace.
func (s *Store) makeRoom(ctx context.Context, base uint64) error {
	low := s.lowSpace()
	if low == nil || !errors.Is(low, ErrLowSpace) {
		return low
	}
	for {
		list, err := s.Generations()
		if err != nil {
			return err
		}
		newest, err := s.newestGood(ctx)
		if err != nil {
			return err
		}
		good := uint64(0)
		for _, i := range list {
			if i.Err == nil {
				good++
			}
		}
		victim := uint64(0)
		for _, i := range list {
			if i.Pinned || i.Number >= newest || i.Number == base || errors.Is(i.Err, ErrVersion) ||
				i.Err == nil && good <= s.rules().MinSnapshots {
				continue
			}
			victim = i.Number
			break
		}
		if victim == 0 {
			return low
		}
		if _, err := s.purge(ctx, []uint64{victim}); err != nil {
			return err
		}
		if low = s.lowSpace(); low == nil || !errors.Is(low, ErrLowSpace) {
			return low
		}
	}
}
