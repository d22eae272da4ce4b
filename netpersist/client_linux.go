package netpersist

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRefused is wrapped by the error of a request that the keeper refused.
var ErrRefused = errors.New("the keeper of sockets refused")

// answerWithin is how long the keeper may take for an answer, on a machine that has no time for it.
const answerWithin = 60 * time.Second

// ClientOptions say whose sockets a client is about, and where its keeper is.
type ClientOptions struct {
	// Path is the keeper's unix socket. Owner is the process.
	Path, Owner string
	// KeepFor is how long the sockets are kept when nobody comes for them.
	KeepFor time.Duration
	// Start starts a keeper on a listening socket, which stays the caller's. Nil: somebody else does that, and is waited
	// for as long as Wait.
	Start func(listener int) error
	Wait  time.Duration
	// Report, if not nil, is told what an operator should know.
	Report func(string)
}

// Held is a socket that the keeper handed out. The descriptor is the caller's, who closes it.
type Held struct {
	FD       int
	ID       uint64
	Listener uint64 // that accepted it, 0 if none
	Kind     Kind
}

// Listening is a listening socket that the keeper accepts from. The descriptors are the caller's, who closes them.
type Listening struct {
	ID     uint64
	Socket int
	Queue  int // on which the connections come; poll it, and call Client.Accept
}

// Client is a worker's connection to its keeper. When the keeper dies it starts another and gives it the sockets; when
// that cannot be, it goes on without one, and says so.
type Client struct {
	opt ClientOptions

	mu       sync.Mutex // held during a request
	io       transfer
	fd       int // -1 without a keeper
	instance uint64
	parked   uint64
	ready    bool
	sockets  map[uint64]*given
}

// given is a socket that the keeper holds too, with the caller's descriptors.
type given struct {
	Held
	key   string
	queue int // of a listener, else -1
}

// Connect connects to the owner's keeper, and starts one if there is none and it may.
func Connect(o ClientOptions) (*Client, error) {
	c := &Client{opt: o, fd: -1, sockets: map[uint64]*given{}}
	if err := c.connect(); err != nil {
		return nil, err
	}
	return c, nil
}

// connect makes the connection, with a new keeper if need be.
func (c *Client) connect() error {
	var err error
	limit := time.Now().Add(c.opt.Wait)
	for tries := 0; c.opt.Start == nil || tries < 3; tries++ {
		var fd int
		if fd, err = Dial(c.opt.Path); err == nil {
			if err = c.greet(fd); err == nil {
				return nil
			}
			_ = unix.Close(fd) // nothing was agreed
			if errors.Is(err, ErrRefused) || errors.Is(err, unix.ETIMEDOUT) {
				return err // it is there, and has the sockets
			}
			// It was about to leave: another one is needed.
		}
		if c.opt.Start == nil && time.Now().Before(limit) {
			time.Sleep(10 * time.Millisecond) // nothing tells when it is there
			continue
		}
		if c.opt.Start == nil {
			return fmt.Errorf("connect to the keeper of sockets at %s: %w", c.opt.Path, err)
		}
		if err = startAt(c.opt.Path, c.opt.Start); err != nil {
			return fmt.Errorf("start a keeper of sockets at %s: %w", c.opt.Path, err)
		}
	}
	return fmt.Errorf("no keeper of sockets at %s: %w", c.opt.Path, err)
}

// greet says whose sockets we are about.
func (c *Client) greet(fd int) error {
	p, err := c.exchange(fd, &message{typ: msgHello, a: uint64(c.opt.KeepFor.Milliseconds()), b: c.instance, text: c.opt.Owner}, msgWelcome, 0)
	if err != nil {
		return err
	}
	c.fd, c.instance, c.parked = fd, p.a, p.b
	return nil
}

