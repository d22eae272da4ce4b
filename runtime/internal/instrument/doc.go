// Package instrument makes WebAssembly modules suspendable.
//
// It is pure: bytes go in, bytes and tables come out; no file, clock or engine
// is touched, and nothing is kept between calls. Everything may be called from
// several goroutines at once.
//
// # Hot code
//
// [Instrument] rewrites a module. In every function that can reach a host call
// or contains a loop it adds
//
//   - behind each call that can be suspended: a test of the global "state".
//     While it is set, the function pushes its live locals and operands to the
//     host, names its place by a site number, and returns: the stack unwinds.
//   - at each loop header: a test of the global "soft". When it is set the
//     function calls the host's yield, which either returns 0 (go on) or 1
//     (unwind from here). Since the loop can be re-entered, a host that keeps
//     a picture of the native stack can let the guest go on in hot code.
//
// All that is off the hot path; there is no code at function entry and none that
// rebuilds a stack.
//
// # Cold code
//
// [Meta.Resume] generates, for just the suspend points of one saved stack, a second
// module which shares memory, globals and tables with the hot one and whose
// functions jump straight to those points.
//
// # Frames
//
// A [Frame] speaks of the original module: function index, byte offset of the
// instruction, locals, operand stack. [Meta.Frame] and [Meta.Words] translate
// between frames and what the generated code pushes and pops.
package instrument
