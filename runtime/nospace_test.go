package runtime

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"perdure/internal/durable"
)

// fullFS is the operating system's file system, but full while a file named flag exists.
type fullFS struct {
	flag string
}

func (f fullFS) full(path string) error {
	if _, err := os.Stat(f.flag); err == nil {
		return &fs.PathError{Op: "write", Path: path, Err: unix.ENOSPC}
	}
	return nil
}

func (f fullFS) Create(path string, perm fs.FileMode) (durable.File, error) {
	file, err := durable.OS.Create(path, perm)
	if err != nil {
		return nil, err
	}
	return fullFile{file, f, path}, nil
}

func (f fullFS) OpenWrite(path string) (durable.File, error) {
	file, err := durable.OS.OpenWrite(path)
	if err != nil {
		return nil, err
	}
	return fullFile{file, f, path}, nil
}

func (f fullFS) Open(path string) (durable.File, error)       { return durable.OS.Open(path) }
func (f fullFS) Rename(a, b string) error                     { return durable.OS.Rename(a, b) }
func (f fullFS) Remove(path string) error                     { return durable.OS.Remove(path) }
func (f fullFS) ReadDir(path string) ([]durable.Entry, error) { return durable.OS.ReadDir(path) }
func (f fullFS) MkdirAll(path string, perm fs.FileMode) error { return durable.OS.MkdirAll(path, perm) }
func (f fullFS) SyncDir(path string) error                    { return durable.OS.SyncDir(path) }
func (f fullFS) Free(path string) (uint64, error)             { return durable.OS.Free(path) }

type fullFile struct {
	durable.File
	fs   fullFS
	path string
}

func (f fullFile) WriteAt(b []byte, offset int64) (int, error) {
	if err := f.fs.full(f.path); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, offset)
}
