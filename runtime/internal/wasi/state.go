package wasi

// StateVersion is the version of the encoding that [Host.Save] writes.
const StateVersion = 2

// FirstStateVersion is the oldest version that [Restore] reads.
const FirstStateVersion = 1

// State is all that a guest can observe of its host, as plain data. It is
// encoded as JSON; FORMAT.md describes every field. Each field of the types in
// this file is saved.
type State struct {
	// Version is StateVersion.
	Version int `json:"version"`
	// Args are the program's arguments, the program's name first.
	Args []Text `json:"args"`
	// Env are the environment's entries, each NAME=VALUE.
	Env []Text `json:"env"`
	// Preopens are the directories that the guest was given, in their order.
	// Descriptors refer to them by index, also after the guest closed them.
	Preopens []PreopenState `json:"preopens"`
	// Listeners is how many listening sockets the guest was given.
	Listeners int `json:"listeners"`
	// Descriptors are the guest's open descriptors, ascending by number.
	Descriptors []Descriptor `json:"descriptors"`
	// Clocks is what the guest's own clocks showed when the State was saved.
	Clocks Clocks `json:"clocks"`
	// Pending is the call that was interrupted and waits to be resumed.
	Pending *Pending `json:"pending,omitempty"`
	// Cut is a random number, not 0, that names this State. A keeper of sockets is
	// told it when the guest stops with it.
	Cut uint64 `json:"cut,omitempty"`
	// Exit is the code that the guest ended with.
	Exit *uint32 `json:"exit,omitempty"`
}

// PreopenState is a directory that the guest was given.
type PreopenState struct {
	// Guest is the guest's name of the directory.
	Guest Text `json:"guest"`
	// Dev and Ino identify the host's directory.
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// Kind tells what a descriptor is attached to.
type Kind string

// The kinds of descriptors.
const (
	KindStandard   Kind = "standard"   // a standard stream of the process we run in
	KindFile       Kind = "file"       // anything opened beneath a preopened directory, directories too
	KindListener   Kind = "listener"   // a preopened listening socket
	KindConnection Kind = "connection" // an accepted connection
	KindSocket     Kind = "socket"     // a socket that the guest made, or accepted from such a one
)

// Descriptor is an open descriptor of the guest.
type Descriptor struct {
	// FD is the guest's number.
	FD uint32 `json:"fd"`
	// Kind says which of the fields below mean something.
	Kind Kind `json:"kind"`
	// Source is the number of the standard stream (KindStandard), the index of
	// the preopened directory (KindFile) or of the listener (KindListener,
	// KindConnection).
	Source int `json:"source"`
	// Preopened tells that fd_prestat_get knows the descriptor.
	Preopened bool `json:"preopened,omitempty"`
	// Path is where the file is, relative to its preopened directory; "." is
	// that directory itself.
	Path Text `json:"path,omitempty"`
	// Unlinked tells that the file had no name any more when the State was saved.
	Unlinked bool `json:"unlinked,omitempty"`
	// Read and Write are how the file was opened.
	Read  bool `json:"read,omitempty"`
	Write bool `json:"write,omitempty"`
	// Flags are the descriptor's flags.
	Flags FdFlags `json:"flags"`
	// Base and Inheriting are the descriptor's rights.
	Base       Rights `json:"base"`
	Inheriting Rights `json:"inheriting"`
	// Type is the type of the file.
	Type FileType `json:"type"`
	// Offset is the position in a regular file, in bytes.
	Offset int64 `json:"offset"`
	// Dev, Ino and Born (nanoseconds since 1970, 0 if unknown) identify the file.
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
	Born uint64 `json:"born,omitempty"`
	// Socket is what the keeper of sockets knows of it (KindListener,
	// KindConnection, KindSocket); nil if nothing is known.
	Socket *SocketState `json:"socket,omitempty"`
	// Made is how the guest made it (KindSocket).
	Made *MadeSocket `json:"made,omitempty"`
	// Listing is the directory's content as of the last rewind, while the guest
	// may still be reading it. The cookie of an entry is its index plus one.
	Listing *Listing `json:"listing,omitempty"`
}

// Clocks is what the guest's own clocks show.
type Clocks struct {
	// Monotonic is the guest's monotonic time, CPU its process and thread CPU
	// time, in nanoseconds. Neither counts the time in which no host ran.
	Monotonic int64 `json:"monotonic"`
	CPU       int64 `json:"cpu"`
}

// Pending is a call that would have blocked and was interrupted instead.
type Pending struct {
	// Function is the name of the function in preview 1.
	Function string `json:"function"`
	// Args are the raw arguments.
	Args []uint64 `json:"args"`
	// Issued is when the guest made the call, in guest monotonic time. A relative
	// timeout counts from there.
	Issued int64 `json:"issued"`
	// Deadline is when the call returns at the latest, in guest monotonic time;
	// -1 if it may wait for ever. For a timeout on the wall clock it is an
	// estimate: the resumed call reads that clock again.
	Deadline int64 `json:"deadline"`
}
