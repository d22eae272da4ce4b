package spectest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// maxFailures bounds what one script reports; the first failure usually explains the others.
const maxFailures = 10

// outcome is what one command of a script led to. Two machines agree on a script if their outcomes are equal.
type outcome struct {
	line    int
	kind    string   // of the command
	words   []uint64 // results
	trap    trapClass
	refused bool // the module did not become an instance
}

func (o outcome) String() string {
	switch {
	case o.refused:
		return fmt.Sprintf("line %d: %s: module refused", o.line, o.kind)
	case o.trap != noTrap:
		return fmt.Sprintf("line %d: %s: trap %q", o.line, o.kind, o.trap)
	}
	return fmt.Sprintf("line %d: %s: words %#x", o.line, o.kind, o.words)
}

// errLoad marks an error of loading a module, as against linking or initialising it.
var errLoad = errors.New("load")

// runner executes the commands of a script on a machine.
type runner struct {
	tb         testing.TB
	script     *script
	machine    machine
	last       instance            // the newest one, which a command means that names none
	named      map[string]instance // by the names that the script gives
	registered map[string]instance // by the names that modules import
	shared     []bool              // per command: it makes an instance that is registered later on
	outcomes   []outcome
	failures   int
	tally      tally
}

// run executes a script on a machine and returns the outcome of each of its commands and their numbers.
func run(ctx context.Context, tb testing.TB, s *script, m machine) ([]outcome, tally) {
	tb.Helper()
	wasm, err := spectestModule()
	if err != nil {
		tb.Fatal(err)
	}
	host, err := m.host(ctx, wasm)
	if err != nil {
		tb.Fatalf("instantiate spectest: %v", err)
	}
	r := &runner{
		tb: tb, script: s, machine: m,
		named:      map[string]instance{},
		registered: map[string]instance{"spectest": host},
		shared:     registeredLater(s.commands),
	}
	for i := range s.commands {
		c := &s.commands[i]
		o, err := r.step(ctx, i)
		o.line, o.kind = c.Line, c.Type
		r.outcomes = append(r.outcomes, o)
		if err != nil {
			r.failures++
			tb.Errorf("%s/%s.wast:%d %s %s: %v", s.suite.name, s.name, c.Line, c.Type, c.Action.Field, err)
		}
		if c.Type == "module" && err != nil || r.failures == maxFailures {
			tb.Fatalf("%s/%s.wast: stopped after line %d of %d", s.suite.name, s.name, c.Line, s.commands[len(s.commands)-1].Line)
		}
	}
	return r.outcomes, r.tally
}

// registeredLater finds the module commands whose instances a later command registers.
func registeredLater(commands []command) []bool {
	shared := make([]bool, len(commands))
	named, last := map[string]int{}, -1
	for i, c := range commands {
		switch c.Type {
		case "module":
			last = i
			if c.Name != "" {
				named[c.Name] = i
			}
		case "register":
			at := last
			if c.Name != "" {
				at = named[c.Name]
			}
			if at >= 0 {
				shared[at] = true
			}
		}
	}
	return shared
}

