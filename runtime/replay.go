package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/journal"
	"perdure/runtime/internal/wasi"
)

// JournalEntry is a record of a journal, as DumpJournal tells of it.
type JournalEntry = journal.Entry

// DumpJournal calls visit for each record of the journal of the process in dir, also while that
// runs. flaw tells where and why the journal ended before its end, nil if it did not.
func DumpJournal(dir string, visit func(JournalEntry) error) (flaw, err error) {
	return journal.Dump(filepath.Join(dir, journalDir), visit)
}

// ReplayPoint is where a replay stopped.
type ReplayPoint struct {
	// Generation is the one that it began at, 0 for the beginning of the life.
	Generation uint64
	// Records is how many were played; End tells that there are no more.
	Records int
	End     bool
	// Ended tells that the program ended there, with ExitCode.
	Ended    bool
	ExitCode uint32
	// Frames are the guest's, innermost first: that one makes the next host call.
	Frames []Frame
}

// offline says that a process is only played again.
type offline struct {
	stopAt  int
	stopped *journal.StoppedError // why it stopped
	image   func() (*engine.Image, error)
}

// Replay plays the journal of the process in o.Dir up to a record, counted from 1 behind the
// newest generation, or 0 for all of it, and tells where the guest is then. Nothing outside is
// touched, and nothing of the process is changed; it must not run meanwhile. Of o, Dir, Name, CacheDir,
// MemoryLimit and Key mean something.
func Replay(ctx context.Context, o Options, to int) (ReplayPoint, error) {
	o = Options{Dir: o.Dir, Name: o.Name, CacheDir: o.CacheDir, MemoryLimit: o.MemoryLimit, Key: o.Key,
		Program: filepath.Join(o.Dir, programFile), Durability: DurabilityProcess, OnDivergence: DivergenceStop,
		offline: &offline{stopAt: to}}
	p, err := Open(ctx, o)
	if err != nil {
		return ReplayPoint{}, err
	}
	point := ReplayPoint{Generation: p.base}
	_, err = p.Run(ctx)
	var exit *wasi.ExitError
	off := p.opt.offline
	switch {
	case errors.Is(err, engine.ErrUnwound) && off.image != nil:
		point.Records, point.End = off.stopped.Record, off.stopped.End
		var image *engine.Image
		if image, err = off.image(); err == nil {
			point.Frames = framesOf(image, instrument.FuncNames(p.module))
		}
	case errors.As(err, &exit):
		point.Records, _ = p.journal.Past()
		point.End, point.Ended, point.ExitCode = true, true, exit.Code
		err = nil
	}
	return point, errors.Join(err, p.Close())
}

// ErrNoJournal says that there is nothing to be played behind the newest generation.
var ErrNoJournal = errors.New("the process has no journal")

// takeOffline opens the journal for a replay. Directories and listeners are given to the guest as
// its State has them, and never opened.
func (p *Process) takeOffline(state []byte, at *journal.Position) error {
	if at == nil {
		return ErrNoJournal
	}
	var s struct {
		Preopens []struct {
			Guest wasi.Text `json:"guest"`
		} `json:"preopens"`
		Listeners int `json:"listeners"`
	}
	if err := json.Unmarshal(state, &s); err != nil {
		return fmt.Errorf("%w: %v", ErrBadState, err)
	}
	for _, d := range s.Preopens {
		p.opt.Preopens = append(p.opt.Preopens, Preopen{Host: "/", Guest: string(d.Guest)})
	}
	for range s.Listeners {
		p.opt.Listeners = append(p.opt.Listeners, Listener{Network: "tcp", Address: "127.0.0.1:0"})
	}
	var err error
	p.journal, err = journal.New(journal.Options{Dir: p.journalPath(), Kernel: p.kernel, Offline: true, StopAt: p.opt.offline.stopAt})
	if err != nil {
		return err
	}
	p.behind = p.journal
	return p.journal.Continue(*at, func(flaw error) error {
		p.event(WarningEvent{fmt.Sprintf("the journal can be followed only as far as it is whole: %v", flaw)})
		return nil
	})
}
