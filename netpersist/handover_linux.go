package netpersist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// stateMagic begins the state of a keeper that replaces its program.
const stateMagic = "PKS1"

// maxState bounds the state of a keeper, in bytes.
const maxState = 1 << 30

// noQueue stands for the queue of a listener that has none.
const noQueue = ^uint64(0)

// stateWriter encodes the state of a keeper.
type stateWriter struct {
	b   []byte
	err error
}

func (w *stateWriter) put(m *message) {
	at := len(w.b)
	w.b = append(w.b, 0, 0, 0, 0)
	var err error
	if w.b, err = m.append(w.b); err != nil {
		w.err = errors.Join(w.err, err)
	}
	binary.LittleEndian.PutUint32(w.b[at:], uint32(len(w.b)-at-4))
}

// file returns the state as a file in memory.
func (w *stateWriter) file() (int, error) {
	if w.err != nil {
		return -1, w.err
	}
	state, err := unix.MemfdCreate("keeper", 0)
	if err != nil {
		return -1, fmt.Errorf("make a file in memory: %w", err)
	}
	for rest := w.b; len(rest) > 0; {
		n, err := unix.Write(state, rest)
		if err != nil {
			return -1, errors.Join(fmt.Errorf("write the keeper's state: %w", err), unix.Close(state))
		}
		rest = rest[n:]
	}
	return state, nil
}

// Handover writes the keeper's state to a file in memory and lets all descriptors outlive an exec, for the next program to
// take with [TakeOver]. The keeper is of no use afterwards but, if the exec fails, for TakeOver here.
func (k *Keeper) Handover() (state int, err error) {
	var w stateWriter
	fds := k.writeState(&w)
	if state, err = w.file(); err != nil {
		return -1, err
	}
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return -1, errors.Join(fmt.Errorf("hand descriptor %d over: %w", fd, err), unix.Close(state))
		}
	}
	return state, nil
}

// writeState encodes the state, and returns the descriptors in it.
func (k *Keeper) writeState(w *stateWriter) (fds []int) {
	w.b = append(w.b, stateMagic...)
	put := w.put
	leaves := uint64(0)
	if k.leaves {
		leaves = 1
	}
	put(&message{typ: msgState, a: k.instance, b: leaves})
	put(&message{typ: msgControl, a: uint64(k.control), text: k.path})
	fds = []int{k.control}
	for _, w := range k.workers {
		if w.owner == nil { // its hello is still to come
			put(&message{typ: msgWorker, a: uint64(w.fd)})
			fds = append(fds, w.fd)
		}
	}
	for _, o := range k.owners {
		put(&message{typ: msgOwner, a: o.parked, b: uint64(o.keepFor.Milliseconds()), text: o.name,
			entries: []entry{{id: o.instance}}})
		if o.worker != nil {
			put(&message{typ: msgWorker, a: uint64(o.worker.fd), more: o.ready})
			fds = append(fds, o.worker.fd)
		}
		waiting := map[*socket]bool{}
		for _, s := range o.sockets {
			for _, c := range s.pending { // in their order
				waiting[c] = true
			}
		}
		list := make([]*socket, 0, len(o.sockets))
		for _, s := range o.sockets {
			if s.kind == KindListener {
				list = append(append(list, s), s.pending...)
			}
		}
		for _, s := range o.sockets {
			if s.kind != KindListener && !waiting[s] {
				list = append(list, s)
			}
		}
		for _, s := range list {
			m := &message{typ: msgSocket, kind: s.kind, a: uint64(s.fd), b: noQueue, text: s.key, more: s.waits,
				entries: []entry{{s.id, s.listener, s.kind}}}
			fds = append(fds, s.fd)
			if s.queue >= 0 {
				m.b = uint64(s.queue)
				fds = append(fds, s.queue)
			}
			put(m)
		}
	}
	return fds
}

// TakeOver makes a keeper of the state that Handover wrote, and closes that.
func TakeOver(state int) (*Keeper, error) {
	ms, err := readState(state)
	if err != nil {
		return nil, err
	}
	return takeOver(ms)
}

// readState reads the state of a keeper and closes it.
func readState(state int) ([]message, error) {
	f := os.NewFile(uintptr(state), "keeper's state")
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the keeper's state: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return nil, fmt.Errorf("read the keeper's state: %w", err)
	}
	return decodeHandover(b)
}

