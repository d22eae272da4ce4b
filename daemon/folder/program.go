package folder

import (
	"bytes"
	"errors"
	"time"
)

// What is wrong with a file that cannot be a program or a side file. A name that
// config.CheckName refuses and a file that cannot be read have errors of their own.
var (
	// ErrNotRegular is a directory, a device or a pipe.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge is a program of more than Options.MaxSize bytes.
	ErrTooLarge = errors.New("the file is too large")
	// ErrChanging is a new program whose files have not stopped changing for seconds. It is
	// taken as soon as they do.
	ErrChanging = errors.New("the file is still being written")
)

// maxSide is how much of a side file is read, one byte more than the 64 KiB that package config
// takes: it is config that refuses a longer one, in its own words.
const maxSide = 64<<10 + 1

// Program is one process that the folder asks for.
type Program struct {
	// Name is the name of the process, and Path the absolute path of its module.
	Name string
	Path string
	// SHA256 is the hash of the module in hexadecimal; empty with a Problem.
	SHA256 string
	// Size, in bytes, and ModTime are those of the module.
	Size    int64
	ModTime time.Time
	// Side is the text of the side file; nil if there is none. It must not be changed.
	Side []byte
	// Problem says why the program cannot run as it is; nil if it can. The program has not been
	// removed: what runs under its name need not stop.
	Problem error
}

// Set is all that the folder asks for, by the name of the process. It must not be changed.
type Set map[string]Program

// same reports whether a and b ask for the same thing.
func same(a, b *Program) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Path == b.Path && a.SHA256 == b.SHA256 && a.Size == b.Size && a.ModTime.Equal(b.ModTime) &&
		bytes.Equal(a.Side, b.Side) && (a.Side == nil) == (b.Side == nil) && text(a.Problem) == text(b.Problem)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
