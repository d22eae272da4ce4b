// Package spectest runs the core specification tests of WebAssembly, versions 1 and 2, in the form in which the wazero
// module ships them: lists of commands in JSON beside the binary modules that they name.
//
// A script is one such list, a suite is the scripts of one version. A machine is what executes the modules of a script.
// Every machine runs every script, and has to give the outcome that the script asserts; what a script leaves open, such
// as the payload of a NaN, has to be as on plain wazero, to the bit. The machines are:
//
//   - plain: wazero as it is. It proves the harness.
//   - recoded: the same, with each module decoded, validated and encoded again by runtime/internal/wasm.
//   - instrumented: hot code on the engine, without a stop.
//   - stop everywhere: the same, with each call stopped at random suspend points; there the instance is serialised,
//     closed and restored as a fresh one, which goes on. Which instances that is possible with is said by captureRules;
//     the others run without stops. The moments depend on PERDURE_SEED alone.
//
// Not run are assertions about the text format, and on the last two machines those which ask for the way in which
// version 1 refused segments that do not fit: version 2, which the engine follows, makes them traps.
//
// Scripts run in parallel, each on a machine of its own. With the build tag slow, stops are denser.
package spectest
