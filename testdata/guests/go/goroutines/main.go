// Goroutines passes work through channels, select, mutexes, wait groups, timers
// and panics. The order of events may differ, the sums may not.
//
// Usage: goroutines [ROUNDS]. One line a round.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func work(n uint64) uint64 {
	for range 200 {
		n ^= n << 13
		n ^= n >> 7
		n ^= n << 17
	}
	return n
}

// pipeline sums what four workers make of the numbers up to n.
func pipeline(n int) uint64 {
	jobs, results := make(chan uint64, 8), make(chan uint64)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for j := range jobs {
				results <- work(j)
			}
		})
	}
	go func() {
		for i := range n {
			jobs <- uint64(i + 1)
		}
		close(jobs)
		workers.Wait()
		close(results)
	}()
	var sum uint64
	for r := range results {
		sum += r
	}
	return sum
}

// sieve is a chain of goroutines, one for each prime.
func sieve(n int) (last int) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	send := func(ch chan<- int, v int) bool {
		select {
		case ch <- v:
			return true
		case <-ctx.Done():
			return false
		}
	}
	ch := make(chan int)
	go func() {
		for i := 2; send(ch, i); i++ {
		}
	}()
	for range n {
		last = <-ch
		in, out, prime := ch, make(chan int), last
		go func() {
			for {
				select {
				case v := <-in:
					if v%prime != 0 && !send(out, v) {
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
		ch = out
	}
	return last
}

// clocks counts how many of n sleepers woke no earlier than they asked for.
func clocks(n int) int64 {
	var awake atomic.Int64
	var sleepers sync.WaitGroup
	for i := range n {
		sleepers.Go(func() {
			asked, start := time.Duration(1+i%5)*time.Millisecond, time.Now()
			if i%2 == 0 {
				time.Sleep(asked)
			} else {
				<-time.After(asked)
			}
			if time.Since(start) >= asked {
				awake.Add(1)
			}
		})
	}
	sleepers.Wait()
	return awake.Load()
}

// deep panics at the bottom of a recursion and recovers at the top.
func deep(n int) (depth int, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = r.(error)
		}
	}()
	var fall func(int)
	fall = func(i int) {
		defer func() { depth++ }()
		if i == 0 {
			panic(errors.New("bottom"))
		}
		fall(i - 1)
	}
	fall(n)
	return depth, nil
}

func main() {
	rounds := 80
	if len(os.Args) > 1 {
		rounds, _ = strconv.Atoi(os.Args[1])
	}
	var mu sync.Mutex
	total := 0
	for round := range rounds {
		sum := pipeline(500 + round)
		prime := sieve(40 + round%20)
		awake := clocks(10)
		depth, err := deep(500 + round)
		var adders sync.WaitGroup
		for i := range 50 {
			adders.Go(func() {
				mu.Lock()
				defer mu.Unlock()
				total += i
			})
		}
		adders.Wait()
		fmt.Printf("%d pipeline=%016x sieve=%d awake=%d depth=%d,%v total=%d\n", round, sum, prime, awake, depth, err, total)
	}
}
