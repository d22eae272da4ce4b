package wasi

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// resolveWithin is how long the name of a host may take to be resolved.
const resolveWithin = 5 * time.Second

// sockaddr returns the operating system's form of an address.
func sockaddr(a Address) unix.Sockaddr {
	switch ip := a.IP.Addr(); {
	case a.Path != "":
		return &unix.SockaddrUnix{Name: a.Path}
	case ip.Is4():
		return &unix.SockaddrInet4{Port: int(a.IP.Port()), Addr: ip.As4()}
	default:
		return &unix.SockaddrInet6{Port: int(a.IP.Port()), Addr: ip.As16()}
	}
}

// addressOf returns our form of an address of the operating system.
func addressOf(sa unix.Sockaddr) Address {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return Address{IP: netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))}
	case *unix.SockaddrInet6:
		return Address{IP: netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))}
	case *unix.SockaddrUnix:
		return Address{Path: sa.Name}
	}
	return Address{}
}

// MakeSocket implements Kernel.
func (s *System) MakeSocket(network string) (Handle, Errno) {
	family, typ := unix.AF_INET, unix.SOCK_STREAM
	switch network {
	case "tcp4":
	case "tcp6":
		family = unix.AF_INET6
	case "udp4":
		typ = unix.SOCK_DGRAM
	case "udp6":
		family, typ = unix.AF_INET6, unix.SOCK_DGRAM
	case "unix":
		family = unix.AF_UNIX
	default:
		return NoHandle, EAFNOSUPPORT
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil && family == unix.AF_INET6 {
		// IPv4 addresses have sockets of their own.
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil && family != unix.AF_UNIX && typ == unix.SOCK_STREAM {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	k := &socket{listen: -1, stream: typ == unix.SOCK_STREAM}
	if err == nil && s.keeper != nil {
		k.state.ID, err = s.keeper.Keep(fd, typ == unix.SOCK_DGRAM)
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd) // it was never used
		}
		return NoHandle, toErrno(err)
	}
	s.know(Handle(fd), k)
	return Handle(fd), ESUCCESS
}

// Bind implements Kernel.
func (s *System) Bind(h Handle, a Address) (Address, Errno) {
	sa := sockaddr(a)
	err := unix.Bind(int(h), sa)
	if err == unix.EADDRINUSE && a.Path != "" && abandoned(sa) {
		if err = unix.Unlink(a.Path); err == nil {
			err = unix.Bind(int(h), sa)
		}
	}
	if err != nil {
		return Address{}, toErrno(err)
	}
	if a.Path != "" {
		return a, ESUCCESS
	}
	return s.SocketName(h, false)
}

// StartListening implements Kernel.
func (s *System) StartListening(h Handle, backlog int) (Handle, Errno) {
	if err := unix.Listen(int(h), backlog); err != nil {
		return NoHandle, toErrno(err)
	}
	if s.keeper == nil {
		return h, ESUCCESS
	}
	l, err := s.keeper.KeepListener(int(h), "")
	if err != nil {
		return NoHandle, toErrno(err)
	}
	delete(s.known, h)
	s.unwatch(h)
	s.knowListener(l)
	return Handle(l.Queue), ESUCCESS
}

// knowListener notes a listener that the keeper accepts from.
func (s *System) knowListener(l KeptListener) {
	k := &socket{listen: l.Socket, queue: l}
	k.state.ID, k.state.Local = l.ID, Text(socketAddress(unix.Getsockname(l.Socket)))
	s.know(Handle(l.Queue), k)
}

// Connect implements Kernel.
func (s *System) Connect(h Handle, a Address) Errno {
	k := s.known[h]
	if k != nil {
		k.state.Position.Dialled = true
	}
	err := unix.Connect(int(h), sockaddr(a))
	if k != nil && (err == nil || err == unix.EINPROGRESS) {
		k.state.Local, k.state.Remote = Text(socketAddress(unix.Getsockname(int(h)))), Text(a.String())
	}
	if err == unix.EINTR {
		err = unix.EINPROGRESS // it goes on by itself
	}
	return toErrno(err)
}

// errDropped is the end of a socket that the keeper had, but not as it should be.
var errDropped = errors.New("it is in another state than when it was saved")

// Remake implements Kernel.
func (s *System) Remake(made MadeSocket, state *SocketState) (Handle, error) {
	before := s.ledger
	bound, _ := parseAddress(string(made.Bound))
	remote, _ := parseAddress(string(made.Remote))
	why := errNotHeld
	if state != nil && made.Phase == PhaseListening && s.keeper != nil && state.Keeper == s.keeper.Instance() {
		if l, ok, err := s.keeper.FindListener("", state.ID); ok && err == nil {
			s.ledger.Resumed++
			s.knowListener(l)
			return Handle(l.Queue), nil
		}
	} else if state != nil {
		h, err := s.Adopt(*state)
		switch {
		case err != nil:
			why = err
		case s.is(h, made, bound, remote):
			return h, nil
		default:
			// It goes on from where it was: what the guest did with it since is undone.
			delete(s.known, h)
			s.unwatch(h)
			if err := s.keeper.Release(state.ID, true); err != nil {
				return NoHandle, err
			}
			_ = unix.Close(int(h)) // it is made anew
			why = errDropped
		}
	}
	if made.Phase == PhaseConnected && kindOfNetwork(made.Network) != "udp" &&
		(made.Remote == "" || state == nil || state.Position.Consumed > 0 || state.Position.Written > 0) {
		return NoHandle, why
	}
	s.letGo(state)
	s.ledger = before // it is made anew
	return s.remake(made, bound, remote)
}

// letGo resets a socket that was not adopted, which may be in the way of another one.
func (s *System) letGo(state *SocketState) {
	if state == nil || s.keeper == nil || state.Keeper != s.keeper.Instance() {
		return
	}
	_ = s.keeper.Release(state.ID, true) // making another one says what is wrong
	if h, ok := s.held[state.ID]; ok {
		_ = unix.Close(h.FD) // it is made anew
		delete(s.held, state.ID)
	}
}

// is reports whether a socket that was not used for data is still in the phase that it was saved in.
func (s *System) is(h Handle, made MadeSocket, bound, remote Address) bool {
	local, errno := s.SocketName(h, false)
	if errno != ESUCCESS {
		return false
	}
	peer, errno := s.SocketName(h, true)
	connected := errno == ESUCCESS
	switch made.Phase {
	case PhaseNew:
		return local.IP.Port() == 0 && local.Path == "" && !connected
	case PhaseBound:
		return local == bound && !connected
	}
	if kindOfNetwork(made.Network) == "udp" {
		return connected && peer == remote
	}
	if connected {
		return true
	}
	// A dial under way, or one that failed: the guest learns of it again.
	info, err := unix.GetsockoptTCPInfo(int(h), unix.IPPROTO_TCP, unix.TCP_INFO)
	const synSent, synRecv = 2, 3
	return err == nil && (info.State == synSent || info.State == synRecv) || s.known[h].state.Position != (SocketPosition{Dialled: true})
}

// remake makes a socket anew, as the guest had made it.
func (s *System) remake(made MadeSocket, bound, remote Address) (Handle, error) {
	h, errno := s.MakeSocket(made.Network)
	if errno != ESUCCESS {
		return NoHandle, errno
	}
	for _, o := range made.Options {
		if errno == ESUCCESS {
			errno = s.SetSocketOption(h, o.Option, o.Value)
		}
	}
	if errno == ESUCCESS && bound != (Address{}) && (made.Phase != PhaseConnected || kindOfNetwork(made.Network) == "udp") {
		_, errno = s.Bind(h, bound)
	}
	if errno == ESUCCESS && made.Phase == PhaseListening {
		var listener Handle
		if listener, errno = s.StartListening(h, made.Backlog); errno == ESUCCESS {
			return listener, nil
		}
	}
	if errno == ESUCCESS && made.Phase == PhaseConnected {
		if errno = s.Connect(h, remote); errno == EINPROGRESS {
			errno = ESUCCESS
		}
	}
	if errno != ESUCCESS {
		s.Close(h) // it was never used
		return NoHandle, errno
	}
	return h, nil
}

// RecvFrom implements Kernel.
func (s *System) RecvFrom(h Handle, bufs [][]byte, flags RecvFlags) (int, bool, Address, Errno) {
	how := unix.MSG_DONTWAIT
	if flags&RecvPeek != 0 {
		how |= unix.MSG_PEEK
	}
	for {
		n, _, got, from, err := unix.RecvmsgBuffers(int(h), bufs, nil, how)
		if err == unix.EINTR {
			continue
		}
		s.known[h].received(n, flags)
		if err != nil {
			return 0, false, Address{}, toErrno(err)
		}
		return n, got&unix.MSG_TRUNC != 0, addressOf(from), ESUCCESS
	}
}

// SendTo implements Kernel.
func (s *System) SendTo(h Handle, bufs [][]byte, to Address) (int, Errno) {
	n, err := retry(func() (int, error) {
		return unix.SendmsgBuffers(int(h), bufs, nil, sockaddr(to), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	return max(n, 0), toErrno(err)
}

// linuxOptions are the system's names of options.
var linuxOptions = map[SocketOption][2]int{
	OptionReuseAddr: {unix.SOL_SOCKET, unix.SO_REUSEADDR}, OptionDontRoute: {unix.SOL_SOCKET, unix.SO_DONTROUTE},
	OptionBroadcast: {unix.SOL_SOCKET, unix.SO_BROADCAST}, OptionSendBuffer: {unix.SOL_SOCKET, unix.SO_SNDBUF},
	OptionRecvBuffer: {unix.SOL_SOCKET, unix.SO_RCVBUF}, OptionKeepAlive: {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
	OptionNoDelay: {unix.IPPROTO_TCP, unix.TCP_NODELAY}, OptionError: {unix.SOL_SOCKET, unix.SO_ERROR},
	OptionType: {unix.SOL_SOCKET, unix.SO_TYPE}, OptionAccepting: {unix.SOL_SOCKET, unix.SO_ACCEPTCONN},
}

// real returns the descriptor of the socket itself, which is not the handle of a listener that is kept.
func (s *System) real(h Handle) int {
	if k := s.known[h]; k != nil && k.listen >= 0 {
		return k.listen
	}
	return int(h)
}

// SocketOption implements Kernel.
func (s *System) SocketOption(h Handle, option SocketOption) (int32, Errno) {
	name, ok := linuxOptions[option]
	if !ok {
		return 0, ENOPROTOOPT
	}
	v, err := unix.GetsockoptInt(s.real(h), name[0], name[1])
	switch {
	case err != nil:
		return 0, toErrno(err)
	case option == OptionError && v != 0:
		return int32(toErrno(unix.Errno(v))), ESUCCESS
	case option == OptionType:
		return map[int]int32{unix.SOCK_DGRAM: 1, unix.SOCK_STREAM: 2}[v], ESUCCESS
	}
	return int32(v), ESUCCESS
}

// SetSocketOption implements Kernel.
func (s *System) SetSocketOption(h Handle, option SocketOption, value int32) Errno {
	name, ok := linuxOptions[option]
	if !ok {
		return ENOPROTOOPT
	}
	return toErrno(unix.SetsockoptInt(s.real(h), name[0], name[1], int(value)))
}

// SocketName implements Kernel.
func (s *System) SocketName(h Handle, peer bool) (Address, Errno) {
	ask := unix.Getsockname
	if peer {
		ask = unix.Getpeername
	}
	sa, err := ask(s.real(h))
	if err != nil {
		return Address{}, toErrno(err)
	}
	return addressOf(sa), ESUCCESS
}

// Resolve implements Kernel.
func (s *System) Resolve(name string) ([]netip.Addr, Errno) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveWithin)
	defer cancel()
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	var dns *net.DNSError
	switch {
	case err == nil:
		return list, ESUCCESS
	case errors.As(err, &dns) && dns.IsNotFound:
		return nil, ENOENT
	}
	return nil, EAGAIN
}
