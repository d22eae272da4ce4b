package runtime

import (
	"os"
	"reflect"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

const (
	// largeProgram is from how many bytes of a program on its loading prepares the heap, and heapOfProgram how many bytes
	// of heap that takes for each of them, measured with programs of Go.
	largeProgram  = 1 << 20
	heapOfProgram = 12
	maxHeap       = 256 << 20
)

// prepareHeap lets the kernel give the heap pages of 2 MiB that the loading of a large program is about to use, in the place
// of some ten thousand faults, which took a third of a restart on a virtual machine. The pages are taken when they are used,
// and not before. The caller ends that with the function that it returns: later, a page that is half used would only be
// made a whole one.
func prepareHeap(program string) (end func()) {
	st, err := os.Stat(program)
	if err != nil || !st.Mode().IsRegular() || st.Size() < largeProgram {
		return func() {}
	}
	b := make([]byte, min(st.Size(), maxHeap/heapOfProgram)*heapOfProgram)
	at, size := reflect.ValueOf(b).Pointer(), uintptr(len(b)) // an object of this size is of whole pages
	if unix.Madvise(b, unix.MADV_HUGEPAGE) != nil {
		return func() {}
	}
	b = nil
	goruntime.GC() // the heap has them now
	return func() {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, at, size, unix.MADV_NOHUGEPAGE) // advice
	}
}