// exchange sends a request and waits for its answer with nFDs descriptors or none, which are the caller's.
func (c *Client) exchange(fd int, m *message, want messageType, nFDs int, fds ...int) (packet, error) {
	if err := c.io.send(fd, m, 0, fds...); err != nil {
		return packet{}, err
	}
	deadline := time.Now().Add(answerWithin)
	for {
		p, err := c.io.receive(fd, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			left := time.Until(deadline)
			if left <= 0 {
				return packet{}, fmt.Errorf("no answer within %v: %w", answerWithin, unix.ETIMEDOUT)
			}
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
			if err == nil || err == unix.EINTR {
				continue
			}
		}
		if err != nil {
			p.close()
			return packet{}, err
		}
		switch {
		case p.typ == msgError:
			p.close()
			if p.a != 0 {
				return packet{}, fmt.Errorf("%w: %s: %w", ErrRefused, p.text, unix.Errno(p.a))
			}
			return packet{}, fmt.Errorf("%w: %s", ErrRefused, p.text)
		case p.typ != want || want != msgTaken && len(p.fds) != 0 && len(p.fds) != nFDs:
			p.close()
			return packet{}, fmt.Errorf("%w: answer of type %d with %d descriptors", errMessage, p.typ, len(p.fds))
		}
		return p, nil
	}
}

// request makes a request of the keeper, and once more of its successor when it has died.
func (c *Client) request(m *message, want messageType, nFDs int, fds ...int) (packet, error) {
	for again := false; ; again = true {
		if c.fd < 0 {
			return packet{}, errAlone
		}
		p, err := c.exchange(c.fd, m, want, nFDs, fds...)
		if err == nil || again {
			return p, err
		}
		refused := errors.Is(err, ErrRefused) || errors.Is(err, errLostFDs)
		c.revive(err, refused)
		if refused {
			return packet{}, err // the keeper has dismissed us: the connection is new, the answer would be the same
		}
	}
}

// errAlone says that there is no keeper any more.
var errAlone = errors.New("there is no keeper of sockets")

// Instance returns the number of the keeper. Ids of sockets mean something only together with it.
func (c *Client) Instance() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.instance
}

// Parked returns the cut with which the last worker stopped in good order; 0 if it did not.
func (c *Client) Parked() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parked
}

// Find returns the listener with that key or, if key is empty, with that id; false if the keeper has none.
func (c *Client) Find(key string, id uint64) (Listening, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &message{typ: msgFind, text: key}
	if key == "" {
		m.a = id
	}
	p, err := c.request(m, msgFound, 2)
	if err != nil || len(p.fds) == 0 {
		return Listening{}, false, err
	}
	l := Listening{ID: p.a, Socket: p.fds[0], Queue: p.fds[1]}
	c.sockets[l.ID] = &given{Held{l.Socket, l.ID, 0, KindListener}, key, l.Queue}
	return l, true, nil
}

// KeepListener gives a listening socket to the keeper. It stays the caller's, who accepts from the queue only. The key, if
// not empty, finds it again; it is unique.
func (c *Client) KeepListener(fd int, key string) (Listening, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := mark(fd); err != nil {
		return Listening{}, err
	}
	p, err := c.request(&message{typ: msgKeep, kind: KindListener, text: key}, msgKept, 1, fd)
	if err != nil {
		return Listening{}, err
	}
	if len(p.fds) == 0 {
		return Listening{}, fmt.Errorf("%w: a listener was kept without a queue", errMessage)
	}
	l := Listening{ID: p.a, Socket: fd, Queue: p.fds[0]}
	c.sockets[l.ID] = &given{Held{fd, l.ID, 0, KindListener}, key, l.Queue}
	return l, nil
}

// Keep gives a socket that does not listen to the keeper, which holds a duplicate from then on. It returns its id.
func (c *Client) Keep(fd int, kind Kind) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := mark(fd); err != nil {
		return 0, err
	}
	p, err := c.request(&message{typ: msgKeep, kind: kind}, msgKept, 0, fd)
	if err != nil {
		return 0, err
	}
	c.sockets[p.a] = &given{Held{fd, p.a, 0, kind}, "", -1}
	return p.a, nil
}

// mark sets what a socket needs in order to be kept.
func mark(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1); err != nil {
		return fmt.Errorf("keep a socket: %w", err)
	}
	return linger(fd, true)
}

