// Package worker is the operating-system process in which the daemon runs one process: it
// joins a runtime.Process with the log of its output, its console, its limits, and a
// control socket through which the daemon asks for things.
//
// A worker outlives its daemon. It is started with a [Spec] on standard input, in a session
// of its own; from then on all that the daemon knows of it comes through the control socket
// in the process's directory (see PROTOCOL.md), so that the next daemon finds it there.
// How it ended is in the file [OutcomeFile] of that directory.
//
// # The daemon's side
//
// [Start] starts a worker and [Find] finds one that runs; both return a [Handle], which tells
// when it has ended and how. A [Client] asks it for things.
//
// # The worker's side
//
// [Enter] reads the Spec, does what needs all rights, and gives them up; [Worker.Run] runs
// the process. The guest has the goroutine that calls Run. Beside it there are those of
// the runtime, one that waits for signals, and those of the server: one for each request,
// two for each console. None of them holds up the guest, and none stops the world while it runs
// (see package runtime).
package worker
