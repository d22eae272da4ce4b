package wasi

import (
	"errors"
	"fmt"
)

// Preopen is a directory that the guest is given.
type Preopen struct {
	Host     string // the directory's path outside
	Guest    string // its name inside; a program resolves its paths against these names
	ReadOnly bool   // as if mounted read-only: what would change it fails with EROFS
}

// Listener is a listening socket that the guest is given.
type Listener struct {
	Network string // tcp, tcp4, tcp6, udp, udp4, udp6, unix
	Address string // host:port, or the path of a unix socket
}

// Limits bounds what a guest can make its host hold. A zero value stands for
// the default that its comment names.
type Limits struct {
	Descriptors   int // open descriptors, and one more than the highest number; 65536
	ListingBytes  int // entries of all directories that are being read; 64 MiB at most and by default
	Subscriptions int // of one poll_oneoff; 131072
}

// Config is what a guest is given. Descriptors 0, 1 and 2 are the standard
// streams; the directories follow from 3, and then the listeners.
type Config struct {
	Args      []string // the program's name first; ignored by Restore
	Env       []string // NAME=VALUE; ignored by Restore
	Preopens  []Preopen
	Listeners []Listener
	// AllowConnect and AllowBind are the addresses that the guest may connect to
	// and send to, and bind sockets of its own to.
	AllowConnect, AllowBind []SocketRule
	// Stdio are the Kernel's handles of the standard streams, which stay the
	// caller's; NoHandle leaves one out. Nil stands for 0, 1 and 2.
	Stdio  *[3]Handle
	Limits Limits
}

// ErrInterrupted is returned by a call that would block while an interrupt is
// pending. [Host.Resume] carries it out.
var ErrInterrupted = errors.New("WASI call interrupted")

// ExitError is how a guest ends: by proc_exit, or by a signal that it raised.
type ExitError struct {
	Code uint32 // the exit status; 128 plus Linux's number for a signal
}

// Error says how the guest ended.
func (e *ExitError) Error() string { return fmt.Sprintf("guest exited with code %d", e.Code) }

// open is a descriptor that is in use: the saved part and what it is attached
// to.
type open struct {
	Descriptor
	handle   Handle // NoHandle if it could not be attached
	owned    bool   // close handle with the descriptor
	dead     Errno  // what every use fails with, if it could not be attached
	stream   bool   // has no offset: transfers wait in Poll
	fifo     bool   // a pipe or named pipe
	terminal bool
	readOnly bool // in a read-only directory

	pollSlots [2]int // where in pollScratch.fds it was last asked to be readable and writable
}

// Host is the host of one guest. Make one with [New] or [Restore].
type Host struct {
	k   Kernel
	cfg Config

	args, env []Text
	preopens  []preopen
	listeners int     // how many the guest was given
	table     []*open // by the guest's number; nil is free
	count     int     // of entries in table that are not nil
	exit      *uint32
	pending   *Pending
	cut       uint64 // of the State that was saved last

	// The guest's monotonic and CPU time are the kernel's plus these.
	monotonicBase, cpuBase int64

	// The call under way: set by Call and Resume.
	issued   int64 // guest monotonic time of the first issue; -1 if not yet read
	deadline int64 // for Pending
	resumes  bool  // it was interrupted before

	// Scratch, to keep calls from allocating.
	iov  [][]byte
	poll pollScratch
}

// preopen is a directory that the guest was given. It stays open when the guest
// closes its descriptor: paths of other descriptors are relative to it.
type preopen struct {
	PreopenState
	handle   Handle // NoHandle if it could not be attached
	readOnly bool
}

