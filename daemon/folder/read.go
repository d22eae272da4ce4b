package folder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"perdure/config"
)

// errChanged is a file that is not the one that was looked at, or not any more.
var errChanged = errors.New("the file changed while it was read")

// reader makes programs of files that have settled.
type reader struct {
	dir     string
	maxSize int64
}

// program returns a program of which only the name and the path are known.
func (r reader) program(name string) Program {
	return Program{Name: name, Path: filepath.Join(r.dir, name+programSuffix)}
}

// read reads what was seen of a name. Last is the program that was taken before, or nil, and
// lastSeen how it looked. It returns nil for a name without a module, and whether a problem may
// pass without a change of the files. The error is errChanged or that of ctx.
func (r reader) read(ctx context.Context, name string, seen look, last *Program, lastSeen look) (_ *Program, passing bool, _ error) {
	if seen.program.kind == absent {
		return nil, false, nil
	}
	p := r.program(name)
	if seen.program.kind == regular {
		p.Size, p.ModTime = seen.program.size, time.Unix(0, seen.program.mtime)
	}
	if p.Problem = config.CheckName(name); p.Problem != nil {
		return &p, false, nil
	}
	if last != nil && last.SHA256 != "" && lastSeen.program == seen.program {
		p.SHA256 = last.SHA256
	} else if passing, err := r.module(ctx, &p, seen.program); p.Problem != nil || err != nil {
		return &p, passing, err
	}
	passing, err := r.side(ctx, &p, seen.side)
	if p.Problem != nil {
		p.SHA256, p.Side = "", nil
	}
	return &p, passing, err
}

// module fills in the hash of p, or its problem.
func (r reader) module(ctx context.Context, p *Program, seen file) (passing bool, _ error) {
	if seen.kind == regular && seen.size > r.maxSize {
		p.Problem = fmt.Errorf("%w: %d bytes, where %d are the limit", ErrTooLarge, seen.size, r.maxSize)
		return false, nil
	}
	hash := sha256.New()
	passing, err := r.copy(ctx, hash, p.Path, seen, seen.size, &p.Problem)
	if err == nil && p.Problem == nil {
		p.SHA256 = hex.EncodeToString(hash.Sum(nil))
	}
	return passing, err
}

// side fills in the text of the side file of p, or the problem.
func (r reader) side(ctx context.Context, p *Program, seen file) (passing bool, _ error) {
	if seen.kind == absent {
		return false, nil
	}
	var content limited
	path := filepath.Join(r.dir, p.Name+sideSuffix)
	passing, err := r.copy(ctx, &content, path, seen, min(seen.size, maxSide), &p.Problem)
	p.Side = append([]byte{}, content...) // an empty file is there too
	if p.Problem != nil {
		p.Problem = fmt.Errorf("side file: %w", p.Problem)
	}
	return passing, err
}

// limited is a buffer that only copy writes to, and never more than it was told.
type limited []byte

func (l *limited) Write(p []byte) (int, error) {
	*l = append(*l, p...)
	return len(p), nil
}

// copy writes the first n bytes of the file at path, which has to be the one that was seen, to
// w. What is wrong with the file goes to problem; passing tells whether that may pass.
func (r reader) copy(ctx context.Context, w io.Writer, path string, seen file, n int64, problem *error) (passing bool, _ error) {
	switch seen.kind {
	case other:
		*problem = ErrNotRegular
		return false, nil
	case failed:
		*problem = errors.New(seen.fault)
		return true, nil
	}
	// Without O_NONBLOCK opening a pipe that has taken the file's place would never end.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, errChanged
	}
	if err != nil {
		*problem = err
		return true, nil
	}
	defer f.Close() // it was only read
	if err := still(f, seen); err != nil {
		return false, err
	}
	copied, err := io.Copy(w, &interruptible{ctx: ctx, r: io.LimitReader(f, n)})
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil:
		*problem = err
		return true, nil
	case copied != n:
		return false, errChanged
	}
	return false, still(f, seen)
}

// still returns errChanged unless f is the file that was seen.
func still(f *os.File, seen file) error {
	info, err := f.Stat()
	if err != nil || fileOf(info) != seen {
		return errChanged
	}
	return nil
}

// interruptible is a reader that ends with its context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}
