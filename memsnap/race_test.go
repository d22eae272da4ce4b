//go:build race

package memsnap

// thin is how much the long sweeps, which are not about concurrency, are thinned out under the race detector.
const thin = 5
