//go:build !race

package memsnap

const thin = 1
