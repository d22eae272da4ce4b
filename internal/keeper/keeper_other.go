//go:build !linux

package keeper

import (
	"context"
	"errors"
	"time"

	"perdure/runtime"
)

// Place says which keeper a process uses. Only Linux has keepers.
type Place struct {
	Path, Owner string
	KeepFor     time.Duration
	Own         bool
	Report      func(string)
}

// Connect fails.
func (Place) Connect() (runtime.SocketKeeper, error) {
	return nil, errors.New("sockets are kept on Linux only")
}

// Forget has nothing to do.
func Forget(string, string) error { return nil }

// Guard returns when ctx is done.
func Guard(ctx context.Context, _, _ string, _ func(string)) { <-ctx.Done() }
