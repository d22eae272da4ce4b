package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// BenchmarkEcho measures echoes of 1 KiB: of the C guest with a keeper, of the same guest without one, and of the same
// program compiled for this machine, in turns. Run it with -benchtime of some seconds; it needs a C compiler.
//
//	keeper to alone: ≤ 1.15; guest to native: ≥ 60 % of the echoes
func BenchmarkEcho(b *testing.B) {
	kept := newServer(b, guestPath(b, "server"))
	alone := newServer(b, guestPath(b, "server"), "--keeper", filepath.Join(b.TempDir(), "none"), "--name", "alone")
	kept.start()
	alone.start()
	native := nativeServer(b)
	for _, conns := range []int{1, 100} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			var took [3]time.Duration
			n := 0
			var clients [3][]net.Conn
			for i, address := range []string{kept.address, alone.address, native} {
				for range conns {
					c, err := net.Dial("tcp", address)
					for limit := time.Now().Add(patience); err != nil && time.Now().Before(limit); {
						c, err = net.Dial("tcp", address)
					}
					if err != nil {
						b.Fatal(err)
					}
					defer c.Close()
					clients[i] = append(clients[i], c)
				}
			}
			for b.Loop() {
				n++
				for i := range clients {
					took[i] += echoes(b, clients[i], 200/conns+1)
				}
			}
			each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(n*(200/conns+1)*conns) / 1e3 }
			b.ReportMetric(each(took[0]), "µs/echo-kept")
			b.ReportMetric(each(took[1]), "µs/echo-alone")
			b.ReportMetric(each(took[2]), "µs/echo-native")
			b.ReportMetric(float64(took[0])/float64(took[1]), "kept/alone")
			b.ReportMetric(float64(took[2])/float64(took[0]), "native/kept")
		})
	}
}

// echoes lets each client send and receive so often, all at once, and returns how long it took.
func echoes(b *testing.B, clients []net.Conn, times int) time.Duration {
	began := time.Now()
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			buf := make([]byte, 1024)
			for range times {
				if _, err := c.Write(buf); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// nativeServer runs the guest's source as a program of this machine and returns its address.
func nativeServer(b *testing.B) string {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "server")
	cc := exec.Command("cc", "-O2", "-D_GNU_SOURCE", "-o", bin, filepath.Join("testdata", "guests", "c", "server.c"))
	if out, err := cc.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(bin)
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill() // it runs for ever
		_ = cmd.Wait()
	})
	return l.Addr().String()
}
