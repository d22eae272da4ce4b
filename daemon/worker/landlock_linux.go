package worker

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// minLandlock is the version of Landlock's interface below which it is of no use: guests could not rename files from
// one directory to another.
const minLandlock = 2

// Rights of Landlock on files and directories.
const (
	fsRead    = unix.LANDLOCK_ACCESS_FS_READ_FILE
	fsList    = unix.LANDLOCK_ACCESS_FS_READ_DIR
	fsExecute = unix.LANDLOCK_ACCESS_FS_EXECUTE
	fsDevice  = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	fsWrite   = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	fsCreate  = unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	fsSocket  = unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	// fsTree is all that programs do in a directory of their own.
	fsTree = fsRead | fsList | fsWrite | fsCreate | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
	// fsFile are the rights that a file can have which is no directory.
	fsFile = fsRead | fsExecute | fsDevice | fsWrite
	// fsAll is all that is taken away where no rule gives it back.
	fsAll = fsTree | fsExecute | fsDevice | fsSocket | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO
)

// fsSince are the rights that came with a later version of the interface than the first.
var fsSince = []struct {
	version int
	rights  uint64
}{
	{2, unix.LANDLOCK_ACCESS_FS_REFER},
	{3, unix.LANDLOCK_ACCESS_FS_TRUNCATE},
	{5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
}

const (
	landlockNet    = 4 // the version that knows TCP ports
	landlockScopes = 6 // the version that knows signals and abstract sockets
)

// fsRule gives rights on what is at a path, and below it.
type fsRule struct {
	path     string
	rights   uint64
	optional bool // it need not be there
}

// maxPorts is up to how many ports a range is said to the kernel one by one; a larger one counts as all.
const maxPorts = 1024

// portRules are TCP ports that may be used.
type portRules struct {
	any   bool
	ports map[uint16]bool
}

func (r *portRules) allow(low, high uint16) {
	if r.ports == nil {
		r.ports = make(map[uint16]bool)
	}
	if int(high)-int(low) >= maxPorts {
		r.any = true
		return
	}
	for p := int(low); p <= int(high); p++ {
		r.ports[uint16(p)] = true
	}
}

// handled returns the right, if it is to be taken away where no rule gives it.
func (r *portRules) handled(right uint64) uint64 {
	if r.any {
		return 0
	}
	return right
}

// landlockPort is struct landlock_net_port_attr, and landlockRulePort the kind of rule that it is.
type landlockPort struct{ access, port uint64 }

const landlockRulePort = 2

// landlock takes all rights on files away from the calling thread, and from what it executes, but those of the rules;
// and the rights to connect to other TCP ports and to bind others than those, and to send signals to others. It returns
// what the kernel does not know. The caller has set no_new_privs.
func landlock(files []fsRule, connect, bind portRules) (missing []string, err error) {
	version, err := landlockVersion()
	if err != nil {
		return []string{fmt.Sprintf("limits.confine: files: %v", err)}, nil
	}
	handled := uint64(fsAll)
	for _, s := range fsSince {
		if version < s.version {
			handled &^= s.rights
		}
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	if version >= landlockNet {
		attr.Handled_access_net = connect.handled(unix.LANDLOCK_ACCESS_NET_CONNECT_TCP) | bind.handled(unix.LANDLOCK_ACCESS_NET_BIND_TCP)
	} else {
		missing = append(missing, "limits.confine: TCP ports: this kernel's Landlock does not know them")
	}
	if version >= landlockScopes {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return nil, fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(rules))
	for _, r := range files {
		if err := addFiles(int(rules), r, handled); err != nil {
			return nil, err
		}
	}
	if version >= landlockNet {
		if err := addPorts(int(rules), connect, unix.LANDLOCK_ACCESS_NET_CONNECT_TCP); err != nil {
			return nil, err
		}
		if err := addPorts(int(rules), bind, unix.LANDLOCK_ACCESS_NET_BIND_TCP); err != nil {
			return nil, err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); errno != 0 {
		return nil, fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return missing, nil
}

// addPorts adds the rules for ports.
func addPorts(rules int, r portRules, access uint64) error {
	if r.any {
		return nil
	}
	for p := range r.ports { // 0 is any that is free
		attr := landlockPort{access: access, port: uint64(p)}
		if err := addRule(rules, landlockRulePort, unsafe.Pointer(&attr)); err != nil {
			return fmt.Errorf("allow port %d: %w", p, err)
		}
	}
	return nil
}

// landlockVersion returns the version of the kernel's interface, if it is of use.
func landlockVersion() (int, error) {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch {
	case errno == unix.ENOSYS:
		return 0, errors.New("this kernel has no Landlock")
	case errno == unix.EOPNOTSUPP:
		return 0, errors.New("this kernel has Landlock switched off")
	case errno != 0:
		return 0, fmt.Errorf("landlock_create_ruleset: %w", errno)
	case v < minLandlock:
		return 0, fmt.Errorf("this kernel's Landlock is too old: version %d, %d is needed", v, minLandlock)
	}
	return int(v), nil
}

// addFiles adds a rule on files.
func addFiles(rules int, r fsRule, handled uint64) error {
	fd, err := unix.Open(r.path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		if r.optional {
			return nil
		}
		return &os.PathError{Op: "open", Path: r.path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: r.path, Err: err}
	}
	rights := r.rights & handled
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fsFile
	}
	if rights == 0 {
		return nil
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if err := addRule(rules, unix.LANDLOCK_RULE_PATH_BENEATH, unsafe.Pointer(&attr)); err != nil {
		return fmt.Errorf("allow %s: %w", r.path, err)
	}
	return nil
}

func addRule(rules, kind int, attr unsafe.Pointer) error {
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), uintptr(kind), uintptr(attr), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
