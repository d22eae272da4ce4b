package spectest

import (
	"context"
	"fmt"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"perdure/runtime/internal/wasm"
)

// recodedMachine is plain wazero which gets each module decoded, validated and encoded again by this project's reader
// of the format. Modules which that reader takes for wrong are refused.
type recodedMachine struct {
	machine
	// wider is set when wazero is told to take less than the reader knows: it may then refuse more.
	wider bool
	tb    testing.TB
}

var _ machine = (*recodedMachine)(nil)

func newRecoded(ctx context.Context, tb testing.TB, features api.CoreFeatures) *recodedMachine {
	return &recodedMachine{machine: newPlain(ctx, features), wider: features != api.CoreFeaturesV2, tb: tb}
}

func (m *recodedMachine) load(ctx context.Context, binary []byte) (program, error) {
	module, err := wasm.Decode(binary)
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	if err := module.Validate(); err != nil {
		return nil, fmt.Errorf("validate: %w", err)
	}
	p, err := m.machine.load(ctx, module.Encode())
	if err != nil && !m.wider {
		m.tb.Errorf("wazero refuses what was found valid: %v", err)
	}
	return p, err
}

// TestRecoded runs every script with each module decoded and encoded once more: nothing may get lost in that.
func TestRecoded(t *testing.T) {
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			runSuite(t, s, validated(s.want), func(ctx context.Context, t *testing.T, s *script) tally {
				want := plainOutcomes(ctx, t, s)
				m := newRecoded(ctx, t, s.suite.features)
				defer closeMachine(ctx, t, m)
				got, n := run(ctx, t, s, m)
				agree(t, s, got, want)
				return n
			})
		})
	}
}

// validated returns the numbers of a suite on a machine that validates modules itself, where wazero is too late.
func validated(want tally) tally {
	want.invalid += want.late
	want.late = 0
	return want
}

// hosted returns the numbers of a suite on a machine that runs code of version 2 whatever the suite's version is.
func hosted(want tally) tally {
	want = validated(want)
	want.unlinkable -= want.segments
	want.superseded, want.segments = want.segments, 0
	return want
}
