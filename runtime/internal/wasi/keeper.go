package wasi

// SocketKeeper holds the sockets of a guest while no worker runs it. A [System] that is given one hands every socket to
// it. Descriptors that it returns belong to the caller, who closes them. Its methods are called by one goroutine at a time.
//
// Attaching is Take, FindListener and KeepListener, Requeue and Release, and at last Ready.
type SocketKeeper interface {
	// Instance returns the number of the keeper. The ids of sockets mean something only together with it.
	Instance() uint64
	// Parked returns the cut with which the last worker stopped in good order; 0 if it did not.
	Parked() uint64
	// Take returns the sockets that a worker had before, listeners excepted.
	Take() ([]KeptSocket, error)
	// FindListener returns a listener by its key or, if that is empty, by its id; false if it is not held.
	FindListener(key string, id uint64) (KeptListener, bool, error)
	// KeepListener gives a listening socket to the keeper, which accepts its connections from then on.
	KeepListener(fd int, key string) (KeptListener, error)
	// Keep gives any other socket to the keeper and returns its id.
	Keep(fd int, datagram bool) (uint64, error)
	// Accept takes a connection that came. EAGAIN, as the operating system's error: there is none.
	Accept(l KeptListener) (KeptSocket, error)
	// Requeue lets connections come again from their listeners. The caller's descriptors are of no use afterwards.
	Requeue(ids []uint64) error
	// Release lets go of a socket before the caller closes it: in good order, or with a reset.
	Release(id uint64, reset bool) error
	// Ready ends the attaching: listeners that were neither found nor given are closed.
	Ready() error
	// Park says that the worker stops in good order with that cut, which is not 0.
	Park(cut uint64) error
	// Close ends the connection to the keeper, which keeps what it has.
	Close() error
	// Unmoved reports whether a TCP connection stands at that position, by the kernel's counters, and whether it is over
	// for both sides, when they may say that it has moved though it has not. An error says that they do not tell.
	Unmoved(fd int, at SocketPosition) (same, over bool, err error)
	// Position returns where a TCP connection stands, and whether it is over for both sides, when what it says may be off
	// by one. Dialled says that the guest opened it.
	Position(fd int, dialled bool) (at SocketPosition, over bool, err error)
}

// KeptSocket is a socket that the keeper holds too.
type KeptSocket struct {
	FD       int
	ID       uint64
	Listener uint64 // that accepted it; 0 if none
	Datagram bool
}

// KeptListener is a listening socket that the keeper accepts from.
type KeptListener struct {
	ID     uint64
	Socket int
	Queue  int // readable when a connection has come
}

// SocketPosition is how far the guest has used a connection.
type SocketPosition struct {
	// Dialled tells that the guest opened the connection.
	Dialled bool `json:"dialled,omitempty"`
	// Consumed and Written are how many bytes the guest has read and written.
	Consumed uint64 `json:"consumed"`
	Written  uint64 `json:"written"`
	// Closed and Deaf tell that the guest has shut its side down for writing and for reading.
	Closed bool `json:"closed,omitempty"`
	Deaf   bool `json:"deaf,omitempty"`
}

// SocketState is a socket as the keeper knows it, and how far the guest has used it.
type SocketState struct {
	// Keeper is the number of the keeper that held the socket, ID the socket's id there.
	Keeper uint64 `json:"keeper"`
	ID     uint64 `json:"id"`
	// Position is how far the guest has used it, of a connection.
	Position SocketPosition `json:"position"`
	// Local and Remote are the addresses, for people; of a listener Local is where it listens.
	Local  Text `json:"local,omitempty"`
	Remote Text `json:"remote,omitempty"`
	// Since is when the guest got it, in nanoseconds since 1970, and Lives in how many workers it has gone on since.
	Since int64  `json:"since,omitempty"`
	Lives uint32 `json:"lives,omitempty"`
}

// SocketLedger says what has become of the sockets of a State when it was restored.
type SocketLedger struct {
	Resumed int // that go on
	Lost    int // of which the guest gets an error
	Reset   int // connections that were reset, since they had been used after the State or were unknown to it
	// Gone are those of Lost and Reset, the first of them.
	Gone []GoneSocket
}

// GoneSocket is a socket that did not go on.
type GoneSocket struct {
	Local, Remote string // empty if not known
	Reset         bool   // its connection was reset, and the guest does not know it; else the guest has the error
	Why           string
}

// maxGone bounds SocketLedger.Gone.
const maxGone = 64

func (l *SocketLedger) gone(g GoneSocket) {
	if g.Reset {
		l.Reset++
	} else {
		l.Lost++
	}
	if len(l.Gone) < maxGone {
		l.Gone = append(l.Gone, g)
	}
}
