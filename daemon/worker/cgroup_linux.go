package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"perdure/config"
)

const (
	// cpuPeriod is the time for which the kernel deals out processor time, in microseconds.
	cpuPeriod = 100_000
	// cgroupPrefix begins the name of a worker's cgroup, which ends with that of its process.
	cgroupPrefix = "worker-"
)

// cgroup is the control group of one worker, below what the daemon was given to share out. Its files stay open, so that
// limits can change when the worker cannot open them any more.
type cgroup struct {
	cpu, pids     *os.File // nil where the kernel or the daemon has no such controller
	noCPU, noPIDs string   // why
}

// without is a worker that has no control group.
func without(why error) *cgroup { return &cgroup{noCPU: why.Error(), noPIDs: why.Error()} }

// joinCgroup moves the calling program into a control group of its own. What cannot be had is missing in the result.
func joinCgroup(name string) *cgroup {
	parent, err := cgroupParent()
	if err != nil {
		return without(err)
	}
	return joinCgroupBelow(parent, name)
}

func joinCgroupBelow(parent, name string) *cgroup {
	control := filepath.Join(parent, "cgroup.subtree_control")
	cpuErr, pidsErr := writeControl(control, "+cpu"), writeControl(control, "+pids")
	if cpuErr == nil || pidsErr == nil {
		dir := filepath.Join(parent, cgroupPrefix+name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return without(err)
		}
		if err := writeControl(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid())); err != nil {
			return without(err)
		}
		g := &cgroup{}
		g.cpu, g.noCPU = openControl(dir, "cpu.max", cpuErr)
		g.pids, g.noPIDs = openControl(dir, "pids.max", pidsErr)
		return g
	}
	return &cgroup{noCPU: noController(cpuErr), noPIDs: noController(pidsErr)}
}

// openControl opens a file of a control group whose controller is there, unless err says otherwise.
func openControl(dir, name string, err error) (*os.File, string) {
	if err != nil {
		return nil, noController(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return nil, err.Error()
	}
	return f, ""
}

func noController(err error) string {
	return fmt.Sprintf("control groups of version 2 do not have it here: %v", err)
}

// limit sets what a worker may use, and returns what it could not.
func (g *cgroup) limit(l *config.Limits) (missing []string) {
	cpu, pids := fmt.Sprintf("max %d", cpuPeriod), "max"
	if l.CPU > 0 {
		cpu = fmt.Sprintf("%d %d", max(1000, int64(l.CPU.Share()*cpuPeriod)), cpuPeriod)
	}
	if l.PIDs > 0 {
		pids = strconv.Itoa(l.PIDs)
	}
	set := func(key string, f *os.File, why, value string, wanted bool) {
		if f != nil {
			if _, err := f.WriteAt([]byte(value), 0); err != nil {
				why = err.Error()
			}
		}
		if why != "" && wanted {
			missing = append(missing, fmt.Sprintf("limits.%s: %s", key, why))
		}
	}
	set("cpu", g.cpu, g.noCPU, cpu, l.CPU > 0)
	set("pids", g.pids, g.noPIDs, pids, l.PIDs > 0)
	return missing
}

// removeCgroup removes the control group of a worker that has ended. What fails is of no harm: it is empty.
func removeCgroup(name string) {
	if parent, err := cgroupParent(); err == nil {
		_ = unix.Rmdir(filepath.Join(parent, cgroupPrefix+name))
	}
}

// cgroupParent returns the control group that belongs to the daemon, and so to its workers: the one that it is in, or
// the one above, where the service manager has put the daemon itself one below (DelegateSubgroup=). That the service
// manager has given it away it says with an attribute; the root of a container needs none.
func cgroupParent() (string, error) {
	mount, err := cgroupMount()
	if err != nil {
		return "", err
	}
	own, err := ownCgroup()
	if err != nil {
		return "", err
	}
	if own == "/" {
		return mount, nil
	}
	if strings.HasPrefix(filepath.Base(own), cgroupPrefix) { // a worker's own
		own = filepath.Dir(own)
	}
	for _, path := range []string{own, filepath.Dir(own)} {
		if dir := filepath.Join(mount, path); delegated(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the control group %s is not delegated to the daemon (systemd: Delegate=yes)", own)
}

func delegated(dir string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		b := make([]byte, 8)
		if n, err := unix.Getxattr(dir, name, b); err == nil && string(b[:n]) == "1" {
			return true
		}
	}
	return false
}

// cgroupMount returns where control groups of version 2 are.
func cgroupMount() (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		// ID PARENT DEVICE ROOT MOUNTPOINT OPTIONS [FIELDS] - TYPE SOURCE OPTIONS
		mount, kind, ok := strings.Cut(line, " - ")
		if words := strings.Fields(mount); ok && strings.HasPrefix(kind, "cgroup2 ") && len(words) > 4 {
			return words[4], nil
		}
	}
	return "", errors.New("this system has no control groups of version 2")
}

// ownCgroup returns the path of the control group of version 2 that the calling program is in.
func ownCgroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path, nil
		}
	}
	return "", errors.New("this system has no control groups of version 2")
}

func writeControl(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
