package runtime

import (
	"errors"
	"time"

	"perdure/memsnap"
)

// Live is what may change while the guest runs. The fields are those of Options.
type Live struct {
	Every    time.Duration
	MaxShare float64
	Keep     memsnap.Policy
}

func (l *Live) check() error {
	switch {
	case l.Every < 0:
		return errors.New("the interval between snapshots is negative")
	case l.MaxShare < 0 || l.MaxShare > 1:
		return errors.New("the share of the time for snapshots is not between 0 and 1")
	}
	if l.MaxShare == 0 {
		l.MaxShare = defaultShare
	}
	return nil
}

// Reconfigure changes when generations are taken and which are kept, from now on; a cut that
// is under way goes by what was. It may be called from any goroutine, before Run and meanwhile.
// When it fails nothing has changed.
func (p *Process) Reconfigure(l Live) error {
	if err := l.check(); err != nil {
		return err
	}
	p.store.SetPolicy(l.Keep)
	c := &p.cutter
	c.mu.Lock()
	c.live = l
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default: // the loop has not looked since the last change, and will
	}
	return nil
}

// settings returns what holds now.
func (c *cutter) settings() Live {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live
}
