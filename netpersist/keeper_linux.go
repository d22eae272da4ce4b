package netpersist

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxOwners = 4096
	// MaxKeepFor is the longest time for which a keeper keeps sockets that nobody comes for.
	MaxKeepFor = 30 * 24 * time.Hour
	// firstWithin is how long a keeper that leaves by itself waits for the first worker.
	firstWithin = 30 * time.Second
	// acceptBurst is how many connections are accepted from a listener before others have their turn.
	acceptBurst = 64
	// retryAfter is how long a listener rests when the system has no room for a connection.
	retryAfter = 50 * time.Millisecond
)

// KeeperOptions say how a keeper is run.
type KeeperOptions struct {
	// Socket is the listening unix socket of type SEQPACKET that workers connect to, which the keeper then owns.
	Socket int
	// Path is where that socket is; the keeper removes it when it leaves. Empty: nowhere.
	Path string
	// Leaves says that the keeper leaves when it holds nothing and no worker is there.
	Leaves bool
}

// Keeper holds sockets by owner. One goroutine calls its methods.
type Keeper struct {
	instance uint64
	control  int
	path     string
	leaves   bool
	began    time.Time
	used     bool // a worker was there

	epoll   int
	wake    int // eventfd, readable when Run shall return
	owners  map[string]*owner
	workers map[int]*worker // by descriptor
	queues  map[int]*socket // listeners by the descriptor of their queue
	doors   map[int]*socket // listeners by descriptor
	io      transfer
}

// owner is whose sockets are held.
type owner struct {
	name string
	// Its ids go with this number of a keeper: the one that had the sockets first.
	instance uint64
	keepFor  time.Duration
	parked   uint64 // the cut with which the last worker stopped, 0 if it did not in good order
	sockets  map[uint64]*socket
	worker   *worker   // nil while there is none
	ready    bool      // the worker has attached: connections may come
	expires  time.Time // then
}

// socket is a socket that is held.
type socket struct {
	owner    *owner
	id       uint64
	fd       int
	kind     Kind
	listener uint64 // that accepted it; 0 for what a worker made
	waits    bool   // no worker had it yet

	// Of a listener.
	key     string
	queue   int  // -1 while no worker has it
	claimed bool // by the worker that is there
	pending []*socket
	rests   time.Time // until then nothing is accepted
	watched uint32    // what epoll looks for on it
	flushes bool      // epoll looks whether the queue takes more
}

// worker is a connection to a worker.
type worker struct {
	fd    int
	owner *owner    // nil before its hello
	left  []*socket // that take has not handed out yet
}

// NewKeeper makes a keeper. It owns o.Socket, even when it fails.
func NewKeeper(o KeeperOptions) (*Keeper, error) {
	var number [8]byte
	if _, err := rand.Read(number[:]); err != nil {
		_ = unix.Close(o.Socket) // nobody connected yet
		return nil, fmt.Errorf("make the keeper's number: %w", err)
	}
	k := &Keeper{instance: binary.NativeEndian.Uint64(number[:]) | 1, control: o.Socket, path: o.Path, leaves: o.Leaves}
	if err := k.init(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (k *Keeper) init() (err error) {
	k.began, k.epoll, k.wake = time.Now(), -1, -1
	k.owners, k.workers = map[string]*owner{}, map[int]*worker{}
	k.queues, k.doors = map[int]*socket{}, map[int]*socket{}
	if k.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("make an epoll set: %w", err)
	}
	if k.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("make the keeper's stop descriptor: %w", err)
	}
	if err := unix.SetNonblock(k.control, true); err != nil {
		return fmt.Errorf("use the keeper's socket: %w", err)
	}
	if err := k.watch(k.wake, unix.EPOLLIN); err != nil {
		return err
	}
	return k.watch(k.control, unix.EPOLLIN)
}

// watch makes epoll look for events on fd; none takes it out of the set. A descriptor is taken out before it is closed:
// others hold duplicates, with which it would stay in the set for ever.
func (k *Keeper) watch(fd int, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if events == 0 {
		err := unix.EpollCtl(k.epoll, unix.EPOLL_CTL_DEL, fd, &ev)
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	err := unix.EpollCtl(k.epoll, unix.EPOLL_CTL_MOD, fd, &ev)
	if err == unix.ENOENT {
		err = unix.EpollCtl(k.epoll, unix.EPOLL_CTL_ADD, fd, &ev)
	}
	if err != nil {
		return fmt.Errorf("watch descriptor %d: %w", fd, err)
	}
	return nil
}

// Run keeps until ctx is done or, if the keeper leaves by itself, until there is nothing to keep. Errors of a single
// worker or socket end that one only.
func (k *Keeper) Run(ctx context.Context) error {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(k.wake, one[:]) // the counter has room
	})
	defer func() {
		if !stop() {
			<-woken
		}
	}()
	events := make([]unix.EpollEvent, 128)
	for ctx.Err() == nil {
		if k.idle() {
			return nil
		}
		n, err := unix.EpollWait(k.epoll, events, k.timeout())
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for events: %w", err)
		}
		for _, ev := range events[:max(n, 0)] {
			k.event(int(ev.Fd))
		}
		k.expire(time.Now())
	}
	return nil
}

