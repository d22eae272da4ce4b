package worker

import (
	"sync"
	"time"

	"perdure/config"
	"perdure/runtime"
)

// output takes what the guest writes: it goes to the log, no faster than it may, and to the consoles.
type output struct {
	consoles *consoles

	mu   sync.Mutex
	log  outputLog
	rate rate
}

var _ runtime.Output = (*output)(nil)

func newOutput(s *Spec, c *consoles, warn func(string, ...any)) *output {
	o := &output{consoles: c, log: outputLog{path: s.Log, warn: warn, keep: s.Settings.Console.LogFiles}}
	o.configure(&s.Settings)
	// The guest learns of it when it writes, if that is still so; the operator now.
	if err := o.log.open(time.Now()); err != nil {
		warn("the log of its output cannot be opened: %v", err)
	}
	return o
}

// configure takes over limits.
func (o *output) configure(c *config.Process) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log.configure(int64(c.Console.LogSize), c.Console.LogFiles)
	o.rate.set(uint64(c.Limits.OutputRate), time.Now())
}

// Write implements runtime.Output. What cannot be logged is an error of the guest's write, which may try again.
func (o *output) Write(_ int, p []byte) (int, time.Duration, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	took, wait := o.rate.take(len(p), now)
	if took == 0 {
		return 0, wait, nil
	}
	n, err := o.log.write(p[:took], now)
	o.rate.giveBack(took - n)
	o.consoles.show(p[:n])
	return n, 0, err
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log.close()
}
