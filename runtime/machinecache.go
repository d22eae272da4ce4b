package runtime

import (
	"cmp"
	"errors"
	"io"
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
	// maxMachineFiles and maxMachineBytes bound what a program keeps beside its hot code:
	// cold code for the stacks at which it was cut. All of it is read at every start.
	maxMachineFiles = 64
	maxMachineBytes = 32 << 20
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

// sumOfMachineCode is for damage, not for forgery: who may write here may write the state. It
// reads through a small buffer: fresh memory for tens of megabytes costs more than their sum.
func sumOfMachineCode(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := xxh3.New128()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return string(h.Sum(nil)), nil
}

// clean removes what has not the right sum, and the oldest cold code of what is too much.
func (c *machineCache) clean() error {
	paths, err := c.files()
	if err != nil {
		return err
	}
	var errs []error
	var good []machineFile
	for _, p := range paths {
		want, err := os.ReadFile(p + sumSuffix)
		sum, serr := sumOfMachineCode(p)
		st, sterr := os.Stat(p)
		if err == nil && serr == nil && sterr == nil && string(want) == sum {
			good = append(good, machineFile{p, st.Size(), st.ModTime()})
			continue
		}
		errs = append(errs, c.remove(p))
	}
	return errors.Join(append(errs, c.trim(good))...)
}

// trim removes the oldest cold code of what is too much.
func (c *machineCache) trim(files []machineFile) error {
	// The largest is the hot code, which is needed whenever the program runs.
	slices.SortFunc(files, func(a, b machineFile) int { return cmp.Compare(b.size, a.size) })
	if len(files) > 0 {
		files = files[1:]
	}
	slices.SortFunc(files, func(a, b machineFile) int { return b.made.Compare(a.made) })
	var errs []error
	size := int64(0)
	for i, f := range files {
		if size += f.size; i >= maxMachineFiles || size > maxMachineBytes {
			errs = append(errs, c.remove(f.path))
		}
	}
	return errors.Join(errs...)
}

// machineFile is a file of machine code.
type machineFile struct {
	path string
	size int64 // in bytes
	made time.Time
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

// seal writes the sums of the files that the engine has made since, and removes what is too
// much by now: a guest that runs for long is cut at ever more stacks. A sum that is lost or
// torn costs a compilation.
func (c *machineCache) seal() error {
	if c == nil {
		return nil
	}
	paths, err := c.files()
	if err != nil {
		return err
	}
	var errs []error
	var files []machineFile
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil {
			files = append(files, machineFile{p, st.Size(), st.ModTime()})
		}
		if _, err := os.Stat(p + sumSuffix); err == nil {
			continue
		}
		sum, err := sumOfMachineCode(p)
		if err == nil {
			err = os.WriteFile(p+sumSuffix, []byte(sum), 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, c.trim(files))...)
}
