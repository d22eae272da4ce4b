package keeper

import (
	"fmt"

	"perdure/netpersist"
	"perdure/runtime"
)

// kept joins the runtime with netpersist, which do not know each other.
type kept struct{ *netpersist.Client }

func (k kept) Take() ([]runtime.KeptSocket, error) {
	all, err := k.Client.Take()
	sockets := make([]runtime.KeptSocket, len(all))
	for i, h := range all {
		sockets[i] = keptSocket(h)
	}
	return sockets, err
}

func keptSocket(h netpersist.Held) runtime.KeptSocket {
	return runtime.KeptSocket{FD: h.FD, ID: h.ID, Listener: h.Listener, Datagram: h.Kind == netpersist.KindDatagram}
}

func (k kept) FindListener(key string, id uint64) (runtime.KeptListener, bool, error) {
	l, ok, err := k.Find(key, id)
	return runtime.KeptListener(l), ok, err
}

func (k kept) KeepListener(fd int, key string) (runtime.KeptListener, error) {
	l, err := k.Client.KeepListener(fd, key)
	return runtime.KeptListener(l), err
}

func (k kept) Keep(fd int, datagram bool) (uint64, error) {
	kind := netpersist.KindStream
	if datagram {
		kind = netpersist.KindDatagram
	}
	return k.Client.Keep(fd, kind)
}

func (k kept) Accept(l runtime.KeptListener) (runtime.KeptSocket, error) {
	h, err := k.Client.Accept(netpersist.Listening(l))
	return keptSocket(h), err
}

func (k kept) Unmoved(fd int, at runtime.SocketPosition) (same, over bool, err error) {
	now, over, err := netpersist.PositionOf(fd, at.Dialled)
	if err != nil {
		return false, false, fmt.Errorf("where the connection stands: %w", err)
	}
	saved := netpersist.Position{Consumed: at.Consumed, Written: at.Written, Closed: at.Closed, Deaf: at.Deaf}
	return saved.Unmoved(now, over), over, nil
}

func (k kept) Position(fd int, dialled bool) (at runtime.SocketPosition, over bool, err error) {
	now, over, err := netpersist.PositionOf(fd, dialled)
	if err != nil {
		return at, false, fmt.Errorf("where the connection stands: %w", err)
	}
	return runtime.SocketPosition{Dialled: dialled, Consumed: now.Consumed, Written: now.Written, Closed: now.Closed, Deaf: now.Deaf}, over, nil
}

var _ runtime.SocketKeeper = kept{}
