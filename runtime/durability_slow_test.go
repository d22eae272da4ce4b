//go:build slow

package runtime

import (
	"os"
	"strconv"
	"testing"
)

func TestKillAtCallsOften(t *testing.T) { killAtCalls(t, 23) }

// 100 kills; PERDURE_KILLS says how many instead.
func TestKillRandomlyOften(t *testing.T) {
	kills := 100
	if n, err := strconv.Atoi(os.Getenv("PERDURE_KILLS")); err == nil {
		kills = n
	}
	killRandomly(t, kills)
}
