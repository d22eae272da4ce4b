package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"perdure/config"
	"perdure/daemon/worker"
)

// say writes an action the way that tests expect it.
func say(a action) string {
	switch a := a.(type) {
	case actStart:
		words := []string{"start", a.sha256}
		if a.path == "" {
			words = append(words, "copy")
		}
		if a.fresh {
			words = append(words, "fresh")
		}
		return strings.Join(words, " ")
	case actAbort:
		return "abort"
	case actSuspend:
		return "suspend"
	case actPersist:
		return "persist"
	case actCheck:
		return "check " + a.sha256
	case actWait:
		return "wait"
	case actTell:
		return "tell " + string(a.kind)
	}
	return fmt.Sprintf("%T", a)
}

// event is a step of a life: an input, when it comes, what the machine has to do then, and what it looks like.
type event struct {
	in    input
	after time.Duration // the step before
	want  string        // actions without persist and tell, separated by commas
	state State         // empty: not looked at
}

func f(sha string) inFile { return inFile{file: &file{path: "/m/x.wasm", sha256: sha}} }

var gone = inFile{}

func out(kind worker.OutcomeKind, more ...any) inGone {
	o := &worker.Outcome{Kind: kind}
	for _, m := range more {
		switch m := m.(type) {
		case int:
			o.ExitCode = uint32(m)
		case string:
			o.Error = m
		case []string:
			o.Stack = m
		case uint64:
			o.Generation = m
		}
	}
	return inGone{outcome: o}
}

var killed = inGone{why: "worker 7 was ended by signal: killed"}

func defaults() config.Restart { return config.Default().Restart }

func settings(change ...func(*machineSettings)) inSettings {
	s := machineSettings{restart: defaults(), onChange: config.Replace, version: "1"}
	for _, c := range change {
		c(&s)
	}
	return inSettings{settings: s}
}

func policy(p config.RestartPolicy) func(*machineSettings) {
	return func(s *machineSettings) { s.restart.Policy = p }
}

func hold(s *machineSettings) { s.onChange = config.Hold }

var (
	up    = inUp{}
	ready = inReady{}
	susp  = out(worker.OutcomeSuspended)
	trap  = out(worker.OutcomeTrapped, "unreachable", []string{"f()"})
)

// running are the steps until program A runs.
var running = []event{
	{in: f("A"), want: "start A"},
	{in: up, state: StateRunning},
	{in: ready, state: StateRunning},
}

func after(before []event, more ...event) []event { return append(slices.Clone(before), more...) }

