package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"perdure/runtime"
)

// onceWithin is the time in which signals count as one. Terminals, timeout(1) and wrappers
// signal both the process and its group, which delivers the same wish twice.
const onceWithin = 500 * time.Millisecond

// signals turns the signals of perdure run into requests to its process.
type signals struct {
	talk   *talk
	got    chan os.Signal
	cancel context.CancelFunc
	ctx    context.Context
	once   sync.Once
	done   sync.WaitGroup // the goroutine that waits for signals, and one for each snapshot

	mu       sync.Mutex
	process  *runtime.Process // nil before it runs
	stopping syscall.Signal   // the first that suspends; 0: none
	since    time.Time        // when that came
	saving   bool
	again    bool // a generation was asked for while one was taken, which may be older than the wish
}

// watchSignals returns a context that ends when the process is to be suspended.
func watchSignals(ctx context.Context, t *talk) (context.Context, *signals) {
	s := &signals{talk: t, got: make(chan os.Signal, 8)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	signal.Notify(s.got, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1)
	// nohup ignores this one, which Notify would undo.
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(s.got, syscall.SIGHUP)
	}
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		for sig := range s.got {
			s.handle(sig.(syscall.Signal))
		}
	}()
	return s.ctx, s
}

// begin says that the process is about to run.
func (s *signals) begin(p *runtime.Process) {
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
}

// stop ends the watching; it may be called twice.
func (s *signals) stop() {
	s.once.Do(func() {
		signal.Stop(s.got)
		close(s.got)
		s.cancel()
		s.done.Wait()
	})
}

// signal returns the one that suspended the process.
func (s *signals) signal() syscall.Signal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (s *signals) handle(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sig == syscall.SIGUSR1 {
		switch {
		case s.process == nil || s.stopping != 0:
		case s.saving:
			s.again = true
		default:
			s.saving = true
			s.done.Add(1)
			go s.save(s.process)
		}
		return
	}
	switch {
	case s.process == nil: // nothing runs yet, nothing can be lost
		os.Exit(exitSignal + int(sig))
	case s.stopping == 0:
		s.stopping, s.since = sig, time.Now()
		s.cancel()
	case time.Since(s.since) > onceWithin: // what was saved before is whole
		os.Exit(exitSignal + int(s.stopping))
	}
}

// save takes a generation now, and another one when that is asked for meanwhile.
func (s *signals) save(p *runtime.Process) {
	defer s.done.Done()
	for again := true; again; {
		info, err := p.Snapshot(s.ctx)
		switch {
		case errors.Is(err, runtime.ErrEnded) || s.ctx.Err() != nil:
		case err != nil:
			s.talk.warn("no snapshot: %v", err)
		default:
			s.talk.say("generation %d is durable", info.Number)
		}
		s.mu.Lock()
		again, s.again = s.again && s.stopping == 0, false
		s.saving = again
		s.mu.Unlock()
	}
}
