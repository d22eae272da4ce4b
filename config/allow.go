package config

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Allow is a set of addresses that a guest may use for sockets of its own, written NETWORK://HOST:PORT. NETWORK is tcp or
// udp; HOST an IP address, a range like 10.0.0.0/8, a host's name, or * for all; PORT a number, a range like 8000-8999, or *
// for all. Or unix:///PATH, and unix://* for all.
type Allow struct {
	Network   string
	Prefix    netip.Prefix // invalid for all, and where there is a name
	Name      string
	Low, High uint16
	Path      string // empty for all
}

var _ encoding.TextUnmarshaler = (*Allow)(nil)

// ParseAllow parses the text form.
func ParseAllow(s string) (Allow, error) {
	network, address, ok := strings.Cut(s, "://")
	a := Allow{Network: network}
	if !ok {
		return a, errors.New("write tcp://HOST:PORT, udp://HOST:PORT or unix:///PATH; * stands for all")
	}
	switch network {
	case "unix":
		if address != "*" {
			a.Path = address
		}
		if address == "" || a.Path != "" && !strings.HasPrefix(a.Path, "/") {
			return a, errors.New("write unix:///PATH with an absolute path, or unix://*")
		}
		return a, nil
	case "tcp", "udp":
	default:
		return a, fmt.Errorf("%q is no network; there are tcp, udp and unix", network)
	}
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return a, fmt.Errorf("the port is missing; write %s://HOST:PORT, with * for all ports", network)
	}
	if err := a.parseHost(address[:i]); err != nil {
		return a, err
	}
	return a, a.parsePorts(address[i+1:])
}

func (a *Allow) parseHost(host string) error {
	if h, ok := strings.CutPrefix(host, "["); ok {
		var closed bool
		if host, closed = strings.CutSuffix(h, "]"); !closed {
			return fmt.Errorf("%q has no closing bracket", "["+h)
		}
	} else if strings.ContainsRune(host, ':') {
		return fmt.Errorf("write an IPv6 address in brackets: [%s]", host)
	}
	if host == "*" {
		return nil
	}
	if prefix, err := netip.ParsePrefix(host); err == nil {
		a.Prefix = prefix.Masked()
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		a.Prefix = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
		return nil
	}
	const maxHost = 253 // bytes of a name in the DNS
	if host == "" || len(host) > maxHost || strings.ContainsAny(host, "/*[] ") || strings.ContainsFunc(host, func(r rune) bool { return r < ' ' }) {
		return fmt.Errorf("%q is no address, range or name of a host; * stands for all", host)
	}
	a.Name = host
	return nil
}

func (a *Allow) parsePorts(ports string) error {
	if ports == "*" {
		a.Low, a.High = 0, 65535
		return nil
	}
	low, high, isRange := strings.Cut(ports, "-")
	if !isRange {
		high = low
	}
	l, err := strconv.ParseUint(low, 10, 16)
	h, err2 := strconv.ParseUint(high, 10, 16)
	if err != nil || err2 != nil || l > h {
		return fmt.Errorf("%q is no port number, range of them like 8000-8999, or *", ports)
	}
	a.Low, a.High = uint16(l), uint16(h)
	return nil
}

// String returns the rule so that ParseAllow gives it back.
func (a Allow) String() string {
	if a.Network == "unix" {
		if a.Path == "" {
			return "unix://*"
		}
		return "unix://" + a.Path
	}
	host := "*"
	switch {
	case a.Name != "":
		host = a.Name
	case a.Prefix.IsValid():
		host = a.Prefix.String()
		if a.Prefix.IsSingleIP() {
			host = a.Prefix.Addr().String()
		}
		if a.Prefix.Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	ports := fmt.Sprintf("%d-%d", a.Low, a.High)
	switch {
	case a.Low == 0 && a.High == 65535:
		ports = "*"
	case a.Low == a.High:
		ports = strconv.Itoa(int(a.Low))
	}
	return a.Network + "://" + host + ":" + ports
}

// MarshalText returns String.
func (a Allow) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAllow.
func (a *Allow) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAllow(string(text))
	return err
}

func (*Allow) want() string { return `addresses in quotes, like "tcp://10.0.0.0/8:5432"` }
