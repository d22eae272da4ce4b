package wasi

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// These functions are not of preview 1. They are WasmEdge's, in the form of its version 2, which the socket libraries for
// Go and Rust call; where version 1 has other parameters under the same name, both are there.

// made returns the attached socket of that number if the guest made it.
func (h *Host) made(fd uint32) (*open, Errno) {
	o, errno := h.connection(fd)
	if errno == ESUCCESS && o.Kind != KindSocket {
		return nil, EINVAL
	}
	return o, errno
}

func sockOpen(h *Host, m memory, a []uint64) (Errno, error) {
	family, typ, result := uint32(a[0]), uint32(a[1]), uint32(a[2])
	if !m.has(result, 4) {
		return EFAULT, nil
	}
	if len(h.cfg.AllowConnect)+len(h.cfg.AllowBind) == 0 {
		return EACCES, nil
	}
	network := ""
	switch {
	case typ > 2:
		return EINVAL, nil
	case family == familyInet4:
		network = "tcp4"
	case family == familyInet6:
		network = "tcp6"
	case family == familyUnix && typ != 1:
		network = "unix"
	default:
		return EAFNOSUPPORT, nil
	}
	d := Descriptor{Kind: KindSocket, Read: true, Write: true, Type: FileSocketStream, Base: rightsConnection | RightSockAccept, Inheriting: rightsConnection}
	if typ == 1 {
		network = "udp" + network[3:]
		d.Type = FileSocketDgram
	}
	fd, errno := h.free()
	if errno != ESUCCESS {
		return errno, nil
	}
	handle, errno := h.k.MakeSocket(network)
	if errno != ESUCCESS {
		return errno, nil
	}
	d.Made = &MadeSocket{Network: network, Phase: PhaseNew}
	h.put(fd, &open{Descriptor: d, handle: handle, owned: true})
	m.putUint32(result, fd)
	return ESUCCESS, nil
}

// fits reports whether an address is of the socket's family.
func (s *MadeSocket) fits(a Address) bool {
	switch s.Network {
	case "unix":
		return a.Path != ""
	case "tcp4", "udp4":
		return a.IP.Addr().Is4()
	}
	return a.IP.Addr().Is6()
}

