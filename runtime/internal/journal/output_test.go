package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"perdure/runtime/internal/wasi"
)

// network is the clients of a guest, and the keeper of their connections. Each client has a few
// requests under way; a request and a reply are exchangeSize bytes.
type network struct {
	rnd     *rand.Rand
	clients map[uint64]*client // by number; those whose connection is there
	told    map[uint64][]byte  // what each was ever sent
	last    uint64
	closed  map[uint64]bool // by the guest
	over    int             // connections that were missed, since the guest was about to close them at a death
	syncs   int             // of the journal
	sends   int             // by the guest's kernel
}

type client struct{ consumed, written uint64 }

const (
	exchangeSize = 8
	underWay     = 3 // requests of a client
	atServed     = 6000
	maxServed    = 1200
)

// request returns the bytes that a client sends at a position.
func (n *network) request(id, at uint64, p []byte) int {
	have := (uint64(len(n.told[id]))/exchangeSize+underWay)*exchangeSize - at
	p = p[:min(uint64(len(p)), have)]
	for i := range p {
		var b [exchangeSize]byte
		binary.LittleEndian.PutUint16(b[:], uint16(id))
		binary.LittleEndian.PutUint16(b[2:], uint16((at+uint64(i))/exchangeSize))
		p[i] = b[(at+uint64(i))%exchangeSize]
	}
	return len(p)
}

// wired is an operating system with such a network.
type wired struct {
	*powered
	n     *network
	conns map[wasi.Handle]uint64
}

const fakeListener, fakeSocket wasi.Handle = 1 << 18, 1<<18 + 1

func (k *wired) Listen(_, _, _, _ string) (wasi.Handle, error) { return fakeListener, nil }
func (k *wired) Attach(uint64) error                           { return nil }

// Settle lets go of the connections that this life does not know, but for those on which nothing
// has moved: these are accepted again.
func (k *wired) Settle() (int, error) {
	for id, c := range k.n.clients {
		if *c != (client{}) && !k.holds(id) {
			delete(k.n.clients, id)
		}
	}
	return 0, nil
}

func (k *wired) holds(id uint64) bool {
	_, ok := k.conns[fakeSocket+wasi.Handle(id)]
	return ok
}

func (k *wired) Stat(h wasi.Handle) (wasi.Stat, wasi.Errno) {
	if h >= fakeListener {
		return wasi.Stat{Type: wasi.FileSocketStream}, wasi.ESUCCESS
	}
	return k.powered.Stat(h)
}

func (k *wired) Accept(wasi.Handle) (wasi.Handle, wasi.Errno) {
	for id := uint64(1); id <= k.n.last; id++ {
		if k.n.clients[id] != nil && !k.holds(id) {
			return k.handle(id), wasi.ESUCCESS
		}
	}
	if len(k.n.clients) >= 3 {
		return wasi.NoHandle, wasi.EAGAIN
	}
	k.n.last++
	k.n.clients[k.n.last] = &client{}
	return k.handle(k.n.last), wasi.ESUCCESS
}

func (k *wired) handle(id uint64) wasi.Handle {
	h := fakeSocket + wasi.Handle(id)
	k.conns[h] = id
	return h
}

func (k *wired) Socket(h wasi.Handle) (wasi.SocketState, bool) {
	c, ok := k.n.clients[k.conns[h]]
	if !ok {
		return wasi.SocketState{}, false
	}
	return wasi.SocketState{Keeper: 1, ID: k.conns[h], Position: wasi.SocketPosition{Consumed: c.consumed, Written: c.written}}, true
}

func (k *wired) Held(s wasi.SocketState) (wasi.SocketPosition, bool) {
	c, ok := k.n.clients[s.ID]
	if !ok {
		return wasi.SocketPosition{}, false
	}
	return wasi.SocketPosition{Consumed: c.consumed, Written: c.written}, true
}

func (k *wired) Adopt(s wasi.SocketState) (wasi.Handle, error) {
	if at, ok := k.Held(s); !ok || at != s.Position {
		delete(k.n.clients, s.ID)
		if k.n.closed[s.ID] {
			k.n.over++
		}
		return wasi.NoHandle, fmt.Errorf("connection %d is at %v, not %v", s.ID, at, s.Position)
	}
	return k.handle(s.ID), nil
}

