package runtime

import (
	"encoding/json"
	"errors"
	"fmt"

	"perdure/memsnap"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/journal"
	"perdure/runtime/internal/wasi"
	"perdure/runtime/internal/wasm"
)

// The sections of a generation.
const (
	sectionProcess = "process" // JSON of processState
	sectionStack   = "stack"   // engine.EncodeImage
	sectionWASI    = "wasi"    // wasi.Host.Save
)

// processVersion is the newest version of the process section, reactorVersion the first that
// knows reactors. A command is written as version 1, so that older programs read it.
const (
	processVersion = 2
	reactorVersion = 2
)

// phase is how far the life of a guest is.
type phase string

const (
	phaseStart phase = "start" // in the module's start function
	phaseMain  phase = "main"  // in _start
	phaseInit  phase = "init"  // in _initialize
	phaseIdle  phase = "idle"  // a reactor that nobody calls
	phaseCall  phase = "call"  // in a function that was called
	phaseEnded phase = "ended"
)

// processState is what a generation says of the process beside memory, stack and
// descriptors. It is plain JSON, so that it can be read without this program; FORMAT.md
// describes it.
type processState struct {
	Version  int    `json:"version"`
	Program  string `json:"program_sha256"`
	Phase    phase  `json:"phase"`
	ExitCode uint32 `json:"exit_code"`
	// Restarts counts how often the process was restored since it began.
	Restarts uint64 `json:"restarts"`
	// Journal is where the journal goes on from here; nil if there is none.
	Journal *journal.Position `json:"journal,omitempty"`
	// Call is the name of the function in phaseCall.
	Call string `json:"call,omitempty"`
}

// check looks at the phase.
func (s *processState) check() error {
	switch s.Phase {
	case phaseStart, phaseMain, phaseEnded:
		return nil
	case phaseInit, phaseIdle, phaseCall:
		if s.Version >= reactorVersion {
			return nil
		}
	}
	return fmt.Errorf("%w: unknown phase %q", ErrBadState, s.Phase)
}

// alone returns the section for a copy of the generation that is gone on from by itself,
// without the answers of the outside that were recorded after it.
func (s *processState) alone() ([]byte, error) {
	c := *s
	c.Journal = nil
	return json.Marshal(c)
}

// savedProcess is a generation read back.
type savedProcess struct {
	generation *memsnap.Generation
	state      processState
	image      *engine.Image // nil once it has ended
	wasi       []byte
}

// unknownVersion is the error for a section that a newer program wrote. Like memsnap's own,
// it is no damage: going back to an older generation would lose what came after it.
func unknownVersion(section string, have, known int) error {
	return fmt.Errorf("%w: %s section has version %d, this program knows %d", memsnap.ErrVersion, section, have, known)
}

// checkVersion looks at the version that a section of JSON states, which is to be between first and known. It comes before all else
// in it: another version may have other fields.
func checkVersion(section string, b []byte, first, known int) error {
	var v struct{ Version int }
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("%w: %s section: %v", ErrBadState, section, err)
	}
	if v.Version < first || v.Version > known {
		return unknownVersion(section, v.Version, known)
	}
	return nil
}

// readGeneration reads the sections of a generation. What it cannot believe is damage.
func readGeneration(g *memsnap.Generation) (*savedProcess, error) {
	s := &savedProcess{generation: g}
	b, err := g.Section(sectionProcess)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(sectionProcess, b, 1, processVersion); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &s.state); err != nil {
		return nil, fmt.Errorf("%w: process section: %v", ErrBadState, err)
	}
	if err := s.state.check(); err != nil {
		return nil, err
	}
	if s.state.Phase == phaseEnded {
		return s, nil
	}
	if b, err = g.Section(sectionStack); err != nil {
		return nil, err
	}
	var other *engine.ImageVersionError
	if s.image, err = engine.DecodeImage(b); errors.As(err, &other) {
		return nil, unknownVersion(sectionStack, other.Have, other.Known)
	} else if err != nil {
		return nil, fmt.Errorf("%w: stack section: %v", ErrBadState, err)
	}
	if s.wasi, err = g.Section(sectionWASI); err != nil {
		return nil, err
	}
	return s, checkVersion(sectionWASI, s.wasi, wasi.FirstStateVersion, wasi.StateVersion)
}

// fits tells whether a generation can be one of the program: its phase, and the function whose
// stack it has.
func (s *savedProcess) fits(m *wasm.Module) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: generation %d: %s", ErrBadState, s.generation.Info().Number, fmt.Sprintf(format, args...))
	}
	root, ok := uint32(0), false
	switch reactor := kindOf(m) == KindReactor; {
	case s.state.Phase == phaseStart && m.Start != nil:
		root, ok = *m.Start, true
	case s.state.Phase == phaseMain && !reactor:
		f, err := entry(m)
		root, ok = f, err == nil
	case s.state.Phase == phaseInit && reactor:
		f, has, err := initializer(m)
		root, ok = f, has && err == nil
	case s.state.Phase == phaseCall && reactor:
		f, err := findCallable(m, s.state.Call)
		if err != nil {
			return bad("%v", err)
		}
		root, ok = f.index, true
	case s.state.Phase == phaseIdle && reactor:
		if len(s.image.Frames) > 0 {
			return bad("a stack of %d frames though nothing was called", len(s.image.Frames))
		}
		return nil
	}
	if !ok {
		return bad("the program has no phase %q", s.state.Phase)
	}
	if s.image.Root != root {
		return bad("the stack is of function %d in phase %s, want %d", s.image.Root, s.state.Phase, root)
	}
	return nil
}
