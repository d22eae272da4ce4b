package wasi

import (
	"errors"
	"net/netip"
	"slices"
)

// Phase is how far a socket is that the guest made.
type Phase string

// The phases of a socket.
const (
	PhaseNew       Phase = "new"
	PhaseBound     Phase = "bound"
	PhaseListening Phase = "listening"
	PhaseConnected Phase = "connected" // or about to be
)

// MadeSocket is how the guest made a socket, so that it can be made again.
type MadeSocket struct {
	// Network is tcp4, tcp6, udp4, udp6 or unix.
	Network string `json:"network"`
	// Phase is how far it is.
	Phase Phase `json:"phase"`
	// Bound is the address that the guest bound it to, Remote the one that it connected it to.
	Bound  Text `json:"bound,omitempty"`
	Remote Text `json:"remote,omitempty"`
	// Backlog is that of a listening socket.
	Backlog int `json:"backlog,omitempty"`
	// Options are those that the guest has set.
	Options []SocketOptionValue `json:"options,omitempty"`
}

// SocketOptionValue is an option of a socket that was set.
type SocketOptionValue struct {
	// Option is the number in WasmEdge's sock_setsockopt, TCP_NODELAY 1,000.
	Option SocketOption `json:"option"`
	// Value is what it was set to.
	Value int32 `json:"value"`
}

// SocketOption is an option of a socket.
type SocketOption uint32

// The options that are known, with the numbers of WasmEdge's level SOL_SOCKET.
const (
	OptionReuseAddr  SocketOption = 0
	OptionType       SocketOption = 1
	OptionError      SocketOption = 2
	OptionDontRoute  SocketOption = 3
	OptionBroadcast  SocketOption = 4
	OptionSendBuffer SocketOption = 5
	OptionRecvBuffer SocketOption = 6
	OptionKeepAlive  SocketOption = 7
	OptionAccepting  SocketOption = 13
	OptionNoDelay    SocketOption = 1000
)

// settable are the options that a guest may set.
var settable = []SocketOption{OptionReuseAddr, OptionDontRoute, OptionBroadcast, OptionSendBuffer, OptionRecvBuffer,
	OptionKeepAlive, OptionNoDelay}

const maxBacklog = 1 << 20

func (s *MadeSocket) check(typ FileType) error {
	stream := s.Network == "tcp4" || s.Network == "tcp6" || s.Network == "unix"
	dgram := s.Network == "udp4" || s.Network == "udp6"
	bound, ok1 := parseAddress(string(s.Bound))
	remote, ok2 := parseAddress(string(s.Remote))
	has := func(a Address) bool {
		if s.Network == "unix" {
			return a.Path != ""
		}
		return a.IP.IsValid()
	}
	switch {
	case stream && typ != FileSocketStream, dgram && typ != FileSocketDgram, !stream && !dgram:
		return errors.New("a socket of another network than its type")
	case !ok1 || !ok2 || s.Bound != "" && !has(bound) || s.Remote != "" && !has(remote):
		return errors.New("a bad address of a socket")
	case s.Backlog < 0 || s.Backlog > maxBacklog:
		return errors.New("a bad backlog of a socket")
	case len(s.Options) > len(settable):
		return errors.New("too many options of a socket")
	}
	for _, o := range s.Options {
		if !slices.Contains(settable, o.Option) {
			return errors.New("an unknown option of a socket")
		}
	}
	switch s.Phase {
	case PhaseNew, PhaseConnected:
	case PhaseBound, PhaseListening:
		if s.Bound == "" && s.Phase == PhaseBound || s.Phase == PhaseListening && !stream {
			return errors.New("a socket in a phase that it cannot be in")
		}
	default:
		return errors.New("an unknown phase of a socket")
	}
	return nil
}

// set notes an option.
func (s *MadeSocket) set(option SocketOption, value int32) {
	for i := range s.Options {
		if s.Options[i].Option == option {
			s.Options[i].Value = value
			return
		}
	}
	s.Options = append(s.Options, SocketOptionValue{option, value})
}

// listens reports whether connections are accepted from the descriptor.
func (o *open) listens() bool {
	return o.Kind == KindListener && o.Type == FileSocketStream || o.Kind == KindSocket && o.Made.Phase == PhaseListening
}

// allowed reports whether one of the rules allows the address.
func (h *Host) allowed(rules []SocketRule, network string, a Address) bool {
	resolve := func(name string) []netip.Addr {
		list, errno := h.k.Resolve(name)
		if errno != ESUCCESS {
			return nil
		}
		return list
	}
	for i := range rules {
		if rules[i].allows(network, a, resolve) {
			return true
		}
	}
	return false
}
