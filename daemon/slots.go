package daemon

import (
	"context"
	"sync"
)

// slots bounds how many starts are under way. Its size may change at any time.
type slots struct {
	mu      sync.Mutex
	size    int
	used    int
	waiting []chan struct{} // first come, first served
}

// resize sets how many there are, at least one.
func (s *slots) resize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = max(n, 1)
	s.grantLocked()
}

// acquire waits for a slot. The error is that of ctx.
func (s *slots) acquire(ctx context.Context) error {
	granted := make(chan struct{})
	s.mu.Lock()
	s.waiting = append(s.waiting, granted)
	s.grantLocked()
	s.mu.Unlock()
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiting {
		if w == granted {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	// It was granted meanwhile.
	s.used--
	s.grantLocked()
	return ctx.Err()
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	s.grantLocked()
}

func (s *slots) grantLocked() {
	for len(s.waiting) > 0 && s.used < s.size {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
		s.used++
	}
}
