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

// maxLooks is how often the files of a log are looked at until they do not change meanwhile.
const maxLooks = 100

// openLogs opens the files that there are. What is renamed meanwhile stays what it was.
func openLogs(path string) (*logChain, error) {
	for look := 1; ; look++ {
		names, err := logNames(path)
		if err != nil {
			return nil, err
		}
		c := &logChain{}
		for _, name := range names {
			f, err := os.Open(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				c.close()
				return nil, err
			}
			c.files = append(c.files, f)
		}
		// A rotation renames one file after the other, and what is seen in the middle of one is not in order.
		if c.are(path, names) || look == maxLooks {
			return c, nil
		}
		c.close()
	}
}

// logNames returns the names of the files of a log that there are, oldest first.
func logNames(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []int
	base := filepath.Base(path)
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), base)
		if ok && rest == "" {
			numbers = append(numbers, 0)
		} else if digits, ok := strings.CutPrefix(rest, "."); ok {
			if n, err := strconv.Atoi(digits); err == nil && n > 0 && strconv.Itoa(n) == digits {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	names := make([]string, len(numbers))
	for i, n := range numbers {
		names[i] = path
		if n > 0 {
			names[i] += "." + strconv.Itoa(n)
		}
	}
	return names, nil
}

// are tells whether the files of the chain have these names now, and no others are there.
func (c *logChain) are(path string, names []string) bool {
	now, err := logNames(path)
	if err != nil || len(c.files) != len(names) || !slices.Equal(now, names) {
		return false
	}
	for i, name := range names {
		its, err := os.Stat(name)
		if err != nil {
			return false
		}
		mine, err := c.files[i].Stat()
		if err != nil || !os.SameFile(its, mine) {
			return false
		}
	}
	return true
}

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

// end returns the size of the newest file.
func (c *logChain) end() (int64, error) {
	if len(c.files) == 0 {
		return 0, nil
	}
	st, err := c.files[len(c.files)-1].Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// seekLines moves to the beginning of the last n lines before end, an offset in the newest file, and drops the files before.
// A last line without an end counts.
func (c *logChain) seekLines(n int, end int64) error {
	newlines, atEnd := 0, true
	for i := len(c.files) - 1; i >= 0; i-- {
		f := c.files[i]
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if i == len(c.files)-1 {
			size = end
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
	end, err := c.end()
	if err != nil {
		return err
	}
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
		if err := c.seekLines(lines, end); err != nil {
			return err
		}
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		var last *os.File
		for i, f := range c.files {
			last = f
			from := io.Reader(f)
			if !follow && i == len(c.files)-1 { // not what comes meanwhile
				at, err := f.Seek(0, io.SeekCurrent)
				if err != nil {
					return err
				}
				from = io.LimitReader(f, end-at)
			}
			if _, err := io.Copy(w, from); err != nil {
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
	names, err := logNames(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove its output: %w", err)
		}
	}
	return nil
}
