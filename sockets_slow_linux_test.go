//go:build slow

package main

import (
	"os"
	"testing"
)

// soak returns how often a soak test does its work: few times, or many where PERDURE_SOAK asks for long runs.
func soak(few, many int) int {
	if os.Getenv("PERDURE_SOAK") != "" {
		return many
	}
	return few
}

func TestSoakPlannedRestarts(t *testing.T) {
	plannedRestarts(t, guestPath(t, "server"), soak(60, 2000))
}

func TestSoakKills(t *testing.T) { randomKills(t, soak(60, 10000)) }
