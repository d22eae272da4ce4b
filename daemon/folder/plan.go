package folder

import (
	"maps"
	"slices"
	"time"
)

// plan decides when a name is taken. It is a function of what it is told: it has neither clock
// nor file.
//
// A name is pending from the first look that differs from what was taken last. It is ready when
// nothing has happened to it for settle, or when events keep coming, but nothing that they
// change is content, for patience. What is new and is not ready after patience is overdue: then
// it is in the set, with ErrChanging.
type plan struct {
	settle, patience time.Duration
	names            map[string]*entry
	dirty            bool // the set differs from the one that was returned last
}

// entry is what a plan knows of a name.
type entry struct {
	taken   look
	program *Program // that was taken; nil if the name has no module
	again   bool     // reading it failed in a way that may pass: a rescan tries again

	pending bool
	seen    look
	begun   time.Time // when it became pending
	changed time.Time // when its content was seen to change last
	quiet   time.Time // when anything happened last
	overdue bool
}

func newPlan(settle time.Duration) *plan {
	p := &plan{names: make(map[string]*entry)}
	p.setSettle(settle)
	return p
}

// Bounds of the settling time and of patience.
const (
	minSettle   = 20 * time.Millisecond // time stamps of files are hardly finer
	minPatience = 2 * time.Second
)

func (p *plan) setSettle(settle time.Duration) {
	p.settle = max(settle, minSettle)
	p.patience = max(minPatience, 10*p.settle)
}

// observe takes in what a look showed at now. Event says that something has happened to the
// name, and again that what failed is to be tried again.
func (p *plan) observe(name string, seen look, now time.Time, event, again bool) {
	e := p.names[name]
	if e == nil {
		if seen.gone() {
			return
		}
		e = new(entry)
		p.names[name] = e
	}
	if !e.pending {
		if seen == e.taken && !(again && e.again) {
			return
		}
		e.pending, e.begun, e.changed, e.quiet = true, now, now, now
	}
	if seen.content() != e.seen.content() {
		e.changed, e.quiet = now, now
	}
	if event || seen != e.seen {
		e.quiet = now
	}
	e.seen = seen
}

// due returns the pending names that are ready at now if another look finds them as they were,
// sorted.
func (p *plan) due(now time.Time) []string {
	var names []string
	for name, e := range p.names {
		if p.ready(e, now) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (p *plan) ready(e *entry, now time.Time) bool {
	return e.pending && (now.Sub(e.quiet) >= p.settle || now.Sub(e.changed) >= p.patience)
}

// settled reports whether name is ready at now, and how it looks.
func (p *plan) settled(name string, now time.Time) (look, bool) {
	e := p.names[name]
	if e == nil || !p.ready(e, now) {
		return look{}, false
	}
	return e.seen, true
}

// last returns the program that was taken last for name, and of which look. Nil means that it has to be read.
func (p *plan) last(name string) (*Program, look) {
	e := p.names[name]
	return e.program, e.taken
}

// unchanged reports whether name looks as it did when it was taken, so that nothing needs to be read.
func (p *plan) unchanged(name string) bool {
	e := p.names[name]
	return e.seen == e.taken && !e.again
}

// take says that what was seen of a name is what it is: a program, or nil if there is none.
func (p *plan) take(name string, program *Program, again bool) {
	e := p.names[name]
	p.dirty = p.dirty || !same(e.program, program) || e.program == nil && e.overdue
	if e.seen.gone() {
		delete(p.names, name)
		return
	}
	*e = entry{taken: e.seen, program: program, again: again}
}

// disturb says that a name changed while it was read.
func (p *plan) disturb(name string, now time.Time) {
	e := p.names[name]
	e.changed, e.quiet = now, now
}

// expire returns the names that have become overdue by now, sorted.
func (p *plan) expire(now time.Time) []string {
	var names []string
	for name, e := range p.names {
		if e.pending && !e.overdue && now.Sub(e.begun) >= p.patience {
			e.overdue = true
			p.dirty = p.dirty || e.program == nil
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// complete reports whether each name that was seen is settled or overdue.
func (p *plan) complete() bool {
	for _, e := range p.names {
		if e.pending && !e.overdue {
			return false
		}
	}
	return true
}

// wait returns how long after now a name may become ready or overdue; false if none is pending.
func (p *plan) wait(now time.Time) (time.Duration, bool) {
	var next time.Time
	for _, e := range p.names {
		if !e.pending {
			continue
		}
		at := earlier(e.quiet.Add(p.settle), e.changed.Add(p.patience))
		if !e.overdue {
			at = earlier(at, e.begun.Add(p.patience))
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return max(0, next.Sub(now)), !next.IsZero()
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// set returns what the folder asks for, and marks it as returned. Make returns a program of
// which only the name is known.
func (p *plan) set(make func(name string) Program) Set {
	p.dirty = false
	set := Set{}
	for name, e := range p.names {
		switch {
		case e.program != nil:
			set[name] = *e.program
		case e.overdue && e.seen.program.kind != absent:
			program := make(name)
			program.Problem = ErrChanging
			set[name] = program
		}
	}
	return set
}

// known returns all names, sorted.
func (p *plan) known() []string { return slices.Sorted(maps.Keys(p.names)) }
