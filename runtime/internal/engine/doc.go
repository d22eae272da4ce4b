// Package engine runs one instrumented module on wazero: it instantiates hot code,
// calls into it, takes the guest's stack out and puts it back.
//
// The guest runs on the goroutine that calls [Instance.Run]. A cut is asked for
// from any other goroutine with [Instance.Request]; the guest then unwinds at its next
// suspend point and the Cut hook runs on the guest's goroutine, while memory stands
// still. When the hook returns, the guest goes on: in hot code where the suspend point
// was a loop or a host call that waits, through cold code where it had to be forced.
//
// A stack is put back in pieces, innermost first: the frames outside of the piece that runs
// are kept by the instance until it has returned.
//
// Compiled guest code cannot be preempted by the Go scheduler, so that a garbage
// collection which begins while a guest runs waits for it, and everything else waits for
// the collection. Who runs guests must hold collections off and do them in the Cut hook,
// and needs GOMAXPROCS of two at least. Before the first Run one collection must be made, with
// runtime.GC behind debug.SetGCPercent(-1): one that is under way by then still wants to stop
// the world, and a guest in a loop would never hear of the request which could end that.
package engine