// New returns a Host for a guest that starts anew.
func New(cfg Config, k Kernel) (*Host, error) {
	h, err := newHost(cfg, k)
	if err != nil {
		return nil, err
	}
	if err := h.fill(); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// newHost returns a Host without descriptors.
func newHost(cfg Config, k Kernel) (*Host, error) {
	if k == nil {
		return nil, errors.New("WASI host needs a Kernel")
	}
	setDefault := func(v *int, def, most int) {
		if *v <= 0 {
			*v = def
		}
		*v = min(*v, most)
	}
	setDefault(&cfg.Limits.Descriptors, 65536, maxDescriptors)
	setDefault(&cfg.Limits.ListingBytes, maxListingBytes, maxListingBytes)
	setDefault(&cfg.Limits.Subscriptions, 131072, 1<<20)
	if cfg.Stdio == nil {
		cfg.Stdio = &[3]Handle{0, 1, 2}
	}
	cfg.Preopens = append([]Preopen(nil), cfg.Preopens...)
	cfg.Listeners = append([]Listener(nil), cfg.Listeners...)
	return &Host{k: k, cfg: cfg}, nil
}

// fill gives a fresh Host its descriptors.
func (h *Host) fill() error {
	for _, a := range h.cfg.Args {
		h.args = append(h.args, Text(a))
	}
	for _, e := range h.cfg.Env {
		h.env = append(h.env, Text(e))
	}
	for i := range h.cfg.Preopens {
		h.preopens = append(h.preopens, preopen{PreopenState: PreopenState{Guest: Text(h.cfg.Preopens[i].Guest)}, handle: NoHandle})
	}
	h.listeners = len(h.cfg.Listeners)
	probe := State{Version: StateVersion, Args: h.args, Env: h.env, Listeners: h.listeners}
	for i := range h.preopens {
		probe.Preopens = append(probe.Preopens, h.preopens[i].PreopenState)
	}
	if err := probe.check(); err != nil {
		return err
	}
	if n := 3 + len(h.cfg.Preopens) + len(h.cfg.Listeners); n > h.cfg.Limits.Descriptors {
		return fmt.Errorf("%d descriptors at the start (limit %d)", n, h.cfg.Limits.Descriptors)
	}
	if err := h.startClocks(Clocks{Monotonic: monotonicStart}); err != nil {
		return err
	}
	for i := range h.cfg.Stdio {
		if o, ok := h.standard(i); ok {
			h.put(uint32(i), o)
		}
	}
	for i := range h.preopens {
		o, err := h.openPreopen(i)
		if err != nil {
			return err
		}
		h.put(uint32(3+i), o)
	}
	if err := h.k.Attach(0); err != nil {
		return err
	}
	for i, l := range h.cfg.Listeners {
		handle, err := h.k.Listen(l.key(i), l.Network, l.Address, "")
		if err != nil {
			return err
		}
		h.put(uint32(3+len(h.preopens)+i), newListener(i, l.Network, handle))
	}
	_, err := h.k.Settle() // what a life before left is not for this one
	return err
}

// key names the listener of that index over restarts. One that is given another address is another one.
func (l *Listener) key(index int) string {
	return fmt.Sprintf("%d %s %s", index, l.Network, l.Address)
}

// Call carries out the function with that index in [Functions]. mem is the
// guest's whole linear memory; args are the raw arguments. The result is the
// error number that the guest gets. A non-nil error is an *ExitError if the
// guest ends, ErrInterrupted if the call would block and an interrupt is
// pending, or says that index or args are wrong.
func (h *Host) Call(index int, mem []byte, args []uint64) (uint32, error) {
	if index < 0 || index >= len(functions) {
		return 0, fmt.Errorf("no WASI function %d", index)
	}
	f := &functions[index]
	if len(args) != len(f.Params) {
		return 0, fmt.Errorf("%s called with %d arguments, has %d", f.Name, len(args), len(f.Params))
	}
	h.pending = nil
	h.issued, h.resumes = -1, false
	return h.run(f, mem, args)
}

// Resume carries out the call that was interrupted, with the results of
// [Host.Call]. It counts timeouts from when the guest made the call.
func (h *Host) Resume(mem []byte) (uint32, error) {
	p := h.pending
	if p == nil {
		return 0, errors.New("no WASI call to resume")
	}
	i, ok := FunctionIndex(p.Function)
	if !ok {
		return 0, fmt.Errorf("no WASI function %s", p.Function)
	}
	h.pending = nil
	h.issued, h.resumes = p.Issued, true
	return h.run(&functions[i], mem, p.Args)
}

func (h *Host) run(f *function, mem []byte, args []uint64) (uint32, error) {
	if h.exit != nil {
		return 0, &ExitError{Code: *h.exit}
	}
	h.deadline = -1
	errno, err := f.call(h, mem, args)
	if err == nil {
		return uint32(errno), nil
	}
	if err == ErrInterrupted {
		if h.issued < 0 {
			h.issued = h.monotonic()
		}
		h.pending = &Pending{
			Function: f.Name,
			Args:     append([]uint64(nil), args...),
			Issued:   h.issued,
			Deadline: h.deadline,
		}
	}
	return 0, err
}

// Pending returns the call that waits to be resumed, if there is one.
func (h *Host) Pending() (Pending, bool) {
	if h.pending == nil {
		return Pending{}, false
	}
	return *h.pending, true
}

// Interrupt makes the call under way, and every later one, return
// ErrInterrupted instead of blocking, until ClearInterrupt.
func (h *Host) Interrupt() { h.k.Interrupt(true) }

// ClearInterrupt undoes Interrupt.
func (h *Host) ClearInterrupt() { h.k.Interrupt(false) }

// Cut returns the number of the State that was saved last; 0 if none was.
func (h *Host) Cut() uint64 { return h.cut }

// Close gives back everything that the Host opened. It leaves the standard
// streams alone. The Host is of no use afterwards.
func (h *Host) Close() {
	for fd := range h.table {
		if h.table[fd] != nil {
			h.drop(uint32(fd))
		}
	}
	for i := range h.preopens {
		if h.preopens[i].handle != NoHandle {
			h.k.Close(h.preopens[i].handle) // directories hold no data to lose
			h.preopens[i].handle = NoHandle
		}
	}
}

// get returns the descriptor of that number.
func (h *Host) get(fd uint32) (*open, Errno) {
	if uint64(fd) >= uint64(len(h.table)) || h.table[fd] == nil {
		return nil, EBADF
	}
	return h.table[fd], ESUCCESS
}

// live returns the descriptor of that number if it is attached.
func (h *Host) live(fd uint32) (*open, Errno) {
	o, errno := h.get(fd)
	if errno == ESUCCESS {
		errno = o.dead
	}
	return o, errno
}

// put puts o at a free number below the limit.
func (h *Host) put(fd uint32, o *open) {
	for uint64(len(h.table)) <= uint64(fd) {
		h.table = append(h.table, nil)
	}
	o.FD = fd
	h.table[fd] = o
	h.count++
}

// free returns the lowest free number.
func (h *Host) free() (uint32, Errno) {
	if h.count < len(h.table) {
		for fd, o := range h.table {
			if o == nil {
				return uint32(fd), ESUCCESS
			}
		}
	}
	if len(h.table) >= h.cfg.Limits.Descriptors {
		return 0, EMFILE
	}
	return uint32(len(h.table)), ESUCCESS
}

// drop closes the descriptor of that number, which is in use.
func (h *Host) drop(fd uint32) Errno {
	o := h.table[fd]
	h.table[fd] = nil
	h.count--
	for len(h.table) > 0 && h.table[len(h.table)-1] == nil {
		h.table = h.table[:len(h.table)-1]
	}
	if !o.owned || o.handle == NoHandle {
		return ESUCCESS
	}
	return h.k.Close(o.handle)
}

// wait waits until the descriptor has one of the events, or until the deadline
// in kernel time (negative: for ever). It returns ErrInterrupted if an
// interrupt is pending first.
func (h *Host) wait(o *open, events PollEvents, deadline int64) (Errno, error) {
	fds := h.poll.one[:0]
	if o != nil {
		fds = append(fds, PollFD{Handle: o.handle, Events: events})
	}
	for {
		n, errno := h.k.Poll(fds, deadline)
		switch {
		case errno == EINTR:
			if h.k.Interrupted() {
				return ESUCCESS, ErrInterrupted
			}
			continue // cleared between the kernel's look and ours
		case errno != ESUCCESS:
			return errno, nil
		case n > 0 && fds[0].Revents&PollInvalid != 0:
			return EBADF, nil
		}
		return ESUCCESS, nil
	}
}
