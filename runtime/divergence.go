package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"perdure/runtime/internal/journal"
)

// OnDivergence is what becomes of a process that cannot be brought to where it was when it was
// killed: the journal is damaged, or the program does not follow it.
type OnDivergence string

const (
	// DivergenceGeneration goes on from the newest generation, and as far as the journal can be
	// believed. What came after that happens again.
	DivergenceGeneration OnDivergence = "generation"
	// DivergenceStop does not go on: Open or Run fails until somebody decides.
	DivergenceStop OnDivergence = "stop"
)

// ParseOnDivergence parses the name of a policy.
func ParseOnDivergence(s string) (OnDivergence, error) {
	switch d := OnDivergence(s); d {
	case DivergenceGeneration, DivergenceStop:
		return d, nil
	}
	return "", fmt.Errorf("%q is no such policy; there are generation and stop", s)
}

// DivergenceError says that the guest, run again after a crash, did something else than the
// journal has. Unless the policy is DivergenceStop, the journal is put aside, so that the next
// Open goes on from the newest generation alone.
type DivergenceError = journal.DivergenceError

// JournalError says that a process was not opened, by DivergenceStop, since the journal after
// its newest generation cannot be followed to the end.
type JournalError struct {
	Name string
	Err  error
}

func (e *JournalError) Error() string {
	return fmt.Sprintf("%s cannot be brought to where it was: %v", e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *JournalError) Unwrap() error { return e.Err }

// flawed decides what becomes of a process whose journal cannot be followed: an error, or else
// it says what happens.
func (p *Process) flawed(why error, what string) error {
	if p.opt.OnDivergence == DivergenceStop {
		return &JournalError{p.opt.Name, why}
	}
	p.event(WarningEvent{fmt.Sprintf("%s: %v", what, why)})
	return nil
}

// IsDivergence tells whether the guest could not follow the journal, or the journal asked for
// what the program has not.
func IsDivergence(err error) bool {
	var diverged *DivergenceError
	return errors.As(err, &diverged) || errors.Is(err, journal.ErrDamaged)
}

// diverged takes care of the journal that the guest has not followed.
func (p *Process) diverged(err error) error {
	if p.opt.OnDivergence == DivergenceStop || p.journal == nil {
		return err
	}
	return errors.Join(err, p.putJournalAside())
}

// putJournalAside keeps the journal that the program has not followed, for whoever wants to
// know why.
func (p *Process) putJournalAside() error {
	if err := p.journal.Release(); err != nil {
		return err
	}
	aside := filepath.Join(p.opt.Dir, divergedDir)
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	return os.Rename(p.journalPath(), aside)
}
