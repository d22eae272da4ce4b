package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counting is a client of the key-value server that increments two keys in pipelines, and checks each answer: of a
// key of its own the next number, of one that all share a higher one than before.
type counting struct {
	own, shared int64 // how often, and what the last answer was
	answered    atomic.Int64
}

func (c *counting) run(conn io.ReadWriter, r *rand.Rand, key string, quit <-chan struct{}) error {
	answers := bufio.NewReader(conn)
	last := int64(0)
	for {
		select {
		case <-quit:
			return nil
		default:
		}
		n := 1 + r.IntN(20)
		if _, err := io.WriteString(conn, strings.Repeat(fmt.Sprintf("*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n*2\r\n$4\r\nINCR\r\n$3\r\nall\r\n", len(key), key), n)); err != nil {
			return err
		}
		for i := range 2 * n {
			text, err := answers.ReadString('\n')
			if err != nil {
				return err
			}
			v, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(text, ":"), "\r\n"), 10, 64)
			switch {
			case err != nil:
				return fmt.Errorf("answer %q", text)
			case i%2 == 0 && v != c.own+1:
				return fmt.Errorf("%s is %d after %d", key, v, c.own)
			case i%2 == 1 && v <= last:
				return fmt.Errorf("the shared key is %d after %d", v, last)
			case i%2 == 0:
				c.own = v
			default:
				last = v
				c.shared++
			}
			c.answered.Add(1)
		}
	}
}

// crowd is clients that count, all at once, on connections that stay.
type crowd struct {
	clients []counting
	quit    chan struct{}
	failed  chan error
	wg      sync.WaitGroup
}

// countOn starts so many clients of a key-value server.
func countOn(s *server, n int, r *rand.Rand) *crowd {
	c := &crowd{clients: make([]counting, n), quit: make(chan struct{}), failed: make(chan error, n)}
	for i := range c.clients {
		conn, r := s.dial(), rand.New(rand.NewPCG(r.Uint64(), 0))
		s.t.Cleanup(func() { conn.Close() })
		c.wg.Go(func() {
			if err := c.clients[i].run(conn, r, fmt.Sprint("key", i), c.quit); err != nil {
				c.failed <- fmt.Errorf("client %d: %w", i, err)
			}
		})
	}
	return c
}

// answered returns how many answers they have had.
func (c *crowd) answered() (n int64) {
	for i := range c.clients {
		n += c.clients[i].answered.Load()
	}
	return n
}

// more waits until they have had one more answer than so many, or one of them has failed.
func (c *crowd) more(s *server, before int64) {
	s.t.Helper()
	waitFor(s.t, s, "answers", func() bool { return c.answered() > before || len(c.failed) > 0 })
}

// stop ends them.
func (c *crowd) stop() {
	close(c.quit)
	c.wg.Wait()
}

// increments kills the key-value server so often under pipelines of so many clients, on connections that stay.
func increments(t *testing.T, clients, kills int, flags ...string) {
	r := testSeed(t)
	s := newServer(t, guestPath(t, "resp"), append([]string{"--every", "20ms"}, flags...)...)
	s.start()
	c := countOn(s, clients, r)
	for i := range kills {
		if i%3 > 0 { // else while it is restored, as like as not
			c.more(s, c.answered())
		}
		time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond) // anywhere
		if len(c.failed) > 0 {
			t.Fatalf("%v after %d kills\n%s", <-c.failed, i, end(s.stderr.String()))
		}
		s.kill()
		s.start()
	}
	c.more(s, c.answered())
	c.stop()
	if len(c.failed) > 0 {
		t.Fatalf("%v after %d kills\n%s", <-c.failed, kills, end(s.stderr.String()))
	}
	var shared int64
	for i := range c.clients {
		if k := &c.clients[i]; k.own != k.shared {
			t.Errorf("client %d was answered %d and %d times", i, k.own, k.shared)
		}
		shared += c.clients[i].shared
	}
	conn := s.dial()
	defer conn.Close()
	fmt.Fprint(conn, "*2\r\n$3\r\nGET\r\n$3\r\nall\r\n")
	answer := make([]byte, len(fmt.Sprintf("$%d\r\n%d\r\n", len(fmt.Sprint(shared)), shared)))
	if _, err := io.ReadFull(conn, answer); err != nil || !strings.HasSuffix(string(answer), fmt.Sprintf("\n%d\r\n", shared)) {
		t.Errorf("the shared key is %q, %v after %d increments", answer, err, shared)
	}
	t.Logf("%d kills, %d increments", kills, c.answered())
}

// TestIncrements kills a key-value server under pipelined increments: each is done once and answered once.
func TestIncrements(t *testing.T) { increments(t, 10, 6) }
