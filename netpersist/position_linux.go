package netpersist

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Position is how far a TCP connection was used from our side, in bytes since it was established. Only what we do
// moves it: bytes that arrive or are acknowledged do not.
type Position struct {
	Consumed uint64 // read from the socket
	Written  uint64 // given to the socket
	Closed   bool   // our side of the stream was shut down for writing
	Deaf     bool   // and for reading, before the peer had ended its side
}

// Linux's states of a TCP connection.
const (
	tcpEstablished = iota + 1
	tcpSynSent
	tcpSynRecv
	tcpFinWait1
	tcpFinWait2
	tcpTimeWait
	tcpClose
	tcpCloseWait
	tcpLastAck
	tcpListen
	tcpClosing
	tcpNewSynRecv
)

// pollRdhup is POLLRDHUP: nothing more will be received.
const pollRdhup = unix.POLLRDHUP

// PositionOf returns the position of a TCP socket. Dialled says that our side opened the connection. It relies on
// SO_OOBINLINE being set. Final reports that the connection is over for both sides: the kernel then does not tell any more
// whether a side's end had been sent or received, so that each number may be one too high, and Closed and Deaf are false.
func PositionOf(fd int, dialled bool) (p Position, final bool, err error) {
	for {
		before, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return Position{}, false, fmt.Errorf("read the state of a connection: %w", err)
		}
		in, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
		if err != nil {
			return Position{}, false, fmt.Errorf("read what a connection has to be read: %w", err)
		}
		out, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		if err != nil {
			return Position{}, false, fmt.Errorf("read what a connection has to be sent: %w", err)
		}
		hangup := deaf(fd)
		after, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return Position{}, false, fmt.Errorf("read the state of a connection: %w", err)
		}
		if before.State != after.State || before.Bytes_received != after.Bytes_received || before.Bytes_acked != after.Bytes_acked {
			continue // bytes arrived in between; this ends, since the kernel takes time for them too
		}
		return position(after, uint64(max(in, 0)), uint64(max(out, 0)), dialled, hangup)
	}
}

// position computes a position from the kernel's counters.
func position(info *unix.TCPInfo, in, out uint64, dialled, hangup bool) (p Position, final bool, err error) {
	p = Position{Consumed: info.Bytes_received - in, Written: info.Bytes_acked + out}
	switch info.State {
	case tcpSynSent, tcpSynRecv, tcpListen, tcpNewSynRecv:
		return Position{}, false, nil // not established yet
	case tcpClose:
		if info.Bytes_received == 0 && info.Bytes_acked == 0 && out == 0 {
			return Position{}, true, nil // never was a connection, or one without a byte
		}
		final = true
	case tcpCloseWait, tcpLastAck, tcpClosing, tcpTimeWait:
		p.Consumed-- // the peer's end of stream counts as a byte
	case tcpEstablished, tcpFinWait1, tcpFinWait2:
		p.Deaf = hangup
	default:
		return Position{}, false, fmt.Errorf("connection in unknown state %d", info.State)
	}
	switch info.State {
	case tcpFinWait1, tcpFinWait2, tcpClosing, tcpLastAck, tcpTimeWait:
		p.Written-- // so does ours
		p.Closed = true
	}
	if dialled {
		p.Written-- // and the opening
	}
	if p.Consumed > 1<<63 || p.Written > 1<<63 {
		return Position{}, final, fmt.Errorf("the kernel's counters of a connection in state %d make no sense: %d received, %d unread, %d acknowledged, %d unsent",
			info.State, info.Bytes_received, in, info.Bytes_acked, out)
	}
	return p, final, nil
}

// deaf reports whether the socket will receive nothing more.
func deaf(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: pollRdhup}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&pollRdhup != 0
}

// Unmoved reports whether a connection that stood at saved stands there still. Final is what PositionOf said with now.
func (saved Position) Unmoved(now Position, final bool) bool {
	if !final {
		return saved == now
	}
	// An end of the peer that came and a byte that was consumed look the same. What cannot be told apart has moved.
	if saved.Closed {
		saved.Written++
	}
	return saved.Consumed == now.Consumed && saved.Written == now.Written
}
