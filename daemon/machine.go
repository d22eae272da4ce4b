package daemon

import (
	"fmt"
	"time"

	"perdure/config"
)

// phase is what there is of a worker.
type phase int

const (
	phaseNone     phase = iota // there is none
	phaseQueued                // one is to be started, and waits for its turn
	phaseUp                    // it runs
	phaseStopping              // it was asked to suspend
)

// closing says how the daemon ends.
type closing int

const (
	closingNot     closing = iota
	closingSuspend         // with all processes suspended
	closingDetach          // the workers live on
)

// file is a program in the folder.
type file struct {
	path   string
	sha256 string // in hexadecimal
}

// machine decides what becomes of one process. It has no clock and does no I/O: inputs come in, actions go out.
type machine struct {
	rec record

	// What there should be.
	file     *file  // in the folder; nil if there is none
	problem  string // with what the folder has now, so that file is what it had before, if anything; else empty
	seen     bool   // the folder has been looked at
	settings machineSettings
	held     int // operations that need the process to stand still
	restart  bool
	closing  closing

	// A program that is to replace another one is checked first, so that what runs is not stopped for one that is refused.
	checking string // SHA-256 that is being checked
	checked  string // SHA-256 that was found good, or could not be judged

	// What there is.
	phase     phase
	runs      string // SHA-256 of the program that the worker was started with
	fresh     bool   // it was started anew
	ready     bool   // it has gone beyond loading
	adopted   bool   // an earlier daemon started it
	since     time.Time
	failures  int       // in a row, for the back-off
	notBefore time.Time // no worker is started earlier
	suspendAt time.Time // no further try to suspend earlier
	stopAsked bool      // a user's stop is under way
	unsaved   string    // why the last moments could not be saved when it was suspended last; empty if they were
}

// machineSettings are the parts of the configuration that decisions depend on.
type machineSettings struct {
	restart  config.Restart
	onChange config.OnChange
	version  string // of Perdure
	err      string // the configuration of this process is wrong; else empty
}

// step takes an input and returns what is to be done, in this order.
func (m *machine) step(now time.Time, in input) []action {
	before := m.rec
	acts := in.apply(m, now)
	next := m.decide(now)
	if m.rec != before {
		// A record is written before what it says is done.
		next = append([]action{actPersist{}}, next...)
	}
	return append(acts, next...)
}

// target is what should run.
type target struct {
	run      bool
	file     bool // the one in the folder, else the copy in the process's directory
	sha256   string
	fresh    bool   // anew, the old state becomes an ended lineage
	replaces bool   // another program, which goes on if this one is refused
	why      string // for people: why nothing runs, or not what the folder has
	failed   bool   // nothing runs because something is wrong
}

// goal decides what should run.
func (m *machine) goal() target {
	r := &m.rec
	t := m.program()
	switch {
	case !t.run:
	case m.closing != closingNot:
		t = target{why: "the daemon is stopping"}
	case m.held > 0:
		t = target{why: "its state is being changed"}
	case r.Desired == desiredStopped:
		t = target{why: ""}
	case m.settings.err != "" && m.phase == phaseNone:
		t = target{why: m.settings.err, failed: true}
	}
	return t
}

// program decides which program the process should run, if it should run at all.
func (m *machine) program() target {
	r := &m.rec
	have := r.SHA256 // of the state that there is; empty if there is none
	copied := target{run: true, sha256: have, fresh: r.Fresh}
	if m.file == nil {
		switch {
		case m.problem != "" && have != "":
			copied.why = "its file in the folder cannot be used, and what was there runs on: " + m.problem
			return m.unlessOver(copied)
		case m.problem != "":
			return target{why: m.problem, failed: true}
		case !r.FromState && r.Replaced != "":
			return target{why: "replaced"}
		case !r.FromState && !m.seen && m.phase == phaseUp:
			return target{run: true, sha256: m.runs} // an adopted worker, of which the folder will tell
		case !r.FromState && !m.seen:
			return target{why: "the folder has not been read yet"}
		case !r.FromState:
			return target{why: "its file is gone from the folder"}
		case have == "":
			return target{why: "there is nothing of it"}
		}
		return m.unlessOver(copied)
	}
	filed := target{run: true, file: true, sha256: m.file.sha256, fresh: r.Fresh || have != "" && have != m.file.sha256}
	if r.Removed == m.file.sha256 {
		return target{why: "removed; it starts when its file changes, or by perdure start"}
	}
	old := have != "" && have != m.file.sha256 && !(r.Ended && r.Over == have)
	switch q := r.Quarantine; {
	case q.SHA256 == m.file.sha256 && old:
		// What is there runs on, rather than nothing.
		copied.why = "the new program in the folder is refused, the old one is kept: " + q.Reason
		return m.unlessOver(copied)
	case q.SHA256 == m.file.sha256:
		return target{why: q.Reason, failed: true}
	case old && m.settings.onChange == config.Hold && !r.Fresh:
		copied.why = "on hold: the folder has another program; perdure restart --fresh takes it"
		return m.unlessOver(copied)
	}
	filed.replaces = old
	return m.unlessOver(filed)
}

// unlessOver is a program unless it has ended or failed for good.
func (m *machine) unlessOver(t target) target {
	r := &m.rec
	if r.Over != t.sha256 || t.sha256 == "" {
		return t
	}
	if r.Ended {
		return target{why: fmt.Sprintf("ended with status %d", r.ExitCode)}
	}
	return target{why: r.LastError, failed: true}
}

// decide takes the next step from what is to what should be.
func (m *machine) decide(now time.Time) []action {
	t := m.goal()
	if t.replaces && m.checked != t.sha256 {
		if m.checking == t.sha256 {
			return nil
		}
		m.checking = t.sha256
		return []action{actCheck{m.file.path, t.sha256}}
	}
	other := t.run && t.sha256 != m.runs
	switch m.phase {
	case phaseNone:
		m.restart, m.stopAsked = false, false
		if !t.run {
			m.notBefore = time.Time{}
			return nil
		}
		if now.Before(m.notBefore) {
			return []action{actWait{m.notBefore}}
		}
		start := actStart{sha256: t.sha256, fresh: t.fresh}
		if t.file {
			start.path = m.file.path
			m.rec.Program = m.file.path
			m.rec.FromState = false
		}
		if t.fresh {
			m.rec.Replaced = t.sha256 // goes with the old state to where that is kept
		}
		m.phase, m.runs, m.fresh, m.ready, m.adopted = phaseQueued, t.sha256, t.fresh, false, false
		return []action{start}
	case phaseQueued:
		if !t.run || other {
			return []action{actAbort{}}
		}
	case phaseUp:
		if t.run && !other && !m.restart || m.closing == closingDetach {
			break
		}
		if now.Before(m.suspendAt) {
			return []action{actWait{m.suspendAt}}
		}
		m.phase, m.unsaved = phaseStopping, ""
		return []action{actSuspend{}}
	}
	return nil
}
