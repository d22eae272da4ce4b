//go:build slow

package runtime

import "testing"

// Every program, suspended at many places.
func TestSuspendOften(t *testing.T) {
	suspendTest(t, subjects(t), 1, 14)
}

// A few programs, suspended so often that most lives are short.
func TestSuspendDensely(t *testing.T) {
	var ss []subject
	for _, name := range []string{"tree", "grow", "files", "rust-files", "as-work", "zig-generic", "commands", "sqlite-file", "tinygo-cat"} {
		ss = append(ss, named(t, name))
	}
	suspendTest(t, ss, 1, 100)
}
