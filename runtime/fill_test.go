package runtime

import "fmt"

// fillDigest is what the guest commands answers to the n-th fill, all of so many MiB.
func fillDigest(mib, n int) string {
	seed := uint64(41)
	next := func() uint64 {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
	var h uint64
	for range n {
		h = 0xcbf29ce484222325
		for range mib << 17 {
			h ^= next()
		}
	}
	return fmt.Sprintf("%016x", h)
}
