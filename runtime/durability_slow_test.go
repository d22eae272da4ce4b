//go:build slow

package runtime

import (
	"os"
	"strconv"
	"testing"
)

func TestKillAtCallsOften(t *testing.T) { killAtCalls(t, 23) }

// 200 kills; PERDURE_KILLS says how many instead.
func TestKillRandomlyOften(t *testing.T) {
	kills := 200
	if n, err := strconv.Atoi(os.Getenv("PERDURE_KILLS")); err == nil {
		kills = n
	}
	killRandomly(t, kills)
}