// linger says how the last close of a socket ends its connection: abruptly, or in good order.
func linger(fd int, abrupt bool) error {
	l := unix.Linger{}
	if abrupt {
		l.Onoff = 1
	}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l); err != nil {
		return fmt.Errorf("say how a socket is closed: %w", err)
	}
	return nil
}

// Accept takes a connection from a listener. unix.EAGAIN says that there is none now; EMFILE and ENFILE that it has to
// wait, since no descriptor is free.
func (c *Client) Accept(l Listening) (Held, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		g := c.sockets[l.ID]
		if c.fd < 0 || g == nil {
			fd, _, err := unix.Accept4(l.Queue, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if err == unix.EINTR || err == unix.ECONNABORTED {
				continue
			}
			return Held{FD: fd, Listener: l.ID, Kind: KindStream}, err
		}
		p, err := c.io.receive(l.Queue, unix.MSG_DONTWAIT)
		switch {
		case err == nil && p.typ == msgConnection && len(p.fds) == 1:
			h := Held{p.fds[0], p.a, l.ID, KindStream}
			c.sockets[h.ID] = &given{h, "", -1}
			return h, nil
		case err == nil:
			p.close()
			return Held{}, fmt.Errorf("%w: type %d in a queue", errMessage, p.typ)
		case err == unix.EAGAIN, err == unix.EMFILE, err == unix.ENFILE:
			return Held{}, err
		case errors.Is(err, errLostFDs):
			// It is still held: let it come again.
			if _, rerr := c.request(&message{typ: msgRequeue, entries: []entry{{id: p.a}}}, msgOK, 0); rerr != nil {
				return Held{}, rerr
			}
			return Held{}, unix.EMFILE
		}
		c.revive(err, false)
	}
}

// Take returns the sockets, listeners excepted, that a worker of this owner had before.
func (c *Client) Take() ([]Held, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Held
	fail := func(err error) ([]Held, error) {
		for _, h := range all {
			delete(c.sockets, h.ID)
			_ = unix.Close(h.FD) // the keeper has it
		}
		return nil, err
	}
	for after := uint64(0); ; {
		p, err := c.request(&message{typ: msgTake, a: after}, msgTaken, 0)
		if err != nil {
			return fail(err)
		}
		if len(p.fds) != len(p.entries) {
			p.close()
			return fail(fmt.Errorf("%w: %d sockets with %d descriptors", errMessage, len(p.entries), len(p.fds)))
		}
		for i, e := range p.entries {
			h := Held{p.fds[i], e.id, e.listener, e.kind}
			all = append(all, h)
			c.sockets[h.ID] = &given{h, "", -1}
			after = e.id
		}
		if !p.more {
			return all, nil
		}
		if len(p.entries) == 0 {
			return fail(fmt.Errorf("%w: an empty portion", errMessage))
		}
	}
}

// Requeue lets connections be accepted anew, from their listeners. The caller's descriptors are of no use afterwards,
// and the caller closes them.
func (c *Client) Requeue(ids []uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for part := range slices.Chunk(ids, maxEntries) {
		m := &message{typ: msgRequeue}
		for _, id := range part {
			m.entries = append(m.entries, entry{id: id})
			delete(c.sockets, id)
		}
		if _, err := c.request(m, msgOK, 0); err != nil {
			return err
		}
	}
	return nil
}

// Release makes the keeper let go of a socket, if it has it, before the caller closes it: in good order, as a program closes it, or
// with a reset of its connection.
func (c *Client) Release(id uint64, reset bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if g := c.sockets[id]; g != nil {
		delete(c.sockets, id)
		err = linger(g.FD, reset)
	}
	if c.fd < 0 {
		return err
	}
	if serr := c.io.send(c.fd, &message{typ: msgRelease, entries: []entry{{id: id}}}, 0); serr != nil {
		c.revive(serr, false) // the next one does not hold it
	}
	return err
}

// Ready ends the attaching: listeners that were not asked for are closed, and connections come from now on.
func (c *Client) Ready() error {
	err := c.simple(&message{typ: msgReady})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = c.ready || err == nil
	return err
}

