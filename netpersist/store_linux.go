package netpersist

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// storeName is the name of all that a keeper has in systemd's descriptor store.
	storeName = "keeper"
	// storePortion is how many descriptors go in one message: less than what the kernel passes in one.
	storePortion = 128
	// storedWithin is how long systemd may take to have taken them.
	storedWithin = 30 * time.Second
	// firstPassed is the number of the first descriptor that systemd passes.
	firstPassed = 3
)

// Notify tells systemd, which has started this program, what its protocol has as lines of NAME=VALUE. Without systemd it
// does nothing.
func Notify(state string, fds ...int) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer unix.Close(fd) // what was sent is sent
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(fd, []byte(state), oob, &unix.SockaddrUnix{Name: name}, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Store gives all that the keeper holds to systemd's descriptor store, for the next keeper to take with [TakeStored], and
// returns when systemd has it. The caller ends the program after it; after an error it closes the keeper.
func (k *Keeper) Store() error {
	var w stateWriter
	fds := k.writeState(&w)
	for _, fd := range fds {
		id, err := cookie(fd)
		if err != nil {
			return err
		}
		w.put(&message{typ: msgDescriptor, a: uint64(fd), b: id})
	}
	state, err := w.file()
	if err != nil {
		return err
	}
	defer unix.Close(state) // systemd has its own
	// The state comes last: without it nothing else is of use.
	for fds = append(fds, state); len(fds) > 0; {
		n := min(len(fds), storePortion)
		if err := Notify("FDSTORE=1\nFDPOLL=0\nFDNAME="+storeName, fds[:n]...); err != nil {
			return err
		}
		fds = fds[n:]
	}
	return barrier()
}

// barrier returns when systemd has read what was sent to it before.
func barrier() error {
	var pair [2]int
	if err := unix.Pipe2(pair[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer unix.Close(pair[0]) // nothing is written there
	err := Notify("BARRIER=1", pair[1])
	_ = unix.Close(pair[1]) // the same; systemd closes its own
	if err != nil {
		return err
	}
	n, err := 0, error(unix.EINTR)
	for err == unix.EINTR {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(pair[0])}}, int(storedWithin.Milliseconds()))
	}
	if err == nil && n == 0 {
		err = unix.ETIMEDOUT
	}
	if err != nil {
		return fmt.Errorf("wait for systemd: %w", err)
	}
	return nil
}

// TakeStored makes a keeper of what systemd has passed to this program from its descriptor store, and empties that. It
// returns nil if there is nothing. listen makes the listening socket if that is not among it.
func TakeStored(listen func() (int, error)) (*Keeper, error) {
	fds := passed()
	if len(fds) == 0 {
		return nil, nil
	}
	state := -1
	byCookie := make(map[uint64]int, len(fds))
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if id, err := cookie(fd); err == nil {
			byCookie[id] = fd
		} else {
			state = fd
		}
	}
	k, err := takeStored(state, byCookie, listen)
	// In any case: what is there is in use now, or of no use.
	return k, errors.Join(err, Notify("FDSTOREREMOVE=1\nFDNAME="+storeName))
}

// passed returns the descriptors that systemd has passed.
func passed() (fds []int) {
	pid, n := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // they are not of a program that this one executes; a name that is valid can be removed
	}
	if count, err := strconv.Atoi(n); err == nil && pid == strconv.Itoa(os.Getpid()) {
		for i := range count {
			fds = append(fds, firstPassed+i)
		}
	}
	return fds
}

// takeStored makes a keeper of a state whose descriptors have other numbers. What is not in it is closed.
func takeStored(state int, byCookie map[uint64]int, listen func() (int, error)) (*Keeper, error) {
	closeAll := func() {
		for _, fd := range byCookie {
			_ = unix.Close(fd) // nobody has a use for it
		}
	}
	if state < 0 {
		closeAll()
		return nil, fmt.Errorf("%w: systemd has passed sockets without a keeper's state", errMessage)
	}
	ms, err := readState(state)
	if err != nil {
		closeAll()
		return nil, err
	}
	number := make(map[uint64]uint64) // now, by what it was
	for _, m := range ms {
		if fd, ok := byCookie[m.b]; m.typ == msgDescriptor && ok {
			number[m.a] = uint64(fd)
			delete(byCookie, m.b)
		}
	}
	closeAll()
	var kept []message
	for _, m := range ms {
		fd, ok := number[m.a]
		switch m.typ {
		case msgDescriptor:
			continue
		case msgControl:
			if !ok {
				made, err := listen()
				if err != nil {
					return nil, err
				}
				fd = uint64(made)
			}
			m.a = fd
		case msgWorker, msgSocket:
			if !ok {
				continue // lost on the way
			}
			m.a = fd
			if queue, ok := number[m.b]; m.typ == msgSocket && m.b != noQueue {
				if m.b = queue; !ok {
					m.b = noQueue
				}
			}
		}
		kept = append(kept, m)
	}
	return takeOver(kept)
}
