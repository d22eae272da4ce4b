// Package faultfs is a file system in memory for tests. It can fail any call, be cut off at any call as if the power had
// gone, and then show what a crash leaves: what was synced and, if asked, some of what was not.
//
// An FS and its files may be used by any number of goroutines at once.
package faultfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"

	"perdure/internal/durable"
)

// ErrCrashed is what every call returns from a crash on.
var ErrCrashed = errors.New("faultfs: crashed")

// ErrInjected is an error for tests to inject that no code treats specially.
var ErrInjected = errors.New("faultfs: injected error")

// Call is one call to the file system that an injector may fail.
type Call struct {
	Index int // of the call since the injector was set, from 0
	// Op is one of create, open, openwrite, rename, remove, readdir, mkdir, syncdir, free and total, or on a file read, write,
	// size, allocated, sync, punch and close.
	Op   string
	Path string
}

// FailAt returns an injector that fails one call.
func FailAt(index int, err error) func(Call) error {
	return func(c Call) error {
		if c.Index == index {
			return err
		}
		return nil
	}
}

// CrashAt returns an injector that crashes at a call: it and all that follow fail and have no effect, but that a write
// at which the crash comes has written half.
func CrashAt(index int) func(Call) error { return FailAt(index, ErrCrashed) }

// FS is the file system. New makes one.
type FS struct {
	mu      sync.Mutex
	root    *node
	inject  func(Call) error
	calls   int
	crashed bool
	limit   int64 // bytes in all files together; negative: none
}

var _ durable.FS = (*FS)(nil)

// New returns an empty file system with a root directory.
func New() *FS { return &FS{root: newDir(), limit: -1} }

// SetInjector makes inject decide about each call from now on; an error that it returns becomes the call's. A write
// that fails has written half. Nil ends the injection. It also starts counting calls anew.
func (f *FS) SetInjector(inject func(Call) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inject, f.calls = inject, 0
}

// Calls returns how many calls there were since the last SetInjector.
func (f *FS) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// SetLimit bounds what all files together may hold, in bytes: beyond it a write fails with ENOSPC. Negative: no bound.
func (f *FS) SetLimit(limit int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = limit
}

// ReadFile returns a copy of a file's content, past any injector.
func (f *FS) ReadFile(path string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup("open", path)
	if err != nil {
		return nil, err
	}
	return slices.Clone(n.data), nil
}

// SetFile gives a file new content, durably and past any injector; it makes the file if its directory exists. Nil data
// removes the file.
func (f *FS) SetFile(path string, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	parent, err := f.lookup("open", filepath.Dir(path))
	if err != nil {
		return err
	}
	name := filepath.Base(path)
	if data == nil {
		delete(parent.entries, name)
		delete(parent.syncedEntries, name)
		return nil
	}
	n := &node{data: slices.Clone(data), synced: slices.Clone(data)}
	parent.entries[name], parent.syncedEntries[name] = n, n
	return nil
}

// Crash returns what is found after a crash at this moment. With a nil r only what was synced survives; else also a
// random part of what was not: some of the changes to each directory, in their order, and some of the writes to each
// file, in part.
func (f *FS) Crash(r *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &FS{root: f.root.survivor(r, map[*node]*node{}), limit: f.limit}
}

// Clone returns a copy of the file system as it is.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &FS{root: f.root.clone(), limit: f.limit}
}

// callLocked counts a call and asks the injector.
func (f *FS) callLocked(op, path string) error {
	if f.crashed {
		return &fs.PathError{Op: op, Path: path, Err: ErrCrashed}
	}
	index := f.calls
	f.calls++
	if f.inject != nil {
		if err := f.inject(Call{index, op, path}); err != nil {
			f.crashed = errors.Is(err, ErrCrashed)
			return &fs.PathError{Op: op, Path: path, Err: err}
		}
	}
	return nil
}

func (f *FS) lookup(op, path string) (*node, error) {
	n := f.root
	for _, name := range strings.Split(filepath.ToSlash(filepath.Clean(path)), "/") {
		if name == "" || name == "." {
			continue
		}
		if !n.dir {
			return nil, &fs.PathError{Op: op, Path: path, Err: syscall.ENOTDIR}
		}
		if n = n.entries[name]; n == nil {
			return nil, &fs.PathError{Op: op, Path: path, Err: syscall.ENOENT}
		}
	}
	return n, nil
}

