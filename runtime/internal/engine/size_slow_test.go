//go:build slow

package engine

import "time"

// How much the random tests do.
const (
	genModules  = 3000
	genTime     = 90 * time.Second
	genFew      = false       // only some modes for each module
	kernelPolls = 100_000_000 // loop headers of a kernel at which the host is asked
	shrinkTime  = time.Minute
)
