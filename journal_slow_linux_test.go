//go:build slow

package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSoakIncrements(t *testing.T) { increments(t, 10, soak(340, 10000)) }

func TestSoakIncrementsOfMany(t *testing.T) { increments(t, 100, soak(100, 2000)) }

// At level disk, where output waits, the same holds.
func TestSoakIncrementsDisk(t *testing.T) { increments(t, 10, soak(60, 5000), "--durability", "disk") }

func TestSoakConnectionsGoOnDisk(t *testing.T) {
	if reset := randomKills(t, soak(20, 5000), "--durability", "disk"); reset > 0 {
		t.Errorf("%d connections were reset", reset)
	}
}

// TestSoakBank kills three banks, one at a time and all together: no money is lost or made, and each transfer is made once.
func TestSoakBank(t *testing.T) {
	r := testSeed(t)
	var banks [3]*server
	var ports [3]string
	for i := range banks {
		banks[i] = newServer(t, guestPath(t, "bank"), "--every", "30ms", "--allow-connect", "tcp://127.0.0.1:*")
		_, ports[i], _ = net.SplitHostPort(banks[i].address)
	}
	for i, b := range banks {
		b.args = append(b.args, fmt.Sprint(i), ports[0], ports[1], ports[2])
		b.start()
	}
	kills := soak(60, 6000)
	for n := 0; n < kills; {
		if n%5 > 0 {
			for _, b := range banks {
				waitFor(t, b, "the bank", func() bool { return b.begun() > b.before })
			}
		}
		time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond) // anywhere
		which := []int{r.IntN(3)}
		if r.IntN(3) == 0 {
			which = []int{0, 1, 2}
		}
		for _, i := range which {
			banks[i].kill()
			n++
		}
		for _, i := range which {
			banks[i].start()
		}
		for i, b := range banks {
			if out := b.stdout.String(); strings.Contains(out, fmt.Sprintf("bank %d: ", i)) {
				t.Fatalf("after %d kills: %s\n%s", n, out, end(b.stderr.String()))
			}
		}
	}
	for _, b := range banks {
		c := b.dial()
		fmt.Fprint(c, "s")
		defer c.Close()
	}
	var total, sent, received int64
	for i, b := range banks {
		if status := b.end(); status != 0 {
			t.Fatalf("bank %d: status %d, %s\n%s", i, status, b.stdout.String(), end(b.stderr.String()))
		}
		var has, out, in int64
		text := b.stdout.String()
		text = text[max(0, strings.LastIndex(text, "bank")):]
		if _, err := fmt.Sscanf(text, fmt.Sprintf("bank %d has %%d, sent %%d, received %%d", i), &has, &out, &in); err != nil {
			t.Fatalf("bank %d says %q: %v", i, text, err)
		}
		total, sent, received = total+has, sent+out, received+in
	}
	if total != 3000000 || sent != received {
		t.Errorf("the banks have %d, sent %d transfers and received %d", total, sent, received)
	}
	t.Logf("%d kills, %d transfers", kills, sent)
}

// TestSoakKeepAlive kills an HTTP server under requests on connections that stay: none fails.
func TestSoakKeepAlive(t *testing.T) {
	rnd := testSeed(t)
	s := newServer(t, goGuest(t, "web"), "--every", "50ms")
	s.start()
	s.dial().Close()
	var done atomic.Int64
	quit, failed := make(chan struct{}), make(chan error, 100)
	var wg sync.WaitGroup
	dialer := &net.Dialer{Timeout: patience}
	client := &http.Client{Timeout: 2 * patience, Transport: &http.Transport{MaxIdleConnsPerHost: 8, DialContext: dialer.DialContext}}
	defer client.CloseIdleConnections()
	for i := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for n := 0; ; n++ {
				select {
				case <-quit:
					return
				default:
				}
				body := append(fmt.Appendf(nil, "request %d of client %d ", n, i), bytes.Repeat([]byte{byte('a' + i)}, r.IntN(5000))...)
				resp, err := client.Post("http://"+s.address+"/echo", "text/plain", bytes.NewReader(body))
				if err != nil {
					failed <- err
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, body) {
					failed <- fmt.Errorf("request %d: status %d, %d bytes of %d, %v", n, resp.StatusCode, len(got), len(body), err)
					return
				}
				done.Add(1)
			}
		})
	}
	kills := soak(5, 2000)
	for i := range kills {
		at := done.Load()
		waitFor(t, s, "requests", func() bool { return done.Load() > at+5 || len(failed) > 0 })
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond) // anywhere, also behind a new generation
		if len(failed) > 0 {
			t.Fatalf("%v after %d kills\n%s", <-failed, i, end(s.stderr.String()))
		}
		s.kill()
		s.start()
	}
	at := done.Load()
	waitFor(t, s, "requests", func() bool { return done.Load() > at+5 || len(failed) > 0 })
	close(quit)
	wg.Wait()
	if len(failed) > 0 {
		t.Fatalf("%v\n%s", <-failed, end(s.stderr.String()))
	}
	t.Logf("%d requests over %d kills", done.Load(), kills)
}

// TestSoakDialler kills a guest that has dialled out, since its birth and between generations: its connection goes on.
func TestSoakDialler(t *testing.T) {
	r := testSeed(t)
	d := newDialler(t, goGuest(t, "sockets"))
	for i := range soak(6, 1000) {
		d.talk(i, func() {
			time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond) // anywhere
			d.kill()
		})
	}
}
