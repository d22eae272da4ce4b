package memsnap

import "time"

// Info describes one generation. All but Err, Pinned and Sync is stored within the generation.
type Info struct {
	Number uint64    // of this generation; 1, 2, 3 …
	Base   uint64    // the generation that the session was based on; 0 if none
	Time   time.Time // of the commit, by the wall clock; order is by Number alone

	Pages       uint64 // size of the memory, in pages of PageSize bytes
	PagesPut    uint64 // pages handed to PutPages, a page that was put twice counted once
	PagesNew    uint64 // pages whose bytes are stored in this generation's file
	PagesLinked uint64 // pages whose bytes are in files of older generations
	PagesZero   uint64 // pages that are all zero and stored nowhere
	PagesCopied uint64 // of PagesNew, those that did not change but were stored again, for another copy or to give up an old file

	BytesRaw    uint64 // new pages and new sections before compression
	BytesStored uint64 // length of this generation's file

	Pause  time.Duration // how long the guest stood still, as told by SetPause
	Encode time.Duration // compressing, checksumming and writing
	Sync   time.Duration // making it durable. The next generation carries it, so it is 0 for the newest when it is listed

	Pinned bool // by Pin, and so not purged

	Err error // why the generation is damaged or cannot be read; then only Number is certain. Nil if it is well
}

// Total is all the time that the generation took: pause, encode and sync.
func (i Info) Total() time.Duration { return i.Pause + i.Encode + i.Sync }

// Skipped is a generation that was passed over, and why.
type Skipped struct {
	Number uint64
	Err    error
}
