//go:build slow

package journal

import "testing"

func TestSweepOften(t *testing.T) { sweep(t, 5) }

func TestPowerOften(t *testing.T) { power(t, 17) }

func TestOutputOften(t *testing.T) { output(t, 7) }

func TestTwoDeathsOften(t *testing.T) { twoDeaths(t, 3) }
