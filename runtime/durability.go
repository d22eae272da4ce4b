package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"perdure/runtime/internal/journal"
	"perdure/runtime/internal/wasi"
)

// journalDir holds the journal, in a process's directory.
const journalDir = "journal"

// journalMax is how much may be recorded between two generations by default, in bytes.
const journalMax = 64 << 20

// Durability is what survives a crash beyond the newest generation.
type Durability string

// The levels of durability.
const (
	// DurabilityNone takes generations only: after a crash the guest goes on from the newest
	// and does again what it did since.
	DurabilityNone Durability = "none"
	// DurabilityProcess records what the outside answers: after the death of the worker, however
	// it came, nothing is lost and nothing is done twice.
	DurabilityProcess Durability = "process"
	// DurabilityDisk also makes the record durable before each effect.
	DurabilityDisk Durability = "disk"
)

// ParseDurability parses the name of a level.
func ParseDurability(s string) (Durability, error) {
	switch d := Durability(s); d {
	case DurabilityNone, DurabilityProcess, DurabilityDisk:
		return d, nil
	}
	return "", fmt.Errorf("%q is no durability; there are none, process and disk", s)
}

// DivergenceError says that the guest, run again after a crash, did something else than the
// journal has. With Options.NoReplay the process goes on from its newest generation alone.
type DivergenceError = journal.DivergenceError

// birth is what the journal has of the beginning of a life, for as long as there is no
// generation of it.
type birth struct {
	Version int             `json:"version"`
	Program string          `json:"program_sha256"`
	After   uint64          `json:"after"` // the newest generation then, of a life before
	WASI    json.RawMessage `json:"wasi"`
}

const birthVersion = 1

// openJournal puts the journal between the host and the outside.
func (p *Process) openJournal() (err error) {
	p.behind = p.kernel
	if p.opt.Durability == DurabilityNone || p.opt.Durability == "" {
		return nil
	}
	began := time.Now()
	p.journal, err = journal.New(journal.Options{
		Dir: filepath.Join(p.opt.Dir, journalDir), Kernel: p.kernel, Sync: p.opt.Durability == DurabilityDisk,
		Max: p.opt.journalMax(), Full: p.cutter.journalFull,
		Live: func(records int, lost []wasi.Warning) {
			p.event(ReplayedEvent{Records: records, Took: time.Since(began)})
			p.warn(lost)
		},
		Lost: func(err error) {
			p.uncovered = true
			p.event(WarningEvent{fmt.Sprintf("the journal cannot go on before the next snapshot; a crash until then loses what follows: %v", err)})
		},
	})
	if err != nil {
		return err
	}
	p.behind = p.journal
	return nil
}

func (o *Options) journalMax() uint64 {
	if o.JournalMax == 0 {
		return journalMax
	}
	return o.JournalMax
}

// restoreHost makes the host from its saved State. When at has a past behind it, that is
// played first.
func (p *Process) restoreHost(state []byte, at *journal.Position) error {
	if err := p.openJournal(); err != nil {
		return err
	}
	if p.journal != nil {
		if err := p.continueJournal(at); err != nil {
			return err
		}
	}
	return p.quietly(func() error {
		host, warnings, err := wasi.Restore(state, p.wasiConfig(), p.behind)
		if err != nil {
			return err
		}
		p.wasi = host
		p.warn(warnings)
		return nil
	})
}

func (p *Process) continueJournal(at *journal.Position) error {
	if at == nil || p.opt.NoReplay {
		return p.journal.Restart()
	}
	err := p.journal.Continue(*at)
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("the journal is gone, as it is after a trap")
	}
	p.event(WarningEvent{fmt.Sprintf("going on from the snapshot alone, and what came after it happens again: %v", err)})
	return p.journal.Restart()
}

// quietly runs f, in which the host calls the outside for itself.
func (p *Process) quietly(f func() error) error {
	if p.journal == nil {
		return f()
	}
	return p.journal.Quiet(f)
}

func (p *Process) warn(warnings []wasi.Warning) {
	for _, w := range warnings {
		p.event(WarningEvent{w.String()})
	}
}

