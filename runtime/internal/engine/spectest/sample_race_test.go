//go:build race

package spectest

// sampleEvery is one more than how many scripts are left out after each that is run. Compiling takes ten times as long
// under the race detector, and a script has one goroutine: some are enough to see that scripts do not disturb each
// other.
const sampleEvery = 8
