package wasi

import (
	"fmt"
	"runtime"
)

// monotonicStart is the monotonic time at which a guest begins. It is not zero,
// which programs take for a clock that does not work.
const monotonicStart = 1e9

// startClocks makes the guest's clocks go on from c.
func (h *Host) startClocks(c Clocks) error {
	now, errno := h.k.Now(ClockMonotonic)
	if errno != ESUCCESS {
		return fmt.Errorf("read the monotonic clock: %w", errno)
	}
	cpu, errno := h.k.Now(ClockProcessCPU)
	if errno != ESUCCESS {
		return fmt.Errorf("read the CPU clock: %w", errno)
	}
	h.monotonicBase = c.Monotonic - now
	h.cpuBase = c.CPU - cpu
	return nil
}

// monotonic returns the guest's monotonic time in nanoseconds.
func (h *Host) monotonic() int64 {
	t, errno := h.now(ClockMonotonic)
	if errno != ESUCCESS {
		return 0 // startClocks has read this clock: it does not fail later
	}
	return t
}

// now reads a clock as the guest sees it.
func (h *Host) now(c Clock) (int64, Errno) {
	t, errno := h.k.Now(c)
	if errno != ESUCCESS {
		return 0, errno
	}
	switch c {
	case ClockMonotonic:
		t += h.monotonicBase
	case ClockProcessCPU, ClockThreadCPU:
		t += h.cpuBase
	}
	return max(t, 0), ESUCCESS
}

func clockResGet(h *Host, m memory, a []uint64) (Errno, error) {
	id, result := uint32(a[0]), uint32(a[1])
	if id > uint32(ClockThreadCPU) {
		return EINVAL, nil
	}
	if !m.has(result, 8) {
		return EFAULT, nil
	}
	res, errno := h.k.Resolution(Clock(id))
	if errno != ESUCCESS {
		return errno, nil
	}
	m.putUint64(result, uint64(res))
	return ESUCCESS, nil
}

func clockTimeGet(h *Host, m memory, a []uint64) (Errno, error) {
	id, result := uint32(a[0]), uint32(a[2]) // a[1], the precision, is a hint
	if id > uint32(ClockThreadCPU) {
		return EINVAL, nil
	}
	if !m.has(result, 8) {
		return EFAULT, nil
	}
	t, errno := h.now(Clock(id))
	if errno != ESUCCESS {
		return errno, nil
	}
	m.putUint64(result, uint64(t))
	return ESUCCESS, nil
}

func randomGet(h *Host, m memory, a []uint64) (Errno, error) {
	b, ok := m.bytes(uint32(a[0]), uint32(a[1]))
	if !ok {
		return EFAULT, nil
	}
	// In pieces, so that a recording Kernel never holds a huge answer.
	const piece = 1 << 20
	for len(b) > 0 {
		n := min(len(b), piece)
		if errno := h.k.Random(b[:n]); errno != ESUCCESS {
			return errno, nil
		}
		b = b[n:]
	}
	return ESUCCESS, nil
}

func schedYield(*Host, memory, []uint64) (Errno, error) {
	runtime.Gosched()
	return ESUCCESS, nil
}
