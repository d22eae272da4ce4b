// Package keeper joins package runtime with package netpersist, which do not know each other: it says which keeper of
// sockets a process uses, under which name, and starts keepers.
//
// A keeper belongs to one process, as with perdure run, or is shared by those of a daemon. To a shared one a process has to
// show a secret, which lies in the directory of its state: so the worker of another process, which cannot read that, cannot
// reach its sockets, though it may talk to the same keeper.
package keeper
