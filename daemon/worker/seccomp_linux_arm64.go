package worker

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_AARCH64
	// foreignCalls is the first number of the system calls of another interface; 0 if there is none.
	foreignCalls = 0
)

// forbiddenHere are the system calls to forbid that not every processor has.
var forbiddenHere []uint32
