// Package runtime is a persistent process: a WebAssembly program whose state lasts.
//
// # Lifecycle
//
// [Open] takes the lock of a process's directory, loads the program and restores the
// newest generation that verifies, or prepares a fresh start. [Process.Run] runs the
// guest until it ends or is suspended, and takes generations meanwhile. [Process.Close]
// gives everything back.
//
// # Goroutines
//
// The guest runs on the goroutine that calls Run. Run starts one more, which decides when
// to cut, copies pages and commits; it has ended when Run returns. At a cut the guest's
// goroutine runs the hook that takes what must be of one instant; all else happens
// beside the running guest.
//
// # Garbage collection
//
// Compiled guest code does not take part in Go's stop-the-world (docs/RATIONALE.md "Why
// one operating-system process per guest?"). Run therefore turns the
// collector off and calls it at cuts, when enough has been allocated. A Go process should
// run one guest at a time, and nothing in it may stop the world while the guest runs.
package runtime
