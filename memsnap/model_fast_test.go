//go:build !slow

package memsnap

const usualSteps = 12_000
