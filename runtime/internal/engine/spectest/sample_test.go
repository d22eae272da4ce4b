//go:build !race

package spectest

// sampleEvery is one more than how many scripts are left out after each that is run.
const sampleEvery = 1
