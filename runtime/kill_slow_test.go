//go:build slow

package runtime

import (
	"testing"

	"perdure/runtime/internal/guests"
)

// Every program that can go on from any moment, killed at many: 500 kills at least.
func TestKillOften(t *testing.T) {
	names := []string{"tinygo-cat"}
	for _, c := range guests.Cases() {
		if c.Again && c.Long != nil {
			names = append(names, c.Name)
		}
	}
	const each = 20
	total := killTest(t, names, each, 1)
	if total.kills < 500 {
		t.Errorf("%d kills, want 500", total.kills)
	}
}

// A reactor killed often, between calls and in them.
func TestReactorKillOften(t *testing.T) { reactorKillTest(t, 12) }
