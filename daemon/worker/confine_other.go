//go:build !linux

package worker

import (
	"errors"
	"os"

	"perdure/config"
)

func confine(o *order) error { return errors.ErrUnsupported }

func seccomp() (missing []string, err error) { return nil, errors.ErrUnsupported }

func limitFiles(n int) error { return errors.ErrUnsupported }

func redirect(dir string) error { return errors.ErrUnsupported }

func fileOf(fd int, name string) *os.File { return nil }

func detach(f *os.File) (int, error) { return 0, errors.ErrUnsupported }

// cgroup is the control group of one worker, which this system does not have.
type cgroup struct {
	cpu, pids     *os.File
	noCPU, noPIDs string
}

func limitsOf(s *Spec) *cgroup { return &cgroup{} }

func (g *cgroup) limit(l *config.Limits) (missing []string) { return nil }
