//go:build slow

package runtime

import (
	"os"
	"testing"
)

func TestKillAtCallsOften(t *testing.T) { killAtCalls(t, 67) }

// TestSoakFiles kills a program that appends, rewrites, renames, truncates and removes: 60 times, 2,000 where PERDURE_SOAK is
// set. Its files are those of an undisturbed run.
func TestSoakFiles(t *testing.T) {
	kills := 60
	if os.Getenv("PERDURE_SOAK") != "" {
		kills = 2000
	}
	killRandomly(t, kills)
}
