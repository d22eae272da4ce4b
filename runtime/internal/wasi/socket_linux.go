package wasi

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listenBacklog is how many connections may wait to be accepted, as far as the
// system allows.
const listenBacklog = 4096

// Listen implements Kernel.
func (s *System) Listen(key, network, address, last string) (Handle, error) {
	if h, ok, err := s.findListener(key); ok || err != nil {
		return h, err
	}
	fd, err := -1, error(nil)
	if last != "" {
		fd, err = listen(network, last)
	}
	if last == "" || err != nil {
		fd, err = listen(network, address)
	}
	if err != nil {
		return NoHandle, fmt.Errorf("listen on %s %s: %w", network, address, err)
	}
	if kindOfNetwork(network) == "udp" {
		return s.keepDatagrams(fd)
	}
	return s.keepListener(fd, key)
}

func listen(network, address string) (int, error) {
	typ := unix.SOCK_STREAM
	switch network {
	case "unix":
		return listenUnix(address)
	case "tcp", "tcp4", "tcp6":
	case "udp", "udp4", "udp6":
		typ = unix.SOCK_DGRAM
	default:
		return -1, errors.New("unknown network (known: tcp, tcp4, tcp6, udp, udp4, udp6, unix)")
	}
	// The same for both.
	network = "tcp" + strings.TrimPrefix(strings.TrimPrefix(network, "tcp"), "udp")
	addr, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return -1, err
	}
	if v4 := addr.IP.To4(); network == "tcp4" || v4 != nil {
		sa := &unix.SockaddrInet4{Port: addr.Port}
		copy(sa.Addr[:], v4)
		return listenAt(unix.AF_INET, typ, sa, false)
	}
	sa := &unix.SockaddrInet6{Port: addr.Port}
	copy(sa.Addr[:], addr.IP.To16())
	if addr.Zone != "" {
		ifi, err := net.InterfaceByName(addr.Zone)
		if err != nil {
			return -1, err
		}
		sa.ZoneId = uint32(ifi.Index)
	}
	fd, err := listenAt(unix.AF_INET6, typ, sa, network == "tcp6")
	if errors.Is(err, unix.EAFNOSUPPORT) && network == "tcp" && addr.IP == nil {
		return listenAt(unix.AF_INET, typ, &unix.SockaddrInet4{Port: addr.Port}, false)
	}
	return fd, err
}

// listenAt makes a listening socket, or one that takes datagrams. only6 keeps an IPv6 wildcard from taking
// IPv4 connections too.
func listenAt(family, typ int, sa unix.Sockaddr, only6 bool) (int, error) {
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if family != unix.AF_UNIX && typ == unix.SOCK_STREAM {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil && family == unix.AF_INET6 {
		v := 0
		if only6 {
			v = 1
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil && typ == unix.SOCK_STREAM {
		err = unix.Listen(fd, listenBacklog)
	}
	if err != nil {
		_ = unix.Close(fd) // never used
		return -1, err
	}
	return fd, nil
}

// listenUnix listens at a path. A socket file that a dead process left there is
// replaced; one that answers is not.
func listenUnix(path string) (int, error) {
	sa := &unix.SockaddrUnix{Name: path}
	fd, err := listenAt(unix.AF_UNIX, unix.SOCK_STREAM, sa, false)
	if !errors.Is(err, unix.EADDRINUSE) || !abandoned(sa) {
		return fd, err
	}
	if err := unix.Unlink(path); err != nil {
		return -1, err
	}
	return listenAt(unix.AF_UNIX, unix.SOCK_STREAM, sa, false)
}

// abandoned reports whether the socket file at sa has no listener any more.
func abandoned(sa unix.Sockaddr) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	err = unix.Connect(fd, sa)
	_ = unix.Close(fd) // nothing was sent
	return err == unix.ECONNREFUSED
}

// Accept implements Kernel.
func (s *System) Accept(h Handle) (Handle, Errno) {
	fd, k, err := s.accept(h)
	if err != nil {
		return NoHandle, toErrno(err)
	}
	k.state.Local, k.state.Remote = s.names(fd)
	s.know(Handle(fd), k)
	return Handle(fd), ESUCCESS
}

// Recv implements Kernel.
func (s *System) Recv(h Handle, bufs [][]byte, flags RecvFlags) (int, bool, Errno) {
	how := unix.MSG_DONTWAIT
	if flags&RecvPeek != 0 {
		how |= unix.MSG_PEEK
	}
	k := s.known[h]
	one := k.oneOfStream(bufs)
	for {
		var n, got int
		var err error
		if one {
			n, err = recv(int(h), bufs[0], how)
		} else {
			n, _, got, _, err = unix.RecvmsgBuffers(int(h), bufs, nil, how)
		}
		if err == unix.EINTR {
			continue
		}
		k.received(n, flags)
		return max(n, 0), got&unix.MSG_TRUNC != 0, toErrno(err)
	}
}

// oneOfStream tells whether bufs is one part of a stream, which takes no header of a message.
func (k *socket) oneOfStream(bufs [][]byte) bool {
	return k != nil && k.stream && len(bufs) == 1 && len(bufs[0]) > 0
}

// recv is recv(2), which golang.org/x/sys has with an address only, for which it allocates.
func recv(fd int, b []byte, flags int) (int, error) {
	return transfer(unix.SYS_RECVFROM, fd, b, flags)
}

// send is send(2), which golang.org/x/sys has without the number of bytes.
func send(fd int, b []byte, flags int) (int, error) {
	return transfer(unix.SYS_SENDTO, fd, b, flags)
}

func transfer(call uintptr, fd int, b []byte, flags int) (int, error) {
	n, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Send implements Kernel.
func (s *System) Send(h Handle, bufs [][]byte) (int, Errno) {
	k := s.known[h]
	one := k.oneOfStream(bufs)
	n, err := retry(func() (int, error) {
		const how = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
		if one {
			return send(int(h), bufs[0], how)
		}
		return unix.SendmsgBuffers(int(h), bufs, nil, nil, how)
	})
	k.sent(n)
	return max(n, 0), toErrno(err)
}

// Shutdown implements Kernel.
func (s *System) Shutdown(h Handle, how int) Errno {
	var linux int
	switch how {
	case sdRd:
		linux = unix.SHUT_RD
	case sdWr:
		linux = unix.SHUT_WR
	case sdRd | sdWr:
		linux = unix.SHUT_RDWR
	default:
		return EINVAL
	}
	err := unix.Shutdown(int(h), linux)
	if err == nil {
		s.shut(h, how)
	}
	return toErrno(err)
}
