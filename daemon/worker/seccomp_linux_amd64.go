package worker

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_X86_64
	// foreignCalls is the first number of the system calls of another interface, x32; 0 if there is none.
	foreignCalls = 0x40000000
)

// forbiddenHere are the system calls to forbid that not every processor has.
var forbiddenHere = []uint32{unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_USELIB, unix.SYS_MKNOD}
