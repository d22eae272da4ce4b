//go:build !linux

package runtime

// prepareHeap does nothing here.
func prepareHeap(string) (end func()) { return func() {} }
