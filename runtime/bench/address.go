package bench

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// FreeAddress returns a TCP address of this machine, HOST:PORT, on which nobody listens now. Somebody else may take it at any
// time. It does not listen there itself: a process that is forked in that moment would have the listener for as long, and
// who connects then would be reset.
func FreeAddress() (address string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("look for a free address: %w", err)
		}
	}()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	unix.CloseOnExec(fd)
	defer unix.Close(fd)
	// So that nobody is kept from binding it by a descriptor that was forked.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return "", err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port), nil
}
