package keeper

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"perdure/netpersist"
	"perdure/runtime"
)

// sharedWithin is how long a process waits for the keeper that it shares: whoever looks after that has to notice that it
// is gone, and to start another.
const sharedWithin = 10 * time.Second

// Place says which keeper a process uses.
type Place struct {
	// Path is the keeper's unix socket, Owner whose sockets they are.
	Path, Owner string
	// KeepFor is how long the sockets are kept while nobody comes for them.
	KeepFor time.Duration
	// Own says that the keeper is of this process alone, which starts it when there is none. Else there has to be one.
	Own bool
	// Report is told what an operator should know.
	Report func(string)
}

// Connect connects to the keeper.
func (p Place) Connect() (runtime.SocketKeeper, error) {
	o := netpersist.ClientOptions{Path: p.Path, Owner: p.Owner, KeepFor: p.KeepFor, Wait: sharedWithin, Report: p.Report}
	if p.Own {
		o.Start = func(listener int) error {
			// This very program, though its file may have been replaced.
			cmd, err := start("/proc/self/exe", p.Path, listener)
			if err != nil {
				return err
			}
			return cmd.Process.Release() // it is not waited for
		}
	}
	client, err := netpersist.Connect(o)
	if err != nil {
		return nil, err
	}
	return kept{client}, nil
}

// Forget makes a shared keeper let go of the sockets of a process that is to be removed. It is no error if there is no
// keeper.
func Forget(path, owner string) error {
	client, err := netpersist.Connect(netpersist.ClientOptions{Path: path, Owner: owner})
	if err != nil {
		return nil
	}
	defer client.Close() // nothing more is said
	return client.Forget()
}

// start starts a keeper on a listening socket. It outlives this program, and leaves when it has nothing to do.
func start(program, path string, listener int) (*exec.Cmd, error) {
	cmd := exec.Command(program, "keeper", "--socket", path, "--fd", "3", "--leave")
	cmd.Args[0] = "perdure"
	fd, err := syscall.Dup(listener)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	cmd.ExtraFiles = []*os.File{f}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a keeper of sockets: %w", err)
	}
	return cmd, nil
}
