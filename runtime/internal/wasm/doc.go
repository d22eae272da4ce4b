// Package wasm decodes, types and encodes WebAssembly modules in the binary format.
//
// The source is the WebAssembly Core Specification, release 2.0: everything in it is read, checked and
// written, vectors included. What later proposals add is recognised and refused by its name (see
// UnsupportedError), so that a user learns why a program cannot run instead of reading about a bad byte.
//
// # Lifecycle
//
// Decode turns bytes into a Module and checks all of it but the function bodies; Validate checks those too.
// A Module is plain data: change it and Encode it. Whoever changes an index space (imports, functions,
// tables, memories, globals) calls Reindex before using the helper methods of Module again.
//
// Function bodies stay in their binary form, as parts of the input, because a big program has millions of
// instructions: a Reader walks a body one Instr at a time and a Typer follows the types on its operand
// stack, both without allocating for each instruction. The input must therefore not be changed while a
// Module that was decoded from it is in use.
//
// # Hostile input
//
// No input makes this package panic, and memory stays within a small multiple of the size of the input:
// every count is compared with the bytes that are left before anything is allocated for it, and the few
// things that the format lets grow beyond its bytes (locals, signatures, operand stacks) have limits,
// which are the constants named Max….
//
// # Concurrency
//
// The package starts no goroutines and has no state. Functions and methods that only read a Module may be
// called concurrently; Reader and Typer belong to one goroutine at a time.
package wasm
