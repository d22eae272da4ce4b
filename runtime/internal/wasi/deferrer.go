package wasi

// Deferrer is a Kernel that has answers of the past to give before it touches the outside.
// What the guest has open is then promised by [Restore], not attached.
type Deferrer interface {
	Kernel
	// Deferred tells whether attaching has to wait.
	Deferred() bool
	// Promise returns a handle for what will be attached when the past has been played.
	Promise(a Attachment) Handle
	// PromiseStandard says where the standard stream h stands, which is a file; it is moved there,
	// and on by what the past reads from it.
	PromiseStandard(h Handle, position int64)
	// OpenUnlinked opens a file again that had no name any more, if the Deferrer has kept it. It is
	// called when nothing is deferred.
	OpenUnlinked(dev, ino uint64, flags OpenFlags) (Handle, Errno)
	// RootPath returns the path of a host's directory as Path would tell it, empty if there is none.
	RootPath(path string) string
}

// Attachment is what a Deferrer will attach.
type Attachment struct {
	Kind  Kind      // KindFile, KindConnection or KindSocket
	Root  bool      // a directory that the guest was given
	Path  string    // where it was, in the host's terms; empty if it had no name any more
	Flags OpenFlags // to open it with
	Stat  Stat      // what it was, as far as that was saved
	FD    int64     // the guest's number, for warnings; -1 if it has none
	// Socket is where the connection was and stood, nil if nobody holds it; Made, of a socket that
	// the guest made, what it was.
	Socket *SocketState
	Made   *MadeSocket
}
