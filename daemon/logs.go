package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// logChain are the files of a process's output, oldest first: those that were rotated, PATH.2, PATH.1, and PATH.
type logChain struct {
	files []*os.File
}

// openLogs opens the files that there are. What is renamed meanwhile stays what it was.
func openLogs(path string) (*logChain, error) {
	c := &logChain{}
	// Newest first, so that a rotation in between shows a file twice rather than not at all.
	for n := 0; ; n++ {
		name := path
		if n > 0 {
			name += "." + strconv.Itoa(n)
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			if n == 0 { // right after a rotation there is none
				continue
			}
			break
		}
		if err != nil {
			c.close()
			return nil, err
		}
		if c.has(f) {
			f.Close()
			continue
		}
		c.files = append(c.files, f)
	}
	slices.Reverse(c.files)
	return c, nil
}

func (c *logChain) has(f *os.File) bool { return c.index(f) >= 0 }

// index returns where in the chain the file is; -1 if it is not.
func (c *logChain) index(f *os.File) int {
	mine, err := f.Stat()
	if err != nil {
		return -1
	}
	return slices.IndexFunc(c.files, func(o *os.File) bool {
		its, err := o.Stat()
		return err == nil && os.SameFile(mine, its)
	})
}

// close closes all files that are left in the chain. They were only read.
func (c *logChain) close() {
	for _, f := range c.files {
		f.Close()
	}
}

// seekLines moves to the beginning of the last n lines, and drops the files before. A last line without an end counts.
func (c *logChain) seekLines(n int) error {
	newlines, atEnd := 0, true
	for i := len(c.files) - 1; i >= 0; i-- {
		f := c.files[i]
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		block := make([]byte, 64<<10)
		for at := size; at > 0; {
			from := max(0, at-int64(len(block)))
			b := block[:at-from]
			if _, err := f.ReadAt(b, from); err != nil {
				return err
			}
			for k := len(b) - 1; k >= 0; k-- {
				ends := b[k] == '\n' && !atEnd // the end of the last line begins nothing
				atEnd = false
				if !ends {
					continue
				}
				if newlines++; newlines == n {
					for _, old := range c.files[:i] {
						old.Close()
					}
					c.files = c.files[i:]
					_, err := f.Seek(from+int64(k)+1, io.SeekStart)
					return err
				}
			}
			at = from
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return nil
}

// lookAgain is how often a log that is followed is looked at.
const lookAgain = 50 * time.Millisecond

// copyLogs writes the output of a process: all of it, or its last lines if lines is not negative; and if follow is set
// also what comes from now on, until ctx is done. Flush is called when there is nothing more for now.
func copyLogs(ctx context.Context, w io.Writer, path string, lines int, follow bool, flush func() error) error {
	c, err := openLogs(path)
	if err != nil {
		return err
	}
	defer func() { c.close() }()
	switch {
	case lines == 0:
		if n := len(c.files); n > 0 {
			if _, err := c.files[n-1].Seek(0, io.SeekEnd); err != nil {
				return err
			}
			for _, old := range c.files[:n-1] {
				old.Close()
			}
			c.files = c.files[n-1:]
		}
	case lines > 0:
		if err := c.seekLines(lines); err != nil {
			return err
		}
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		var last *os.File
		for _, f := range c.files {
			last = f
			if _, err := io.Copy(w, f); err != nil {
				return err
			}
		}
		if err := flush(); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := c.advance(path, last); err != nil {
			return err
		}
	}
}

// advance leaves in the chain the file that was read last, at its position, and what has come after it.
func (c *logChain) advance(path string, last *os.File) error {
	if now, err := os.Stat(path); err == nil && last != nil {
		if mine, err := last.Stat(); err == nil && os.SameFile(now, mine) {
			for _, old := range c.files[:len(c.files)-1] {
				old.Close()
			}
			c.files = c.files[len(c.files)-1:]
			return nil
		}
	} else if errors.Is(err, fs.ErrNotExist) {
		return nil // between two files, or removed
	}
	next, err := openLogs(path)
	if err != nil {
		return err
	}
	if last != nil {
		if i := next.index(last); i >= 0 {
			for _, old := range next.files[:i+1] {
				old.Close()
			}
			next.files = append([]*os.File{last}, next.files[i+1:]...)
			c.files = slices.DeleteFunc(c.files, func(f *os.File) bool { return f == last })
		}
	}
	c.close()
	*c = *next
	return nil
}

// removeLogs removes the output of a process.
func removeLogs(path string) error {
	names, err := filepath.Glob(globQuote(path) + ".*")
	if err != nil {
		return err
	}
	for _, name := range append(names, path) {
		if name != path {
			if _, err := strconv.Atoi(name[len(path)+1:]); err != nil {
				continue
			}
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove its output: %w", err)
		}
	}
	return nil
}

// globQuote makes a pattern that matches just the path.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
