package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// demoClient lets a key-value server count over one connection, which it never opens anew. Its methods may be called from
// any goroutine.
type demoClient struct {
	conn    net.Conn
	stop    chan struct{}
	stopped chan struct{}

	mu    sync.Mutex
	n     int           // answers
	total time.Duration // that they took
	worst time.Duration // the longest
	err   error
}

// demoPause is the time between two requests.
const demoPause = 500 * time.Microsecond

// dialDemo connects to a server that may not listen yet, and begins to count.
func dialDemo(ctx context.Context, address string) (*demoClient, error) {
	for limit := time.Now().Add(demoPatience); ; {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			c := &demoClient{conn: conn, stop: make(chan struct{}), stopped: make(chan struct{})}
			go c.run()
			return c, nil
		}
		if ctx.Err() != nil || time.Now().After(limit) {
			return nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(demoLook):
		}
	}
}

func (c *demoClient) run() {
	defer close(c.stopped)
	r := bufio.NewReader(c.conn)
	for n := 1; ; n++ {
		began := time.Now()
		err := c.count(r, n)
		took := time.Since(began)
		c.mu.Lock()
		if err == nil {
			c.n = n
			c.total += took
			c.worst = max(c.worst, took)
		}
		select {
		case <-c.stop: // so that what ended is of no interest
			err = nil
			n = -1
		default:
		}
		c.err = err
		c.mu.Unlock()
		if err != nil || n < 0 {
			return
		}
		time.Sleep(demoPause)
	}
}

// count asks for the n-th count.
func (c *demoClient) count(r *bufio.Reader, n int) error {
	if err := c.conn.SetDeadline(time.Now().Add(demoPatience)); err != nil {
		return err
	}
	if _, err := c.conn.Write([]byte("INCR hits\r\n")); err != nil {
		return fmt.Errorf("the connection, at count %d: %w", n, err)
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the connection, at count %d: %w", n, err)
	}
	if want := fmt.Sprintf(":%d\r\n", n); line != want {
		return fmt.Errorf("the answer to count %d is %q, and should be %q", n, line, want)
	}
	return nil
}

// answers returns how many there were.
func (c *demoClient) answers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// problem returns what went wrong; nil if nothing did.
func (c *demoClient) problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// close ends the counting.
func (c *demoClient) close() {
	c.mu.Lock()
	close(c.stop)
	c.mu.Unlock()
	_ = c.conn.SetDeadline(time.Now()) // wakes it
	<-c.stopped
	_ = c.conn.Close() // nothing is to be sent
}

// waits returns how long an answer took in the mean and at most.
func (c *demoClient) waits() (mean, worst time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total / time.Duration(max(1, c.n)), c.worst
}
