//go:build !slow

package engine

import "time"

// How much the random tests do.
const (
	genModules  = 400
	genTime     = 8 * time.Second
	genFew      = true   // only some modes for each module
	kernelPolls = 20_000 // loop headers of a kernel at which the host is asked
	shrinkTime  = 20 * time.Second
)
