//go:build slow

package journal

import "testing"

func TestSweepOften(t *testing.T) { sweep(t, 3) }
