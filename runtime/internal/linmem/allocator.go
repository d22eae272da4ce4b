package linmem

import "github.com/tetratelabs/wazero/experimental"

// Allocate implements experimental.MemoryAllocator: the guest's memory is m. max is honoured beside Options.Limit.
//
// A Memory backs one guest at a time. After the module was closed (Free) a next one may be instantiated, and starts
// with an empty memory, all zero. While one is attached, and after Close, the result is a memory that refuses every
// size. wazero panics when a module's minimum is refused: compare it with the limit before instantiating.
func (m *Memory) Allocate(_, max uint64) experimental.LinearMemory {
	refused := &linearMemory{memory: m}
	if m.enter() != nil {
		return refused
	}
	defer m.busy.Store(false)
	if m.attached.Load() {
		return refused
	}
	if m.size.Load() != 0 {
		if m.zero() != nil {
			return refused
		}
		m.size.Store(0)
	}
	m.attached.Store(true)
	return &linearMemory{memory: m, limit: min(max, m.limit), attached: true}
}

// linearMemory is the hold of one guest on its Memory. Its methods are called by the guest's goroutine.
type linearMemory struct {
	memory   *Memory
	limit    uint64 // bytes
	attached bool
}

// Reallocate implements experimental.LinearMemory: it grows the memory in place. It returns nil, which the guest sees
// as -1 from memory.grow, beyond the limit, when the kernel has no memory left to promise, and for a smaller size
// than now.
func (l *linearMemory) Reallocate(size uint64) []byte {
	m := l.memory
	if !l.attached || size > l.limit || size < m.size.Load() || m.closed.Load() {
		return nil
	}
	if err := m.space.grow(size); err != nil {
		return nil
	}
	m.size.Store(size)
	return m.space.bytes(size)
}

// Free implements experimental.LinearMemory. The bytes stay readable until the next Allocate or Close:
// a process that has ended is still to be captured.
func (l *linearMemory) Free() {
	if l.attached {
		l.attached = false
		l.memory.attached.Store(false)
	}
}
