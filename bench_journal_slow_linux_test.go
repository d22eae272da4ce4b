//go:build slow

package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkJournal measures what the journal costs, and replays. Each iteration runs both ways in turns.
//
//	compute: time of a guest that computes, with to without: ≤ 1.01
//	echo: time of 1 KiB echoes, with to without: ≤ 1.10; that of the first seconds is told apart
//	replay: time of a guest that reads and writes files, first to played again: ≥ 3
func BenchmarkJournal(b *testing.B) {
	levels := []string{"process", "none"}
	b.Run("compute", func(b *testing.B) {
		var took [2]time.Duration
		for b.Loop() {
			for i, level := range levels {
				s := newServer(b, guestPath(b, "sieve"), "--every", "0", "--durability", level)
				s.args = append(s.args, "170")
				began := time.Now()
				s.start()
				if status := s.end(); status != 0 {
					b.Fatalf("status %d\n%s", status, end(s.stderr.String()))
				}
				took[i] += time.Since(began)
			}
		}
		b.ReportMetric(float64(took[0])/float64(took[1]), "with/without")
	})
	b.Run("echo", func(b *testing.B) {
		var first, took [2]time.Duration
		var clients [2][]net.Conn
		for i, level := range levels {
			s := newServer(b, guestPath(b, "server"), "--durability", level)
			s.start()
			for range 50 {
				c := s.dial()
				defer c.Close()
				clients[i] = append(clients[i], c)
			}
		}
		// The first segments of a journal are of pages that nobody has touched; then they are used again.
		for began := time.Now(); time.Since(began) < 8*time.Second; {
			for i := range clients {
				first[i] += echoes(b, clients[i], 20)
			}
		}
		for b.Loop() {
			for i := range clients {
				took[i] += echoes(b, clients[i], 20)
			}
		}
		b.ReportMetric(float64(took[0])/float64(took[1]), "with/without")
		b.ReportMetric(float64(first[0])/float64(first[1]), "first-with/without")
	})
	b.Run("replay", func(b *testing.B) {
		var first, again time.Duration
		for b.Loop() {
			dir := b.TempDir()
			s := newServer(b, guestPath(b, "files"), "--every", "0", "--dir", dir+":/")
			s.args = append(s.args, "1000000")
			s.start()
			lines := func() int { return strings.Count(s.stdout.String(), "\n") }
			waitFor(b, s, "a line", func() bool { return lines() > 0 })
			began := time.Now()
			time.Sleep(2 * time.Second)
			s.kill()
			first += time.Since(began)
			cmd := exec.Command(os.Args[0], "replay", "files")
			cmd.Args[0] = "perdure"
			cmd.Env = append(os.Environ(), "PERDURE_STATE="+filepath.Join(s.dir, "state"), "XDG_CACHE_HOME="+serverCache())
			began = time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			again += time.Since(began)
		}
		b.ReportMetric(float64(first)/float64(again), "first/replay")
	})
}

// BenchmarkRedis compares the guest resp with Redis, which syncs its append-only file every second or before each answer,
// by redis-benchmark with 50 clients, in turns. Each should reach half of Redis's requests per second. It needs
// redis-server and redis-benchmark; "make redis" installs them.
func BenchmarkRedis(b *testing.B) {
	for _, tool := range []string{"redis-server", "redis-benchmark"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skipf("%v (Debian: redis-server, redis-tools)", err)
		}
	}
	for _, level := range []struct{ ours, redis string }{{"process", "everysec"}, {"disk", "always"}} {
		s := newServer(b, guestPath(b, "resp"), "--durability", level.ours)
		s.start()
		s.dial().Close()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		_, port, _ := net.SplitHostPort(address)
		redis := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", b.TempDir(), "--save", "",
			"--appendonly", "yes", "--appendfsync", level.redis)
		if err := redis.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = redis.Process.Kill() // it runs for ever
			_ = redis.Wait()
		})
		for limit := time.Now().Add(patience); ; {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
				break
			}
			if time.Now().After(limit) {
				b.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		for _, pipeline := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/pipeline=%d", level.ours, pipeline), func(b *testing.B) {
				sum := [2]map[string]float64{{}, {}}
				n := 0
				for b.Loop() {
					n++
					for i, at := range []string{s.address, address} {
						for what, rate := range redisBenchmark(b, at, pipeline, level.ours) {
							sum[i][what] += rate
						}
					}
				}
				b.ReportMetric(0, "ns/op")
				for what := range sum[1] {
					b.ReportMetric(sum[0][what]/float64(n), what+"/s")
					b.ReportMetric(sum[0][what]/sum[1][what], what+"-ours/redis")
				}
			})
		}
	}
}

// BenchmarkKill measures the time from kill -9 of a key-value server to its next answer: with 64 MiB of data, 50 clients that
// increment, and a snapshot every second. It should be 300 ms at most. One iteration is one kill; run it with -benchtime 20x.
func BenchmarkKill(b *testing.B) {
	s := newServer(b, guestPath(b, "resp"))
	s.start()
	const values, size = 64 << 10, 1 << 10
	fill := s.dial()
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(fill, make([]byte, values*len("+OK\r\n")))
		read <- err
	}()
	noise, value := rand.NewChaCha8([32]byte{}), make([]byte, size)
	for i := range values {
		_, _ = noise.Read(value) // it never fails
		key := fmt.Sprintf("value%06d", i)
		fmt.Fprintf(fill, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, size, value)
	}
	if err := <-read; err != nil {
		b.Fatal(err)
	}
	fill.Close()
	c := countOn(s, 50, rand.New(noise))
	var took []time.Duration
	for b.Loop() {
		time.Sleep(time.Second + time.Duration(len(took)*311%1000)*time.Millisecond) // anywhere between two snapshots
		s.kill()
		before, began := c.answered(), time.Now()
		s.start()
		c.more(s, before)
		took = append(took, time.Since(began))
	}
	c.stop()
	if len(c.failed) > 0 {
		b.Fatal(<-c.failed)
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "ms-median")
	b.ReportMetric(took[len(took)-1].Seconds()*1e3, "ms-most")
}

var rateLine = regexp.MustCompile(`(SET|GET|INCR): ([0-9.]+) requests per second`)

// redisBenchmark returns the requests per second of each command.
func redisBenchmark(b *testing.B, address string, pipeline int, level string) map[string]float64 {
	b.Helper()
	host, port, _ := net.SplitHostPort(address)
	requests := 100000
	if level == "disk" {
		requests = 20000
	}
	cmd := exec.Command("redis-benchmark", "-h", host, "-p", port, "-t", "set,get,incr", "-c", "50", "-q",
		"-n", strconv.Itoa(requests*min(pipeline, 4)), "-P", strconv.Itoa(pipeline))
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	rates := map[string]float64{}
	for _, m := range rateLine.FindAllSubmatch(bytes.ReplaceAll(out, []byte("\r"), []byte("\n")), -1) {
		rates[string(m[1])], _ = strconv.ParseFloat(string(m[2]), 64)
	}
	if len(rates) != 3 {
		b.Fatalf("redis-benchmark says %q", out)
	}
	return rates
}
