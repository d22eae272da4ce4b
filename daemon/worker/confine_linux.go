package worker

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"perdure/config"
)

// spareFiles is how many descriptors a worker may have beside those of its guest.
const spareFiles = 256

// confine takes rights away from this program and executes it anew, since a thread cannot take them from another: it
// does not return unless that fails. The program finds the order again on its standard input, with what was opened
// for it meanwhile.
func confine(o *order) error {
	// The thread is no good for anything else once it is restricted.
	goruntime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	// It keeps the rule for this directory in force, which the kernel may make anew when nobody uses it.
	self, err := unix.Open("/proc/self", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc/self", Err: err}
	}
	files, err := fileRules(&o.Spec)
	if err != nil {
		return err
	}
	connect, bind, err := netRules(&o.Settings)
	if err != nil {
		return err
	}
	missing, err := landlock(files, connect, bind)
	if err != nil {
		return fmt.Errorf("confine the worker: %w", err)
	}
	e := o.Entered
	e.Confined, e.Self = true, self
	e.NotApplied = append(e.NotApplied, missing...)
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	stdin, err := memoryFile("spec", b)
	if err != nil {
		return err
	}
	if err := unix.Dup3(int(stdin.Fd()), 0, 0); err != nil {
		return fmt.Errorf("dup: %w", err)
	}
	for _, fd := range []int{e.Program, e.CPU, e.PIDs} {
		if fd > 0 {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
				return fmt.Errorf("fcntl: %w", err)
			}
		}
	}
	env := os.Environ()
	if os.Getenv("GOMAXPROCS") == "" { // it is found out by files that cannot be read any more
		env = append(env, "GOMAXPROCS="+strconv.Itoa(goruntime.GOMAXPROCS(0)))
	}
	return fmt.Errorf("execute the worker anew: %w", syscall.Exec("/proc/self/exe", os.Args, env))
}

// fileRules returns what a worker may do with files.
func fileRules(s *Spec) ([]fsRule, error) {
	files := []fsRule{
		{path: s.Dir, rights: fsTree | fsSocket},
		{path: filepath.Dir(s.Log), rights: fsWrite | fsCreate}, // those of others are there too: none is read
		{path: "/proc/self", rights: fsRead | fsList},
		{path: "/proc/self/exe", rights: fsRead | fsExecute},
		{path: "/dev/null", rights: fsRead | fsWrite | fsDevice, optional: true},
		{path: "/dev/urandom", rights: fsRead, optional: true},
		{path: "/dev/userfaultfd", rights: fsRead | fsWrite | fsDevice, optional: true},
		{path: "/etc/localtime", rights: fsRead, optional: true},
		{path: "/usr/share/zoneinfo", rights: fsRead | fsList, optional: true},
		{path: "/sys/kernel/mm/transparent_hugepage", rights: fsRead, optional: true},
	}
	if s.CacheDir != "" {
		files = append(files, fsRule{path: s.CacheDir, rights: fsTree})
	}
	for _, d := range s.Settings.Dirs {
		r := fsRule{path: d.Host, rights: fsTree, optional: true} // the runtime says that it is not there
		if d.ReadOnly {
			r.rights = fsRead | fsList
		}
		files = append(files, r)
	}
	libraries, err := loads("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	files = append(files, libraries...)
	c := &s.Settings
	for _, l := range c.Listen {
		if l.Network == "unix" {
			files = append(files, fsRule{path: filepath.Dir(l.Address), rights: fsSocket, optional: true})
		}
	}
	for _, a := range c.AllowBind {
		switch {
		case a.Network != "unix":
		case a.Path == "":
			files = append(files, fsRule{path: "/", rights: unix.LANDLOCK_ACCESS_FS_MAKE_SOCK})
		default:
			files = append(files, fsRule{path: filepath.Dir(a.Path), rights: fsSocket, optional: true})
		}
	}
	if len(c.Listen)+len(c.AllowConnect)+len(c.AllowBind) > 0 { // what names of hosts are, and how long a queue may be
		for _, path := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/proc/sys/net/core/somaxconn"} {
			files = append(files, fsRule{path: path, rights: fsRead, optional: true})
		}
	}
	return files, nil
}

// netRules returns which TCP ports a worker may connect to and bind. Which addresses it is the runtime that knows.
func netRules(c *config.Process) (connect, bind portRules, err error) {
	const dns = 53
	for _, l := range c.Listen {
		if strings.HasPrefix(l.Network, "tcp") {
			port, err := portOf(l)
			if err != nil {
				return connect, bind, err
			}
			bind.allow(port, port)
			connect.allow(dns, dns) // for the name of the host, where its servers have much to say
		}
	}
	for _, a := range c.AllowBind {
		if a.Network == "tcp" {
			bind.allow(a.Low, a.High)
		}
	}
	for _, a := range c.AllowConnect {
		if a.Network == "tcp" {
			connect.allow(a.Low, a.High)
		}
		if a.Name != "" {
			connect.allow(dns, dns)
		}
	}
	return connect, bind, nil
}

func portOf(l config.Listen) (uint16, error) {
	_, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return 0, fmt.Errorf("listen on %s: %w", l, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("listen on %s: %q is no port number", l, port)
	}
	return uint16(n), nil
}

// loads returns rules for what a program needs to be loaded: nothing, unless it was linked to libraries.
func loads(exe string) ([]fsRule, error) {
	f, err := elf.Open(exe)
	if err != nil {
		return nil, fmt.Errorf("read this program: %w", err)
	}
	defer f.Close() // it was read only
	if !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return nil, nil
	}
	var list []fsRule
	for _, path := range []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/ld.so.preload"} {
		list = append(list, fsRule{path: path, rights: fsRead | fsList | fsExecute, optional: true})
	}
	return list, nil
}

// limitFiles bounds the descriptors of this program to what its guest may have and it needs itself. The runtime bounds
// those of the guest; this is for what the runtime does not know of.
func limitFiles(n int) error {
	if n == 0 {
		return nil
	}
	most := uint64(n + spareFiles)
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if l.Max < most {
		return fmt.Errorf("the system allows %d descriptors, %d are wanted", l.Max, most)
	}
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most})
}

// limitsOf moves this program into a control group and returns it.
func limitsOf(s *Spec) *cgroup { return joinCgroup(filepath.Base(s.Dir)) }

// fileOf returns the file of a descriptor that was detached, perhaps before an execution; nil for none.
func fileOf(fd int, name string) *os.File {
	if fd <= 0 {
		return nil
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// detach returns a descriptor of an open file that nobody closes, and closes the file; 0 for none.
func detach(f *os.File) (int, error) {
	if f == nil {
		return 0, nil
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return 0, fmt.Errorf("keep %s open: %w", f.Name(), err)
	}
	return fd, f.Close()
}

// redirect makes LogFile this program's standard output and error, which may have been another's until now.
func redirect(dir string) error {
	f, err := openLogFile(dir)
	if err != nil {
		return err
	}
	defer f.Close() // there are two others
	return errors.Join(unix.Dup3(int(f.Fd()), 1, 0), unix.Dup3(int(f.Fd()), 2, 0))
}
