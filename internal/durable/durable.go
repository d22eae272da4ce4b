// Package durable is the narrow seam between the project and the file system: it writes files so that they are
// wholly there or not there at all after a crash, and lets tests put a failing file system in place of the real one.
//
// The package starts no goroutines and holds no locks. An FS may be used by any number of goroutines at once; of a
// File, ReadAt may be called concurrently, everything else belongs to one goroutine at a time.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// ErrUnsupported is returned for an operation that the file system below cannot do, such as punching holes.
var ErrUnsupported = errors.New("durable: not supported by this file system")

// FS is the part of a file system that the project uses. Paths are those of the operating system. Errors wrap the
// operating system's, so errors.Is(err, fs.ErrNotExist) and the like hold.
type FS interface {
	// Create makes a new regular file for reading and writing; it fails with fs.ErrExist if the name is taken.
	Create(path string, perm fs.FileMode) (File, error)
	// Open opens an existing file for reading.
	Open(path string) (File, error)
	// OpenWrite opens an existing file for reading and writing, without changing it.
	OpenWrite(path string) (File, error)
	// Rename moves a file to a new name in one step and replaces what had that name. Durable only after SyncDir.
	Rename(oldPath, newPath string) error
	// Remove removes one file or one empty directory. Durable only after SyncDir.
	Remove(path string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(path string) ([]Entry, error)
	// MkdirAll makes a directory and its missing parents.
	MkdirAll(path string, perm fs.FileMode) error
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
	// Free returns how many bytes an unprivileged writer may still add to the file system that holds path.
	Free(path string) (uint64, error)
}

// Total returns the size in bytes of the file system that holds path, or ErrUnsupported where fsys, as by a method of
// the same name, cannot tell.
func Total(fsys FS, path string) (uint64, error) {
	if f, ok := fsys.(interface{ Total(string) (uint64, error) }); ok {
		return f.Total(path)
	}
	return 0, ErrUnsupported
}

// File is an open file of an FS.
type File interface {
	// ReadAt is that of io.ReaderAt: it reads all of p or returns an error, io.EOF at the end of the file.
	ReadAt(p []byte, offset int64) (int, error)
	// WriteAt is that of io.WriterAt.
	WriteAt(p []byte, offset int64) (int, error)
	// Size returns the file's length in bytes.
	Size() (int64, error)
	// Allocated returns how many bytes of storage the file takes: holes take none.
	Allocated() (int64, error)
	// StartWriteback hints that the range is complete, so that the kernel may begin to write it out. It promises
	// nothing and cannot fail.
	StartWriteback(offset, length int64)
	// Sync makes the file's bytes and its length durable; its name is made durable by SyncDir.
	Sync() error
	// PunchHole gives the storage of a range back; the range then reads as zeros and the length stays. It returns
	// ErrUnsupported where the file system has no holes.
	PunchHole(offset, length int64) error
	// Close releases the file. It does not sync. Its error counts for a file that was written.
	Close() error
}

// Entry is one name in a directory.
type Entry struct {
	Name    string
	Regular bool // a regular file, not a directory, link or device
}

// TempSuffix ends the name of each file that is not published yet. Whoever owns a directory may remove such files
// when no writer is at work.
const TempSuffix = ".tmp"

// Publish gives a written temporary file its final name: sync the file, close it, rename it, sync the directory. It
// always closes f. On an error neither name is left, as far as the file system allows: the returned error then joins
// what went wrong in clearing up.
func Publish(fsys FS, f File, tempPath, path string) error {
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync %s: %w", tempPath, err), Discard(fsys, f, tempPath))
	}
	if err := f.Close(); err != nil {
		return errors.Join(fmt.Errorf("close %s: %w", tempPath, err), fsys.Remove(tempPath))
	}
	if err := fsys.Rename(tempPath, path); err != nil {
		return errors.Join(fmt.Errorf("publish %s: %w", path, err), fsys.Remove(tempPath))
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		// The new name may or may not last. Take it back, so that what the caller hears is what a reader sees.
		return errors.Join(fmt.Errorf("sync directory of %s: %w", path, err), fsys.Remove(path))
	}
	return nil
}

// Discard closes and removes an unpublished temporary file.
func Discard(fsys FS, f File, tempPath string) error {
	_ = f.Close() // its content is thrown away
	if err := fsys.Remove(tempPath); err != nil {
		return fmt.Errorf("remove temporary file: %w", err)
	}
	return nil
}

// NewWriter returns a writer that writes a file from its beginning.
func NewWriter(f File) io.Writer { return &writer{file: f} }

type writer struct {
	file   File
	offset int64
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.file.WriteAt(p, w.offset)
	w.offset += int64(n)
	return n, err
}

// WriteFile writes a small file so that after a crash path holds either all of data or what it held before. Unlike
// Publish it may replace an existing file, so a failure to sync the directory leaves the new content in place: after
// that error either content may be found at the next start.
func WriteFile(fsys FS, path string, data []byte, perm fs.FileMode) error {
	return WriteStream(fsys, path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteStream is WriteFile for what write writes, from the beginning to the end. If that fails, so does WriteStream,
// and path holds what it held before.
func WriteStream(fsys FS, path string, perm fs.FileMode, write func(io.Writer) error) error {
	tempPath := path + TempSuffix
	if err := fsys.Remove(tempPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove leftover temporary file: %w", err)
	}
	f, err := fsys.Create(tempPath, perm)
	if err != nil {
		return fmt.Errorf("create temporary file: %w", err)
	}
	if err := write(NewWriter(f)); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", tempPath, err), Discard(fsys, f, tempPath))
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync %s: %w", tempPath, err), Discard(fsys, f, tempPath))
	}
	if err := f.Close(); err != nil {
		return errors.Join(fmt.Errorf("close %s: %w", tempPath, err), fsys.Remove(tempPath))
	}
	if err := fsys.Rename(tempPath, path); err != nil {
		return errors.Join(fmt.Errorf("publish %s: %w", path, err), fsys.Remove(tempPath))
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("sync directory of %s: %w", path, err)
	}
	return nil
}
