package main

import (
	"context"
	"errors"

	"perdure/netpersist"
)

// runKeeper runs a keeper until a signal ends it or, if it may leave, until there is nothing
// to keep.
func runKeeper(ctx context.Context, k keeperCommand) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	if k.fd < 0 {
		fd, err := netpersist.Listen(k.socket)
		if err != nil {
			return err
		}
		k.fd = fd
	}
	keeper, err := netpersist.NewKeeper(netpersist.KeeperOptions{Socket: k.fd, Path: k.socket, Leaves: k.leave})
	if err != nil {
		return err
	}
	return errors.Join(keeper.Run(ctx), keeper.Close())
}