// Create implements durable.FS.
func (f *FS) Create(path string, _ fs.FileMode) (durable.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.callLocked("create", path); err != nil {
		return nil, err
	}
	parent, err := f.lookup("create", filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if parent.entries[filepath.Base(path)] != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: syscall.EEXIST}
	}
	n := &node{}
	parent.set(entryChange{name: filepath.Base(path), node: n})
	return &file{fs: f, node: n, path: path, writable: true}, nil
}

// Open implements durable.FS.
func (f *FS) Open(path string) (durable.File, error) { return f.open("open", path, false) }

// OpenWrite implements durable.FS.
func (f *FS) OpenWrite(path string) (durable.File, error) { return f.open("openwrite", path, true) }

func (f *FS) open(op, path string, writable bool) (durable.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.callLocked(op, path); err != nil {
		return nil, err
	}
	n, err := f.lookup(op, path)
	if err != nil {
		return nil, err
	}
	if n.dir {
		return nil, &fs.PathError{Op: op, Path: path, Err: syscall.EISDIR}
	}
	return &file{fs: f, node: n, path: path, writable: writable}, nil
}

// Rename implements durable.FS; both names must be in the same directory.
func (f *FS) Rename(oldPath, newPath string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.callLocked("rename", newPath); err != nil {
		return err
	}
	if filepath.Dir(oldPath) != filepath.Dir(newPath) {
		return fmt.Errorf("faultfs: rename %s to another directory, %s", oldPath, newPath)
	}
	parent, err := f.lookup("rename", filepath.Dir(oldPath))
	if err != nil {
		return err
	}
	n := parent.entries[filepath.Base(oldPath)]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: oldPath, Err: syscall.ENOENT}
	}
	parent.set(entryChange{name: filepath.Base(newPath), from: filepath.Base(oldPath), node: n})
	return nil
}

// Remove implements durable.FS.
func (f *FS) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.callLocked("remove", path); err != nil {
		return err
	}
	n, err := f.lookup("remove", path)
	if err != nil {
		return err
	}
	if len(n.entries) > 0 {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.ENOTEMPTY}
	}
	parent, err := f.lookup("remove", filepath.Dir(path))
	if err != nil {
		return err
	}
	parent.set(entryChange{name: filepath.Base(path)})
	return nil
}

// ReadDir implements durable.FS.
func (f *FS) ReadDir(path string) ([]durable.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.callLocked("readdir", path); err != nil {
		return nil, err
	}
	n, err := f.lookup("readdir", path)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, &fs.PathError{Op: "readdir", Path: path, Err: syscall.ENOTDIR}
	}
	list := make([]durable.Entry, 0, len(n.entries))
	for name, e := range n.entries {
		list = append(list, durable.Entry{Name: name, Regular: !e.dir})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

// MkdirAll implements durable.FS.
func (f *FS) MkdirAll(path string, _ fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.callLocked("mkdir", path); err != nil {
		return err
	}
	n := f.root
	for _, name := range strings.Split(filepath.ToSlash(filepath.Clean(path)), "/") {
		if name == "" || name == "." {
			continue
		}
		e := n.entries[name]
		if e == nil {
			e = newDir()
			n.set(entryChange{name: name, node: e})
		}
		if !e.dir {
			return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		n = e
	}
	return nil
}

// SyncDir implements durable.FS.
func (f *FS) SyncDir(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.callLocked("syncdir", path); err != nil {
		return err
	}
	n, err := f.lookup("syncdir", path)
	if err != nil {
		return err
	}
	n.changes = nil
	n.syncedEntries = map[string]*node{}
	for name, e := range n.entries {
		n.syncedEntries[name] = e
	}
	return nil
}

// Total implements durable.Total: the limit, or a tebibyte.
func (f *FS) Total(path string) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.callLocked("total", path); err != nil {
		return 0, err
	}
	if f.limit < 0 {
		return 1 << 40, nil
	}
	return uint64(f.limit), nil
}

// Free implements durable.FS.
func (f *FS) Free(path string) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.callLocked("free", path); err != nil {
		return 0, err
	}
	if f.limit < 0 {
		return 1 << 40, nil
	}
	return uint64(max(0, f.limit-f.root.size())), nil
}
