package config

import (
	"encoding"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Dir is a directory that a guest is given, written HOST[:GUEST[:ro]].
type Dir struct {
	Host     string
	Guest    string
	ReadOnly bool
}

// Listen is a listening socket that a guest is given: network tcp, tcp4, tcp6, udp, udp4, udp6 or unix, and an address as in package net.
type Listen struct {
	Network, Address string
}

// Address is HOST:PORT, or empty for none.
type Address string

var (
	_ encoding.TextUnmarshaler = (*Dir)(nil)
	_ encoding.TextUnmarshaler = (*Listen)(nil)
	_ encoding.TextUnmarshaler = (*Address)(nil)
)

// maxName bounds the name of a process, in bytes, so that it always is a file name.
const maxName = 100

// CheckName refuses names of processes that are not good names of directories.
func CheckName(name string) error {
	why := ""
	switch {
	case name == "":
		why = "is empty"
	case len(name) > maxName:
		why = fmt.Sprintf("has more than %d bytes", maxName)
	case strings.HasPrefix(name, "."):
		why = "begins with a dot"
	case strings.HasPrefix(name, "-"):
		why = "begins with a dash"
	case strings.Contains(name, "/"):
		why = "contains a slash"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		why = "has characters that cannot be printed"
	default:
		return nil
	}
	return fmt.Errorf("%q is no name for a process: it %s", name, why)
}

// ParseDir parses HOST[:GUEST[:ro]]. Without GUEST the guest sees the host's name.
func ParseDir(s string) (Dir, error) {
	parts := strings.Split(s, ":")
	d := Dir{Host: parts[0], Guest: parts[0]}
	if len(parts) > 1 && parts[1] != "" {
		d.Guest = parts[1]
	}
	switch {
	case d.Host == "":
		return d, errors.New("the directory is missing; write HOST[:GUEST[:ro]]")
	case len(parts) == 2 && (parts[1] == "ro" || parts[1] == "rw"):
		return d, fmt.Errorf("is %q a directory of the guest? write HOST:GUEST:ro, or HOST:/%s", parts[1], parts[1])
	case len(parts) == 3 && parts[2] == "ro":
		d.ReadOnly = true
	case len(parts) > 2:
		return d, fmt.Errorf("%q is not understood; write HOST[:GUEST[:ro]]", strings.Join(parts[2:], ":"))
	}
	return d, nil
}

// String returns the directory so that ParseDir gives it back.
func (d Dir) String() string {
	switch {
	case d.ReadOnly:
		return d.Host + ":" + d.Guest + ":ro"
	case d.Guest != d.Host:
		return d.Host + ":" + d.Guest
	}
	return d.Host
}

// MarshalText returns String.
func (d Dir) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDir.
func (d *Dir) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDir(string(text))
	return err
}

func (*Dir) want() string { return `a directory in quotes, like "/srv/data:/data"` }

// ParseListen parses tcp://HOST:PORT, alike tcp4, tcp6, udp, udp4 and udp6, and unix:///PATH.
func ParseListen(s string) (Listen, error) {
	network, address, ok := strings.Cut(s, "://")
	l := Listen{Network: network, Address: address}
	if !ok {
		return l, errors.New("write tcp://HOST:PORT or unix:///PATH")
	}
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return l, fmt.Errorf("write %s://HOST:PORT: %w", network, err)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return l, fmt.Errorf("%q is no port number", port)
		}
	case "unix":
		if address == "" {
			return l, errors.New("the path is missing; write unix:///PATH")
		}
	default:
		return l, fmt.Errorf("%q is no network; there are tcp, tcp4, tcp6, udp, udp4, udp6 and unix", network)
	}
	return l, nil
}

// String returns the socket so that ParseListen gives it back.
func (l Listen) String() string { return l.Network + "://" + l.Address }

// MarshalText returns String.
func (l Listen) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText is ParseListen.
func (l *Listen) UnmarshalText(text []byte) (err error) {
	*l, err = ParseListen(string(text))
	return err
}

func (*Listen) want() string { return `an address in quotes, like "tcp://127.0.0.1:8080"` }

// ParseAddress parses HOST:PORT; HOST may be missing, which means every address. An empty text is no address.
func ParseAddress(s string) (Address, error) {
	if s == "" {
		return "", nil
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New(`not an address; write HOST:PORT`)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%q is no port number", port)
	}
	return Address(s), nil
}

// Loopback tells whether only the machine itself can reach the address. A name other than localhost is taken for one
// that others can reach.
func (a Address) Loopback() bool {
	host, _, err := net.SplitHostPort(string(a))
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// UnmarshalText is ParseAddress.
func (a *Address) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAddress(string(text))
	return err
}

func (*Address) want() string { return `an address in quotes, like "127.0.0.1:9464"` }
