package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"perdure/config"
)

const (
	// consoleBacklog is how much output a console may be behind, in bytes.
	consoleBacklog = 256 << 10
	// consoleInput is how much of a console's input is passed on at once, in bytes.
	consoleInput = 4 << 10
	// retryInput is how often it is tried to pass on input that the guest does not read.
	retryInput = 20 * time.Millisecond
	// lookAtConsole is how often it is looked whether a console that says nothing any more is still there.
	lookAtConsole = time.Second
)

// consoles are the clients that are attached to the guest's standard streams.
type consoles struct {
	guest *os.File // the end that the guest reads from
	input *os.File // the end that consoles write to; nil if the guest has no standard input

	mu       sync.Mutex
	attached map[*console]bool
	closed   bool
}

// console is one client. It never holds up the guest: what it does not read in time it loses.
type console struct {
	conn *net.UnixConn

	mu      sync.Mutex
	pending []byte
	lost    uint64 // bytes behind pending
	over    bool
	wake    chan struct{}
}

// newConsoles makes the guest's standard input.
func newConsoles(stdin config.Stdin) (c *consoles, err error) {
	c = &consoles{attached: make(map[*console]bool)}
	if stdin == config.StdinNull {
		c.guest, err = os.Open(os.DevNull)
	} else {
		c.guest, c.input, err = os.Pipe()
	}
	if err != nil {
		return nil, fmt.Errorf("make a standard input: %w", err)
	}
	return c, nil
}

// show passes output on.
func (c *consoles) show(p []byte) {
	if len(p) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.attached {
		a.show(p)
	}
}

func (a *console) show(p []byte) {
	a.mu.Lock()
	if a.lost > 0 || len(a.pending)+len(p) > consoleBacklog {
		a.lost += uint64(len(p))
	} else {
		a.pending = append(a.pending, p...)
	}
	a.mu.Unlock()
	a.nudge()
}

func (a *console) nudge() {
	select {
	case a.wake <- struct{}{}:
	default: // it has not looked since the last time, and will
	}
}

// end lets every console show what is left, for no longer than within, and then end.
func (c *consoles) end(within time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for a := range c.attached {
		a.mu.Lock()
		a.over = true
		a.mu.Unlock()
		_ = a.conn.SetWriteDeadline(time.Now().Add(within)) // else it is gone
		a.nudge()
	}
}

// close gives back the standard input, when the guest has ended.
func (c *consoles) close() {
	_ = c.guest.Close() // what was not read is lost with it
	if c.input != nil {
		_ = c.input.Close()
	}
}

// attach adds a console, unless the guest has ended.
func (c *consoles) attach(conn *net.UnixConn) (*console, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false
	}
	a := &console{conn: conn, wake: make(chan struct{}, 1)}
	c.attached[a] = true
	return a, true
}

func (c *consoles) detach(a *console) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.attached, a)
}

// serve joins a client with the guest until either is gone. It welcomes the client when nothing more of what the guest
// writes is missed. Typed are bytes that the client has sent already.
func (c *consoles) serve(conn *net.UnixConn, welcome string, typed io.Reader) {
	a, ok := c.attach(conn)
	if ok {
		defer c.detach(a)
	}
	if _, err := io.WriteString(conn, welcome); err != nil || !ok {
		_ = conn.Close() // it is gone, or the guest has ended
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer a.nudge()
		defer cancel()
		c.pass(ctx, typed, conn)
	}()
	a.output(ctx)
	cancel()
	_ = conn.Close() // ends the reading
	<-done
}

// output sends the client what the guest writes, until one of them is gone.
func (a *console) output(ctx context.Context) {
	var spare []byte
	for ctx.Err() == nil {
		a.mu.Lock()
		send, lost, over := a.pending, a.lost, a.over
		a.pending, a.lost = spare[:0], 0
		a.mu.Unlock()
		if lost > 0 {
			send = fmt.Appendf(send, "\r\n[perdure: %d bytes of output are missing here, this console was too slow]\r\n", lost)
		}
		if len(send) > 0 {
			if _, err := a.conn.Write(send); err != nil {
				return
			}
			spare = send
			continue
		}
		if over {
			return
		}
		spare = send
		select {
		case <-a.wake:
		case <-ctx.Done():
		}
	}
}

// pass passes on what the client types, and returns when the client is gone. That its input ends is no end of the
// guest's, which others may be attached to.
func (c *consoles) pass(ctx context.Context, typed io.Reader, conn *net.UnixConn) {
	b := make([]byte, consoleInput)
	for {
		n, err := typed.Read(b)
		if n > 0 && !c.feed(ctx, b[:n], conn) {
			return
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
	}
	tick := time.NewTicker(lookAtConsole)
	defer tick.Stop()
	for !hungUp(conn) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// feed gives the guest input, and waits as long as it does not read; false when the client is gone meanwhile.
func (c *consoles) feed(ctx context.Context, p []byte, conn *net.UnixConn) bool {
	if c.input == nil {
		return true // the guest has no standard input: nobody reads it
	}
	raw, err := c.input.SyscallConn()
	if err != nil {
		return false
	}
	for {
		err := raw.Control(func(fd uintptr) {
			// It is not blocking, and never waited for: a client that is gone would not be noticed.
			n, werr := unix.Write(int(fd), p)
			if werr == nil {
				p = p[n:]
			}
		})
		switch {
		case err != nil:
			return false
		case len(p) == 0:
			return true
		case hungUp(conn):
			return false
		}
		select {
		case <-time.After(retryInput):
		case <-ctx.Done():
			return false
		}
	}
}

// hungUp tells whether the other end of a connection is closed, both ways.
func hungUp(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, perr := unix.Poll(p, 0)
		gone = perr == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
	})
	return gone || err != nil
}
