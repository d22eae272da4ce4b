//go:build !linux

package worker

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// Start starts a worker; there are none on this system, since a worker is watched as only Linux can.
func Start(exe string, s Spec) (*Handle, error) { return nil, errors.ErrUnsupported }

// Find returns the worker that runs the process in dir; there are none on this system.
func Find(dir string) (*Handle, error) { return nil, errors.ErrUnsupported }

// Signal sends the worker a signal; there are none on this system.
func (h *Handle) Signal(sig syscall.Signal) error { return errors.ErrUnsupported }

func signalOf(s *os.ProcessState) string { return "" }

// socketAddr returns the address of the socket in an open directory.
func socketAddr(dir *os.File) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: filepath.Join(dir.Name(), SocketFile)}
}
