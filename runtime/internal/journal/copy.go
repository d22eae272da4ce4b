package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"perdure/internal/durable"
)

// durableCopy is a second file of a segment whose records are durable before each effect: the mapped file outlives
// the process, and this one the machine. To sync a mapped page costs more than to write it: the kernel protects it from
// the next store first, tells all processors, and the store faults. See FORMAT.md.
type durableCopy struct {
	f    *os.File
	path string
	done int // it has the bytes of the segment to here
	room int // and zeros to here
}

const (
	copySuffix    = ".durable"
	spareCopyName = "spare" + copySuffix // of a spare segment
	newCopyName   = "new" + copySuffix   // of one that is not whole yet
)

// copyName returns the name of the copy that a segment gets between two starts of the machine.
func copyName(seq uint64, boot bootID) string {
	return fmt.Sprintf("%016x.%x%s", seq, boot, copySuffix)
}

// parseCopyName is the reverse of copyName.
func parseCopyName(name string) (seq uint64, boot bootID, ok bool) {
	rest, ok := strings.CutSuffix(name, copySuffix)
	number, id, found := strings.Cut(rest, ".")
	seq, parsed := parseSegmentName(number + segmentSuffix)
	b, err := hex.DecodeString(id)
	if !ok || !found || !parsed || err != nil || len(b) != len(boot) {
		return 0, boot, false
	}
	boot = bootID(b)
	return seq, boot, copyName(seq, boot) == name
}

// copies lists the names of the copies of a segment.
func copies(dir string, seq uint64) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if n, _, ok := parseCopyName(e.Name()); ok && n == seq {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// removeCopies removes the copies of a segment.
func removeCopies(dir string, seq uint64) error {
	names, err := copies(dir, seq)
	for _, name := range names {
		err = errors.Join(err, os.Remove(filepath.Join(dir, name)))
	}
	return err
}

// durableSource returns the copy that has what is left of a segment; "" if its own file has. That is so while the
// machine runs on, and for segments that have none: they were not synced, or are durable themselves.
func durableSource(dir string, seq uint64, boot bootID) (path string, err error) {
	names, err := copies(dir, seq)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil || len(names) == 0 || boot != (bootID{}) && slices.Contains(names, copyName(seq, boot)) {
		return "", err
	}
	return filepath.Join(dir, names[0]), nil
}

// recoverSegment puts the copy of a segment in its place, if that has what is left of it. It is durable when
// this returns.
func recoverSegment(dir string, seq uint64, boot bootID) error {
	from, err := durableSource(dir, seq, boot)
	if err != nil || from == "" {
		return err
	}
	if err := os.Rename(from, filepath.Join(dir, segmentName(seq))); err != nil {
		return err
	}
	return durable.OS.SyncDir(dir)
}

// createCopy makes a copy.
func createCopy(path string) (*durableCopy, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &durableCopy{f: f, path: path}, nil
}

// openCopy opens the copy that a life has left which the machine has outlived, of a segment whose records are mem.
// It may lack some, and have others behind them, of a past that was given up: those go. Zeros stay, since the disk may
// be full.
func openCopy(path string, mem []byte) (*durableCopy, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	c := &durableCopy{f: f, path: path}
	more, err := c.compare(mem)
	if more && err == nil {
		err = errors.Join(f.Truncate(int64(c.room)), f.Sync())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

// compare finds out how much of mem the copy has, how many zeros behind that, and whether there is more.
func (c *durableCopy) compare(mem []byte) (more bool, err error) {
	st, err := c.f.Stat()
	if err != nil || st.Size() == 0 {
		return false, err
	}
	b, err := unix.Mmap(int(c.f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return false, err
	}
	defer unix.Munmap(b)
	err = onFault(func() error {
		most := min(len(b), len(mem))
		for c.done+pageSize <= most && bytes.Equal(b[c.done:c.done+pageSize], mem[c.done:c.done+pageSize]) {
			c.done += pageSize
		}
		for c.done < most && b[c.done] == mem[c.done] {
			c.done++
		}
		c.room = c.done
		var zeros [pageSize]byte
		for c.room < len(b) {
			n := min(pageSize, len(b)-c.room)
			if !bytes.Equal(b[c.room:c.room+n], zeros[:n]) {
				break
			}
			c.room += n
		}
		return nil
	})
	return c.room < len(b), err
}

// write gives the copy the bytes of the segment that it has not got.
func (c *durableCopy) write(mem []byte) error {
	if err := c.grow(len(mem)); err != nil {
		return err
	}
	if _, err := c.f.WriteAt(mem[c.done:], int64(c.done)); err != nil {
		return err
	}
	c.done = len(mem)
	return nil
}

// grow takes storage for n bytes in all. It is written: a sync of bytes that never were has the file system note that
// they are now, which takes it a transaction; and page by page, since what is written together is cached together,
// and later written again together where one byte of it changes.
func (c *durableCopy) grow(n int) error {
	var page [pageSize]byte
	for n > c.room {
		to := c.room + min(max(c.room, firstGrowth), growth)
		for at := c.room; at < to; at += pageSize {
			if _, err := c.f.WriteAt(page[:], int64(at)); err != nil {
				return err
			}
		}
		c.room = to
	}
	return nil
}

// sync makes what was written durable. Where that fails, nothing is known of what is: all is written once more.
func (c *durableCopy) sync() error {
	for {
		err := unix.Fdatasync(int(c.f.Fd()))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		default:
			c.done = 0
			return &os.PathError{Op: "sync", Path: c.path, Err: err}
		}
	}
}

// empty makes the copy one of zeros, for another segment. It is to be synced.
func (c *durableCopy) empty() error {
	if c.room > maxSpare {
		if err := c.f.Truncate(maxSpare); err != nil {
			return err
		}
		c.room = maxSpare
	}
	var page [pageSize]byte
	for at := 0; at < min(c.done, c.room); at += pageSize {
		if _, err := c.f.WriteAt(page[:], int64(at)); err != nil {
			return err
		}
	}
	c.done = 0
	return nil
}

// move renames the copy.
func (c *durableCopy) move(path string) error {
	if err := os.Rename(c.path, path); err != nil {
		return err
	}
	c.path = path
	return nil
}

// keepCopy gives the segment a copy, of which all is durable but the name where that is new.
func (s *segment) keepCopy(dir string, boot bootID, sync func(*durableCopy) error) error {
	path := filepath.Join(dir, copyName(s.seq, boot))
	c, err := openCopy(path, s.mem[:s.tail])
	if errors.Is(err, fs.ErrNotExist) {
		c, err = createCopy(filepath.Join(dir, newCopyName))
	}
	if err != nil {
		return fmt.Errorf("make the durable copy of journal %s: %w", s.path, err)
	}
	if err = c.write(s.mem[:s.tail]); err == nil {
		err = sync(c)
	}
	if err == nil {
		err = c.move(path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make the durable copy of journal %s: %w", s.path, err), c.f.Close())
	}
	s.copy = c
	return nil
}

// writeCopy gives the durable copy of a segment all that is in it.
func (j *Journal) writeCopy(s *segment) error {
	if s.copy == nil { // there was no room for it
		if err := errors.Join(s.keepCopy(j.opt.Dir, j.opt.boot, j.syncCopy), j.syncDir(j.opt.Dir)); err != nil {
			return err
		}
	}
	return s.copy.write(s.mem[:s.tail])
}

func (j *Journal) syncCopy(c *durableCopy) error { return j.opt.syncing(c.path, c.sync) }
