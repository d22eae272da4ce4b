package runtime

import (
	"time"

	"perdure/internal/durable"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/wasi"
)

// hooks are what the tests of this package change about a process. The zero value
// changes nothing.
type hooks struct {
	// stdio takes the place of the standard streams.
	stdio *[3]wasi.Handle
	// poll is asked what to do at every loop header.
	poll func() engine.PollAnswer
	// fs takes the place of the operating system's, for the generations.
	fs durable.FS
	// lastFor takes the place of the constant.
	lastFor time.Duration
	// kernel stands between the journal and the outside.
	kernel func(wasi.Kernel) wasi.Kernel
	// rotateAt takes the place of the journal's, in bytes.
	rotateAt int
}