func (k *wired) Close(h wasi.Handle) wasi.Errno {
	if h < fakeListener {
		return k.powered.Close(h)
	}
	delete(k.n.clients, k.conns[h])
	k.n.closed[k.conns[h]] = true
	return wasi.ESUCCESS
}

func (k *wired) SocketOption(wasi.Handle, wasi.SocketOption) (int32, wasi.Errno) {
	return 40 * waitingPart, wasi.ESUCCESS
}

func (k *wired) Poll(fds []wasi.PollFD, deadline int64) (int, wasi.Errno) {
	if len(fds) == 0 {
		return k.powered.Poll(fds, 0) // nobody has to wait
	}
	if deadline < 0 && len(fds) == 1 && fds[0].Handle == fakeListener && len(k.n.clients) >= 3 {
		panic("the guest waits for a connection that does not come")
	}
	for i := range fds {
		fds[i].Revents = fds[i].Events
	}
	return len(fds), wasi.ESUCCESS
}

func (k *wired) Recv(h wasi.Handle, bufs [][]byte, _ wasi.RecvFlags) (int, bool, wasi.Errno) {
	c := k.n.clients[k.conns[h]]
	n := k.n.request(k.conns[h], c.consumed, bufs[0])
	if n == 0 {
		return 0, false, wasi.EAGAIN
	}
	c.consumed += uint64(n)
	return n, false, wasi.ESUCCESS
}

func (k *wired) Send(h wasi.Handle, bufs [][]byte) (int, wasi.Errno) {
	k.n.sends++
	data := bytes.Join(bufs, nil)
	switch k.n.rnd.IntN(40) { // there may be no room
	case 0:
		return 0, wasi.EAGAIN
	case 1:
		data = data[:(len(data)+1)/2]
	}
	id := k.conns[h]
	k.n.told[id] = append(k.n.told[id], data...)
	k.n.clients[id].written += uint64(len(data))
	return len(data), wasi.ESUCCESS
}

// The calls of a mortal guest to its network.

func (k *mortal) Accept(h wasi.Handle) (c wasi.Handle, e wasi.Errno) {
	k.call(func() { c, e = k.Kernel.Accept(h) })
	return c, e
}

func (k *mortal) Adopt(s wasi.SocketState) (h wasi.Handle, err error) {
	k.call(func() { h, err = k.Kernel.Adopt(s) })
	return h, err
}

func (k *mortal) Recv(h wasi.Handle, bufs [][]byte, flags wasi.RecvFlags) (n int, truncated bool, e wasi.Errno) {
	k.call(func() { n, truncated, e = k.Kernel.Recv(h, bufs, flags) })
	return n, truncated, e
}

func (k *mortal) Send(h wasi.Handle, bufs [][]byte) (n int, e wasi.Errno) {
	k.call(func() { n, e = k.Kernel.Send(h, bufs) })
	return n, e
}

// try makes a host call that may fail.
func (g *guest) try(name string, args ...uint64) wasi.Errno {
	i, _ := wasi.FunctionIndex(name)
	r, err := g.host.Call(i, g.mem, args)
	if err != nil && g.fail == nil {
		g.fail = fmt.Errorf("step %d: %s%v: %w", g.step, name, args, err)
	}
	return wasi.Errno(r)
}

// served returns the replies that the guest has made.
func (g *guest) served() []byte {
	return g.mem[atServed+4:][:exchangeSize*binary.LittleEndian.Uint32(g.mem[atServed:])]
}

// wait lets a microsecond pass.
func (g *guest) wait() {
	clear(g.mem[atData : atData+48])
	binary.LittleEndian.PutUint32(g.mem[atData+16:], 1)
	binary.LittleEndian.PutUint64(g.mem[atData+24:], 1000)
	g.call("poll_oneoff", 0, atData, atData+100, 1, atResult)
}

