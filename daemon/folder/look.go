package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	programSuffix = ".wasm"
	sideSuffix    = ".toml"
)

// look is what the folder showed of a name at one moment.
type look struct {
	program, side file
}

// file is what identifies the content of one file, without reading it.
type file struct {
	kind         kind
	dev, ino     uint64
	size         int64
	mtime, ctime int64  // nanoseconds
	fault        string // with failed: why
}

type kind uint8

const (
	absent  kind = iota
	regular      // or a link to one
	other        // a directory, a device, a pipe
	failed       // it is there, but cannot be looked at
)

func (l look) gone() bool { return l.program.kind == absent && l.side.kind == absent }

// content returns l without the time of status changes, which a chmod moves too.
func (l look) content() look {
	l.program.ctime, l.side.ctime = 0, 0
	return l
}

// nameOf returns the process that a file of the folder is about, or nothing.
func nameOf(file string) (name string, ok bool) {
	if strings.HasPrefix(file, ".") { // of an editor, of rsync, or of nobody's concern
		return "", false
	}
	if name, ok = strings.CutSuffix(file, programSuffix); ok {
		return name, true
	}
	return strings.CutSuffix(file, sideSuffix)
}

// lookAt looks at the files of a name. An error is about the folder, and does not say whether
// the files are there.
func lookAt(dir, name string) (look, error) {
	program, err := lookAtFile(filepath.Join(dir, name+programSuffix))
	if err != nil {
		return look{}, err
	}
	side, err := lookAtFile(filepath.Join(dir, name+sideSuffix))
	return look{program: program, side: side}, err
}

func lookAtFile(path string) (file, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if info, err = os.Stat(path); err != nil { // a link to nowhere is there all the same
			return file{kind: failed, fault: err.Error()}, nil
		}
	}
	switch {
	case err == nil:
		return fileOf(info), nil
	case errors.Is(err, fs.ErrNotExist):
		return file{}, nil
	case slices.ContainsFunc(wayErrors, func(way error) bool { return errors.Is(err, way) }):
		return file{}, fmt.Errorf("look at a file: %w", err)
	}
	return file{kind: failed, fault: err.Error()}, nil
}

// wayErrors are what looking at a file, without following a link, ends with when the way to it
// is barred. Any other error is about the file, and must not hold up the rest of the folder.
var wayErrors = []error{fs.ErrPermission, syscall.ENOTDIR, syscall.ELOOP}

// fileOf returns what identifies the file of info.
func fileOf(info fs.FileInfo) file {
	f := identity(info)
	f.kind = other
	if info.Mode().IsRegular() {
		f.kind = regular
	}
	f.size, f.mtime = info.Size(), info.ModTime().UnixNano()
	return f
}
