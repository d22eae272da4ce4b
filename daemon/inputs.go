package daemon

import (
	"fmt"
	"strings"
	"time"

	"perdure/config"
	"perdure/daemon/worker"
)

// The inputs.
type (
	// inFile tells what the folder has; nil is nothing. With a problem there is something, but it cannot be used.
	inFile struct {
		file    *file
		problem string
	}
	// inSettings tells the settings, and whether those changed that a refusal may have come from.
	inSettings struct {
		settings machineSettings
		retry    bool
	}
	// inStart, inStop and inRestart are wishes of users.
	inStart   struct{ fresh bool }
	inStop    struct{}
	inRestart struct{ fresh bool }
	// inHold makes the process stand still until as many inRelease follow.
	inHold    struct{}
	inRelease struct{}
	// inRemoved tells that the state is gone, inChanged that it is another one now.
	inRemoved struct{}
	inChanged struct{ sha256 string }
	// inClose tells that the daemon ends.
	inClose struct{ how closing }
	// inUp tells that a worker was started, or found.
	inUp struct {
		adopted bool
		// Of one that was found: the SHA-256 of its program, since when it runs, and whether it has loaded it.
		program string
		started time.Time
		ready   bool
	}
	// inNotUp tells that none was. Err is nil if it was not tried.
	inNotUp struct{ err error }
	// inReady tells that the worker has loaded its program and the guest runs.
	inReady struct{}
	// inGone tells that the worker has ended; outcome is nil if it was killed.
	inGone struct {
		outcome *worker.Outcome
		why     string // without an outcome
		// After a refusal or an error: the SHA-256 of the program of the state that there is, if it was looked at.
		looked bool
		saved  string
	}
	// inNotSuspended tells that the worker lives on.
	inNotSuspended struct{ err error }
	// inChecked tells whether a program can be run; refusal is empty if so.
	inChecked struct{ sha256, refusal string }
	// inTime tells that the time of an actWait has come.
	inTime struct{}
)

type input interface {
	apply(*machine, time.Time) []action
}

// The actions.
type (
	// actStart starts a worker when its turn comes.
	actStart struct {
		path   string // empty: the copy in the process's directory
		sha256 string
		fresh  bool
	}
	// actCheck finds out whether a program is refused.
	actCheck struct{ path, sha256 string }
	// actAbort takes back an actStart that still waits.
	actAbort struct{}
	// actSuspend asks the worker to suspend.
	actSuspend struct{}
	// actPersist writes the record.
	actPersist struct{}
	// actWait asks for an inTime; only the last one counts.
	actWait struct{ until time.Time }
	// actTell tells people.
	actTell struct {
		kind EventKind
		text string
	}
)

type action any

func (in inFile) apply(m *machine, _ time.Time) []action {
	was := m.file
	m.problem = in.problem
	if in.problem != "" { // what runs need not stop
		m.seen = true
		return nil
	}
	m.file = in.file
	r := &m.rec
	switch {
	case in.file == nil && r.SHA256 == "" && m.phase == phaseNone:
		*r = newRecord() // nothing is left of it
	case in.file == nil:
		r.Removed = ""
	case m.seen && was == nil && r.Over == in.file.sha256:
		// It was gone and has come back: somebody wants it to run.
		m.again()
	}
	if in.file != nil && r.Removed != in.file.sha256 {
		r.Removed = ""
	}
	if in.file != nil && was != nil && was.sha256 != in.file.sha256 {
		m.notBefore, m.failures = time.Time{}, 0
	}
	m.seen = true
	return nil
}

// again forgets why the process is over.
func (m *machine) again() {
	r := &m.rec
	r.Over, r.Ended, r.ExitCode, r.LastError = "", false, 0, ""
	r.Trap = trapRecord{}
	m.failures, m.notBefore, m.suspendAt = 0, time.Time{}, time.Time{}
}

func (in inSettings) apply(m *machine, _ time.Time) []action {
	m.settings = in.settings
	q := &m.rec.Quarantine
	if q.SHA256 != "" && (in.retry || q.Version != in.settings.version) {
		*q = quarantine{} // another version, or other limits, may take it
	}
	return nil
}