// serve is a round of a server: it takes what there is of each connection, and answers.
func serve(g *guest, round int) {
	const listener = dir + 1
	if round == 0 {
		g.open(slotLog, "log", create, appending)
	}
	for slot := 1; slot <= 3; slot++ {
		if g.file(slot) == 0 {
			if g.try("sock_accept", listener, 4, atResult) != wasi.ESUCCESS {
				continue
			}
			g.setFile(slot, binary.LittleEndian.Uint32(g.mem[atResult:]))
		}
		for _, request := range g.requests(slot) {
			g.reply(slot, request[:4])
		}
	}
	g.wait()
}

// requests receives all requests that there are on a connection, in several calls, as a server does.
func (g *guest) requests(slot int) (list [][]byte) {
	for {
		g.vector(atData, 2*exchangeSize)
		switch errno := g.try("sock_recv", g.file(slot), atVector, 1, 0, atResult, atResult+4); errno {
		case wasi.ESUCCESS:
			got := bytes.Clone(g.mem[atData:][:binary.LittleEndian.Uint32(g.mem[atResult:])])
			for request := range slices.Chunk(got, exchangeSize) {
				list = append(list, request)
			}
		case wasi.EAGAIN:
			return list
		default:
			g.closeFile(slot)
			g.setFile(slot, 0)
			return nil
		}
	}
}

// reply answers a request with what depends on all that the guest has ever drawn.
func (g *guest) reply(slot int, request []byte) {
	g.call("random_get", 0, atSecret, 4)
	n := binary.LittleEndian.Uint32(g.mem[atServed:])
	if n == maxServed || g.file(slot) == 0 {
		return
	}
	chain := crc32.ChecksumIEEE(append(g.served(), g.mem[atSecret:atSecret+4]...))
	var b [exchangeSize]byte
	copy(b[:], request)
	binary.LittleEndian.PutUint32(b[4:], chain)
	binary.LittleEndian.PutUint32(g.mem[atServed:], n+1)
	copy(g.mem[atServed+4+exchangeSize*n:], b[:])
	if n%7 == 0 {
		g.write(g.file(slotLog), fmt.Sprintf("%x\n", chain))
	}
	const atOut = atSecret + 16
	for rest := b[:]; len(rest) > 0; {
		copy(g.mem[atOut:], rest)
		g.vector(atOut, len(rest))
		switch errno := g.try("sock_send", g.file(slot), atVector, 1, 0, atResult); errno {
		case wasi.ESUCCESS:
			rest = rest[binary.LittleEndian.Uint32(g.mem[atResult:]):]
		case wasi.EAGAIN:
			g.wait()
		default:
			g.closeFile(slot)
			g.setFile(slot, 0)
			return
		}
	}
}

// check compares what the clients were told with what the guest knows, as far as whole.
func (n *network) check(t *testing.T, g *guest, whole bool) {
	t.Helper()
	sent := map[uint64][]byte{}
	for b := g.served(); len(b) > 0; b = b[exchangeSize:] {
		id := uint64(binary.LittleEndian.Uint16(b))
		sent[id] = append(sent[id], b[:exchangeSize]...)
	}
	for id, told := range n.told {
		if !bytes.HasPrefix(sent[id], told) || whole && len(told) != len(sent[id]) {
			t.Errorf("client %d was told %x, the guest knows %x", id, told, sent[id])
		}
	}
}

