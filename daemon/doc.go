// Package daemon supervises the workers that run the processes, and answers the control API. It never runs a
// guest itself, so that no guest can hold it up.
//
// # Shape
//
// A [Daemon] has one unit for each process. What a unit decides is in a machine, a function of values: what the folder
// shows, what users asked for, how the last worker ended, what time it is. It answers with actions: start a worker,
// suspend it, write the record, wait. The unit around it is a thin shell that carries them out. Decisions are
// level-triggered: a machine compares what is with what should be and takes the next step, so that a daemon that was
// killed anywhere goes on from what it finds.
//
// # What lasts
//
// A worker outlives the daemon, and the next daemon adopts it. What the daemon itself has to remember of a process, such
// as that it was stopped by hand, is a record in the directory of the process (FORMAT.md).
//
// # The control API
//
// HTTP and JSON on a unix socket, described in PROTOCOL.md. [Client] is its client.
package daemon
