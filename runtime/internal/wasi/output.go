package wasi

import (
	"math"
	"time"
)

// Output takes what a guest writes to its standard output and error.
type Output interface {
	// Write takes all or a first part of p without waiting; p is valid during the call only. When n is 0 and wait is
	// not, nothing can be taken for so long. An error that is an errno of the system reaches the guest as that, any
	// other as EIO. stream is 1 or 2. It is called by the goroutine that calls the Host.
	Write(stream int, p []byte) (n int, wait time.Duration, err error)
}

const (
	// outputHandle is the Handle of stream 0 of an Output; no descriptor of the system has such a number.
	outputHandle Handle = math.MaxInt32 - 2
	// outputJoin is up to how many bytes, in several buffers, an Output gets in one Write.
	outputJoin = 64 << 10
	// outputWait is the shortest wait that an Output is believed, in nanoseconds: it bounds how often it is asked.
	outputWait = 100e3
)

// outputKernel is a Kernel whose standard output and error are an Output.
type outputKernel struct {
	Kernel
	out   Output
	ready [3]int64 // by stream: when the Output can be asked again, in the time of ClockMonotonic
	rest  []PollFD // scratch of Poll
	join  []byte   // scratch of Write
}

// WithOutput returns k with two handles more, which belong into Config.Stdio: what is written to them out takes. To the
// guest they are terminals, so that its C library hands on each line when it is complete. While the Output takes
// nothing they are not ready to be written, so that the guest waits in Poll, where an interrupt finds it.
func WithOutput(k Kernel, out Output) (with Kernel, stdout, stderr Handle) {
	return &outputKernel{Kernel: k, out: out}, outputHandle + 1, outputHandle + 2
}

func isOutput(h Handle) bool { return h > outputHandle }

// Stat implements Kernel.
func (k *outputKernel) Stat(h Handle) (Stat, Errno) {
	if !isOutput(h) {
		return k.Kernel.Stat(h)
	}
	return Stat{Ino: uint64(h - outputHandle), Nlink: 1, Type: FileCharDevice, Terminal: true}, ESUCCESS
}

// Sync implements Kernel, as it is for a terminal.
func (k *outputKernel) Sync(h Handle, dataOnly bool) Errno {
	if !isOutput(h) {
		return k.Kernel.Sync(h, dataOnly)
	}
	return EINVAL
}

// SetTimes implements Kernel.
func (k *outputKernel) SetTimes(h Handle, atim, mtim TimeUpdate) Errno {
	if !isOutput(h) {
		return k.Kernel.SetTimes(h, atim, mtim)
	}
	return EPERM
}

// Write implements Kernel.
func (k *outputKernel) Write(h Handle, bufs [][]byte, offset int64, flags WriteFlags) (int, int64, Errno) {
	if !isOutput(h) {
		return k.Kernel.Write(h, bufs, offset, flags)
	}
	p := k.joined(bufs)
	if len(p) == 0 {
		return 0, 0, ESUCCESS
	}
	stream := int(h - outputHandle)
	n, wait, err := k.out.Write(stream, p)
	switch {
	case n > 0:
		return min(n, len(p)), 0, ESUCCESS // an error comes again with what is left
	case err != nil:
		errno := toErrno(err)
		if errno == EAGAIN || errno == EINTR {
			errno = EIO // to wait is said otherwise
		}
		return 0, 0, errno
	}
	now, errno := k.Now(ClockMonotonic)
	if errno != ESUCCESS {
		return 0, 0, errno
	}
	k.ready[stream] = now + min(max(int64(wait), outputWait), math.MaxInt64-now)
	return 0, 0, EAGAIN
}

// joined returns the beginning of bufs as one piece.
func (k *outputKernel) joined(bufs [][]byte) []byte {
	for len(bufs) > 0 && len(bufs[0]) == 0 {
		bufs = bufs[1:]
	}
	switch {
	case len(bufs) == 0:
		return nil
	case len(bufs) == 1 || len(bufs[0]) >= outputJoin:
		return bufs[0][:min(len(bufs[0]), maxTransfer)]
	}
	k.join = k.join[:0]
	for _, b := range bufs {
		k.join = append(k.join, b[:min(len(b), outputJoin-len(k.join))]...)
	}
	return k.join
}

// Poll implements Kernel: an Output is ready when its wait is over.
func (k *outputKernel) Poll(fds []PollFD, deadline int64) (int, Errno) {
	rest, until := k.rest[:0], deadline
	for i := range fds {
		f := &fds[i]
		if !isOutput(f.Handle) {
			rest = append(rest, *f)
			continue
		}
		if ready := k.ready[f.Handle-outputHandle]; f.Events&PollOut != 0 && (until < 0 || ready < until) {
			until = ready
		}
	}
	k.rest = rest
	if len(rest) == len(fds) {
		return k.Kernel.Poll(fds, deadline)
	}
	_, errno := k.Kernel.Poll(rest, until)
	interrupted := errno == EINTR
	if errno != ESUCCESS && !interrupted {
		return 0, errno
	}
	now, errno := k.Now(ClockMonotonic)
	if errno != ESUCCESS {
		return 0, errno
	}
	n := 0
	for i := range fds {
		f := &fds[i]
		f.Revents, f.Available = 0, 0
		switch {
		case isOutput(f.Handle):
			if f.Events&PollOut != 0 && k.ready[f.Handle-outputHandle] <= now {
				f.Revents = PollOut
			}
		case interrupted:
		default:
			f.Revents, f.Available = rest[0].Revents, rest[0].Available
			rest = rest[1:]
		}
		if f.Revents != 0 {
			n++
		}
	}
	if n == 0 && interrupted {
		return 0, EINTR
	}
	return n, ESUCCESS
}
