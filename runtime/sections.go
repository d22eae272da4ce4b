package runtime

import (
	"encoding/json"
	"errors"
	"fmt"

	"perdure/memsnap"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/journal"
	"perdure/runtime/internal/wasi"
)

// The sections of a generation.
const (
	sectionProcess = "process" // JSON of processState
	sectionStack   = "stack"   // engine.EncodeImage
	sectionWASI    = "wasi"    // wasi.Host.Save
)

// processVersion is the version of the process section.
const processVersion = 1

// phase is how far the life of a guest is.
type phase string

const (
	phaseStart phase = "start" // in the module's start function
	phaseMain  phase = "main"  // in _start
	phaseEnded phase = "ended"
)

// processState is what a generation says of the process beside memory, stack and
// descriptors. It is plain JSON, so that it can be read without this program.
type processState struct {
	Version  int    `json:"version"`
	Program  string `json:"program_sha256"`
	Phase    phase  `json:"phase"`
	ExitCode uint32 `json:"exit_code"`
	// Restarts counts how often the process was restored since it began.
	Restarts uint64 `json:"restarts"`
	// Journal is where the journal goes on from here; nil if there is none.
	Journal *journal.Position `json:"journal,omitempty"`
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
	if err := checkVersion(sectionProcess, b, processVersion, processVersion); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &s.state); err != nil {
		return nil, fmt.Errorf("%w: process section: %v", ErrBadState, err)
	}
	switch s.state.Phase {
	case phaseEnded:
		return s, nil
	case phaseStart, phaseMain:
	default:
		return nil, fmt.Errorf("%w: unknown phase %q", ErrBadState, s.state.Phase)
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
