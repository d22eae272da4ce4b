//go:build slow

package memsnap

const usualSteps = 100_000
