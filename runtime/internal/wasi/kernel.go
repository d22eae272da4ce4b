package wasi

import "net/netip"

// Handle names a descriptor of a Kernel. Handles of the Kernel that [OS]
// returns are the operating system's descriptor numbers.
type Handle int32

// NoHandle is the Handle of nothing.
const NoHandle Handle = -1

// Clock is one of the clocks that a Kernel reads.
type Clock uint8

// The clocks, with the numbers that preview 1 gives them.
const (
	ClockRealtime Clock = iota
	ClockMonotonic
	ClockProcessCPU
	ClockThreadCPU
)

// OpenFlags says how [Kernel.Open] opens.
type OpenFlags uint32

// The flags of Kernel.Open.
const (
	OpenRead OpenFlags = 1 << iota
	OpenWrite
	OpenCreate
	OpenExclusive
	OpenTruncate
	OpenDirectory // fails with ENOTDIR on anything else
	OpenNoFollow  // fails with ELOOP if the last component is a symbolic link, or names the link itself with OpenName
	OpenName      // the result only names the file: for Stat, SetTimes, Readlink, Path and as a directory of other calls
)

// Stat describes a file. Times are nanoseconds since 1970.
type Stat struct {
	Dev, Ino, Nlink uint64
	Size            uint64
	Type            FileType
	Fifo            bool // a pipe or named pipe
	Terminal        bool
	Atim            uint64
	Mtim            uint64
	Ctim            uint64
	Born            uint64 // when the file was created; 0 where the file system does not say
}

// DirEntry is one entry of a directory.
type DirEntry struct {
	Name string
	Ino  uint64
	Type FileType
}

// TimeUpdate says what happens to one of a file's times.
type TimeUpdate struct {
	Set bool   // otherwise the time stays
	Now bool   // the time becomes the kernel's present
	At  uint64 // otherwise this, in nanoseconds since 1970
}

// Offsets with a meaning of their own in Kernel.Read and Kernel.Write.
const (
	// AtPosition transfers at the kernel's own position of a file.
	AtPosition int64 = -1
	// Streaming transfers without waiting on what has no position: EAGAIN when
	// nothing can be transferred now.
	Streaming int64 = -2
)

// WriteFlags says how [Kernel.Write] writes.
type WriteFlags uint8

// The flags of Kernel.Write.
const (
	WriteAppend WriteFlags = 1 << iota // at the end of the file, atomically; the offset is ignored
	WriteDsync                         // data durable before the return
	WriteSync                          // data and metadata durable before the return
)

// RecvFlags says how [Kernel.Recv] receives.
type RecvFlags uint8

// RecvPeek leaves the received bytes in the socket.
const RecvPeek RecvFlags = 1

// PollEvents is a set of conditions of a descriptor.
type PollEvents uint8

// The conditions that Kernel.Poll knows. PollHangup, PollError and
// PollInvalid are reported unasked. PollCount, with PollIn, is no condition:
// it wants to know how many bytes there are, where else one may stand for any
// number.
const (
	PollIn PollEvents = 1 << iota
	PollOut
	PollHangup
	PollError
	PollInvalid
	PollCount
)

// PollFD is one descriptor in a Kernel.Poll.
type PollFD struct {
	Handle    Handle
	Events    PollEvents // asked for
	Revents   PollEvents // found
	Available uint64     // with PollIn: how many bytes can be read, if known; 1 of a connection without PollCount
}

