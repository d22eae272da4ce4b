package wasi

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// Address is the address of a socket: an IP address with a port, or a path. The zero value is none.
type Address struct {
	IP   netip.AddrPort
	Path string
}

// String returns the address as text, empty for none.
func (a Address) String() string {
	if a.Path != "" {
		return a.Path
	}
	if !a.IP.IsValid() {
		return ""
	}
	return a.IP.String()
}

// parseAddress parses what String returns.
func parseAddress(s string) (Address, bool) {
	if s == "" {
		return Address{}, true
	}
	if ip, err := netip.ParseAddrPort(s); err == nil {
		return Address{IP: ip}, true
	}
	return Address{Path: s}, strings.HasPrefix(s, "/") && len(s) < maxPathBytes
}

// SocketRule allows addresses to connect to or to bind to.
type SocketRule struct {
	Network   string       // tcp, udp or unix
	Prefix    netip.Prefix // of IP addresses; invalid: any, unless there is a name
	Name      string       // a host's name, whose addresses are allowed
	Low, High uint16       // ports, both included
	Path      string       // of a unix socket; empty: any
}

// allows reports whether the rule allows an address. Resolve returns the addresses of a name.
func (r *SocketRule) allows(network string, a Address, resolve func(string) []netip.Addr) bool {
	switch {
	case r.Network != kindOfNetwork(network):
		return false
	case r.Network == "unix":
		return r.Path == "" || r.Path == a.Path
	case a.IP.Port() < r.Low || a.IP.Port() > r.High:
		return false
	}
	ip := a.IP.Addr().Unmap().WithZone("")
	if r.Name == "" {
		return !r.Prefix.IsValid() || r.Prefix.Contains(ip)
	}
	for _, known := range resolve(r.Name) {
		if known.Unmap() == ip {
			return true
		}
	}
	return false
}

// kindOfNetwork returns the network without the version of IP.
func kindOfNetwork(network string) string { return strings.TrimRight(network, "46") }

// The address families and the forms of addresses of WasmEdge's socket functions. An address crosses the boundary as a
// pointer to a structure of a pointer and a length: 4 or 16 bytes of an IP address or, in version 2, 128 bytes that
// begin with the family in two bytes.
const (
	familyAny   = 0
	familyInet4 = 1
	familyInet6 = 2
	familyUnix  = 3

	sizeAddress  = 8
	longAddress  = 128
	sizeAddrinfo = 28
	sizeSockaddr = 12
)

// addressBuffer returns the buffer that the address structure at p describes.
func (m memory) addressBuffer(p uint32) ([]byte, Errno) {
	s, ok := m.bytes(p, sizeAddress)
	if !ok {
		return nil, EFAULT
	}
	b, ok := m.bytes(binary.LittleEndian.Uint32(s), binary.LittleEndian.Uint32(s[4:]))
	if !ok {
		return nil, EFAULT
	}
	return b, ESUCCESS
}

// address reads the address of which the structure at p tells.
func (m memory) address(p uint32, port uint32) (Address, Errno) {
	b, errno := m.addressBuffer(p)
	if errno != ESUCCESS {
		return Address{}, errno
	}
	if port > 65535 {
		return Address{}, EINVAL
	}
	family := uint16(familyAny)
	switch len(b) {
	case 4:
		family = familyInet4
	case 16:
		family = familyInet6
	case longAddress:
		family, b = binary.LittleEndian.Uint16(b), b[2:]
	}
	switch family {
	case familyInet4:
		return Address{IP: netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), uint16(port))}, ESUCCESS
	case familyInet6:
		return Address{IP: netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), uint16(port))}, ESUCCESS
	case familyUnix:
		path, _, _ := strings.Cut(string(b), "\x00")
		if path == "" || path[0] != '/' {
			return Address{}, EINVAL
		}
		return Address{Path: path}, ESUCCESS
	}
	return Address{}, EAFNOSUPPORT
}

// putAddress writes an address to a buffer and returns its family; short tells that the buffer holds the bytes only.
func putAddress(b []byte, a Address, short bool) (family uint16, errno Errno) {
	var raw []byte
	switch ip := a.IP.Addr(); {
	case ip.Is4():
		family, raw = familyInet4, ip.AsSlice()
	case ip.Is6():
		family, raw = familyInet6, ip.AsSlice()
	default:
		family, raw = familyUnix, []byte(a.Path)
	}
	if !short {
		if len(b) < 2 {
			return 0, EINVAL
		}
		binary.LittleEndian.PutUint16(b, family)
		b = b[2:]
	}
	if len(b) < len(raw) {
		return 0, EINVAL
	}
	clear(b[copy(b, raw):])
	return family, ESUCCESS
}