func (in inStart) apply(m *machine, _ time.Time) []action {
	r := &m.rec
	r.Desired, r.Removed = desiredRunning, ""
	r.Quarantine = quarantine{}
	if m.file == nil {
		r.FromState, r.Replaced = true, ""
	}
	m.again()
	r.Fresh = r.Fresh || in.fresh
	return nil
}

func (in inStop) apply(m *machine, _ time.Time) []action {
	m.rec.Desired = desiredStopped
	m.stopAsked = m.phase == phaseUp
	m.suspendAt = time.Time{}
	return nil
}

func (in inRestart) apply(m *machine, now time.Time) []action {
	acts := inStart(in).apply(m, now)
	m.restart = true
	return acts
}

func (inHold) apply(m *machine, _ time.Time) []action {
	m.held++
	m.suspendAt = time.Time{}
	return nil
}

func (inRelease) apply(m *machine, _ time.Time) []action {
	m.held--
	return nil
}

func (inRemoved) apply(m *machine, _ time.Time) []action {
	m.rec = newRecord()
	m.again()
	if m.file != nil {
		m.rec.Removed = m.file.sha256
	}
	return nil
}

func (in inChanged) apply(m *machine, _ time.Time) []action {
	m.again()
	m.rec.SHA256 = in.sha256
	return nil
}

func (in inClose) apply(m *machine, _ time.Time) []action {
	m.closing = in.how
	m.suspendAt = time.Time{}
	return nil
}

func (in inUp) apply(m *machine, now time.Time) []action {
	m.phase, m.since, m.adopted = phaseUp, now, in.adopted
	if !in.adopted {
		m.rec.Stats.Starts++
		return []action{actTell{EventStarting, "starts"}}
	}
	m.runs, m.since, m.fresh, m.ready = in.program, in.started, m.rec.Fresh || m.rec.Replaced != "", false
	if in.ready {
		m.loaded()
	}
	return []action{actTell{EventAdopted, "runs already, and is adopted"}}
}

func (in inNotUp) apply(m *machine, now time.Time) []action {
	m.phase = phaseNone
	if in.err == nil {
		return nil
	}
	return m.crashed(now, fmt.Sprintf("its worker could not be started: %v", in.err))
}

func (inReady) apply(m *machine, _ time.Time) []action {
	m.loaded()
	return nil
}

// loaded notes that the state in the directory is that of the program that was started.
func (m *machine) loaded() {
	if m.ready {
		return
	}
	m.ready = true
	r := &m.rec
	r.SHA256, r.Replaced = m.runs, ""
	if m.fresh {
		r.Fresh = false
	}
	if r.Over != m.runs {
		r.Over, r.Ended, r.ExitCode = "", false, 0
	}
}

func (in inNotSuspended) apply(m *machine, now time.Time) []action {
	if m.phase != phaseStopping {
		return nil
	}
	m.phase = phaseUp
	text := fmt.Sprintf("could not be suspended, and runs on: %v", in.err)
	m.rec.LastError = text
	m.suspendAt = now.Add(m.settings.restart.BackoffMax.Std() / 16)
	if m.stopAsked {
		// The user is told, and nothing has changed.
		m.stopAsked = false
		m.rec.Desired = desiredRunning
	}
	m.restart = false
	return []action{actTell{EventWarning, text}}
}

func (in inChecked) apply(m *machine, _ time.Time) []action {
	m.checking, m.checked = "", in.sha256
	if in.refusal == "" || m.file == nil || m.file.sha256 != in.sha256 {
		return nil
	}
	m.restart, m.rec.Fresh = false, false // it stays as it is
	m.rec.LastError = in.refusal
	m.rec.Quarantine = quarantine{SHA256: in.sha256, Reason: in.refusal, Version: m.settings.version}
	return []action{actTell{EventRefused, in.refusal}}
}

func (inTime) apply(*machine, time.Time) []action { return nil }

