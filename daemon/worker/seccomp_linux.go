//go:build amd64 || arm64

package worker

import (
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidden are the system calls that a worker has no use for and an intruder has, those of forbiddenHere beside them.
// What Landlock decides about is not here.
var forbidden = []uint32{
	// Other processes and other programs. There are two of its own: clone and kill are looked at more closely below.
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_KCMP, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE,
	unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO,
	// Namespaces and mounts.
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_MKNODAT,
	// The kernel and the machine.
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SYSLOG,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME,
	unix.SYS_ADJTIMEX, unix.SYS_VHANGUP, unix.SYS_FANOTIFY_INIT, unix.SYS_PERSONALITY,
	// Keys and identities.
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID,
	unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETGROUPS, unix.SYS_SETFSUID, unix.SYS_SETFSGID,
	unix.SYS_CAPSET,
}

// families are the kinds of sockets that there may be, and protocols what they may speak; 0 is the usual one. Landlock
// knows of TCP only, so that others which can be connected, MPTCP for one, would be a way around it.
var (
	families  = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}
	protocols = []uint32{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP}
)

const (
	// newNamespace are the flags of clone that make a namespace.
	newNamespace = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
		unix.CLONE_NEWPID | unix.CLONE_NEWNET
	// socketKind are the bits of the type of a socket that say what it is.
	socketKind = 0xf

	// Where struct seccomp_data has what the filter looks at, in bytes; of the arguments the low halves.
	dataCall     = 0
	dataArch     = 4
	dataArgument = 16

	filterAllow = unix.SECCOMP_RET_ALLOW
	filterDeny  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	filterNone  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// filter assembles the program that the kernel asks about each system call. Every block either ends with an answer or
// is skipped.
func filter(pid uint32) []unix.SockFilter {
	var f []unix.SockFilter
	load := func(at uint32) { f = append(f, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}) }
	answer := func(a uint32) { f = append(f, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: a}) }
	// jump skips as many instructions, if the test holds or if it does not.
	jump := func(test uint16, k uint32, ifSo, ifNot int) {
		f = append(f, unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: k, Jt: uint8(ifSo), Jf: uint8(ifNot)})
	}
	// unless gives an answer, but if the test holds; if does if it holds.
	unless := func(test uint16, k, a uint32) { jump(test, k, 1, 0); answer(a) }
	when := func(test uint16, k, a uint32) { jump(test, k, 0, 1); answer(a) }
	// call is a block for one system call.
	call := func(nr uint32, block func()) {
		at := len(f)
		jump(unix.BPF_JEQ, nr, 0, 0)
		block()
		f[at].Jf = uint8(len(f) - at - 1)
	}
	// own allows a call whose first argument is one of pids.
	own := func(nr uint32, pids ...uint32) {
		call(nr, func() {
			load(dataArgument)
			for _, p := range pids {
				when(unix.BPF_JEQ, p, filterAllow)
			}
			answer(filterDeny)
		})
	}

	load(dataArch)
	unless(unix.BPF_JEQ, auditArch, filterDeny)
	load(dataCall)
	if foreignCalls != 0 {
		when(unix.BPF_JGE, foreignCalls, filterDeny)
	}
	for _, nr := range slices.Concat(forbidden, forbiddenHere) {
		when(unix.BPF_JEQ, nr, filterDeny)
	}
	when(unix.BPF_JEQ, unix.SYS_CLONE3, filterNone) // its flags cannot be seen; C libraries take clone then
	call(unix.SYS_CLONE, func() {                   // threads only
		load(dataArgument)
		when(unix.BPF_JSET, newNamespace, filterDeny)
		unless(unix.BPF_JSET, unix.CLONE_THREAD, filterDeny)
		answer(filterAllow)
	})
	own(unix.SYS_KILL, pid)
	own(unix.SYS_TGKILL, pid)
	own(unix.SYS_PRLIMIT64, 0, pid)
	call(unix.SYS_SOCKET, func() {
		load(dataArgument + 16)
		jump(unix.BPF_JEQ, protocols[0], 3, 0)
		jump(unix.BPF_JEQ, protocols[1], 2, 0)
		jump(unix.BPF_JEQ, protocols[2], 1, 0)
		answer(filterDeny)
		load(dataArgument + 8)
		f = append(f, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: socketKind})
		when(unix.BPF_JEQ, unix.SOCK_RAW, filterDeny)
		load(dataArgument)
		for _, family := range families {
			when(unix.BPF_JEQ, family, filterAllow)
		}
		answer(filterDeny)
	})
	answer(filterAllow)
	return f
}

// seccomp forbids the calling program, with all its threads, what it has no use for, for ever. The caller has set
// no_new_privs. It returns what the kernel does not know.
func seccomp() (missing []string, err error) {
	f := filter(uint32(os.Getpid()))
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno == unix.ENOSYS || errno == unix.EINVAL:
		return []string{"limits.confine: system calls: this kernel has no seccomp filters"}, nil
	case errno != 0:
		return nil, fmt.Errorf("seccomp: %w", errno)
	case r != 0:
		return nil, fmt.Errorf("seccomp: thread %d has a filter of its own", r)
	}
	return nil, nil
}
