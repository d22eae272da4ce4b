package wasi

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// socket is what a System knows of one of its sockets beside the descriptor.
type socket struct {
	state  SocketState
	listen int          // of a listener whose handle is its queue: the socket itself; else -1
	queue  KeptListener // then
	stream bool         // of a connection
}

// standing is where a socket stands that nobody uses, unless it is over.
type standing struct {
	at SocketPosition
	ok bool
}

// sockets is the part of a System that is about sockets.
type sockets struct {
	keeper  SocketKeeper          // nil: none
	known   map[Handle]*socket    // all that are open
	parked  bool                  // the last worker stopped with the cut that is attached
	held    map[uint64]KeptSocket // until Settle: what the keeper had and nobody has adopted
	stands  map[uint64]standing   // until Settle: where Held has found them
	refused map[uint64]bool       // until Settle: what the State knows, but could not have
	leaving bool                  // Close leaves the sockets to the keeper
	ledger  SocketLedger          // of the last restore
}

var (
	errNotHeld = errors.New("the keeper does not have it any more")
	errMoved   = errors.New("it was used after the last snapshot")
	errUnknown = errors.New("whether it was used after the last snapshot cannot be told")
)

// UseKeeper makes the System hand its sockets to a keeper. It is called before a Host uses the System.
func (s *System) UseKeeper(k SocketKeeper) { s.keeper = k }

// Attach implements Kernel.
func (s *System) Attach(cut uint64) error {
	s.known, s.held, s.refused = make(map[Handle]*socket), make(map[uint64]KeptSocket), make(map[uint64]bool)
	s.stands = make(map[uint64]standing)
	s.leaving, s.parked, s.ledger = false, false, SocketLedger{}
	if s.keeper == nil {
		return nil
	}
	s.parked = cut != 0 && s.keeper.Parked() == cut
	all, err := s.keeper.Take()
	if err != nil {
		return fmt.Errorf("take the sockets back: %w", err)
	}
	for _, h := range all {
		if cut == 0 && h.Listener == 0 {
			// Nobody knows it, and it may have the address that is wanted next.
			if err := s.keeper.Release(h.ID, true); err != nil {
				return err
			}
			_ = unix.Close(h.FD) // a reset
			continue
		}
		s.held[h.ID] = h
	}
	return nil
}

// Adopt implements Kernel.
func (s *System) Adopt(state SocketState) (h Handle, err error) {
	defer func() {
		if err != nil {
			s.refused[state.ID] = true // Settle resets it
			s.ledger.gone(GoneSocket{Local: string(state.Local), Remote: string(state.Remote), Why: err.Error()})
		}
	}()
	if s.keeper == nil || state.Keeper == 0 || state.Keeper != s.keeper.Instance() {
		return NoHandle, errNotHeld
	}
	held, ok := s.held[state.ID]
	if !ok {
		return NoHandle, errNotHeld
	}
	if err := s.unmoved(held, state.Position); err != nil {
		return NoHandle, err
	}
	delete(s.held, state.ID)
	if state.Local == "" && !held.Datagram { // it was accepted in a past that was played
		state.Local, state.Remote = s.names(held.FD)
	}
	state.Lives++
	s.ledger.Resumed++
	s.know(Handle(held.FD), &socket{state: state, listen: -1, stream: !held.Datagram})
	return Handle(held.FD), nil
}

// Held implements Kernel.
func (s *System) Held(state SocketState) (SocketPosition, bool) {
	if s.keeper == nil || state.Keeper == 0 || state.Keeper != s.keeper.Instance() {
		return SocketPosition{}, false
	}
	held, ok := s.held[state.ID]
	if !ok || held.Datagram {
		return SocketPosition{}, false
	}
	k, known := s.stands[state.ID]
	if !known {
		at, over, err := s.keeper.Position(held.FD, state.Position.Dialled)
		k = standing{at, err == nil && !over}
		s.stands[state.ID] = k
	}
	return k.at, k.ok
}

// unmoved returns nil if a socket stands where the guest left it.
func (s *System) unmoved(h KeptSocket, at SocketPosition) error {
	if h.Datagram {
		return nil // what is lost or doubled is what the network may lose or double
	}
	if k := s.stands[h.ID]; k.ok && k.at == at {
		return nil
	}
	same, over, err := s.keeper.Unmoved(h.FD, at)
	switch {
	case s.parked && (over || err != nil):
		return nil // nobody has used it since, though the counters cannot tell
	case err != nil:
		return fmt.Errorf("%w: %v", errUnknown, err)
	case !same:
		return errMoved
	}
	return nil
}

// Settle implements Kernel.
func (s *System) Settle() (reset int, err error) {
	if s.keeper == nil {
		return 0, nil
	}
	var again []uint64
	for id, h := range s.held {
		if h.Listener != 0 && !s.refused[id] && s.unmoved(h, SocketPosition{}) == nil {
			again = append(again, id) // the guest does not know it yet
			continue
		}
		// The guest of the saved state never had it, or it has moved.
		if !s.refused[id] {
			local, remote := s.names(h.FD)
			s.ledger.gone(GoneSocket{Local: string(local), Remote: string(remote), Reset: true, Why: "the saved state does not know it, and it was used"})
		}
		if err := s.keeper.Release(id, true); err != nil {
			return reset, err
		}
		reset++
	}
	err = s.keeper.Requeue(again)
	for _, h := range s.held {
		_ = unix.Close(h.FD) // a duplicate of what the keeper has, or a reset
	}
	s.held, s.stands = nil, nil
	if err != nil {
		return reset, err
	}
	return reset, s.keeper.Ready()
}

