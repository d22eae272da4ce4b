// Package memsnap keeps the state of a process on disk as generations: pages of memory and named sections of bytes.
//
// # Words
//
// A generation is one committed snapshot; it is numbered and never changes. A page is PageSize bytes of memory. The
// archive of a generation maps each page to its backlinks, the places where its bytes are: in the generation's own file
// or, if the page did not change, in that of an older one. FORMAT.md beside this file describes all of it byte by byte.
//
// # Lifecycle
//
// Open opens a store, which is a directory. Begin starts a session on any generation or on none, the session takes the
// pages that changed and all sections, and Commit publishes them in one atomic step; Abort gives it up. What is being
// committed costs what changed, not what there is. OpenNewest and OpenGeneration open a generation for reading; Restore
// fills a memory from it. There is nothing to close but generations, and they hold no descriptors.
//
// Purge removes generations and gives back what no other one needs, PurgeExpired those that the Policy lets go, Sweep what an
// interrupted purge left. Pin keeps a generation. Repair gives pages a good second copy again, Rollback makes an old
// generation the newest, Export and Import move one between stores, Diff compares two.
//
// # Trust
//
// Every byte that is read is checked against a CRC-32C before it is used, and files against each other by SHA-256.
// Damage is a *CorruptError, and OpenNewest then falls back to an older generation; a file of a newer format is a
// *VersionError, and it does not. Whether something is unchanged is told by the caller, for pages, and by SHA-256 and
// length, for sections.
//
// # Concurrency
//
// The methods of Store and of Generation may be called concurrently; a Session belongs to one goroutine, and there is
// one at a time: Purge, PurgeExpired, Sweep, Pin, Unpin, Repair, Rollback, Import and ImportArchive take its place while they
// run. Commit, Restore and Verify start goroutines and return when these have ended; nothing else does. There
// are two locks, Store.mu and Generation.mu; neither is held while the other is taken, nor over any file operation.
//
// Only one Store may write to a directory. The caller holds the lock that makes sure of it.
package memsnap