// step executes one command.
func (r *runner) step(ctx context.Context, index int) (outcome, error) {
	c := &r.script.commands[index]
	if c.ModuleType == "text" {
		r.tally.text++ // malformed text says nothing about an engine that reads binaries
		return outcome{}, nil
	}
	switch c.Type {
	case "module":
		r.tally.modules++
		i, err := r.instantiate(ctx, c, r.shared[index])
		if err != nil {
			return outcome{}, err
		}
		r.last = i
		if c.Name != "" {
			r.named[c.Name] = i
		}
		return outcome{}, nil
	case "register":
		i, err := r.find(c.Name)
		if err != nil {
			return outcome{}, err
		}
		r.registered[c.As] = i
		return outcome{}, nil
	case "action":
		r.tally.actions++
		words, err := r.act(ctx, c)
		return outcome{words: words}, err
	case "assert_return":
		r.tally.returns++
		words, err := r.act(ctx, c)
		if err == nil {
			err = check(c.Expected, words)
		}
		return outcome{words: words}, err
	case "assert_trap", "assert_exhaustion":
		r.tally.traps++
		words, err := r.act(ctx, c)
		return wantTrap(c.Text, words, err)
	case "assert_invalid", "assert_malformed":
		_, err := r.instantiate(ctx, c, false)
		switch {
		case errors.Is(err, errLoad):
			r.tally.invalid++
		case err != nil && c.Text == "constant expression required":
			// wazero takes a mutable imported global in a constant expression. The module is refused all the same, for
			// the script gives it nothing to import.
			r.tally.late++
		default:
			return outcome{}, fmt.Errorf("got %s, want the module refused when it is loaded: %s", describe(nil, err), c.Text)
		}
		return outcome{refused: true}, nil
	case "assert_unlinkable":
		// Version 1 wants a module refused, before any effect, if a segment of it does not fit; in version 2 it traps.
		segment := strings.HasSuffix(c.Text, "segment does not fit")
		if segment && r.machine.version2() {
			r.tally.superseded++
			return outcome{refused: true}, nil
		}
		r.tally.unlinkable++
		if segment {
			r.tally.segments++
		}
		_, err := r.instantiate(ctx, c, false)
		if err == nil || !segment && (errors.Is(err, errLoad) || trapOf(err) != noTrap) {
			return outcome{}, fmt.Errorf("got %s, want the module refused when it is linked: %s", describe(nil, err), c.Text)
		}
		return outcome{refused: true}, nil
	case "assert_uninstantiable":
		_, err := r.instantiate(ctx, c, false)
		if c.Text == "out of bounds table access" && err == nil {
			// wazero leaves out an active element segment that does not fit, where the specification wants a trap.
			// Either way the instance's functions live on in tables of other modules, which later commands check.
			r.tally.deviating++
			return outcome{}, nil
		}
		r.tally.uninstantiable++
		return wantTrap(c.Text, nil, err)
	}
	return outcome{}, errors.New("unknown command")
}

// find returns the instance of a name, the newest one if the name is empty.
func (r *runner) find(name string) (instance, error) {
	i := r.last
	if name != "" {
		i = r.named[name]
	}
	if i == nil {
		return nil, fmt.Errorf("no instance %q", name)
	}
	return i, nil
}

// instantiate loads and instantiates the module of a command. An error of loading is an errLoad.
func (r *runner) instantiate(ctx context.Context, c *command, shared bool) (instance, error) {
	wasm, err := r.script.module(c.Filename)
	if err != nil {
		r.tb.Fatal(err)
	}
	p, err := r.machine.load(ctx, wasm)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLoad, err)
	}
	return p.instantiate(ctx, linkage{
		resolve: func(module string) instance { return r.registered[module] },
		shared:  shared,
	})
}

// act carries out the action of a command and returns its results, normalised.
func (r *runner) act(ctx context.Context, c *command) ([]uint64, error) {
	i, err := r.find(c.Action.Module)
	if err != nil {
		return nil, err
	}
	var words []uint64
	switch c.Action.Type {
	case "invoke":
		var args []uint64
		if args, err = encode(c.Action.Args); err == nil {
			words, err = i.call(ctx, c.Action.Field, args)
		}
	case "get":
		words, err = i.global(c.Action.Field)
	default:
		err = fmt.Errorf("unknown action %q", c.Action.Type)
	}
	if err != nil {
		return nil, err
	}
	return normalise(c.Expected, words), nil
}

// wantTrap checks that an action or an instantiation ended in the trap that a script names.
func wantTrap(text string, words []uint64, err error) (outcome, error) {
	got, want := trapOf(err), specTrap(text)
	if want == noTrap {
		return outcome{}, fmt.Errorf("unknown trap %q", text)
	}
	if got != want {
		return outcome{trap: got, words: words}, fmt.Errorf("got %s, want trap %q", describe(words, err), want)
	}
	return outcome{trap: got}, nil
}

// describe words the end of an action for a failure message.
func describe(words []uint64, err error) string {
	if err != nil {
		return fmt.Sprintf("error %q", err)
	}
	return fmt.Sprintf("success with words %#x", words)
}

// agree reports where two machines differ on a script.
func agree(tb testing.TB, s *script, got, want []outcome) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("got %d outcomes, want %d", len(got), len(want))
	}
	failures := 0
	for i := range got {
		g, w := got[i], want[i]
		if g.trap == w.trap && g.refused == w.refused && slices.Equal(g.words, w.words) {
			continue
		}
		tb.Errorf("%s/%s.wast: got %v, want as on plain wazero %v", s.suite.name, s.name, g, w)
		if failures++; failures == maxFailures {
			return
		}
	}
}
