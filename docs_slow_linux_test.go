//go:build slow

package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGuidesSlow runs the documents that have blocks for compilers, these included.
func TestGuidesSlow(t *testing.T) {
	for _, file := range guides(t) {
		if !slices.ContainsFunc(blocks(t, file), func(b block) bool { return slices.Equal(b.info, []string{"sh", "slow"}) }) {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".md"), func(t *testing.T) { runGuide(t, file, true) })
	}
}
