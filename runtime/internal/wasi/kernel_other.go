//go:build !linux

package wasi

import "errors"

// System is the Kernel of the operating system. Only Linux has one.
type System struct{ Kernel }

// OS returns an error: Linux is the only system whose Kernel this package has.
func OS() (*System, error) {
	return nil, errors.New("the WASI host needs Linux")
}

// UseKeeper does nothing.
func (s *System) UseKeeper(SocketKeeper) {}

// Leave does nothing.
func (s *System) Leave() {}

// Park does nothing.
func (s *System) Park(uint64) error { return nil }

// Release does nothing.
func (s *System) Release() error { return nil }

// toErrno returns EIO for any error.
func toErrno(err error) Errno {
	if err == nil {
		return ESUCCESS
	}
	return EIO
}
