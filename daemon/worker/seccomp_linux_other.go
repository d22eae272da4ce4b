//go:build !amd64 && !arm64

package worker

// seccomp returns what is missing: the numbers of the system calls of this processor.
func seccomp() (missing []string, err error) {
	return []string{"limits.confine: system calls: they are not known for this processor"}, nil
}