// Kernel is all that a Host knows of the outside world. Everything that a
// guest can learn from outside comes through it, so that a decorator can record
// the answers and play them again.
//
// No method but Poll waits for others; a file's disk may take its time. Methods are called by one goroutine at a time, but
// for Interrupt, which any goroutine may call.
//
// A name is one path component: it holds no slash but for trailing ones, and is
// neither "." nor "..". A path may have several components and is resolved
// beneath its directory: an implementation returns ENOTCAPABLE where it would
// leave it.
type Kernel interface {
	// Now reads a clock, in nanoseconds. The epoch of all but ClockRealtime is
	// the Kernel's own.
	Now(c Clock) (int64, Errno)
	// Resolution returns the resolution of a clock in nanoseconds.
	Resolution(c Clock) (int64, Errno)
	// Random fills p.
	Random(p []byte) Errno
	// Poll waits until one of fds has one of its events, until the time deadline
	// of ClockMonotonic (negative: for ever), or until an interrupt is pending,
	// and fills Revents and Available. It returns how many of fds have events;
	// EINTR if none has and an interrupt is pending.
	Poll(fds []PollFD, deadline int64) (int, Errno)
	// Interrupt makes every Poll return, now and later, until it is called with
	// false.
	Interrupt(pending bool)
	// Interrupted tells whether an interrupt is pending. A Host asks only where the guest sees what
	// follows from it.
	Interrupted() bool

	// OpenRoot opens the host's directory at path, to be a preopened one.
	OpenRoot(path string) (Handle, error)

	// Attach begins the attaching of sockets to a State with that cut, 0 for a
	// fresh start. Settle ends it.
	Attach(cut uint64) error
	// Listen returns a socket that listens, or of udp, udp4 and udp6 one that is
	// bound. Other networks are tcp, tcp4, tcp6, unix.
	// The key names the listener over restarts. Where it can be had, the listener
	// is the one of the last run, with the connections that came since; else
	// the address last is tried first, if it is not empty.
	Listen(key, network, address, last string) (Handle, error)
	// Held returns where a connection stands that can be adopted; false if that is
	// not held or cannot be told.
	Held(s SocketState) (SocketPosition, bool)
	// Adopt takes back a connection that stands where the guest left it. The error
	// says why there is none; the peer sees a reset then.
	Adopt(s SocketState) (Handle, error)
	// Settle ends the attaching. It returns how many sockets were reset that nobody
	// adopted.
	Settle() (reset int, err error)
	// Socket returns what is to be saved of a socket; false if it is none.
	Socket(h Handle) (SocketState, bool)

	// Open opens path beneath dir.
	Open(dir Handle, path string, flags OpenFlags) (Handle, Errno)
	// Mkdir makes the directory name in dir.
	Mkdir(dir Handle, name string) Errno
	// Unlink removes name from dir: a directory, or else a file.
	Unlink(dir Handle, name string, directory bool) Errno
	// Rename renames.
	Rename(oldDir Handle, oldName string, newDir Handle, newName string) Errno
	// Link makes a hard link. It does not follow oldName if that is a symbolic link.
	Link(oldDir Handle, oldName string, newDir Handle, newName string) Errno
	// Symlink makes name in dir a symbolic link to target.
	Symlink(target string, dir Handle, name string) Errno
	// Readlink returns the target of the symbolic link that h names.
	Readlink(h Handle) (string, Errno)
	// ReadDir returns all entries of the directory h. It fails with ENOMEM if
	// they take more than maxBytes to hold.
	ReadDir(h Handle, maxBytes int) ([]DirEntry, Errno)

	// Close gives h back.
	Close(h Handle) Errno
	// Stat describes what h names.
	Stat(h Handle) (Stat, Errno)
	// SetTimes sets the access and modification time of what h names.
	SetTimes(h Handle, atim, mtim TimeUpdate) Errno
	// Path returns where in the host's tree h is now. It is used when saving
	// only, and the guest never sees it.
	Path(h Handle) (string, Errno)

	// Read reads at offset, or as the offsets above say.
	Read(h Handle, bufs [][]byte, offset int64) (int, Errno)
	// Write writes likewise, and returns the offset behind what it wrote with
	// WriteAppend (0 without).
	Write(h Handle, bufs [][]byte, offset int64, flags WriteFlags) (n int, end int64, errno Errno)
	// Seek moves the kernel's position of h and returns it. Whence is 0, 1, 2
	// for the start, the position, the end.
	Seek(h Handle, offset int64, whence int) (int64, Errno)
	// Truncate sets the size of the file h.
	Truncate(h Handle, size int64) Errno
	// Allocate makes sure that the range of the file h has room on the disk.
	Allocate(h Handle, offset, length int64) Errno
	// Advise announces how a range of the file h will be used; advice is
	// preview 1's number.
	Advise(h Handle, offset, length int64, advice int) Errno
	// Sync makes the file h durable: its data only, or all.
	Sync(h Handle, dataOnly bool) Errno

	// Accept takes a connection from the listener h; EAGAIN if there is none.
	Accept(h Handle) (Handle, Errno)
	// Recv receives without waiting. truncated tells that bytes were dropped.
	Recv(h Handle, bufs [][]byte, flags RecvFlags) (n int, truncated bool, errno Errno)
	// Send sends without waiting, and without a signal.
	Send(h Handle, bufs [][]byte) (int, Errno)
	// MakeSocket makes a socket. Networks are tcp4, tcp6, udp4, udp6, unix.
	MakeSocket(network string) (Handle, Errno)
	// Bind binds a socket and returns where it is bound.
	Bind(h Handle, a Address) (Address, Errno)
	// StartListening makes a bound socket listen. The handle that it returns takes
	// the place of h.
	StartListening(h Handle, backlog int) (Handle, Errno)
	// Connect connects without waiting: EINPROGRESS while it is under way.
	Connect(h Handle, a Address) Errno
	// Remake takes back a socket that the guest made and that is as made says and,
	// if it is connected, stands where the guest left it. If it cannot be had, an
	// unconnected one, and one that was not used since it was connected, is made
	// anew. The error says why there is none.
	Remake(made MadeSocket, state *SocketState) (Handle, error)
	// RecvFrom is Recv of datagrams, and tells who sent.
	RecvFrom(h Handle, bufs [][]byte, flags RecvFlags) (n int, truncated bool, from Address, errno Errno)
	// SendTo sends a datagram without waiting.
	SendTo(h Handle, bufs [][]byte, to Address) (int, Errno)
	// SocketOption returns the value of an option, of OptionError an Errno.
	SocketOption(h Handle, option SocketOption) (int32, Errno)
	// SetSocketOption sets an option.
	SetSocketOption(h Handle, option SocketOption, value int32) Errno
	// SocketName returns the address of a socket or of its peer.
	SocketName(h Handle, peer bool) (Address, Errno)
	// Resolve returns the addresses of a host.
	Resolve(name string) ([]netip.Addr, Errno)
	// Shutdown ends a connection's reading (bit 0) or writing (bit 1) side.
	Shutdown(h Handle, how int) Errno
}
