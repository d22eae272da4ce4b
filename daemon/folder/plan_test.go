package folder

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"
)

// clock counts milliseconds from an arbitrary time.
func clock(ms int) time.Time {
	return time.UnixMilli(1_700_000_000_000).Add(time.Duration(ms) * time.Millisecond)
}

// module is a look at a module alone, of which only the size and the time of changes matter.
func module(size, ctime int64) look {
	return look{program: file{kind: regular, dev: 1, ino: 2, size: size, mtime: size, ctime: ctime}}
}

func newTestPlan() *plan { return newPlan(100 * time.Millisecond) }

// takeAt takes what is due at a time as a watcher would, each with its size as its hash, and
// returns the names.
func takeAt(p *plan, ms int) []string {
	names := p.due(clock(ms))
	for _, name := range names {
		seen, ok := p.settled(name, clock(ms))
		if !ok {
			panic("due, but not settled")
		}
		var program *Program
		if seen.program.kind == regular {
			program = &Program{Name: name, Size: seen.program.size}
		}
		p.take(name, program, false)
	}
	p.expire(clock(ms))
	return names
}

func bare(name string) Program { return Program{Name: name} }

func TestPlanTakesWhatHasNotChangedForTheSettlingTime(t *testing.T) {
	p := newTestPlan()
	p.observe("a", module(1, 0), clock(0), true, false)
	if got := takeAt(p, 99); len(got) != 0 {
		t.Errorf("taken after 99 ms: %q", got)
	}
	if wait, ok := p.wait(clock(40)); !ok || wait != 60*time.Millisecond {
		t.Errorf("at 40 ms the next look is in %v, %v; want 60 ms", wait, ok)
	}
	p.observe("a", module(2, 0), clock(99), false, false) // it grew, and no event told
	if got := takeAt(p, 198); len(got) != 0 {
		t.Errorf("taken 99 ms after it grew: %q", got)
	}
	p.observe("a", module(2, 0), clock(198), true, false) // nothing new, but an event
	if got := takeAt(p, 297); len(got) != 0 {
		t.Errorf("taken 99 ms after an event: %q", got)
	}
	if got := takeAt(p, 298); !slices.Equal(got, []string{"a"}) {
		t.Errorf("not taken 100 ms after an event: %q", got)
	}
	if set := p.set(bare); len(set) != 1 || set["a"].Size != 2 {
		t.Errorf("set %v", set)
	}
	if _, ok := p.wait(clock(298)); ok || p.dirty {
		t.Error("there is still something to do")
	}
}

func TestPlanEndlessEventsDoNotHoldUpWhatTheyDoNotChange(t *testing.T) {
	p := newTestPlan()
	for ms := 0; ms < 2000; ms += 50 {
		p.observe("a", module(1, int64(ms)), clock(ms), true, false) // as by chmod, again and again
		if got := takeAt(p, ms); len(got) != 0 {
			t.Fatalf("taken after %d ms: %q", ms, got)
		}
	}
	if got := takeAt(p, 2000); len(got) != 1 {
		t.Error("not taken after 2 s")
	}
}

func TestPlanANewProgramThatNeverSettlesIsReported(t *testing.T) {
	p := newTestPlan()
	p.observe("other", module(7, 0), clock(0), false, false)
	takeAt(p, 100)
	p.set(bare)
	for ms := 200; ms < 2200; ms += 50 {
		p.observe("a", module(int64(ms), 0), clock(ms), true, false)
		takeAt(p, ms)
		if p.dirty || p.complete() {
			t.Fatalf("after %d ms: dirty %v, complete %v", ms, p.dirty, p.complete())
		}
	}
	p.observe("a", module(9999, 0), clock(2200), true, false)
	takeAt(p, 2200)
	set := p.set(bare)
	if !errors.Is(set["a"].Problem, ErrChanging) || set["other"].Problem != nil {
		t.Errorf("set %v", set)
	}
	if !p.complete() {
		t.Error("what is overdue still holds up the first set")
	}
	takeAt(p, 2300)
	if set := p.set(bare); set["a"].Problem != nil || set["a"].Size != 9999 {
		t.Errorf("set after it settled: %v", set)
	}
}

