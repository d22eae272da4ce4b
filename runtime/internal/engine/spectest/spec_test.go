package spectest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/tetratelabs/wazero/api"
)

// suites are the versions of the specification which wazero brings tests of. The numbers are those of the wazero
// version in go.mod: they hold the harness to running every command, and change when wazero takes in newer tests.
var suites = []*suite{
	{name: "v1", features: api.CoreFeaturesV1, want: tally{
		scripts: 73, modules: 780, actions: 42,
		returns: 15788, traps: 473, invalid: 1650, unlinkable: 95, uninstantiable: 2, segments: 32,
		text: 430,
	}},
	{name: "v2", features: api.CoreFeaturesV2, want: tally{
		scripts: 148, modules: 1599, actions: 155,
		returns: 45734, traps: 2423, invalid: 2860, unlinkable: 83, uninstantiable: 19, late: 5, deviating: 15,
		text: 1091,
	}},
}

// tally counts the commands of scripts.
type tally struct {
	scripts        int
	modules        int // instantiated without an assertion
	actions        int // carried out without an assertion
	returns        int // assert_return
	traps          int // assert_trap, assert_exhaustion
	invalid        int // assert_invalid, assert_malformed about a binary
	unlinkable     int // assert_unlinkable
	uninstantiable int // assert_uninstantiable
	late           int // assert_invalid which wazero finds out later than when it loads the module
	deviating      int // assert_uninstantiable which wazero answers otherwise than the specification
	segments       int // those of unlinkable that version 2 makes traps: a segment does not fit
	superseded     int // not run: segments, on a machine that has version 2 only
	text           int // not run: about a module in the text format
}

func (t *tally) add(o tally) {
	t.scripts += o.scripts
	t.modules += o.modules
	t.actions += o.actions
	t.returns += o.returns
	t.traps += o.traps
	t.invalid += o.invalid
	t.unlinkable += o.unlinkable
	t.uninstantiable += o.uninstantiable
	t.late += o.late
	t.deviating += o.deviating
	t.segments += o.segments
	t.superseded += o.superseded
	t.text += o.text
}

// assertions returns how many assertions were run.
func (t tally) assertions() int {
	return t.returns + t.traps + t.invalid + t.unlinkable + t.uninstantiable + t.late + t.deviating
}

// TestPlain runs every script on wazero as it is.
func TestPlain(t *testing.T) {
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			runSuite(t, s, s.want, func(ctx context.Context, t *testing.T, s *script) tally {
				_, n := runPlain(ctx, t, s)
				return n
			})
		})
	}
}

// TestInstrumented runs every script on the engine, without a stop.
func TestInstrumented(t *testing.T) {
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			runSuite(t, s, hosted(s.want), func(ctx context.Context, t *testing.T, s *script) tally {
				_, n := runEngine(ctx, t, s, nil)
				return n
			})
		})
	}
}

// TestStopEverywhere runs every script on the engine and stops every call at random suspend points.
func TestStopEverywhere(t *testing.T) {
	seed := newSeed(t)
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var total stops
			few := func() bool {
				return total.calls > 10_000 && (total.replaced < 500 || total.inCall == 0 || total.goneOn < 500) // not with a sample
			}
			// Once more when chance chose few places, or never one in a call to the host.
			for round := uint64(0); round == 0 || round < 5 && few() && !t.Failed(); round++ {
				runSuite(t, s, hosted(s.want), func(ctx context.Context, t *testing.T, s *script) tally {
					stops, n := runEngine(ctx, t, s, scriptRand(seed+round, s))
					mu.Lock()
					defer mu.Unlock()
					total.add(stops)
					return n
				})
			}
			t.Logf("%d calls, %d times replaced by a fresh instance, %d of these while a call to the host waited, %d times gone on with at once",
				total.calls, total.replaced, total.inCall, total.goneOn)
			if few() {
				t.Error("so few stops prove little")
			}
		})
	}
}

// runEngine runs a script on the engine and compares each outcome with that on plain wazero.
func runEngine(ctx context.Context, t *testing.T, s *script, rng *rand.Rand) (stops, tally) {
	t.Helper()
	want := plainOutcomes(ctx, t, s)
	m := newEngine(ctx, t, s.suite.features, rng)
	defer closeMachine(ctx, t, m)
	got, n := run(ctx, t, s, m)
	agree(t, s, got, want)
	if len(m.refused) > 0 {
		t.Errorf("modules were refused: %q", m.refused)
	}
	return m.stops, n
}

// runPlain runs a script on wazero as it is.
func runPlain(ctx context.Context, t *testing.T, s *script) ([]outcome, tally) {
	t.Helper()
	m := newPlain(ctx, s.suite.features)
	defer closeMachine(ctx, t, m)
	return run(ctx, t, s, m)
}

// plainCache keeps the outcomes on plain wazero, by suite and script.
var plainCache sync.Map

// plainOutcomes returns the outcomes of a script on plain wazero.
func plainOutcomes(ctx context.Context, t *testing.T, s *script) []outcome {
	t.Helper()
	key := s.suite.name + "/" + s.name
	if known, ok := plainCache.Load(key); ok {
		return known.([]outcome)
	}
	outcomes, _ := runPlain(ctx, t, s)
	if !t.Failed() {
		plainCache.Store(key, outcomes)
	}
	return outcomes
}

// runSuite runs every script of a suite as a parallel subtest and checks that no command was left out.
func runSuite(t *testing.T, s *suite, want tally, runScript func(context.Context, *testing.T, *script) tally) {
	var mu sync.Mutex
	tallies := map[string]tally{}
	scripts := s.scripts(t)
	t.Run("scripts", func(t *testing.T) {
		for i, script := range scripts {
			if i%sampleEvery != 0 {
				continue
			}
			t.Run(script.name, func(t *testing.T) {
				t.Parallel()
				n := runScript(t.Context(), t, script)
				n.scripts = 1
				mu.Lock()
				defer mu.Unlock()
				tallies[script.name] = n
			})
		}
	})
	total := tally{}
	for _, script := range scripts {
		total.add(tallies[script.name])
	}
	t.Log("\n" + report(scripts, tallies, total))
	all := len(tallies) == len(scripts) // unless some were chosen with -run, or a sample
	if total != want && all && !t.Failed() {
		t.Errorf("got %+v, want %+v", total, want)
	}
}

// report lays the numbers of a suite out as a table, one row for each script.
func report(scripts []*script, tallies map[string]tally, total tally) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, n tally) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name, n.modules, n.actions, n.returns,
			n.traps, n.invalid, n.unlinkable, n.uninstantiable, n.late, n.deviating, n.assertions(), n.superseded, n.text)
	}
	fmt.Fprintln(w, "script\tmodules\tactions\treturn\ttrap\tinvalid\tunlinkable\tuninstantiable\tlate\tdeviating\tassertions\tnot run: superseded\ttext\t")
	for _, s := range scripts {
		if testing.Verbose() {
			row(s.name, tallies[s.name])
		}
	}
	row("total", total)
	_ = w.Flush() // writes to memory
	return text.String()
}

func closeMachine(ctx context.Context, t *testing.T, m machine) {
	t.Helper()
	if err := m.close(ctx); err != nil {
		t.Errorf("close machine: %v", err)
	}
}
