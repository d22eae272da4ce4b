//go:build !slow

package spectest

// The stops of a call and of an instance after which their distance doubles.
const (
	stopsPerCall     = 8
	stopsPerInstance = 16
)
