package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/zeebo/xxh3"
)

const (
	// sumSuffix ends the name of the file beside a file of machine code that holds its sum.
	sumSuffix = ".sum"
	// maxMachineFiles is how many files of machine code a program keeps: one is its hot
	// code, the others are for the stacks at which it was cut.
	maxMachineFiles = 256
)

// machineCache keeps the machine code of one program. The engine believes what it finds
// in its cache and jumps there, so each file has a sum beside it, and a file without the
// right one is removed before the engine can see it.
type machineCache struct {
	wazero.CompilationCache
	dir string
}

// openMachineCache opens the cache in a directory of the program's own.
func openMachineCache(dir string) (*machineCache, error) {
	c := &machineCache{dir: dir}
	if err := c.clean(); err != nil {
		return nil, err
	}
	var err error
	if c.CompilationCache, err = wazero.NewCompilationCacheWithDir(dir); err != nil {
		return nil, err
	}
	return c, nil
}

// files returns the files of machine code.
func (c *machineCache) files() ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(c.dir), "*", "*"))
	return slices.DeleteFunc(paths, func(p string) bool {
		return strings.HasSuffix(p, sumSuffix) || strings.HasSuffix(p, ".tmp")
	}), err
}

// escapeGlob makes a pattern that matches just the path.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// sumOfMachineCode is for damage, not for forgery: who may write here may write the state.
func sumOfMachineCode(b []byte) []byte {
	s := xxh3.Hash128(b).Bytes()
	return s[:]
}

// clean removes what has not the right sum, and the oldest of what is too much.
func (c *machineCache) clean() error {
	paths, err := c.files()
	if err != nil {
		return err
	}
	var errs []error
	used := map[string]time.Time{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		sum, serr := os.ReadFile(p + sumSuffix)
		st, sterr := os.Stat(p)
		if err == nil && serr == nil && sterr == nil && string(sum) == string(sumOfMachineCode(b)) {
			used[p] = st.ModTime()
			continue
		}
		errs = append(errs, c.remove(p))
	}
	if len(used) <= maxMachineFiles {
		return errors.Join(errs...)
	}
	paths = paths[:0]
	for p := range used {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int { return used[a].Compare(used[b]) })
	for _, p := range paths[:len(paths)-maxMachineFiles] {
		errs = append(errs, c.remove(p))
	}
	return errors.Join(errs...)
}

// remove removes a file and its sum. Another worker may have done it already.
func (c *machineCache) remove(path string) error {
	var errs []error
	for _, p := range []string{path, path + sumSuffix} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// seal writes the sums of the files that the engine has made since. A sum that is lost
// or torn costs a compilation.
func (c *machineCache) seal() error {
	if c == nil {
		return nil
	}
	paths, err := c.files()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range paths {
		if _, err := os.Stat(p + sumSuffix); err == nil {
			continue
		}
		b, err := os.ReadFile(p)
		if err == nil {
			err = os.WriteFile(p+sumSuffix, sumOfMachineCode(b), 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