// beginLife makes the host of a guest that starts anew, or that had started when no
// generation had been made of it yet. after is the newest generation, of a life before.
func (p *Process) beginLife(after uint64) error {
	if state, at, ok := journal.Birth(filepath.Join(p.opt.Dir, journalDir)); ok && p.opt.Durability != DurabilityNone && !p.opt.NoReplay {
		var b birth
		if err := json.Unmarshal(state, &b); err == nil && b.Version == birthVersion && b.Program == p.sum && b.After == after {
			return p.restoreHost(b.WASI, &at)
		}
	}
	if err := p.openJournal(); err != nil {
		return err
	}
	if p.journal == nil {
		// One that is there belongs to the life before.
		if err := journal.Remove(filepath.Join(p.opt.Dir, journalDir)); err != nil {
			return err
		}
	}
	var state []byte
	err := p.quietly(func() (err error) {
		if p.wasi, err = wasi.New(p.wasiConfig(), p.behind); err == nil {
			state, err = p.wasi.Save()
		}
		return err
	})
	if err != nil || p.journal == nil {
		return err
	}
	b, err := json.Marshal(birth{Version: birthVersion, Program: p.sum, After: after, WASI: state})
	if err != nil {
		return err
	}
	return p.journal.Begin(b)
}

// saveHost takes the State of the host and notes the cut in the journal.
func (p *Process) saveHost(t *takenCut) error {
	var state []byte
	err := p.quietly(func() (err error) {
		state, err = p.wasi.Save()
		return err
	})
	if err != nil {
		return err
	}
	t.data.sections = map[string][]byte{sectionWASI: state}
	if p.journal == nil {
		return nil
	}
	at, err := p.journal.Cut()
	t.state.Journal = &at
	return err
}

// retireJournal removes what no generation needs that may be gone back to: those before the
// last but one.
func (p *Process) retireJournal(at *journal.Position) {
	if p.journal == nil || at == nil {
		return
	}
	if before := p.cutter.position; before != nil {
		if err := p.journal.Retire(*before); err != nil {
			p.event(WarningEvent{fmt.Sprintf("the old journal could not be removed: %v", err)})
		}
	}
	p.cutter.position = at
}

// dropJournal removes the journal of a life that has ended.
func (p *Process) dropJournal() error {
	if p.journal == nil {
		return nil
	}
	err := p.journal.Release()
	p.journal, p.behind = nil, p.kernel
	if err != nil {
		return err
	}
	return journal.Remove(filepath.Join(p.opt.Dir, journalDir))
}

// pastCall returns the call with which the past goes on; nil when it has been played, and the
// guest is live.
func (p *Process) pastCall() (*call, error) {
	if !p.replaying() {
		return nil, nil
	}
	name, args, ok, err := p.journal.NextCall()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, p.journal.GoLive()
	}
	f, err := findCallable(p.module, name)
	if err != nil || len(f.params) != len(args) {
		return nil, fmt.Errorf("%w: there is no %q to call with %d arguments", journal.ErrDamaged, name, len(args))
	}
	return &call{callable: f, args: args, answer: make(chan callAnswer, 1)}, nil
}

// recordCall records a call that begins.
func (p *Process) recordCall(k *call) {
	if p.journal != nil && !p.journal.Called(k.name, k.args) {
		p.uncovered = true
	}
}

// recordReturn records that a call has returned or trapped. known tells that it is of the past and
// that it had returned by then, covered that the journal keeps what it did.
func (p *Process) recordReturn(words []uint64, trapped bool) (known, covered bool, err error) {
	if p.journal == nil {
		return false, false, nil
	}
	known, saved, err := p.journal.Returned(words, trapped)
	// Where a stack overflows depends on more than the past: a generation has to have it.
	return known, saved && !p.uncovered && !trapped, err
}

// replaying tells whether the guest runs against its past.
func (p *Process) replaying() bool { return p.journal != nil && !p.journal.Settled() }

// replayed is closed when the past has been played.
func (p *Process) replayed() <-chan struct{} {
	if p.journal == nil {
		c := make(chan struct{})
		close(c)
		return c
	}
	return p.journal.Replayed()
}

// resumeCall stands for the index of a host call that was interrupted.
const resumeCall = -1

// call carries out a host call. What was interrupted when the past was recorded was resumed
// then, and is resumed now.
func (w *wasiCalls) call(i int, stack []uint64) (r uint32, err error) {
	defer journal.Recover(&err)
	if i == resumeCall {
		r, err = w.wasi.Resume(w.mem.Bytes())
	} else {
		r, err = w.wasi.Call(i, w.mem.Bytes(), stack)
	}
	for errors.Is(err, wasi.ErrInterrupted) && (*Process)(w).replaying() {
		r, err = w.wasi.Resume(w.mem.Bytes())
	}
	return r, err
}