// Sockets returns how many sockets are open, and what has become of those of the last restore. It belongs to the goroutine
// of the guest; the result is not changed any more.
func (s *System) Sockets() (open int, l SocketLedger) {
	l = s.ledger
	l.Gone = slices.Clone(l.Gone)
	return len(s.known), l
}

// names returns the addresses of a socket, empty where there are none.
func (s *System) names(fd int) (local, remote Text) {
	return Text(socketAddress(unix.Getsockname(fd))), Text(socketAddress(unix.Getpeername(fd)))
}

// Leave makes later calls of Close leave the sockets to the keeper.
func (s *System) Leave() { s.leaving = true }

// Park tells the keeper that no socket was used since that cut, and that none will be.
func (s *System) Park(cut uint64) error {
	s.leaving = true
	if s.keeper == nil {
		return nil
	}
	return s.keeper.Park(cut)
}

// Socket implements Kernel.
func (s *System) Socket(h Handle) (SocketState, bool) {
	k, ok := s.known[h]
	if !ok {
		return SocketState{}, false
	}
	if s.keeper != nil && k.state.ID != 0 {
		k.state.Keeper = s.keeper.Instance()
	}
	return k.state, true
}

// keepDatagrams gives a fresh socket of datagrams to the keeper and returns its handle.
func (s *System) keepDatagrams(fd int) (Handle, error) {
	k := &socket{listen: -1}
	k.state.Local = Text(socketAddress(unix.Getsockname(fd)))
	if s.keeper != nil {
		var err error
		if k.state.ID, err = s.keeper.Keep(fd, true); err != nil {
			_ = unix.Close(fd) // nobody has read from it
			return NoHandle, err
		}
	}
	s.know(Handle(fd), k)
	return Handle(fd), nil
}

// keepListener gives a fresh listener to the keeper and returns its handle.
func (s *System) keepListener(fd int, key string) (Handle, error) {
	k := &socket{listen: -1}
	k.state.Local = Text(socketAddress(unix.Getsockname(fd)))
	h := Handle(fd)
	if s.keeper != nil {
		l, err := s.keeper.KeepListener(fd, key)
		if err != nil {
			_ = unix.Close(fd) // nobody has connected
			return NoHandle, err
		}
		k.listen, k.queue, k.state.ID = fd, l, l.ID
		h = Handle(l.Queue)
	}
	s.know(h, k)
	return h, nil
}

// findListener returns the handle of a listener that the keeper holds.
func (s *System) findListener(key string) (Handle, bool, error) {
	if s.keeper == nil {
		return NoHandle, false, nil
	}
	l, ok, err := s.keeper.FindListener(key, 0)
	if !ok || err != nil {
		return NoHandle, false, err
	}
	s.ledger.Resumed++
	s.knowListener(l)
	return Handle(l.Queue), true, nil
}

func (s *System) know(h Handle, k *socket) {
	if s.known == nil {
		s.known = make(map[Handle]*socket)
	}
	if k.state.Since == 0 {
		k.state.Since = time.Now().UnixNano()
	}
	s.known[h] = k
}

// accept takes a connection from a listener.
func (s *System) accept(h Handle) (int, *socket, error) {
	l := s.known[h]
	k := &socket{listen: -1, stream: true}
	if l != nil && l.listen >= 0 {
		got, err := s.keeper.Accept(l.queue)
		if err != nil {
			return -1, nil, err
		}
		k.state.ID = got.ID
		return got.FD, k, nil
	}
	for {
		fd, _, err := unix.Accept4(int(h), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue // a connection that went away while it waited is not the guest's concern
		}
		return fd, k, err
	}
}

// closeSocket closes what belongs to a socket beside its handle.
func (s *System) closeSocket(h Handle, k *socket) error {
	delete(s.known, h)
	var err error
	if s.keeper != nil && k.state.ID != 0 && !s.leaving {
		err = s.keeper.Release(k.state.ID, false)
	}
	if k.listen >= 0 {
		_ = unix.Close(k.listen) // nothing is written there
	}
	return err
}

// received and sent count what the guest moves, of a socket that is known.
func (k *socket) received(n int, flags RecvFlags) {
	if k != nil && n > 0 && flags&RecvPeek == 0 {
		k.state.Position.Consumed += uint64(n)
	}
}

func (k *socket) sent(n int) {
	if k != nil && n > 0 {
		k.state.Position.Written += uint64(n)
	}
}

// shut notes what the guest shut down.
func (s *System) shut(h Handle, how int) {
	k := s.known[h]
	if k == nil {
		return
	}
	p := &k.state.Position
	p.Closed = p.Closed || how&sdWr != 0
	p.Deaf = p.Deaf || how&sdRd != 0
}

// socketAddress returns an address as text, empty if there is none.
func socketAddress(sa unix.Sockaddr, err error) string {
	if err != nil {
		return ""
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return addrPort(sa.Addr[:], "", sa.Port)
	case *unix.SockaddrInet6:
		zone := ""
		if sa.ZoneId != 0 {
			zone = fmt.Sprint(sa.ZoneId)
		}
		return addrPort(sa.Addr[:], zone, sa.Port)
	case *unix.SockaddrUnix:
		return sa.Name
	}
	return ""
}

func addrPort(ip []byte, zone string, port int) string {
	addr, _ := netip.AddrFromSlice(ip) // 4 or 16 bytes
	return netip.AddrPortFrom(addr.WithZone(zone), uint16(port)).String()
}
