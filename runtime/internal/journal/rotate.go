package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// newSegment returns an empty segment.
func (j *Journal) newSegment(seq uint64) (*segment, error) {
	s, err := createSegment(j.opt.Dir, seq)
	if err == nil && j.opt.Sync {
		if err = s.keepCopy(j.opt.Dir, j.opt.boot, j.syncCopy); err != nil {
			err = errors.Join(err, s.close())
		}
	}
	return s, err
}

// rotate begins a new segment. Where that cannot be, the old one goes on.
func (j *Journal) rotate() {
	next, err := j.nextSegment(j.seg.seq + 1)
	if err != nil {
		return
	}
	if err := errors.Join(j.sync(j.seg), j.syncDir(j.opt.Dir)); err != nil {
		_ = next.close() // the old one goes on
		return
	}
	j.seg.seal(opEnd, 0, 0, 0) // in the spare room
	if err := j.sync(j.seg); err != nil {
		j.lose(err)
	}
	j.spares.Lock()
	defer j.spares.Unlock()
	old := append(j.spares.old, j.seg)
	if len(old) > maxOld {
		_ = old[0].close() // what was stored to the mapping is in the file
		old = old[1:]
	}
	j.spares.old, j.seg, j.seq = old, next, next.seq
}

// maxOld is how many segments before the present one are held: where each cut begins one, the last but
// one is what the next cut retires.
const maxOld = 2

// nextSegment returns an empty segment: the spare one, or one that is new.
func (j *Journal) nextSegment(seq uint64) (*segment, error) {
	j.spares.Lock()
	s := j.spares.next
	j.spares.next = nil
	j.spares.Unlock()
	if s != nil {
		if s.reuse(j.opt.Dir, seq, j.opt.boot) == nil {
			return s, nil
		}
		_ = s.close() // nothing was written
	}
	return j.newSegment(seq)
}

// saveSpare makes a segment that is before that position the spare one, if there is none.
func (j *Journal) saveSpare(before Position) {
	j.spares.Lock()
	var s *segment
	for len(j.spares.old) > 0 && j.spares.old[0].seq < before.Segment {
		if s != nil {
			_ = s.close() // its file is going to be removed
		}
		s, j.spares.old = j.spares.old[0], j.spares.old[1:]
	}
	full := j.spares.next != nil
	j.spares.Unlock()
	if s == nil {
		return
	}
	if full || j.empty(s) != nil {
		_ = s.close() // so is this one's
		return
	}
	j.spares.Lock()
	defer j.spares.Unlock()
	j.spares.next = s
}

// empty makes a segment that is not needed any more a spare one.
func (j *Journal) empty(s *segment) error {
	if err := s.empty(j.opt.Dir); err != nil || s.copy == nil {
		return err
	}
	return j.syncCopy(s.copy)
}

// closeSpares gives the segments back that are held for their pages.
func (j *Journal) closeSpares() error {
	j.spares.Lock()
	defer j.spares.Unlock()
	var errs []error
	for _, s := range j.spares.old {
		errs = append(errs, s.close())
	}
	if j.spares.next != nil {
		errs = append(errs, j.spares.next.close(), removeSpare(j.opt.Dir))
	}
	j.spares.old, j.spares.next = nil, nil
	return errors.Join(errs...)
}

// Retire removes the segments before the one of a position. Any goroutine may call it.
func (j *Journal) Retire(before Position) error {
	j.saveSpare(before)
	list, err := segments(j.opt.Dir)
	if err != nil {
		return err
	}
	for n, seq := range list {
		if seq >= before.Segment {
			list = list[:n]
			break
		}
	}
	return removeSegments(j.opt.Dir, list)
}

// removeSegments removes segments, the newest first: without the oldest, the others are of no
// use.
func removeSegments(dir string, list []uint64) error {
	for i := len(list) - 1; i >= 0; i-- {
		if err := removeCopies(dir, list[i]); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(dir, segmentName(list[i]))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Remove removes the journal in a directory, if there is one.
func Remove(dir string) error {
	list, err := segments(dir)
	if err != nil {
		return err
	}
	return errors.Join(removeSegments(dir, list), removeSpare(dir))
}