// newServing returns the life of a server, and its network.
func newServing(t *testing.T, rnd *rand.Rand, cuts int) (*life, *network, *disk) {
	l := newLife(t, cuts)
	l.dir = filepath.Join(l.dir, "disk")
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"out", "stdin", "stdout"} {
		if err := os.Rename(filepath.Join(filepath.Dir(l.dir), name), filepath.Join(l.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	n := &network{rnd: rnd, clients: map[uint64]*client{}, told: map[uint64][]byte{}, closed: map[uint64]bool{}}
	d := l.putOn()
	syncing := l.opt.syncing
	l.opt.syncing = func(path string, sync func() error) error { n.syncs++; return syncing(path, sync) }
	l.kernel = func(s *wasi.System) wasi.Kernel {
		return &wired{&powered{s, d}, n, map[wasi.Handle]uint64{}}
	}
	l.listen = []wasi.Listener{{Network: "tcp", Address: "nowhere:1"}}
	l.steps, l.rounds = []func(*guest, int){serve}, 30
	l.end = func(g *guest) {
		for slot := 1; slot <= 3; slot++ {
			if g.file(slot) != 0 {
				g.closeFile(slot)
			}
		}
	}
	return l, n, d
}

// A server whose process dies at any moment, or whose machine, has told its clients nothing that it
// does not know; and the clients of one whose process dies are told all of it once.
func TestOutput(t *testing.T) { output(t, 71) }

func output(t *testing.T, stride int) {
	for _, powerFails := range []bool{false, true} {
		for _, cuts := range []int{0, 5} {
			t.Run(fmt.Sprintf("power fails %v, cuts %d", powerFails, cuts), func(t *testing.T) {
				rnd := seed(t)
				l, n, _ := newServing(t, rnd, cuts)
				l.run(0, false)
				n.check(t, l.g, true)
				moments, served := l.k.n, len(l.g.served())/exchangeSize
				if n.syncs > served {
					t.Errorf("%d syncs for %d replies: each has its own", n.syncs, served)
				}
				deaths := 0
				for first := 1 + rnd.IntN(stride); first <= moments && !t.Failed(); first += stride {
					l, n, d := newServing(t, rnd, cuts)
					l.live = func() { n.check(t, l.g, false) }
					var what strings.Builder
					for life, at := 0, first; !l.done && !t.Failed(); life++ {
						after := rnd.IntN(2) == 0
						fmt.Fprintf(&what, " at %d, after it: %v;", at, after)
						l.run(at, after)
						if l.done {
							break
						}
						deaths++
						if powerFails {
							some := rnd
							if rnd.IntN(2) == 0 {
								some = nil
							}
							d.fail(some)
							l.opt.boot[0]++
							n.clients = map[uint64]*client{}
						}
						if at = 0; life < 2 {
							at = 1 + rnd.IntN([]int{15, 100}[life]) // while it is restored, as like as not
						}
					}
					n.check(t, l.g, !powerFails)
					if len(l.lost) > n.over && !powerFails {
						t.Errorf("%v", l.lost)
					}
					l.checkLog()
					if t.Failed() {
						t.Fatal("death" + what.String())
					}
				}
				t.Logf("%d moments, %d replies, %d syncs, %d sends; %d deaths", moments, served, n.syncs, n.sends, deaths)
			})
		}
	}
}

// What a call was receiving or sending at a death is settled, whenever the next ones come.
func TestTwoDeaths(t *testing.T) { twoDeaths(t, 13) }

func twoDeaths(t *testing.T, stride int) {
	rnd := seed(t)
	for i := rnd.IntN(stride); i < 60*16*4 && !t.Failed(); i += stride {
		first, second, cuts, sync := 1+i/64, 1+i/4%16, i/2%2*2, i%2 == 0
		l, n, _ := newServing(t, rnd, cuts)
		l.opt.Sync, l.opt.RotateAt, l.rounds = sync, 500, 3
		for life, at := range []int{first, second, 1 + rnd.IntN(16), 0} {
			if l.done {
				break
			}
			if life > 0 && l.older != nil && rnd.IntN(3) == 0 {
				l.saved = l.older // the newest was not whole yet
			}
			l.run(at, life == 0 || rnd.IntN(2) == 0)
		}
		if n.check(t, l.g, true); len(l.lost) > n.over {
			t.Errorf("%v", l.lost)
		}
		if t.Failed() {
			t.Errorf("deaths at %d, behind it, and at %d; cuts %d, synced %v", first, second, cuts, sync)
		}
	}
}

// checkLog compares the server's log with what the server knows.
func (l *life) checkLog() {
	l.t.Helper()
	var want strings.Builder
	for i, b := 0, l.g.served(); len(b) > 0; i, b = i+1, b[exchangeSize:] {
		if i%7 == 0 {
			fmt.Fprintf(&want, "%x\n", binary.LittleEndian.Uint32(b[4:]))
		}
	}
	got, err := os.ReadFile(filepath.Join(l.dir, "out", "log"))
	if err != nil || string(got) != want.String() {
		l.t.Errorf("the log: %v\n%s", err, difference(string(got), want.String()))
	}
}
