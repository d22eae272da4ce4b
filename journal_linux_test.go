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

// increments kills the key-value server so often under pipelines of clients, on connections that stay.
func increments(t *testing.T, kills int, flags ...string) {
	r := testSeed(t)
	s := newServer(t, guestPath(t, "resp"), append([]string{"--every", "20ms"}, flags...)...)
	s.start()
	clients := make([]counting, 10)
	quit, failed := make(chan struct{}), make(chan error, len(clients))
	var wg sync.WaitGroup
	for i := range clients {
		conn, r := s.dial(), rand.New(rand.NewPCG(r.Uint64(), 0))
		defer conn.Close()
		wg.Go(func() {
			if err := clients[i].run(conn, r, fmt.Sprint("key", i), quit); err != nil {
				failed <- fmt.Errorf("client %d: %w", i, err)
			}
		})
	}
	answered := func() (n int64) {
		for i := range clients {
			n += clients[i].answered.Load()
		}
		return n
	}
	for i := range kills {
		if i%3 > 0 { // else while it is restored, as like as not
			before := answered()
			waitFor(t, s, "answers", func() bool { return answered() > before || len(failed) > 0 })
		}
		time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond) // anywhere
		if len(failed) > 0 {
			t.Fatalf("%v after %d kills\n%s", <-failed, i, end(s.stderr.String()))
		}
		s.kill()
		s.start()
	}
	before := answered()
	waitFor(t, s, "answers", func() bool { return answered() > before || len(failed) > 0 })
	close(quit)
	wg.Wait()
	if len(failed) > 0 {
		t.Fatalf("%v after %d kills\n%s", <-failed, kills, end(s.stderr.String()))
	}
	var shared int64
	for i := range clients {
		if shared += clients[i].shared; clients[i].own != clients[i].shared {
			t.Errorf("client %d was answered %d and %d times", i, clients[i].own, clients[i].shared)
		}
	}
	conn := s.dial()
	defer conn.Close()
	fmt.Fprint(conn, "*2\r\n$3\r\nGET\r\n$3\r\nall\r\n")
	answer := make([]byte, len(fmt.Sprintf("$%d\r\n%d\r\n", len(fmt.Sprint(shared)), shared)))
	if _, err := io.ReadFull(conn, answer); err != nil || !strings.HasSuffix(string(answer), fmt.Sprintf("\n%d\r\n", shared)) {
		t.Errorf("the shared key is %q, %v after %d increments", answer, err, shared)
	}
	t.Logf("%d kills, %d increments", kills, answered())
}

// TestIncrements kills a key-value server under pipelined increments: each is done once and answered once.
func TestIncrements(t *testing.T) { increments(t, 6) }
