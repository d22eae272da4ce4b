//go:build slow

package spectest

// The stops of a call and of an instance after which their distance doubles.
const (
	stopsPerCall     = 16
	stopsPerInstance = 256
)