// Park says that the worker stops in good order, with that cut, which is not 0.
func (c *Client) Park(cut uint64) error { return c.simple(&message{typ: msgPark, a: cut}) }

// Forget makes the keeper let go of everything that it holds for the owner. Connections of which nobody has a duplicate
// are reset.
func (c *Client) Forget() error {
	err := c.simple(&message{typ: msgForget})
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.sockets)
	return err
}

func (c *Client) simple(m *message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.request(m, msgOK, 0)
	return err
}

// Close ends the connection. What the keeper holds it keeps on.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	err := unix.Close(c.fd)
	c.fd = -1
	return err
}

// revive connects anew, to another keeper if this one has died, and gives it the sockets. When that cannot be, the client
// goes on alone.
func (c *Client) revive(why error, refused bool) {
	_ = unix.Close(c.fd) // nobody is there, or listens to us
	c.fd = -1
	waiting := c.drain()
	err := c.connect()
	if err == nil {
		err = c.giveAgain(waiting)
	}
	if err != nil {
		if c.fd >= 0 {
			_ = unix.Close(c.fd) // it does not have all
			c.fd = -1
		}
		c.goAlone()
		c.report(fmt.Sprintf("the keeper of sockets is gone (%v) and there is no other: %v; connections do not outlive this worker", why, err))
		return
	}
	if !refused {
		c.report(fmt.Sprintf("the keeper of sockets was gone (%v); another one has the sockets now", why))
	}
}

func (c *Client) report(what string) {
	if c.opt.Report != nil {
		c.opt.Report(what)
	}
}

// drain takes the connections out of the queues that the keeper has left.
func (c *Client) drain() []Held {
	var waiting []Held
	for _, g := range c.sockets {
		if g.Kind != KindListener {
			continue
		}
		for {
			p, err := c.io.receive(g.queue, unix.MSG_DONTWAIT)
			if err != nil {
				p.close()
				break
			}
			if p.typ == msgConnection && len(p.fds) == 1 {
				waiting = append(waiting, Held{p.takeFD(0), p.a, g.ID, KindStream})
			}
			p.close()
		}
	}
	return waiting
}

// giveAgain gives all sockets to a keeper, and lets the waiting connections come again.
func (c *Client) giveAgain(waiting []Held) error {
	defer func() {
		for _, h := range waiting {
			_ = unix.Close(h.FD) // the keeper has it, or it is lost with us
		}
	}()
	all := slices.SortedFunc(maps.Values(c.sockets), func(a, b *given) int { return int(b.Kind) - int(a.Kind) })
	for _, g := range all { // listeners first
		m, nFDs := &message{typ: msgKeep, kind: g.Kind, text: g.key, b: g.Listener}, 0
		if g.Kind == KindListener {
			nFDs = 1
		}
		p, err := c.exchange(c.fd, m, msgKept, nFDs, g.FD)
		if err != nil {
			return err
		}
		if nFDs == 0 {
			continue
		}
		if len(p.fds) == 0 {
			return fmt.Errorf("%w: a listener was kept without a queue", errMessage)
		}
		err = unix.Dup3(p.fds[0], g.queue, unix.O_CLOEXEC) // the caller polls that number
		p.close()
		if err != nil {
			return err
		}
	}
	for _, h := range waiting {
		if _, err := c.exchange(c.fd, &message{typ: msgKeep, kind: h.Kind, b: h.Listener}, msgKept, 0, h.FD); err != nil {
			return err
		}
		if _, err := c.exchange(c.fd, &message{typ: msgRequeue, entries: []entry{{id: h.ID}}}, msgOK, 0); err != nil {
			return err
		}
	}
	if c.ready {
		_, err := c.exchange(c.fd, &message{typ: msgReady}, msgOK, 0)
		return err
	}
	return nil
}

// goAlone puts the listeners in the place of their queues, so that the caller goes on accepting.
func (c *Client) goAlone() {
	for _, g := range c.sockets {
		if g.Kind != KindListener {
			continue
		}
		if err := unix.Dup3(g.FD, g.queue, unix.O_CLOEXEC); err != nil {
			c.report(fmt.Sprintf("a listener is lost: %v", err))
		}
	}
}
