//go:build !linux

package durable

func (osFS) Free(string) (uint64, error) { return 0, ErrUnsupported }

func (f osFile) Allocated() (int64, error) { return f.Size() }

func (f osFile) StartWriteback(int64, int64) {}

func (f osFile) PunchHole(int64, int64) error { return ErrUnsupported }
