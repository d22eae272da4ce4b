//go:build slow

package engine

import "testing"

func TestDeepStackSlow(t *testing.T) {
	testDeepStack(t, 0.6)
	testDeepStack(t, 0.99)
}
