package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"perdure/runtime/internal/journal"
	"perdure/runtime/internal/wasi"
)

// In a process's directory, journalDir holds the journal, divergedDir the last one that the
// program did not follow, and unlinkedDir the files that it has open though they have no other
// name.
const (
	journalDir  = "journal"
	divergedDir = "journal.diverged"
	unlinkedDir = "unlinked"
)

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

// birth is what the journal has of the beginning of a life, for as long as there is no
// generation of it.
type birth struct {
	Version int             `json:"version"`
	Program string          `json:"program_sha256"`
	After   uint64          `json:"after"` // the newest generation then, of a life before
	WASI    json.RawMessage `json:"wasi"`
}

const birthVersion = 1

func (p *Process) journalPath() string { return filepath.Join(p.opt.Dir, journalDir) }

// records tells whether the process keeps a journal.
func (o *Options) records() bool { return o.Durability != DurabilityNone && o.Durability != "" }

// openJournal puts the journal between the host and the outside.
func (p *Process) openJournal() (err error) {
	began := time.Now()
	p.journal, err = journal.New(journal.Options{
		Dir: p.journalPath(), Unlinked: filepath.Join(p.opt.Dir, unlinkedDir), Kernel: p.kernel,
		Sync: p.opt.Durability == DurabilityDisk,
		Max:  p.opt.journalMax(), RotateAt: p.opt.hooks.rotateAt, Full: p.cutter.journalFull,
		Live: func(records int, lost []wasi.Warning) {
			if records > 0 {
				p.event(ReplayedEvent{Records: records, Took: time.Since(began)})
			}
			p.warn(lost)
			p.tellSockets()
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
	p.status.journal.Store(p.journal)
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
	p.behind = p.kernel
	take := func() error { return p.takeJournal(at) }
	if p.opt.offline != nil {
		take = func() error { return p.takeOffline(state, at) }
	}
	if err := take(); err != nil {
		return err
	}
	err := p.quietly(func() error {
		host, warnings, err := wasi.Restore(state, p.wasiConfig(), p.behind)
		if err != nil {
			return err
		}
		p.wasi = host
		p.warn(warnings)
		if !p.replaying() {
			p.tellSockets()
		}
		return nil
	})
	if err != nil || p.journal == nil {
		return err
	}
	return p.journal.GoLiveSoon()
}

// takeJournal goes on with the journal that there is, or begins one. A process that does not
// keep one any more still has its past played, and keeps it until there is a generation.
func (p *Process) takeJournal(at *journal.Position) error {
	if at == nil && !p.opt.records() {
		return journal.Remove(p.journalPath())
	}
	_, err := os.Stat(p.journalPath())
	dropped := errors.Is(err, fs.ErrNotExist)
	if err := p.openJournal(); err != nil {
		return err
	}
	if at == nil {
		return p.journal.Restart()
	}
	var refused error
	err = p.journal.Continue(*at, func(flaw error) error {
		refused = p.flawed(flaw, "the journal can be followed only as far as it is whole, and what came after that happens again")
		return refused
	})
	switch {
	case refused != nil:
		return refused
	case err == nil:
		p.cutter.position = at
		return nil
	case dropped: // on purpose
	case errors.Is(err, fs.ErrNotExist):
		err = errors.New("its journal is gone, as that of an old snapshot is, and after a trap")
		fallthrough
	default:
		if err := p.flawed(err, "going on from the snapshot alone, and what came after it happens again"); err != nil {
			return err
		}
	}
	if !p.opt.records() {
		return p.dropJournal()
	}
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
	p.behind = p.kernel
	if state, at, ok := journal.Birth(p.journalPath()); ok {
		var b birth
		if err := json.Unmarshal(state, &b); err == nil && b.Version == birthVersion && b.After == after {
			if b.Program != p.sum {
				return &OtherProgramError{Name: p.opt.Name, Have: b.Program, Want: p.sum}
			}
			return p.restoreHost(b.WASI, &at)
		}
	}
	if p.opt.offline != nil {
		return ErrNoJournal
	}
	// What is there belongs to the life before.
	if err := removeJournal(p.opt.Dir); err != nil {
		return err
	}
	if p.opt.records() {
		if err := p.openJournal(); err != nil {
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
	if p.journal != nil {
		if err := p.journal.Flush(); err != nil {
			return err
		}
	}
	var state []byte
	err := p.quietly(func() (err error) {
		state, err = p.wasi.Save()
		return err
	})
	if err != nil {
		return err
	}
	t.data.sections = map[string][]byte{sectionWASI: state}
	p.seeSockets(state)
	t.state.Journal = nil
	switch {
	case p.journal == nil:
	case !p.opt.records():
		p.journal.End()
	default:
		if at, ok := p.journal.Cut(); ok {
			t.state.Journal = &at
		}
	}
	return nil
}

// syncJournal makes the journal durable up to the cut, where that is asked for.
func (p *Process) syncJournal(s *processState) {
	if p.journal == nil || s.Journal == nil {
		return
	}
	if err := p.journal.Durable(*s.Journal); err != nil {
		p.event(WarningEvent{fmt.Sprintf("the journal behind this snapshot is not durable, and does without it: %v", err)})
		s.Journal = nil
	}
}

// retireJournal removes what no generation needs that may be gone back to: what is before the
// last but one.
func (p *Process) retireJournal(at *journal.Position) {
	before := p.cutter.position
	p.cutter.position = at
	if p.journal == nil {
		return
	}
	var err error
	switch {
	case !p.opt.records():
		err = journal.Remove(p.journalPath())
	case at != nil && before != nil:
		err = p.journal.Retire(*before)
	}
	if err != nil {
		p.event(WarningEvent{fmt.Sprintf("the old journal could not be removed: %v", err)})
	}
}

// dropJournal removes the journal, which is not to be followed.
func (p *Process) dropJournal() error {
	if p.journal == nil {
		return nil
	}
	err := p.journal.Release()
	p.journal, p.behind = nil, p.kernel
	p.status.journal.Store(nil)
	if err != nil {
		return err
	}
	return journal.Remove(p.journalPath())
}

// removeJournal removes all that the journal of a process has.
func removeJournal(dir string) error {
	return errors.Join(DropJournal(dir), os.RemoveAll(filepath.Join(dir, unlinkedDir)))
}

// DropJournal makes the newest generation of the process in dir all that there is of it, for
// whoever has changed which one that is. The caller holds the lock of the process, and publishes
// the generation afterwards.
func DropJournal(dir string) error {
	path := filepath.Join(dir, journalDir)
	if err := journal.Remove(path); err != nil {
		return err
	}
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
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
func (p *Process) replaying() bool { return p.journal != nil && p.journal.Playing() }

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