func sockBind(h *Host, m memory, a []uint64) (Errno, error) {
	o, errno := h.made(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	addr, errno := m.address(uint32(a[1]), uint32(a[2]))
	switch {
	case errno != ESUCCESS:
		return errno, nil
	case o.Made.Phase != PhaseNew:
		return EINVAL, nil
	case !o.Made.fits(addr):
		return EAFNOSUPPORT, nil
	case !h.allowed(h.cfg.AllowBind, o.Made.Network, addr):
		return EACCES, nil
	}
	bound, errno := h.k.Bind(o.handle, addr)
	if errno != ESUCCESS {
		return errno, nil
	}
	// With the port that the system chose: that is where others look for it.
	o.Made.Phase, o.Made.Bound = PhaseBound, Text(bound.String())
	return ESUCCESS, nil
}

func sockListen(h *Host, _ memory, a []uint64) (Errno, error) {
	o, errno := h.made(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	backlog := min(max(int(int32(a[1])), 0), maxBacklog)
	switch {
	case o.Type != FileSocketStream:
		return ENOTSUP, nil
	case o.Made.Phase == PhaseListening:
		return ESUCCESS, nil
	case o.Made.Phase != PhaseBound:
		return EINVAL, nil // to listen at any address is not what was allowed
	}
	handle, errno := h.k.StartListening(o.handle, backlog)
	if errno != ESUCCESS {
		return errno, nil
	}
	o.handle = handle
	o.Made.Phase, o.Made.Backlog = PhaseListening, backlog
	return ESUCCESS, nil
}

func sockConnect(h *Host, m memory, a []uint64) (Errno, error) {
	o, errno := h.made(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	addr, errno := m.address(uint32(a[1]), uint32(a[2]))
	switch {
	case errno != ESUCCESS:
		return errno, nil
	case o.Made.Phase == PhaseListening:
		return EINVAL, nil
	case !o.Made.fits(addr):
		return EAFNOSUPPORT, nil
	}
	if !h.resumes {
		if !h.allowed(h.cfg.AllowConnect, o.Made.Network, addr) {
			return EACCES, nil
		}
		errno = h.k.Connect(o.handle, addr)
		if errno == ESUCCESS || errno == EINPROGRESS {
			o.Made.Phase, o.Made.Remote = PhaseConnected, Text(addr.String())
		}
		if errno != EINPROGRESS || o.Flags&FlagNonblock != 0 {
			return errno, nil
		}
	}
	if errno, err := h.wait(o, PollOut, -1); err != nil || errno != ESUCCESS {
		return errno, err
	}
	failed, errno := h.k.SocketOption(o.handle, OptionError)
	if errno == ESUCCESS {
		errno = Errno(failed)
	}
	return errno, nil
}

// sockAcceptV1 is sock_accept without flags.
func sockAcceptV1(h *Host, m memory, a []uint64) (Errno, error) {
	return sockAccept(h, m, []uint64{a[0], 0, a[1]})
}

func sockRecvFrom(h *Host, m memory, a []uint64) (Errno, error) {
	flags, port, size, roflags := uint32(a[4]), uint32(a[5]), uint32(a[6]), uint32(a[7])
	o, errno := h.connection(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	bufs, errno := m.iovecs(&h.iov, uint32(a[1]), uint32(a[2]))
	if errno != ESUCCESS {
		return errno, nil
	}
	name, errno := m.addressBuffer(uint32(a[3]))
	switch {
	case errno != ESUCCESS:
		return errno, nil
	case !m.has(size, 4) || !m.has(roflags, 2) || port != 0 && !m.has(port, 4):
		return EFAULT, nil
	case flags&^(riRecvPeek|riRecvWaitall) != 0:
		return EINVAL, nil
	}
	if errno := o.mayRead(); errno != ESUCCESS {
		return errno, nil
	}
	var how RecvFlags
	if flags&riRecvPeek != 0 {
		how |= RecvPeek
	}
	for {
		n, truncated, from, errno := h.recvFrom(o, bufs, how)
		if errno == EAGAIN && o.Flags&FlagNonblock == 0 {
			if errno, err := h.wait(o, PollIn, -1); err != nil || errno != ESUCCESS {
				return errno, err
			}
			continue
		}
		if errno != ESUCCESS {
			return errno, nil
		}
		if from != (Address{}) {
			// A buffer that is too small is left alone: the data is gone from the socket and must not be lost.
			_, _ = putAddress(name, from, len(name) < longAddress)
		}
		if port != 0 {
			m.putUint32(port, uint32(from.IP.Port()))
		}
		m.putUint32(size, uint32(n))
		m[roflags], m[uint64(roflags)+1] = 0, 0
		if truncated {
			m[roflags] = roRecvDataTruncated
		}
		return ESUCCESS, nil
	}
}

// recvFrom receives and tells from whom. A stream has one sender, and what it has been received of is counted.
func (h *Host) recvFrom(o *open, bufs [][]byte, how RecvFlags) (int, bool, Address, Errno) {
	if o.Type == FileSocketDgram {
		return h.k.RecvFrom(o.handle, bufs, how)
	}
	n, truncated, errno := h.k.Recv(o.handle, bufs, how)
	if errno != ESUCCESS {
		return 0, false, Address{}, errno
	}
	from, _ := h.k.SocketName(o.handle, true) // it may be gone
	return n, truncated, from, ESUCCESS
}

// sockRecvFromV1 is sock_recv_from without a port.
func sockRecvFromV1(h *Host, m memory, a []uint64) (Errno, error) {
	return sockRecvFrom(h, m, []uint64{a[0], a[1], a[2], a[3], a[4], 0, a[5], a[6]})
}

func sockSendTo(h *Host, m memory, a []uint64) (Errno, error) {
	flags, result := uint32(a[5]), uint32(a[6])
	o, errno := h.connection(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	bufs, errno := m.iovecs(&h.iov, uint32(a[1]), uint32(a[2]))
	if errno != ESUCCESS {
		return errno, nil
	}
	addr, errno := m.address(uint32(a[3]), uint32(a[4]))
	switch {
	case errno != ESUCCESS:
		return errno, nil
	case !m.has(result, 4):
		return EFAULT, nil
	case flags != 0:
		return EINVAL, nil
	case o.Type != FileSocketDgram:
		return EISCONN, nil
	}
	if errno := o.mayWrite(); errno != ESUCCESS {
		return errno, nil
	}
	// Whoever was given a socket may answer on it; one that the guest made is for what it may connect to.
	if o.Kind == KindSocket && !h.allowed(h.cfg.AllowConnect, o.Made.Network, addr) && !h.allowed(h.cfg.AllowBind, o.Made.Network, h.boundTo(o)) {
		return EACCES, nil
	}
	for {
		n, errno := h.k.SendTo(o.handle, bufs, addr)
		if errno == EAGAIN && o.Flags&FlagNonblock == 0 {
			if errno, err := h.wait(o, PollOut, -1); err != nil || errno != ESUCCESS {
				return errno, err
			}
			continue
		}
		if errno == ESUCCESS {
			m.putUint32(result, uint32(n))
		}
		return errno, nil
	}
}

// boundTo returns where the guest bound a socket.
func (h *Host) boundTo(o *open) Address {
	a, _ := parseAddress(string(o.Made.Bound)) // it was made by String
	return a
}

// option returns the option of a level and name; false if it is not known.
func option(level, name uint32) (SocketOption, bool) {
	switch {
	case level == 0 && name < uint32(OptionNoDelay):
		return SocketOption(name), true
	case level == 6 && name == 1:
		return OptionNoDelay, true
	}
	return 0, false
}

func sockGetsockopt(h *Host, m memory, a []uint64) (Errno, error) {
	o, errno := h.connection(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	opt, ok := option(uint32(a[1]), uint32(a[2]))
	if !ok {
		return ENOPROTOOPT, nil
	}
	// The length: in WasmEdge a pointer to it, in Go's library the number itself, which is smaller than any pointer.
	size := uint32(a[4])
	if size > longAddress {
		b, ok := m.bytes(size, 4)
		if !ok {
			return EFAULT, nil
		}
		binary.LittleEndian.PutUint32(b, 4)
	} else if size < 4 {
		return EINVAL, nil
	}
	if !m.has(uint32(a[3]), 4) {
		return EFAULT, nil
	}
	v, errno := h.k.SocketOption(o.handle, opt)
	if errno == ESUCCESS {
		m.putUint32(uint32(a[3]), uint32(v))
	}
	return errno, nil
}

func sockSetsockopt(h *Host, m memory, a []uint64) (Errno, error) {
	o, errno := h.connection(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	opt, ok := option(uint32(a[1]), uint32(a[2]))
	if !ok || !slices.Contains(settable, opt) {
		return ENOPROTOOPT, nil
	}
	b, ok := m.bytes(uint32(a[3]), 4)
	if !ok || uint32(a[4]) != 4 {
		return EINVAL, nil
	}
	v := int32(binary.LittleEndian.Uint32(b))
	errno = h.k.SetSocketOption(o.handle, opt, v)
	if errno == ESUCCESS && o.Made != nil {
		o.Made.set(opt, v)
	}
	return errno, nil
}

func sockGetlocaladdr(h *Host, m memory, a []uint64) (Errno, error) {
	return h.socketName(m, a[0], a[1], 0, a[2], false)
}

func sockGetpeeraddr(h *Host, m memory, a []uint64) (Errno, error) {
	return h.socketName(m, a[0], a[1], 0, a[2], true)
}

func sockGetlocaladdrV1(h *Host, m memory, a []uint64) (Errno, error) {
	return h.socketName(m, a[0], a[1], uint32(a[2]), a[3], false)
}

func sockGetpeeraddrV1(h *Host, m memory, a []uint64) (Errno, error) {
	return h.socketName(m, a[0], a[1], uint32(a[2]), a[3], true)
}

// socketName writes the address of a socket or of its peer. With a pointer to the type of address the form is that of
// version 1.
func (h *Host) socketName(m memory, fd, p uint64, typ uint32, port uint64, peer bool) (Errno, error) {
	o, errno := h.connection(uint32(fd))
	if errno != ESUCCESS {
		return errno, nil
	}
	b, errno := m.addressBuffer(uint32(p))
	if errno != ESUCCESS {
		return errno, nil
	}
	if !m.has(uint32(port), 4) || typ != 0 && !m.has(typ, 4) {
		return EFAULT, nil
	}
	addr, errno := h.k.SocketName(o.handle, peer)
	if errno != ESUCCESS {
		return errno, nil
	}
	family, errno := putAddress(b, addr, typ != 0)
	if errno != ESUCCESS {
		return errno, nil
	}
	if typ != 0 {
		m.putUint32(typ, map[uint16]uint32{familyInet4: 4, familyInet6: 6}[family])
	}
	m.putUint32(uint32(port), uint32(addr.IP.Port()))
	return ESUCCESS, nil
}

// maxName bounds the name of a host, in bytes.
const maxName = 255

// sockGetaddrinfo fills a list of structures that the guest has linked.
func sockGetaddrinfo(h *Host, m memory, a []uint64) (Errno, error) {
	name, ok1 := m.bytes(uint32(a[0]), min(uint32(a[1]), maxName+1))
	service, ok2 := m.bytes(uint32(a[2]), min(uint32(a[3]), maxName+1))
	hints, ok3 := m.bytes(uint32(a[4]), sizeAddrinfo)
	list, ok4 := m.bytes(uint32(a[5]), 4)
	if !ok1 || !ok2 || !ok3 || !ok4 || !m.has(uint32(a[7]), 4) {
		return EFAULT, nil
	}
	host, _, _ := strings.Cut(string(name), "\x00")
	text, _, _ := strings.Cut(string(service), "\x00")
	port, err := strconv.ParseUint(text, 10, 16)
	if len(host) > maxName || err != nil && text != "" {
		return EINVAL, nil // names of services are not known
	}
	family, socktype := hints[2], hints[3]
	ips, errno := h.lookup(host)
	if errno != ESUCCESS {
		return errno, nil
	}
	n := uint32(0)
	next := binary.LittleEndian.Uint32(list)
	for _, ip := range ips {
		if n == uint32(a[6]) || next == 0 {
			break
		}
		ip = ip.Unmap()
		if family == familyInet4 && !ip.Is4() || family == familyInet6 && !ip.Is6() {
			continue
		}
		at := next
		if next, errno = m.putAddrinfo(at, netip.AddrPortFrom(ip, uint16(port)), socktype); errno != ESUCCESS {
			return errno, nil
		}
		n++
		if next == at {
			break // Go's library links each structure to itself
		}
	}
	m.putUint32(uint32(a[7]), n)
	return ESUCCESS, nil
}

// lookup returns the addresses of a host whose name the guest may know.
func (h *Host) lookup(host string) ([]netip.Addr, Errno) {
	if host == "" {
		return []netip.Addr{netip.IPv4Unspecified()}, ESUCCESS
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, ESUCCESS
	}
	may := slices.ContainsFunc(h.cfg.AllowConnect, func(r SocketRule) bool {
		return r.Network != "unix" && (r.Name == "" || r.Name == host)
	})
	if !may {
		return nil, EACCES
	}
	return h.k.Resolve(host)
}

// putAddrinfo fills the structure at p and what it points to, and returns the next one.
func (m memory) putAddrinfo(p uint32, ip netip.AddrPort, socktype byte) (uint32, Errno) {
	info, ok := m.bytes(p, sizeAddrinfo)
	if !ok {
		return 0, EFAULT
	}
	sockaddr, ok := m.bytes(binary.LittleEndian.Uint32(info[12:]), sizeSockaddr)
	if !ok {
		return 0, EFAULT
	}
	raw := ip.Addr().AsSlice()
	data, ok := m.bytes(binary.LittleEndian.Uint32(sockaddr[8:]), uint32(2+len(raw)))
	if !ok {
		return 0, EFAULT
	}
	family := uint32(familyInet4)
	if ip.Addr().Is6() {
		family = familyInet6
	}
	binary.BigEndian.PutUint16(data, ip.Port())
	copy(data[2:], raw)
	binary.LittleEndian.PutUint32(sockaddr, family)
	binary.LittleEndian.PutUint32(sockaddr[4:], uint32(len(data)))
	info[2], info[3] = byte(family), socktype
	binary.LittleEndian.PutUint32(info[8:], sizeSockaddr)
	return binary.LittleEndian.Uint32(info[24:]), ESUCCESS
}