// takeOver makes a keeper of a state, whose descriptors are open here.
func takeOver(ms []message) (_ *Keeper, err error) {
	k := &Keeper{instance: ms[0].a, leaves: ms[0].b == 1, control: int(ms[1].a), path: ms[1].text}
	if err := k.init(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	k.used = true
	var o *owner
	for _, m := range ms[2:] {
		fd := int(m.a)
		switch m.typ {
		case msgDescriptor:
			continue // of no use where the numbers are the same
		case msgOwner:
			o = &owner{name: m.text, instance: k.instance, parked: m.a, keepFor: time.Duration(m.b) * time.Millisecond, sockets: map[uint64]*socket{}}
			if len(m.entries) > 0 { // else of an older program
				o.instance = m.entries[0].id
			}
			o.expires = time.Now().Add(o.keepFor)
			k.owners[o.name] = o
			continue
		case msgWorker:
			w := &worker{fd: fd, owner: o}
			if o != nil {
				o.worker, o.ready = w, m.more
			}
			k.workers[fd] = w
			err = k.watch(fd, unix.EPOLLIN)
		case msgSocket:
			err = k.takeSocket(o, &m)
		}
		if err == nil {
			unix.CloseOnExec(fd)
		}
		if err != nil {
			return nil, errors.Join(err, k.Close())
		}
	}
	unix.CloseOnExec(k.control)
	for _, l := range k.doors {
		k.flush(l)
	}
	return k, nil
}

// takeSocket takes a socket of an owner over.
func (k *Keeper) takeSocket(o *owner, m *message) error {
	e := m.entries[0]
	fd := int(m.a)
	if id, err := cookie(fd); err != nil || id != e.id {
		return fmt.Errorf("%w: descriptor %d is not socket %d", errMessage, fd, e.id)
	}
	s := &socket{owner: o, id: e.id, fd: fd, kind: m.kind, listener: e.listener, waits: m.more, key: m.text, queue: -1}
	o.sockets[s.id] = s
	if l := o.sockets[s.listener]; s.waits && l != nil {
		l.pending = append(l.pending, s)
	}
	if s.kind == KindListener {
		k.doors[fd] = s
		if m.b != noQueue {
			s.queue, s.claimed = int(m.b), true
			k.queues[s.queue] = s
			unix.CloseOnExec(s.queue)
		}
	}
	return nil
}

// decodeHandover decodes the state of a keeper. The first two messages are state and control, those of workers that
// have said nothing follow, and everything else belongs to an owner.
func decodeHandover(b []byte) ([]message, error) {
	if len(b) > maxState || len(b) < len(stateMagic) || string(b[:len(stateMagic)]) != stateMagic {
		return nil, fmt.Errorf("%w: not the state of a keeper", errMessage)
	}
	var ms []message
	owned := false
	for b = b[len(stateMagic):]; len(b) > 0; {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: the state of a keeper is cut", errMessage)
		}
		n := binary.LittleEndian.Uint32(b)
		if uint64(n) > uint64(len(b)-4) || n > maxMessage {
			return nil, fmt.Errorf("%w: the state of a keeper is cut", errMessage)
		}
		m, err := decodeMessage(b[4 : 4+n])
		if err != nil {
			return nil, err
		}
		b = b[4+n:]
		ok := false
		switch len(ms) {
		case 0:
			ok = m.typ == msgState && m.a != 0
		case 1:
			ok = m.typ == msgControl
		default:
			owned = owned || m.typ == msgOwner
			ok = m.typ == msgOwner && m.text != "" || m.typ == msgWorker || m.typ == msgDescriptor || owned && m.typ == msgSocket && m.kind != 0 && len(m.entries) == 1
		}
		isFD := m.typ == msgControl || m.typ == msgWorker || m.typ == msgSocket || m.typ == msgDescriptor
		if !ok || isFD && m.a > 1<<31-1 || m.typ == msgSocket && m.b != noQueue && m.b > 1<<31-1 {
			return nil, fmt.Errorf("%w: type %d in the state of a keeper", errMessage, m.typ)
		}
		ms = append(ms, m)
	}
	if len(ms) < 2 {
		return nil, fmt.Errorf("%w: the state of a keeper is cut", errMessage)
	}
	return ms, nil
}
