package wasi

// The constants and structure layouts of wasi_snapshot_preview1. All of them
// are part of the ABI: they never change.

// Sizes in bytes of the structures that cross the boundary.
const (
	sizeIovec        = 8
	sizeFdstat       = 24
	sizeFilestat     = 64
	sizePrestat      = 8
	sizeDirent       = 24
	sizeSubscription = 48
	sizeEvent        = 32
)

// FileType is the type of a file, as fdstat, filestat and dirent report it.
type FileType uint8

// The file types of preview 1. Named pipes are FileUnknown: the specification
// has no number for them.
const (
	FileUnknown FileType = iota
	FileBlockDevice
	FileCharDevice
	FileDirectory
	FileRegular
	FileSocketDgram
	FileSocketStream
	FileSymlink
)

// Rights is a set of operations that a descriptor allows.
type Rights uint64

// The rights of preview 1.
const (
	RightFdDatasync Rights = 1 << iota
	RightFdRead
	RightFdSeek
	RightFdFdstatSetFlags
	RightFdSync
	RightFdTell
	RightFdWrite
	RightFdAdvise
	RightFdAllocate
	RightPathCreateDirectory
	RightPathCreateFile
	RightPathLinkSource
	RightPathLinkTarget
	RightPathOpen
	RightFdReaddir
	RightPathReadlink
	RightPathRenameSource
	RightPathRenameTarget
	RightPathFilestatGet
	RightPathFilestatSetSize
	RightPathFilestatSetTimes
	RightFdFilestatGet
	RightFdFilestatSetSize
	RightFdFilestatSetTimes
	RightPathSymlink
	RightPathRemoveDirectory
	RightPathUnlinkFile
	RightPollFdReadwrite
	RightSockShutdown
	RightSockAccept
)

const (
	// rightsAll is every right there is.
	rightsAll = RightSockAccept<<1 - 1

	// rightsFile are the rights that mean something on a regular file.
	rightsFile = RightFdDatasync | RightFdRead | RightFdSeek | RightFdFdstatSetFlags | RightFdSync |
		RightFdTell | RightFdWrite | RightFdAdvise | RightFdAllocate | RightFdFilestatGet |
		RightFdFilestatSetSize | RightFdFilestatSetTimes | RightPollFdReadwrite

	// rightsDirectory are the rights that mean something on a directory.
	rightsDirectory = RightFdDatasync | RightFdFdstatSetFlags | RightFdSync | RightPathCreateDirectory |
		RightPathCreateFile | RightPathLinkSource | RightPathLinkTarget | RightPathOpen | RightFdReaddir |
		RightPathReadlink | RightPathRenameSource | RightPathRenameTarget | RightPathFilestatGet |
		RightPathFilestatSetSize | RightPathFilestatSetTimes | RightFdFilestatGet | RightFdFilestatSetTimes |
		RightPathSymlink | RightPathRemoveDirectory | RightPathUnlinkFile | RightPollFdReadwrite

	// rightsStream are the rights that mean something on a pipe or terminal.
	// A descriptor of a character device without SEEK and TELL is how
	// wasi-libc's isatty recognises a terminal.
	rightsStream = RightFdDatasync | RightFdRead | RightFdFdstatSetFlags | RightFdSync | RightFdWrite |
		RightFdFilestatGet | RightFdFilestatSetTimes | RightPollFdReadwrite

	// rightsListener are the rights that mean something on a listening socket.
	rightsListener = RightFdRead | RightFdFdstatSetFlags | RightFdFilestatGet | RightPollFdReadwrite | RightSockAccept

	// rightsConnection are the rights that mean something on a connected socket.
	rightsConnection = RightFdRead | RightFdWrite | RightFdFdstatSetFlags | RightFdFilestatGet |
		RightPollFdReadwrite | RightSockShutdown
)

// Flags of path_open.
const (
	oflagCreate    = 1
	oflagDirectory = 2
	oflagExclusive = 4
	oflagTruncate  = 8
	oflagsAll      = oflagCreate | oflagDirectory | oflagExclusive | oflagTruncate
)

// FdFlags are the flags of a descriptor.
type FdFlags uint16

// The descriptor flags of preview 1.
const (
	FlagAppend FdFlags = 1 << iota
	FlagDsync
	FlagNonblock
	FlagRsync
	FlagSync

	flagsAll = FlagSync<<1 - 1
)

const lookupSymlinkFollow = 1

// Flags of the set_times functions.
const (
	fstAtim = 1 << iota
	fstAtimNow
	fstMtim
	fstMtimNow
	fstAll = 1<<iota - 1
)

// The positions that fd_seek counts from.
const (
	whenceSet = iota
	whenceCur
	whenceEnd
)

// Flags of the socket functions.
const (
	riRecvPeek    = 1
	riRecvWaitall = 2

	roRecvDataTruncated = 1

	sdRd = 1
	sdWr = 2
)

// Tags and flags of poll_oneoff.
const (
	eventClock   = 0
	eventFdRead  = 1
	eventFdWrite = 2

	subclockAbstime = 1

	eventHangup = 1
)
