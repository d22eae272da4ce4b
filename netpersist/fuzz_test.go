package netpersist

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FuzzDecodeMessage wants what is decoded to be what it is encoded from, and nothing to panic.
func FuzzDecodeMessage(f *testing.F) {
	for _, m := range sampleMessages() {
		b, err := m.append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err != nil {
			if !errors.Is(err, errMessage) {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := m.append(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is %+v, encoded again %x, %v", b, m, again, err)
		}
	})
}

// FuzzDecodeHandover wants no state of a keeper to make it panic.
func FuzzDecodeHandover(f *testing.F) {
	b := []byte(stateMagic)
	for _, m := range []message{{typ: msgState, a: 1}, {typ: msgControl, a: 3}, {typ: msgOwner, text: "x"},
		{typ: msgSocket, a: 4, b: noQueue, kind: KindStream, entries: []entry{{id: 5, kind: KindStream}}}} {
		one, err := m.append(nil)
		if err != nil {
			f.Fatal(err)
		}
		b = append(append(b, byte(len(one)), 0, 0, 0), one...)
	}
	f.Add(b)
	if _, err := decodeHandover(b); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeHandover(b); err != nil && !errors.Is(err, errMessage) {
			t.Errorf("error %v", err)
		}
	})
}

// sampleMessages has one of each type, with all its fields.
func sampleMessages() []message {
	var ms []message
	for typ, fields := range messageFields {
		m := message{typ: typ}
		if fields&hasA != 0 {
			m.a = 1<<64 - 1
		}
		if fields&hasB != 0 {
			m.b = 2
		}
		if fields&hasKind != 0 {
			m.kind = KindListener
		}
		if fields&hasText != 0 {
			m.text = "text"
		}
		if fields&hasEntries != 0 {
			m.entries = []entry{{1, 2, KindStream}, {3, 0, KindDatagram}}
		}
		m.more = fields&hasMore != 0
		ms = append(ms, m)
	}
	return ms
}