func TestMachine(t *testing.T) {
	const long = time.Hour
	stopped := after(running, event{in: inStop{}, want: "suspend"}, event{in: susp, state: StateStopped})
	for name, life := range map[string][]event{
		"a file that appears starts":                      running,
		"nothing is done before the folder has been read": {{in: inTime{}, want: ""}},
		"a stop suspends, and stays":                      after(stopped, event{in: inTime{}, after: long}, event{in: f("B"), state: StateStopped}),
		"a start follows a stop":                          after(stopped, event{in: inStart{}, want: "start A"}),
		"a stop before its turn takes the start back": {
			{in: f("A"), want: "start A"}, {in: inStop{}, want: "abort"}, {in: inNotUp{}, want: "", state: StateStopped},
		},
		"a stop while it starts waits for the worker": {
			{in: f("A"), want: "start A"}, {in: inStop{}, want: "abort"}, {in: up, want: "suspend"}, {in: susp, state: StateStopped},
		},
		"a start while it is being stopped follows that": after(running,
			event{in: inStop{}, want: "suspend"}, event{in: inStart{}}, event{in: susp, want: "start A"}),
		"a stop that cannot be saved changes nothing": after(running,
			event{in: inStop{}, want: "suspend"}, event{in: inNotSuspended{errors.New("disk full")}, state: StateRunning},
			event{in: inTime{}, after: long, state: StateRunning}),
		"a restart suspends and starts": after(running, event{in: inRestart{}, want: "suspend"}, event{in: susp, want: "start A"},
			event{in: up}, event{in: ready, state: StateRunning}),
		"a restart that is fresh starts anew": after(running, event{in: inRestart{fresh: true}, want: "suspend"}, event{in: susp, want: "start A fresh"},
			event{in: up}, event{in: ready}, event{in: killed, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A"}),
		"a restart that cannot be saved changes nothing": after(running,
			event{in: inRestart{}, want: "suspend"}, event{in: inNotSuspended{errors.New("disk full")}}, event{in: inTime{}, after: long, state: StateRunning}),

		"a crash is followed by a start, after a while": after(running, event{in: killed, want: "wait", state: StateStopped},
			event{in: inTime{}, want: "wait"}, event{in: inTime{}, after: 100 * time.Millisecond, want: "start A"}),
		"a crash is final if the policy says so": after(running, event{in: settings(policy(config.RestartNever))},
			event{in: killed, want: "", state: StateFailed}, event{in: inTime{}, after: long},
			event{in: inStart{}, want: "start A"}),
		"a worker that cannot be started is tried again": {
			{in: f("A"), want: "start A"}, {in: inNotUp{errors.New("no memory")}, want: "wait", state: StateStopped}, {in: inTime{}, after: time.Second, want: "start A"},
		},
		"somebody else's suspension is followed by a start": after(running, event{in: susp, want: "wait"},
			event{in: inTime{}, after: time.Second, want: "start A"}),

		"an end is the end": after(running, event{in: out(worker.OutcomeEnded), want: "", state: StateEnded},
			event{in: f("A"), after: long, want: "", state: StateEnded}, event{in: inStart{}, want: "start A"}),
		"an end with a failure starts anew": after(running, event{in: out(worker.OutcomeEnded, 3), want: "wait", state: StateStopped},
			event{in: inTime{}, after: time.Second, want: "start A"}),
		"an end starts anew if the policy says so": after(running, event{in: settings(policy(config.RestartAlways))},
			event{in: out(worker.OutcomeEnded), want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A"}),
		"an end with a failure is the end if the policy says so": after(running, event{in: settings(policy(config.RestartNever))},
			event{in: out(worker.OutcomeEnded, 3), want: "", state: StateEnded}),
		"an ended program starts anew when its file comes back": after(running, event{in: out(worker.OutcomeEnded), state: StateEnded},
			event{in: gone, want: ""}, event{in: f("A"), want: "start A"}),
		"an end while it is stopped": after(running, event{in: inStop{}, want: "suspend"}, event{in: out(worker.OutcomeEnded, 0), state: StateEnded}),

		"traps at the same place are the end": after(running,
			event{in: trap, want: "wait", state: StateStopped}, event{in: inTime{}, after: time.Second, want: "start A"}, event{in: up}, event{in: ready},
			event{in: trap, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A"}, event{in: up}, event{in: ready},
			event{in: trap, want: "", state: StateFailed}, event{in: inTime{}, after: long, want: "", state: StateFailed},
			event{in: inStart{}, want: "start A"}, event{in: up}, event{in: ready}, event{in: trap, want: "wait"}),
		"traps at different places are not": after(running,
			event{in: trap, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A"}, event{in: up}, event{in: ready},
			event{in: trap, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A"}, event{in: up}, event{in: ready},
			event{in: out(worker.OutcomeTrapped, "unreachable", []string{"g()"}), want: "wait"}),
		"nor are traps between which it got on": after(running,
			event{in: trap, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A"}, event{in: up}, event{in: ready},
			event{in: out(worker.OutcomeTrapped, "unreachable", []string{"f()"}, uint64(5)), after: long, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A"}, event{in: up}, event{in: ready},
			event{in: out(worker.OutcomeTrapped, "unreachable", []string{"f()"}, uint64(9)), after: long, want: "wait"}),
		"but long runs without a new generation do not count": after(running,
			event{in: trap, after: long, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A"}, event{in: up}, event{in: ready},
			event{in: trap, after: long, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A"}, event{in: up}, event{in: ready},
			event{in: trap, after: long, want: "", state: StateFailed}),

		"a removed file stops, and goes on when it comes back": after(running, event{in: gone, want: "suspend"}, event{in: susp, state: StateStopped},
			event{in: f("A"), want: "start A"}),
		"a replaced file is checked, then started anew": after(running, event{in: f("B"), want: "check B", state: StateRunning},
			event{in: inTime{}}, event{in: inChecked{sha256: "B"}, want: "suspend"}, event{in: susp, want: "start B fresh"}, event{in: up}, event{in: ready},
			event{in: killed, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start B"}),
		"a replacement that is refused leaves the old one be": after(running, event{in: f("B"), want: "check B"},
			event{in: inChecked{sha256: "B", refusal: "threads"}, want: "", state: StateRunning}, event{in: inTime{}, after: long},
			event{in: killed, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A copy"}, event{in: up}, event{in: ready},
			event{in: f("C"), want: "check C"}, event{in: inChecked{sha256: "C"}, want: "suspend"}, event{in: susp, want: "start C fresh"}),
		"two replacements, one after the other": after(running, event{in: f("B"), want: "check B"}, event{in: f("C"), want: "check C"},
			event{in: inChecked{sha256: "B"}, want: "check C"}, event{in: inChecked{sha256: "C"}, want: "suspend"}, event{in: susp, want: "start C fresh"}),
		"a replacement on hold waits for a user": after(running, event{in: settings(hold)}, event{in: f("B"), want: "", state: StateRunning},
			event{in: killed, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A copy"}, event{in: up}, event{in: ready},
			event{in: inRestart{fresh: true}, want: "check B"}, event{in: inChecked{sha256: "B"}, want: "suspend"}, event{in: susp, want: "start B fresh"}),
		"a new start with a program that is refused leaves the old one be": after(running, event{in: settings(hold)}, event{in: f("B")},
			event{in: inRestart{fresh: true}, want: "check B"}, event{in: inChecked{sha256: "B", refusal: "threads"}, want: "", state: StateRunning},
			event{in: killed, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A copy"}),
		"a replacement that its worker refuses leaves the old state be": after(running, event{in: f("B"), want: "check B"},
			event{in: inChecked{sha256: "B"}, want: "suspend"}, event{in: susp, want: "start B fresh"}, event{in: up},
			event{in: inGone{outcome: &worker.Outcome{Kind: worker.OutcomeRefused, Error: "memory"}, looked: true, saved: "A"}, want: "start A copy"}),
		"or is alone, if the old state has been put aside": after(running, event{in: f("B"), want: "check B"},
			event{in: inChecked{sha256: "B"}, want: "suspend"}, event{in: susp, want: "start B fresh"}, event{in: up},
			event{in: inGone{outcome: &worker.Outcome{Kind: worker.OutcomeRefused, Error: "memory"}, looked: true}, want: "", state: StateFailed},
			event{in: f("C"), want: "start C"}),
		"a state that is another one than was thought": after(running,
			event{in: inGone{outcome: &worker.Outcome{Kind: worker.OutcomeError, Error: "another program"}, looked: true, saved: "Z"}, want: "check A"},
			event{in: inChecked{sha256: "A"}, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A fresh"}),
		"a file that is put back in time changes nothing": after(running, event{in: f("B"), want: "check B"}, event{in: f("A"), want: ""},
			event{in: inChecked{sha256: "B"}, want: "", state: StateRunning}),
		"a program after one that has ended": after(running, event{in: out(worker.OutcomeEnded)}, event{in: f("B"), want: "start B fresh"}),
		"a program after one that has failed": after(running, event{in: settings(policy(config.RestartNever))}, event{in: killed, state: StateFailed},
			event{in: f("B"), want: "check B"}, event{in: inChecked{sha256: "B"}, want: "start B fresh"}),

		"a refused program is not tried again": {
			{in: f("A"), want: "start A"}, {in: up}, {in: out(worker.OutcomeRefused, "threads"), want: "", state: StateFailed},
			{in: f("A"), after: long, want: "", state: StateFailed}, {in: gone}, {in: f("A"), want: "start A"},
		},
		"but another one is": {
			{in: f("A"), want: "start A"}, {in: up}, {in: out(worker.OutcomeRefused, "threads"), state: StateFailed}, {in: f("B"), want: "start B"},
		},
		"and so is the same by a user": {
			{in: f("A"), want: "start A"}, {in: up}, {in: out(worker.OutcomeRefused, "threads"), state: StateFailed}, {in: inStart{}, want: "start A"},
		},
		"or with other settings": {
			{in: f("A"), want: "start A"}, {in: up}, {in: out(worker.OutcomeRefused, "memory"), state: StateFailed},
			{in: settings(), want: "", state: StateFailed}, {in: inSettings{settings: settings().settings, retry: true}, want: "start A"},
		},
		"or by another version": {
			{in: f("A"), want: "start A"}, {in: up}, {in: out(worker.OutcomeRefused, "threads"), state: StateFailed},
			{in: settings(func(s *machineSettings) { s.version = "2" }), want: "start A"},
		},
		"a file that cannot be read leaves what runs alone": after(running, event{in: inFile{problem: "it is a directory"}, want: "", state: StateRunning},
			event{in: killed, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A"}),
		"and does not start": {{in: inFile{problem: "it is a directory"}, want: "", state: StateFailed}, {in: f("A"), want: "start A"}},
		"wrong settings keep it from starting": {
			{in: settings(func(s *machineSettings) { s.err = "no such key" })}, {in: f("A"), want: "", state: StateFailed}, {in: settings(), want: "start A"},
		},
		"wrong settings leave what runs alone": after(running, event{in: settings(func(s *machineSettings) { s.err = "no such key" }), want: "", state: StateRunning}),

		"the daemon's end suspends": after(running, event{in: inClose{closingSuspend}, want: "suspend"}, event{in: susp, want: "", state: StateStopped}),
		"or leaves it alone":        after(running, event{in: inClose{closingDetach}, want: "", state: StateRunning}),
		"or takes a start back":     {{in: f("A"), want: "start A"}, {in: inClose{closingSuspend}, want: "abort"}, {in: inNotUp{}, want: ""}},

		"what is adopted is not started": {
			{in: inUp{adopted: true, program: "A", ready: true}, want: ""}, {in: f("A"), want: "", state: StateRunning},
		},
		"what is adopted is replaced if its file was": {
			{in: inUp{adopted: true, program: "A", ready: true}, want: ""}, {in: f("B"), want: "check B"}, {in: inChecked{sha256: "B"}, want: "suspend"}, {in: susp, want: "start B fresh"},
		},
		"what is adopted stops if its file is gone": {
			{in: inUp{adopted: true, program: "A", ready: true}, want: ""}, {in: gone, want: "suspend"},
		},

		"an operation lets it stand still": after(running, event{in: inHold{}, want: "suspend"}, event{in: susp, state: StateStopped},
			event{in: inHold{}}, event{in: inRelease{}}, event{in: inRelease{}, want: "start A"}),
		"a removed process does not start by itself": after(running, event{in: inHold{}, want: "suspend"}, event{in: susp}, event{in: inRemoved{}},
			event{in: inRelease{}, want: ""}, event{in: f("A"), after: long, want: ""}, event{in: f("B"), want: "start B"}),
		"but by a user": after(running, event{in: inHold{}, want: "suspend"}, event{in: susp}, event{in: inRemoved{}}, event{in: inRelease{}, want: ""},
			event{in: inStart{}, want: "start A"}),
		"a process without a file is started by a user": after(running, event{in: gone, want: "suspend"}, event{in: susp},
			event{in: inStart{}, want: "start A copy"}, event{in: up}, event{in: ready}, event{in: inTime{}, want: ""},
			event{in: killed, want: "wait"}, event{in: inTime{}, after: time.Second, want: "start A copy"}),
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{rec: newRecord(), settings: settings().settings}
			now := time.Unix(1e9, 0)
			for i, e := range life {
				now = now.Add(e.after)
				var did []string
				for _, a := range m.step(now, e.in) {
					if s := say(a); s != "persist" && !strings.HasPrefix(s, "tell ") {
						did = append(did, s)
					}
				}
				if got := strings.Join(did, ", "); got != e.want {
					t.Fatalf("step %d, %T%+v: got %q, want %q", i, e.in, e.in, got, e.want)
				}
				if e.state == "" {
					continue
				}
				v := view{rec: m.rec, phase: m.phase, ready: m.ready, goal: m.goal(), file: m.file, notBefore: m.notBefore, confErr: m.settings.err}
				if got, detail := v.state(worker.Status{}, now); got != e.state {
					t.Fatalf("step %d, %T%+v: it is %s (%s), want %s", i, e.in, e.in, got, detail, e.state)
				}
			}
		})
	}
}

// TestMachineRemembers wants a machine that is made from the record at any moment to do the same as one that was not.
func TestMachineRemembers(t *testing.T) {
	m := &machine{rec: newRecord(), settings: settings().settings}
	now := time.Unix(1e9, 0)
	var persisted record
	run := func(in input) {
		for _, a := range m.step(now, in) {
			if _, ok := a.(actPersist); ok {
				persisted = m.rec
			}
		}
		if m.rec != persisted {
			t.Fatalf("after %T the record on disk is %+v, and should be %+v", in, persisted, m.rec)
		}
	}
	for _, in := range []input{f("A"), up, ready, trap, inTime{}, inStop{}, inStart{}, inRemoved{}, gone, f("B"), up, out(worker.OutcomeEnded, 1)} {
		run(in)
	}
}

func TestBackoff(t *testing.T) {
	m := &machine{rec: newRecord(), settings: settings().settings}
	now := time.Unix(1e9, 0)
	m.step(now, f("A"))
	var got []time.Duration
	for range 14 {
		m.step(now, up)
		m.step(now, killed)
		got = append(got, m.notBefore.Sub(now))
		now = m.notBefore
		m.step(now, inTime{})
	}
	if got[0] != 100*time.Millisecond || got[1] != 200*time.Millisecond || got[13] != time.Minute {
		t.Errorf("got %v", got)
	}
	m.step(now, up)
	now = now.Add(time.Minute)
	m.step(now, killed)
	if d := m.notBefore.Sub(now); d != 100*time.Millisecond {
		t.Errorf("after a long run: got %v", d)
	}
	if m.rec.Restarts != 15 || m.rec.Stats.Crashes != 15 || m.rec.Stats.Starts != 15 {
		t.Errorf("got %d restarts and %+v", m.rec.Restarts, m.rec.Stats)
	}
}

func TestTrapTextIsBounded(t *testing.T) {
	o := &worker.Outcome{Error: "stack overflow", Stack: make([]string, 10_000)}
	if n := strings.Count(trapText(o), "\n"); n != maxErrorFrames+1 {
		t.Errorf("got %d lines", n)
	}
}
