package bench

import (
	"fmt"
	"os"
	goruntime "runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is what was measured on.
type Machine struct {
	Time       time.Time `json:"time"`
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	MemoryMiB  uint64    `json:"memory_mib"`
	Kernel     string    `json:"kernel"`
	Arch       string    `json:"arch"`
	FileSystem string    `json:"file_system"`
	Go         string    `json:"go"`
	Wazero     string    `json:"wazero"`
	Version    string    `json:"version"`
	// Load is the load average of the last minute before.
	Load float64 `json:"load"`
}

// String describes the machine in a line.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %d MiB, Linux %s on %s, files on %s, %s, wazero %s, load %.1f before", m.CPU, m.Cores, m.MemoryMiB,
		m.Kernel, m.Arch, m.FileSystem, m.Go, m.Wazero, m.Load)
}

// describe describes this machine, with the file system of a directory. What it does not find out is empty.
func describe(dir string) Machine {
	m := Machine{Time: time.Now().UTC().Truncate(time.Second), CPU: "unknown processor", Cores: goruntime.NumCPU(), Arch: goruntime.GOARCH, Go: goruntime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		m.Version = info.Main.Version
		for _, d := range info.Deps {
			if d.Path == "github.com/tetratelabs/wazero" {
				m.Wazero = d.Version
			}
		}
	}
	text, _ := os.ReadFile("/proc/cpuinfo") // what is missing is unknown
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		m.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.MemoryMiB = info.Totalram * uint64(info.Unit) >> 20
		m.Load = float64(info.Loads[0]) / (1 << 16)
	}
	m.FileSystem = "an unknown file system"
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil {
		if name, ok := fileSystems[int64(fs.Type)]; ok {
			m.FileSystem = name
		}
	}
	return m
}

var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.XFS_SUPER_MAGIC: "xfs", unix.TMPFS_MAGIC: "tmpfs (memory, no disk)",
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.F2FS_SUPER_MAGIC: "f2fs", 0x2fc12fc1: "zfs", unix.NFS_SUPER_MAGIC: "nfs",
}