func TestPlanARunningProgramStaysWhileItsFileChanges(t *testing.T) {
	p := newTestPlan()
	p.observe("a", module(1, 0), clock(0), true, false)
	takeAt(p, 100)
	p.set(bare)
	for ms := 200; ms < 5000; ms += 50 {
		p.observe("a", module(int64(ms), 0), clock(ms), true, false)
		takeAt(p, ms)
		if p.dirty || p.set(bare)["a"].Size != 1 {
			t.Fatalf("after %d ms: %v", ms, p.set(bare))
		}
	}
}

func TestPlanRemovalSettlesToo(t *testing.T) {
	p := newTestPlan()
	p.observe("a", module(1, 0), clock(0), true, false)
	takeAt(p, 100)
	p.set(bare)
	p.observe("a", look{}, clock(200), true, false) // removed, and another one put in its place
	p.observe("a", module(2, 0), clock(250), true, false)
	takeAt(p, 300)
	if p.dirty {
		t.Errorf("a replaced program was missing for a moment: %v", p.set(bare))
	}
	takeAt(p, 350)
	if set := p.set(bare); set["a"].Size != 2 {
		t.Errorf("set %v, want the new program", set)
	}
	p.observe("a", look{}, clock(400), true, false)
	takeAt(p, 499)
	if p.dirty {
		t.Error("removed too early")
	}
	takeAt(p, 500)
	if set := p.set(bare); len(set) != 0 || len(p.names) != 0 {
		t.Errorf("after the removal: %v, %v", set, p.names)
	}
}

func TestPlanWhatGoesBackToWhatItWasIsNoChange(t *testing.T) {
	p := newTestPlan()
	p.observe("a", module(1, 0), clock(0), true, false)
	takeAt(p, 100)
	p.set(bare)
	p.observe("a", look{}, clock(200), true, false)
	p.observe("a", module(1, 0), clock(210), true, false) // moved away and back
	if got := p.due(clock(310)); len(got) != 1 || !p.unchanged("a") {
		t.Errorf("due %q, unchanged %v", got, p.unchanged("a"))
	}
	takeAt(p, 310)
	if p.dirty {
		t.Error("dirty")
	}
}

func TestPlanARescanTriesAgainWhatMayPass(t *testing.T) {
	p := newTestPlan()
	p.observe("a", module(1, 0), clock(0), true, false)
	if _, ok := p.settled("a", clock(100)); !ok {
		t.Fatal("not settled")
	}
	p.take("a", &Program{Name: "a", Problem: errors.New("input/output error")}, true)
	p.observe("a", module(1, 0), clock(200), true, false) // an event alone is no reason
	if got := p.due(clock(1000)); len(got) != 0 {
		t.Errorf("tried again after an event: %q", got)
	}
	p.observe("a", module(1, 0), clock(1000), false, true)
	if got := p.due(clock(1100)); len(got) != 1 || p.unchanged("a") {
		t.Errorf("not tried again after a rescan: %q", got)
	}
}

func TestPlanTwoFilesOfANameSettleTogether(t *testing.T) {
	p := newTestPlan()
	p.observe("a", module(1, 0), clock(0), true, false)
	both := module(1, 0)
	both.side = file{kind: regular, ino: 3, size: 10}
	p.observe("a", both, clock(90), true, false)
	if got := takeAt(p, 189); len(got) != 0 {
		t.Errorf("the module was taken before its side file had settled: %q", got)
	}
	if got := takeAt(p, 190); len(got) != 1 {
		t.Errorf("taken: %q", got)
	}
}

func TestPlanASideFileAloneIsNoProgram(t *testing.T) {
	p := newTestPlan()
	p.observe("a", look{side: file{kind: regular, ino: 3, size: 10}}, clock(0), true, false)
	takeAt(p, 100)
	if set := p.set(bare); len(set) != 0 {
		t.Errorf("set %v", set)
	}
}

func TestNameOf(t *testing.T) {
	names := map[string]string{
		"counter.wasm": "counter", "counter.toml": "counter", "a.b.wasm": "a.b", "-x.wasm": "-x", "with space.wasm": "with space",
		".counter.wasm": "", ".counter.wasm.swp": "", "counter.wasm~": "", "counter.wasm.tmp": "", "counter.WASM": "", ".wasm": "",
		"counter": "", "perdure.conf": "", "#counter.wasm#": "",
	}
	for _, file := range slices.Sorted(maps.Keys(names)) {
		got, ok := nameOf(file)
		if want := names[file]; got != want && ok || ok != (want != "") {
			t.Errorf("%s is of %q, %v; want %q", file, got, ok, want)
		}
	}
}
