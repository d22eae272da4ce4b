package memsnap

import "sync"

// progress counts the pages that a piece of work has gone through, and tells Options.Progress. A nil one counts nothing.
type progress struct {
	tell  func(done, total uint64)
	total uint64 // 0: not known

	mu   sync.Mutex // held while tell is called, so that calls do not come at once
	done uint64
}

// progress begins to count. It is nil when nobody wants to know.
func (s *Store) progress(total uint64) *progress {
	if s.tell == nil {
		return nil
	}
	return &progress{tell: s.tell, total: total}
}

func (p *progress) add(pages uint64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += pages
	p.tell(p.done, p.total)
}
