// Package wasi is the host side of WASI preview 1: the 46 functions of
// wasi_snapshot_preview1, over a narrow [Kernel] interface to the outside and
// with everything that a guest can observe in one serialisable [State].
//
// # Lifecycle
//
// [New] makes a fresh [Host]; [Restore] makes one from the bytes of an earlier
// [Host.Save]. [Host.Call] carries out one function for the guest. A call that
// would block while an interrupt is pending returns [ErrInterrupted], having
// done nothing that the guest could see; [State.Pending] then holds the call,
// and [Host.Resume] finishes it: in the same Host, or in one restored from
// bytes that were saved in between. [Host.Close] gives back what the Host
// opened.
//
// # Rules that hold everywhere
//
//   - Guest pointers, lengths and counts are hostile: each is checked against
//     the guest's memory, in 64-bit arithmetic, before anything is done. A call
//     with a bad result pointer fails with EFAULT before it has an effect.
//   - Nothing blocks in a system call. A call that must wait does so in
//     [Kernel.Poll], beside the interrupt.
//   - A path never leaves the directory descriptor that it is relative to.
//   - The flags APPEND, DSYNC, RSYNC, SYNC and NONBLOCK of a descriptor live in
//     the State and are applied per call, never to the kernel's descriptor,
//     because standard streams are shared with whoever started us.
//   - The file offset lives in the State too. Standard streams are the
//     exception: their offset is the kernel's, since other processes share it.
//
// # Concurrency
//
// One goroutine at a time calls the methods of a Host, but for
// [Host.Interrupt] and [Host.ClearInterrupt], which any goroutine may call at
// any time. The package starts no goroutine. Lock order: the Host's interruptMu,
// then the System's mu; neither is held while a call waits.
package wasi
