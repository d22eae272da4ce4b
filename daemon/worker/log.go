package worker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"
)

// lookEvery is how often a log looks whether its file still has its name.
const lookEvery = time.Second

// outputLog is the file that a guest's output is appended to. It is written without a buffer, so that nothing is lost
// with the worker. When it has grown to its limit it is renamed to PATH.1, that to PATH.2 and so on, at the end of a line
// unless none comes before it has twice the size. It belongs to one goroutine at a time.
type outputLog struct {
	path string
	// limit is in bytes; keep is how many renamed files there are at most.
	limit int64
	keep  int
	warn  func(format string, args ...any)

	file    *os.File // nil until it can be opened
	size    int64    // of file, in bytes
	atEnd   bool     // of a line
	looked  time.Time
	trouble string // with renaming, said already
}

// write appends p, and returns how much of it is written.
func (l *outputLog) write(p []byte, now time.Time) (n int, err error) {
	for n < len(p) && err == nil {
		if err := l.open(now); err != nil {
			return n, err
		}
		part := p[n:]
		if room := l.limit - l.size; int64(len(part)) > room {
			end := -1
			if room > 0 {
				end = bytes.LastIndexByte(part[:room], '\n')
			}
			switch {
			case end >= 0:
				part = part[:end+1]
			case l.size > 0 && (l.atEnd || l.size >= 2*l.limit):
				l.rotate()
				continue
			default: // the line goes on
				part = part[:min(int64(len(part)), 2*l.limit-l.size)]
				if end := bytes.IndexByte(part, '\n'); end >= 0 {
					part = part[:end+1]
				}
			}
		}
		var m int
		m, err = l.file.Write(part)
		if m > 0 {
			l.atEnd = part[m-1] == '\n'
		}
		n += m
		l.size += int64(m)
	}
	return n, err
}

// open opens the file, also if it was removed or renamed meanwhile by someone else.
func (l *outputLog) open(now time.Time) error {
	if l.file != nil && now.Sub(l.looked) >= lookEvery {
		l.looked = now
		if !l.named() {
			l.close()
		}
	}
	if l.file != nil {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	// Whether the old part ends with a line is not known: a worker may not read logs.
	l.file, l.size, l.looked, l.atEnd = f, st.Size(), now, st.Size() == 0
	return nil
}

// named tells whether the file is still the one at path. When that cannot be said it is.
func (l *outputLog) named() bool {
	mine, err := l.file.Stat()
	if err != nil {
		return true
	}
	now, err := os.Stat(l.path)
	return err == nil && os.SameFile(mine, now) || err != nil && !errors.Is(err, os.ErrNotExist)
}

func (l *outputLog) close() {
	if l.file != nil {
		_ = l.file.Close() // nothing is buffered
		l.file = nil
	}
}

// rotate renames the files. When it cannot, the log grows: that is better than to lose what is written.
func (l *outputLog) rotate() {
	err := l.shift()
	if err == nil {
		l.close()
		l.trouble = ""
		return
	}
	l.size = 0 // so that it is tried again when as much is written again
	if s := err.Error(); s != l.trouble {
		l.trouble = s
		l.warn("the log of its output was not rotated: %v", err)
	}
}

func (l *outputLog) shift() error {
	if l.keep == 0 {
		return ignoreMissing(os.Remove(l.path))
	}
	for i := l.keep - 1; i > 0; i-- {
		if err := ignoreMissing(os.Rename(l.numbered(i), l.numbered(i+1))); err != nil {
			return err
		}
	}
	return ignoreMissing(os.Rename(l.path, l.numbered(1)))
}

func (l *outputLog) numbered(i int) string { return fmt.Sprintf("%s.%d", l.path, i) }

// configure changes the limits. What is too much by now goes.
func (l *outputLog) configure(limit int64, keep int) {
	for i := keep + 1; i <= l.keep; i++ {
		if err := ignoreMissing(os.Remove(l.numbered(i))); err != nil {
			l.warn("an old log was not removed: %v", err)
		}
	}
	l.limit, l.keep = limit, keep
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
