// Package journal records what the outside answered to a guest, and plays it again.
//
// A guest is single-threaded and deterministic but for what the [wasi.Kernel] answers. A
// [Journal] is a Kernel in front of another one that writes each answer down, in files that
// are mapped and shared, so that an answer is safe from the death of this process once it
// has been stored to memory. After a crash the newest generation is restored and the guest
// runs again against the record: nothing touches the outside. Where the record ends, the
// Journal attaches what the guest has open and the guest goes on for real.
//
// # Calls with an effect
//
// An effect is carried out before its answer is recorded, so that one call may have been
// under way at the crash: done, but not answered. Writes at an offset, truncations and the
// like are carried out again, which changes nothing. Of appends and of all that makes,
// removes and renames files, the Journal notes beforehand how things stand, and at the
// restart looks whether the effect is there already. Pipes and terminals cannot be asked: what
// the last call wrote there may come twice.
//
// # Output
//
// With Options.Sync the record is durable before each effect. What is sent on an accepted
// connection waits until the guest polls, so that one sync does for all of it.
//
// # Handles
//
// The Journal hands out handles of its own, which stay the same when what is behind them is
// opened again. All others are the outside's and pass through: they are the standard streams.
//
// # Concurrency
//
// All methods belong to the guest's goroutine, but for Interrupt, [Journal.Retire],
// [Journal.Length] and [Journal.Replayed].
//
// FORMAT.md describes the files.
package journal
