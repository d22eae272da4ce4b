// Package worker is the operating-system process in which the daemon runs one process: it
// joins a runtime.Process with the log of its output, its console, its limits, and a
// control socket through which the daemon asks for things.
//
// A worker outlives its daemon. It is started with a [Spec] on standard input, in a session
// of its own; from then on all that the daemon knows of it comes through the control socket
// in the process's directory (see PROTOCOL.md), so that the next daemon finds it there.
// How it ended is in the file [OutcomeFile] of that directory.
package worker
