//go:build !linux

package main

import (
	"context"
	"errors"
	"time"

	"perdure/runtime"
)

// keeperPlace says which keeper a process uses. Only Linux has keepers.
type keeperPlace struct {
	shared  string
	keepFor time.Duration
}

func (k *keeperPlace) connect(*runtime.Options, func(string)) func() (runtime.SocketKeeper, error) {
	return nil
}

func runKeeper(context.Context, keeperCommand) error {
	return errors.New("sockets are kept on Linux only")
}