func (in inGone) apply(m *machine, now time.Time) []action {
	asked := m.phase == phaseStopping
	m.phase = phaseNone
	ran := max(0, now.Sub(m.since))
	m.rec.Stats.RanNS += int64(ran)
	m.rec.Stats.LastEnd = now.Round(0).UTC().Format(time.RFC3339Nano)
	if ran >= m.settings.restart.ResetAfter.Std() {
		m.failures = 0
	}
	if in.looked {
		m.rec.SHA256 = in.saved
	}
	o := in.outcome
	if o == nil {
		text := in.why
		if asked {
			text += " while it was being suspended; it goes on from its newest generation"
			m.rec.LastError, m.unsaved = text, text
			m.rec.Stats.Crashes++
			return []action{actTell{EventCrashed, m.rec.LastError}}
		}
		return m.crashed(now, text)
	}
	switch o.Kind {
	case worker.OutcomeSuspended:
		m.loaded()
		if !asked { // by somebody who knows its process id
			m.delay(now)
		}
		return []action{actTell{EventSuspended, fmt.Sprintf("is suspended in generation %d", o.Generation)}}
	case worker.OutcomeEnded:
		m.loaded()
		return m.ended(now, o.ExitCode)
	case worker.OutcomeTrapped:
		m.loaded()
		return m.trapped(now, o, ran)
	case worker.OutcomeRefused:
		return m.refused(o.Error)
	}
	if asked {
		m.rec.LastError, m.unsaved = o.Error, o.Error
		return []action{actTell{EventWarning, o.Error}}
	}
	return m.crashed(now, o.Error)
}

// delay sets the time before which no worker is started.
func (m *machine) delay(now time.Time) {
	p := m.settings.restart
	wait := p.Backoff.Std()
	for range min(m.failures, 40) {
		wait = min(2*wait, p.BackoffMax.Std())
	}
	m.failures++
	m.notBefore = now.Add(min(wait, p.BackoffMax.Std()))
}

// over makes it stay as it is until a user, or another program, starts it.
func (m *machine) over() {
	m.rec.Over = m.runs
	m.rec.Ended, m.rec.ExitCode = false, 0
}

func (m *machine) ended(now time.Time, code uint32) []action {
	text := fmt.Sprintf("has ended with status %d", code)
	if code != 0 {
		m.rec.LastError = text
	}
	p := m.settings.restart.Policy
	if p == config.RestartAlways || p == config.RestartOnFailure && code != 0 {
		m.rec.Restarts++
		m.delay(now)
	} else {
		m.over()
		m.rec.Ended, m.rec.ExitCode = true, code
	}
	return []action{actTell{EventEnded, text}}
}

func (m *machine) crashed(now time.Time, text string) []action {
	m.rec.LastError = text
	m.rec.Stats.Crashes++
	if m.settings.restart.Policy == config.RestartNever {
		m.over()
		return []action{actTell{EventFailed, text}}
	}
	m.rec.Restarts++
	m.delay(now)
	return []action{actTell{EventCrashed, text}}
}

func (m *machine) trapped(now time.Time, o *worker.Outcome, ran time.Duration) []action {
	r := &m.rec
	r.Stats.Traps++
	r.LastError = trapText(o)
	place := o.Error
	if len(o.Stack) > 0 {
		place += " in " + o.Stack[0]
	}
	// A program that got on since the last trap, in time and in generations, has not come to the same trap again.
	gotOn := ran >= m.settings.restart.ResetAfter.Std() && o.Generation > r.Trap.Generation
	if r.Trap.Place != place || gotOn {
		r.Trap = trapRecord{Place: place}
	}
	r.Trap.Count++
	r.Trap.Generation = o.Generation
	p := m.settings.restart
	switch {
	case p.Policy == config.RestartNever, p.MaxTraps > 0 && r.Trap.Count >= p.MaxTraps:
		m.over()
		return []action{actTell{EventFailed, r.LastError}}
	}
	r.Restarts++
	m.delay(now)
	return []action{actTell{EventTrapped, r.LastError}}
}

// trapText is a trap with its backtrace.
func trapText(o *worker.Outcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "trapped: %s", o.Error)
	for i, f := range o.Stack {
		if i == maxErrorFrames {
			fmt.Fprintf(&b, "\n  … and %d more", len(o.Stack)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %2d  %s", i, f)
	}
	return b.String()
}

const maxErrorFrames = 32

func (m *machine) refused(why string) []action {
	r := &m.rec
	r.LastError = why
	r.Replaced, r.Fresh = "", false
	r.Quarantine = quarantine{SHA256: m.runs, Reason: why, Version: m.settings.version}
	if m.file == nil || m.file.sha256 != m.runs { // its own copy
		m.over()
	}
	return []action{actTell{EventRefused, why}}
}
