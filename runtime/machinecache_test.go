package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a program keeps of machine code is bounded while it runs, too: the hot code, which is
// the oldest, stays, and so does the newest cold code.
func TestMachineCacheBounded(t *testing.T) {
	dir := t.TempDir()
	c, err := openMachineCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	versions, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*"))
	if err != nil || len(versions) != 1 {
		t.Fatal(versions, err)
	}
	const n = 3 * maxMachineFiles
	for i := range n {
		path := filepath.Join(versions[0], fmt.Sprintf("%03d", i))
		if err := os.WriteFile(path, []byte(strings.Repeat("x", 10+1000/(i+1))), 0o600); err != nil {
			t.Fatal(err)
		}
		made := time.Now().Add(time.Duration(i-n) * time.Minute)
		if err := os.Chtimes(path, made, made); err != nil {
			t.Fatal(err)
		}
		if err := c.seal(); err != nil {
			t.Fatal(err)
		}
	}
	left, err := c.files()
	if err != nil || len(left) != maxMachineFiles+1 {
		t.Errorf("%d files are left, want the hot code and %d: %v", len(left), maxMachineFiles, err)
	}
	all, _ := os.ReadDir(versions[0])
	if len(all) != 2*len(left) {
		t.Errorf("%d entries for %d files", len(all), len(left))
	}
	for _, name := range []string{"000", fmt.Sprintf("%03d", n-1)} {
		if _, err := os.Stat(filepath.Join(versions[0], name)); err != nil {
			t.Error(err)
		}
	}
}
