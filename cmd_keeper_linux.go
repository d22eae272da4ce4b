package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"

	"perdure/netpersist"
)

// runKeeper runs a keeper until a signal ends it or, if it may leave, until there is nothing
// to keep.
func runKeeper(ctx context.Context, c keeperCommand) error {
	// First of all, since the signal ends a program that has not asked for it.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ctx, stop := interruptible(ctx)
	defer stop()
	keeper, err := c.open()
	if err != nil {
		return err
	}
	if err := netpersist.Notify("READY=1"); err != nil {
		return errors.Join(err, keeper.Close())
	}
	for {
		again, err := c.until(ctx, keeper, hup)
		if err == nil && !again && c.store && ctx.Err() != nil {
			if err = keeper.Store(); err == nil {
				return nil // all descriptors stay as they are
			}
		}
		if err != nil || !again {
			return errors.Join(err, keeper.Close())
		}
		if keeper, err = c.replace(keeper, hup); err != nil {
			return err
		}
	}
}

// open makes the keeper.
func (c *keeperCommand) open() (*netpersist.Keeper, error) {
	if c.state >= 0 {
		return netpersist.TakeOver(c.state)
	}
	if c.store {
		keeper, err := netpersist.TakeStored(func() (int, error) { return netpersist.Listen(c.socket) })
		if keeper != nil {
			return keeper, err
		}
		if err != nil { // what was held is lost, and there has to be a keeper all the same
			fmt.Fprintf(os.Stderr, "perdure: %v\n", err)
		}
	}
	if c.fd < 0 {
		if fd, err := netpersist.Dial(c.socket); err == nil {
			return nil, errors.Join(fmt.Errorf("a keeper listens at %s already", c.socket), syscall.Close(fd))
		}
		fd, err := netpersist.Listen(c.socket)
		if err != nil {
			return nil, err
		}
		c.fd = fd
	}
	return netpersist.NewKeeper(netpersist.KeeperOptions{Socket: c.fd, Path: c.socket, Leaves: c.leave})
}

// until runs the keeper, and reports whether a SIGHUP interrupted it.
func (c *keeperCommand) until(ctx context.Context, keeper *netpersist.Keeper, hup <-chan os.Signal) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	var again atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-hup:
			again.Store(true)
			cancel()
		case <-ctx.Done():
		}
	}()
	err := keeper.Run(ctx)
	cancel()
	<-done
	return again.Load(), err
}

// replace executes the program anew. It returns only when that cannot be, with a keeper that
// goes on in this one.
func (c *keeperCommand) replace(keeper *netpersist.Keeper, hup chan<- os.Signal) (*netpersist.Keeper, error) {
	state, err := keeper.Handover()
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err == nil {
		args := []string{"perdure", "keeper", "--socket", c.socket, "--state-fd", strconv.Itoa(state)}
		if c.store {
			args = append(args, "--store")
		}
		// The next program has no handler at first, and the signal would end it. One that comes meanwhile is part of
		// this replacement.
		signal.Ignore(syscall.SIGHUP)
		err = syscall.Exec(program, args, os.Environ())
		signal.Notify(hup, syscall.SIGHUP)
	}
	fmt.Fprintf(os.Stderr, "perdure: the keeper goes on in the old program: %v\n", err)
	return netpersist.TakeOver(state)
}
