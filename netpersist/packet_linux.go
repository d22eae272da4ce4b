package netpersist

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// packet is a message and the descriptors that came with it, which belong to whoever has the packet.
type packet struct {
	message
	fds []int
}

// close closes the descriptors that nobody took.
func (p *packet) close() {
	for _, fd := range p.fds {
		_ = unix.Close(fd) // a duplicate that was never used
	}
	p.fds = nil
}

// takeFD takes the i-th descriptor out of the packet.
func (p *packet) takeFD(i int) int {
	fd := p.fds[i]
	p.fds = append(p.fds[:i:i], p.fds[i+1:]...)
	return fd
}

// transfer sends and receives packets, with its own scratch.
type transfer struct {
	data [maxMessage + 1]byte
	oob  []byte
	out  []byte
}

// errLostFDs says that a message came without its descriptors: this process may not open any more.
var errLostFDs = fmt.Errorf("descriptors were lost on the way: %w", unix.EMFILE)

// receive receives one packet. io.EOF is the end; unix.EAGAIN says that there is none now, if fd does not wait. With
// errLostFDs the message is good, and only its descriptors are not there.
func (t *transfer) receive(fd, flags int) (packet, error) {
	if t.oob == nil {
		t.oob = make([]byte, unix.CmsgSpace(4*maxEntries))
	}
	var n, oobn, got int
	var err error
	for {
		n, oobn, got, _, err = unix.Recvmsg(fd, t.data[:], t.oob, flags|unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return packet{}, err
	}
	p := packet{fds: rights(t.oob[:oobn])}
	switch {
	case n == 0 && len(p.fds) == 0:
		return packet{}, io.EOF
	case got&unix.MSG_TRUNC != 0 || n > maxMessage:
		p.close()
		return packet{}, fmt.Errorf("%w: too long", errMessage)
	}
	if p.message, err = decodeMessage(t.data[:n]); err != nil {
		p.close()
		return packet{}, err
	}
	if got&unix.MSG_CTRUNC != 0 {
		p.close()
		return p, errLostFDs
	}
	return p, nil
}

// rights returns the descriptors in control data.
func rights(oob []byte) []int {
	if len(oob) == 0 {
		return nil
	}
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for i := range controls {
		if got, err := unix.ParseUnixRights(&controls[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// send sends one packet. The descriptors stay the caller's.
func (t *transfer) send(fd int, m *message, flags int, fds ...int) error {
	var err error
	if t.out, err = m.append(t.out[:0]); err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		_, err = unix.SendmsgN(fd, t.out, oob, nil, flags|unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