// Close lets go of everything. Connections that only the keeper holds are reset.
func (k *Keeper) Close() error {
	for _, w := range k.workers {
		k.dismiss(w)
	}
	for _, o := range k.owners {
		k.forget(o)
	}
	var err error
	if k.path != "" {
		// Before the socket is closed: who finds a dead one makes another in its place.
		if err = os.Remove(k.path); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		k.path = ""
	}
	for _, fd := range []*int{&k.control, &k.epoll, &k.wake} {
		if *fd >= 0 {
			_ = unix.Close(*fd) // nothing is written there
		}
		*fd = -1
	}
	return err
}

// idle reports whether there is nothing to keep and nobody to wait for.
func (k *Keeper) idle() bool {
	return k.leaves && len(k.workers) == 0 && len(k.owners) == 0 && (k.used || time.Since(k.began) > firstWithin)
}

// timeout returns how long to wait for events at most, in milliseconds; -1 for ever.
func (k *Keeper) timeout() int {
	var next time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, o := range k.owners {
		if o.worker == nil {
			earlier(o.expires)
		}
	}
	for _, l := range k.doors {
		earlier(l.rests)
	}
	if k.leaves && !k.used {
		earlier(k.began.Add(firstWithin))
	}
	if next.IsZero() {
		return -1
	}
	return int(min(max(time.Until(next).Milliseconds(), 0)+1, 1e6))
}

// expire does what has become due.
func (k *Keeper) expire(now time.Time) {
	for _, o := range k.owners {
		if o.worker == nil && !o.expires.After(now) {
			k.forget(o)
		}
	}
	for _, l := range k.doors {
		if !l.rests.IsZero() && !l.rests.After(now) {
			l.rests = time.Time{}
			k.flush(l)
		}
	}
}

// event looks at one descriptor.
func (k *Keeper) event(fd int) {
	if fd == k.control {
		k.connect()
	} else if w, ok := k.workers[fd]; ok {
		k.hear(w)
	} else if l, ok := k.doors[fd]; ok {
		k.accept(l)
	} else if l, ok := k.queues[fd]; ok {
		k.flush(l)
	}
}

