package keeper

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"perdure/netpersist"
)

const (
	// othersWithin is how long a keeper that somebody else has started may take to be back before another takes its place:
	// systemd restarts its own.
	othersWithin = 3 * time.Second
	// againAfter is how long to wait before a keeper is started again that could not be started, or did not stay.
	againAfter = time.Second
)

// Guard sees to it that a keeper listens at path for as long as ctx lasts: it starts program as one when nobody
// listens there, and again when it has gone. It reports both. The keeper outlives it.
func Guard(ctx context.Context, program, path string, report func(string)) {
	mine := true // at first nobody else is known to look after it
	for ctx.Err() == nil {
		began := time.Now()
		fd, err := netpersist.Dial(path)
		if err != nil && !mine {
			fd, err = others(ctx, path)
		}
		if err != nil && ctx.Err() == nil {
			if err := launch(program, path); err != nil {
				report(err.Error())
				pause(ctx, againAfter)
				continue
			}
			mine = true
			fd, err = others(ctx, path)
		}
		if err != nil {
			continue
		}
		gone(ctx, fd)
		if ctx.Err() == nil {
			report("the keeper of sockets is gone")
			pause(ctx, againAfter-time.Since(began))
		}
	}
}

// launch starts a keeper at path, and reaps it when it ends.
func launch(program, path string) error {
	fd, err := netpersist.Listen(path)
	if err != nil {
		return fmt.Errorf("start a keeper of sockets at %s: %w", path, err)
	}
	defer unix.Close(fd) // the keeper has its own
	cmd, err := start(program, path, fd)
	if err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // until it ends, which may be after this program; how is in its own words
	return nil
}

// others connects to a keeper that is about to be there.
func others(ctx context.Context, path string) (int, error) {
	for limit := time.Now().Add(othersWithin); ; {
		fd, err := netpersist.Dial(path)
		if err == nil || ctx.Err() != nil || time.Now().After(limit) {
			return fd, err
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// gone returns when the other side of a connection has ended, or ctx is done, and closes it.
func gone(ctx context.Context, fd int) {
	if err := unix.SetNonblock(fd, true); err != nil { // for the poller
		_ = unix.Close(fd) // nothing was said
		return
	}
	f := os.NewFile(uintptr(fd), "keeper")
	stop := context.AfterFunc(ctx, func() { f.Close() }) // nothing was written
	defer func() {
		if stop() {
			f.Close() // the same
		}
	}()
	_, _ = f.Read(make([]byte, 1)) // a keeper says nothing to who does not ask
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
