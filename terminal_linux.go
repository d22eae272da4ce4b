package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// lineKeys makes the keys that detach end a line of a terminal, so that it gives them to who reads without giving up
// its editing of lines. The function that it returns takes that back.
func lineKeys(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	with := *before
	with.Iflag &^= unix.IXON // Ctrl-Q is a key here
	with.Cc[unix.VEOL], with.Cc[unix.VEOL2] = keyDetach, keyQ
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &with); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil // a terminal that is gone needs nothing
}