// TestMessages holds the encoding: what is cut, longer or changed in its header is refused or means something else.
func TestMessages(t *testing.T) {
	for _, m := range sampleMessages() {
		b, err := m.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeMessage(b)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(m) {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
		for n := range b {
			if _, err := decodeMessage(b[:n]); !errors.Is(err, errMessage) {
				t.Errorf("type %d cut to %d bytes: %v", m.typ, n, err)
			}
		}
		if _, err := decodeMessage(append(b, 0)); !errors.Is(err, errMessage) {
			t.Errorf("type %d with a byte more: %v", m.typ, err)
		}
	}
	if _, err := (&message{text: string(make([]byte, maxText+1))}).append(nil); err == nil {
		t.Error("too much text was encoded")
	}
}

// TestProtocolDocument holds PROTOCOL.md and the types together.
func TestProtocolDocument(t *testing.T) {
	b, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[messageType]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \| [a-z]{2,} \|`).FindAllStringSubmatch(string(b), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		documented[messageType(n)] = true
	}
	for typ := range messageFields {
		if !documented[typ] {
			t.Errorf("PROTOCOL.md does not have type %d", typ)
		}
		delete(documented, typ)
	}
	if len(documented) > 0 {
		t.Errorf("PROTOCOL.md has types that do not exist: %v", documented)
	}
}

// TestKeeperFedGarbage wants a keeper to survive whatever is said to it, and to hold what it has.
func TestKeeperFedGarbage(t *testing.T) {
	s := rand.Uint64()
	if v, err := strconv.ParseUint(os.Getenv("PERDURE_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("PERDURE_SEED=%d", s)
	r := rand.New(rand.NewPCG(s, 0))

	k := newRig(t, false)
	c := k.connect()
	fd, address := listenTCP(t, unix.AF_INET)
	l, err := c.KeepListener(fd, "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	peer := dialTCP(t, address)
	defer peer.Close()
	h := accept(t, c, l)

	samples := sampleMessages()
	var io transfer
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	for range 2000 {
		conn, err := Dial(k.path)
		if err != nil {
			t.Fatal(err)
		}
		if r.IntN(3) > 0 {
			// Of another owner, so that what comes cannot be a request about ours.
			if err := io.send(conn, &message{typ: msgHello, text: "garbage"}, 0); err != nil {
				t.Fatal(err)
			}
		}
		for range 1 + r.IntN(4) {
			m := samples[r.IntN(len(samples))]
			m.a, m.b = r.Uint64N(10), r.Uint64N(3)
			if m.typ == msgHello || m.typ == msgFind {
				m.text = "garbage"
			}
			b, err := m.append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.IntN(2) == 0 {
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
				if string(b[headerBytes:min(len(b), headerBytes+7)]) == "process" {
					continue
				}
			}
			if r.IntN(4) == 0 {
				b = b[:r.IntN(len(b))]
			}
			var oob []byte
			for range r.IntN(3) {
				oob = append(oob, unix.UnixRights([]int{null, fd, conn}[:1+r.IntN(3)]...)...)
			}
			_ = unix.Sendmsg(conn, b, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT) // it may have been closed
		}
		_ = unix.Close(conn) // what was said may be lost
	}
	fmt.Fprint(peer, "still here")
	read(t, h.FD, "still here")
	if err := c.Park(5); err != nil {
		t.Error(err)
	}
	die(t, c, h.FD, l.Queue, l.Socket)
	c = k.connect()
	if held, err := c.Take(); err != nil || len(held) != 1 || held[0].ID != h.ID || c.Parked() != 5 {
		t.Errorf("held %+v, parked %d, %v", held, c.Parked(), err)
	} else {
		_ = unix.Close(held[0].FD)
	}
	die(t, c)
}

// TestHandover wants a keeper's successor to go on without a worker or a peer seeing it: one that was executed in its
// place, and one that systemd has started after it.
func TestHandover(t *testing.T) {
	t.Run("exec", func(t *testing.T) {
		testHandover(t, func(old *Keeper) (*Keeper, error) {
			state, err := old.Handover()
			if err != nil {
				return nil, err
			}
			// The descriptors of the old one are now the new one's.
			next, err := TakeOver(state)
			_, _ = unix.Close(old.epoll), unix.Close(old.wake)
			return next, err
		})
	})
	t.Run("store", func(t *testing.T) {
		testHandover(t, func(old *Keeper) (*Keeper, error) {
			state, sockets := storeIn(t, old)
			old.path = "" // which is the next one's
			if err := old.Close(); err != nil {
				return nil, err
			}
			return takeStored(state, sockets, nil)
		})
	})
}

// storeIn stands in for systemd's descriptor store: it returns what a keeper stores.
func storeIn(t *testing.T, k *Keeper) (state int, sockets map[uint64]int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	stored := make(chan error, 1)
	go func() { stored <- k.Store() }()
	state, sockets = -1, map[uint64]int{}
	b, oob := make([]byte, 1000), make([]byte, unix.CmsgSpace(4*storePortion))
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got := rights(oob[:oobn])
		if string(b[:n]) == "BARRIER=1" {
			_ = unix.Close(got[0])
			if err := <-stored; err != nil {
				t.Fatal(err)
			}
			return state, sockets
		}
		if string(b[:n]) != "FDSTORE=1\nFDPOLL=0\nFDNAME=keeper" {
			t.Fatalf("systemd was told %q", b[:n])
		}
		for _, fd := range got {
			if id, err := cookie(fd); err == nil {
				sockets[id] = fd
			} else {
				state = fd
			}
		}
	}
}

func testHandover(t *testing.T, hand func(*Keeper) (*Keeper, error)) {
	k := newRig(t, false)
	k.end()
	fd, err := Listen(k.path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := NewKeeper(KeeperOptions{Socket: fd, Path: k.path})
	if err != nil {
		t.Fatal(err)
	}
	run := k.run(old)
	c := k.connect()
	lfd, address := listenTCP(t, unix.AF_INET)
	l, err := c.KeepListener(lfd, "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	peer := dialTCP(t, address)
	defer peer.Close()
	h := accept(t, c, l)
	instance := c.Instance()
	silent, err := Dial(k.path) // which says hello after
	if err != nil {
		t.Fatal(err)
	}
	waits := Client{opt: ClientOptions{Owner: "another", KeepFor: time.Minute}, sockets: map[uint64]*given{}}
	for taken := false; !taken; time.Sleep(time.Millisecond) {
		run()
		taken = len(old.workers) == 2
		if !taken {
			run = k.run(old)
		}
	}
	late := dialTCP(t, address)
	defer late.Close()
	next, err := hand(old)
	if err != nil {
		t.Fatal(err)
	}
	stop := k.run(next)
	if err := waits.greet(silent); err != nil || waits.instance != instance {
		t.Fatalf("keeper %d (was %d), %v", waits.instance, instance, err)
	}
	die(t, &waits)
	h2 := accept(t, c, l)
	fmt.Fprint(late, "late")
	read(t, h2.FD, "late")
	die(t, c, h.FD, h2.FD, l.Queue, l.Socket)
	c = k.connect()
	held, err := c.Take()
	if err != nil || len(held) != 2 || c.Instance() != instance {
		t.Fatalf("held %+v, instance %d (was %d), %v", held, c.Instance(), instance, err)
	}
	fmt.Fprint(peer, "first")
	for _, x := range held {
		if x.ID == h.ID {
			read(t, x.FD, "first")
		}
	}
	die(t, c, held[0].FD, held[1].FD)
	stop()
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}

// run runs a keeper until the result is called.
func (r *rig) run(k *Keeper) func() {
	r.serveKeeper(k, false)
	return r.end
}
