// Package netpersist keeps the sockets of a process while no worker runs it.
//
// A [Keeper] is a small operating-system process of its own, without a guest. It accepts the connections of
// the listening sockets that it is given, holds a duplicate of each socket, and hands them to the worker and, when that
// has died, to the next one. A [Client] is the worker's side. PROTOCOL.md describes what they say to each other.
//
// [PositionOf] tells from the kernel's own counters how far a connection was read and written, so that a worker can see
// whether it stands where the saved state says.
//
// A Keeper has one goroutine. A Client may be used from several goroutines and starts none.
package netpersist
