package netpersist

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// takePortion is how many sockets one answer to take carries: less than what the kernel passes in one message.
const takePortion = 64

var (
	errOrder   = errors.New("the first request, and only that, is hello")
	errUnknown = errors.New("no such socket")
)

// request carries out a request and answers it. After an error the worker is dismissed.
func (k *Keeper) request(w *worker, p *packet) error {
	if (w.owner == nil) != (p.typ == msgHello) {
		return errOrder
	}
	if want := p.typ == msgKeep; want && len(p.fds) != 1 || !want && len(p.fds) != 0 {
		return fmt.Errorf("%w: type %d with %d descriptors", errMessage, p.typ, len(p.fds))
	}
	switch p.typ {
	case msgHello:
		return k.hello(w, p)
	case msgFind:
		return k.find(w, p)
	case msgKeep:
		return k.keep(w, p)
	case msgTake:
		return k.take(w, p.a)
	case msgRequeue:
		if err := k.requeue(w.owner, p.entries); err != nil {
			return err
		}
	case msgReady:
		k.ready(w.owner)
	case msgPark:
		w.owner.parked = p.a
	case msgForget:
		k.forget(w.owner)
	default:
		return fmt.Errorf("%w: type %d is no request", errMessage, p.typ)
	}
	return k.answer(w, &message{typ: msgOK})
}

func (k *Keeper) hello(w *worker, p *packet) error {
	keepFor := time.Duration(min(p.a, uint64(MaxKeepFor/time.Millisecond))) * time.Millisecond
	if p.text == "" {
		return fmt.Errorf("%w: hello without an owner", errMessage)
	}
	o := k.owners[p.text]
	if o == nil {
		if len(k.owners) >= maxOwners {
			return errors.New("too many owners")
		}
		o = &owner{name: p.text, instance: k.instance, sockets: map[uint64]*socket{}}
		if p.b != 0 {
			o.instance = p.b // the worker's sockets were with a keeper that has died, and keep their ids
		}
	}
	if old := o.worker; old != nil {
		k.dismiss(old)
	}
	k.owners[o.name] = o // dismiss may have removed it
	o.worker, w.owner = w, o
	o.keepFor, k.used = keepFor, true
	return k.answer(w, &message{typ: msgWelcome, a: o.instance, b: o.parked})
}

func (k *Keeper) find(w *worker, p *packet) error {
	s := w.owner.sockets[p.a]
	if p.a == 0 {
		s = w.owner.listener(p.text)
	}
	if s == nil || s.kind != KindListener {
		return k.answer(w, &message{typ: msgFound})
	}
	queue, err := k.openQueue(s)
	if err != nil {
		return err
	}
	err = k.answer(w, &message{typ: msgFound, a: s.id}, s.fd, queue)
	_ = unix.Close(queue) // the worker has it
	k.flush(s)
	return err
}

// listener returns the owner's listener with that key, nil if there is none.
func (o *owner) listener(key string) *socket {
	for _, s := range o.sockets {
		if s.kind == KindListener && s.key == key && key != "" {
			return s
		}
	}
	return nil
}

func (k *Keeper) keep(w *worker, p *packet) error {
	o := w.owner
	fd := p.fds[0]
	if err := checkSocket(fd, p.kind); err != nil {
		return err
	}
	id, err := cookie(fd)
	if err != nil {
		return err
	}
	s, ok := o.sockets[id]
	if !ok {
		if p.kind == KindListener && p.text != "" && o.listener(p.text) != nil {
			return fmt.Errorf("a listener with the key %q is there: %w", p.text, unix.EEXIST)
		}
		s = &socket{owner: o, id: id, fd: p.takeFD(0), listener: p.b, queue: -1}
		o.sockets[id] = s
	}
	if p.kind != KindListener {
		if s.kind == KindListener {
			return fmt.Errorf("socket %d is a listener: %w", id, unix.EINVAL)
		}
		s.kind = p.kind
		return k.answer(w, &message{typ: msgKept, a: id})
	}
	s.kind, s.key = KindListener, p.text
	k.doors[s.fd] = s
	queue, err := k.openQueue(s)
	if err != nil {
		return err
	}
	err = k.answer(w, &message{typ: msgKept, a: id}, queue)
	_ = unix.Close(queue) // the worker has it
	k.flush(s)
	return err
}

// checkSocket refuses what is not of the kind that it shall be.
func checkSocket(fd int, kind Kind) error {
	get := func(option int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, option) }
	typ, err := get(unix.SO_TYPE)
	if err != nil {
		return fmt.Errorf("keep what is no socket: %w", err)
	}
	domain, err := get(unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("look at a socket: %w", err)
	}
	listens, err := get(unix.SO_ACCEPTCONN)
	if err != nil {
		return fmt.Errorf("look at a socket: %w", err)
	}
	switch domain {
	case unix.AF_UNIX, unix.AF_INET, unix.AF_INET6:
	default:
		return fmt.Errorf("keep a socket of domain %d: %w", domain, unix.EAFNOSUPPORT)
	}
	ok := false
	switch kind {
	case KindStream:
		ok = typ == unix.SOCK_STREAM && listens == 0
	case KindDatagram:
		ok = typ == unix.SOCK_DGRAM
	case KindListener:
		ok = typ == unix.SOCK_STREAM && listens == 1
	}
	if !ok {
		return fmt.Errorf("keep a socket of type %d (listening: %d) as kind %d: %w", typ, listens, kind, unix.EINVAL)
	}
	return nil
}

func (k *Keeper) take(w *worker, after uint64) error {
	if w.owner.ready {
		return errors.New("take after ready")
	}
	if w.left == nil || after == 0 {
		w.left = []*socket{}
		for _, s := range w.owner.sockets {
			if s.id > after && s.kind != KindListener && !s.waits {
				w.left = append(w.left, s)
			}
		}
		slices.SortFunc(w.left, func(a, b *socket) int { return cmp.Compare(a.id, b.id) })
	}
	m := &message{typ: msgTaken}
	var fds []int
	for len(w.left) > 0 && len(fds) < takePortion {
		s := w.left[0]
		w.left = w.left[1:]
		if w.owner.sockets[s.id] != s || s.id <= after || s.waits {
			continue // released meanwhile, or asked for in another order
		}
		m.entries = append(m.entries, entry{s.id, s.listener, s.kind})
		fds = append(fds, s.fd)
	}
	if m.more = len(w.left) > 0; !m.more {
		w.left = nil
	}
	return k.answer(w, m, fds...)
}

func (k *Keeper) requeue(o *owner, entries []entry) error {
	for _, e := range entries {
		s := o.sockets[e.id]
		if s == nil || s.listener == 0 {
			return fmt.Errorf("requeue %d: %w", e.id, errUnknown)
		}
		l := o.sockets[s.listener]
		switch {
		case l == nil || l.kind != KindListener:
			k.drop(s) // its listener is gone: nobody will accept it
		case !s.waits:
			s.waits = true
			l.pending = append(l.pending, s)
			k.flush(l)
		}
	}
	return nil
}

func (k *Keeper) release(w *worker, p *packet) error {
	if w.owner == nil {
		return errOrder
	}
	for _, e := range p.entries {
		// One that is not there was closed before: the worker's memory and ours may differ after it came back.
		if s := w.owner.sockets[e.id]; s != nil && !s.waits {
			k.drop(s)
		}
	}
	return nil
}

func (k *Keeper) ready(o *owner) {
	o.parked, o.ready = 0, true
	for _, s := range o.sockets {
		switch {
		case s.kind != KindListener:
		case s.claimed:
			k.flush(s)
		default:
			k.drop(s)
		}
	}
}