// connect takes a new worker, if it is of our user.
func (k *Keeper) connect() {
	fd, _, err := unix.Accept4(k.control, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return // it went away, or there is no room: it tries again
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Uid != 0 && int(cred.Uid) != os.Geteuid() || len(k.workers) >= 2*maxOwners || k.watch(fd, unix.EPOLLIN) != nil {
		_ = unix.Close(fd) // nothing was said
		return
	}
	k.workers[fd] = &worker{fd: fd}
}

// hear handles what a worker says.
func (k *Keeper) hear(w *worker) {
	p, err := k.io.receive(w.fd, unix.MSG_DONTWAIT)
	if err == unix.EAGAIN {
		return
	}
	defer p.close()
	if err != nil {
		if errors.Is(err, errMessage) || errors.Is(err, errLostFDs) {
			_ = k.answer(w, refusal(err)) // it is dismissed anyway
		}
		k.dismiss(w)
		return
	}
	if p.typ == msgRelease {
		err = k.release(w, &p)
	} else {
		err = k.request(w, &p)
	}
	if err != nil {
		_ = k.answer(w, refusal(err)) // it is dismissed anyway
		k.dismiss(w)
	}
}

// refusal is the answer that carries an error.
func refusal(err error) *message {
	m := &message{typ: msgError, text: err.Error()}
	var errno unix.Errno
	if errors.As(err, &errno) {
		m.a = uint64(errno)
	}
	if len(m.text) > maxText {
		m.text = m.text[:maxText]
	}
	return m
}

func (k *Keeper) answer(w *worker, m *message, fds ...int) error {
	return k.io.send(w.fd, m, unix.MSG_DONTWAIT, fds...)
}

// dismiss ends the connection to a worker. Its sockets are kept for the next.
func (k *Keeper) dismiss(w *worker) {
	delete(k.workers, w.fd)
	_ = k.watch(w.fd, 0) // it is closed next
	_ = unix.Close(w.fd) // a message under way is the worker's loss
	o := w.owner
	if o == nil || o.worker != w {
		return
	}
	o.worker, o.ready, o.expires = nil, false, time.Now().Add(o.keepFor)
	for _, s := range o.sockets {
		if s.kind == KindListener {
			k.closeQueue(s)
			s.claimed = false
		}
	}
	if len(o.sockets) == 0 {
		delete(k.owners, o.name)
	}
}

// forget lets go of all of an owner's sockets, and of the owner if it has no worker.
func (k *Keeper) forget(o *owner) {
	for _, s := range o.sockets {
		k.drop(s)
	}
	o.parked = 0
	if o.worker == nil {
		delete(k.owners, o.name)
	}
}

// drop closes our duplicate of a socket.
func (k *Keeper) drop(s *socket) {
	delete(s.owner.sockets, s.id)
	if s.kind == KindListener {
		k.closeQueue(s)
		for _, c := range s.pending {
			k.drop(c) // nobody will accept it
		}
		s.pending = nil
		delete(k.doors, s.fd)
		_ = k.watch(s.fd, 0) // it is closed next
	}
	_ = unix.Close(s.fd) // a duplicate: the last one decides how it ends
}

// closeQueue ends the way to the worker on which a listener's connections go.
func (k *Keeper) closeQueue(l *socket) {
	if l.queue < 0 {
		return
	}
	delete(k.queues, l.queue)
	_ = k.watch(l.queue, 0) // it is closed next
	_ = unix.Close(l.queue) // what is in it is held here too
	l.queue, l.flushes = -1, false
	k.look(l)
}

// openQueue makes a way to the worker and returns its end of it.
func (k *Keeper) openQueue(l *socket) (int, error) {
	k.closeQueue(l)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("make a queue: %w", err)
	}
	l.queue, l.claimed = pair[0], true
	k.queues[l.queue] = l
	return pair[1], nil
}

// passes reports whether connections can be passed on to a worker. Before that is ready they wait, so that take
// never hands out a connection that is in a queue already.
func (l *socket) passes() bool {
	return l.queue >= 0 && l.owner.ready && l.rests.IsZero()
}

// look makes epoll look for connections on a listener exactly while they can be passed on.
func (k *Keeper) look(l *socket) {
	var events uint32
	if l.passes() && len(l.pending) == 0 {
		events = unix.EPOLLIN
	}
	if events != l.watched {
		if err := k.watch(l.fd, events); err != nil {
			return // the next look tries again
		}
		l.watched = events
	}
	if flushes := l.passes() && len(l.pending) > 0; flushes != l.flushes {
		events = 0
		if flushes {
			events = unix.EPOLLOUT
		}
		if err := k.watch(l.queue, events); err == nil {
			l.flushes = flushes
		}
	}
}

// accept takes connections from a listener and passes them on.
func (k *Keeper) accept(l *socket) {
	defer k.look(l)
	for range acceptBurst {
		if !l.passes() || len(l.pending) > 0 {
			return
		}
		fd, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EAGAIN:
			return
		default:
			l.rests = time.Now().Add(retryAfter) // no room for one more
			return
		}
		id, err := cookie(fd)
		if err != nil {
			_ = unix.Close(fd) // it could not be named
			continue
		}
		c := &socket{owner: l.owner, id: id, fd: fd, kind: KindStream, listener: l.id, waits: true, queue: -1}
		l.owner.sockets[id] = c
		l.pending = append(l.pending, c)
		k.send(l)
	}
}

// flush passes on the connections that wait.
func (k *Keeper) flush(l *socket) {
	k.send(l)
	k.look(l)
}

// send passes pending connections on until the queue is full.
func (k *Keeper) send(l *socket) {
	for len(l.pending) > 0 && l.passes() {
		c := l.pending[0]
		switch err := k.io.send(l.queue, &message{typ: msgConnection, a: c.id}, unix.MSG_DONTWAIT, c.fd); err {
		case nil:
			c.waits = false
			l.pending = l.pending[1:]
		case unix.EAGAIN:
			return
		case unix.ETOOMANYREFS, unix.ENOBUFS, unix.ENOMEM:
			l.rests = time.Now().Add(retryAfter)
			return
		default:
			k.closeQueue(l) // the worker has let go of its end
			return
		}
	}
	if len(l.pending) == 0 {
		l.pending = nil // gives the memory back
	}
}

// cookie returns the number by which the kernel knows a socket.
func cookie(fd int) (uint64, error) {
	id, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err == nil && id == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the socket's cookie: %w", err)
	}
	return id, nil
}
