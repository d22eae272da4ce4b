package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"perdure/memsnap"
	"perdure/runtime/internal/compare"
)

// disk compares commits and restores with the same bytes written to and read from one plain file.
func (s *suite) disk() (err error) {
	size := s.pick(16, 64) << 20
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Munmap(memory)) }()
	fill(memory, 1)
	dir := filepath.Join(s.dir, "store")
	store, err := openStore(dir)
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "plain")
	number := uint64(0)
	ctx := s.ctx
	turns := s.pick(3, 15)
	t, err := compare.Turns(turns,
		byClock("plain", func() error { return writeFile(file, memory) }),
		compare.Way{Name: "commit", Run: func() (time.Duration, error) {
			old := number
			began := time.Now()
			info, err := commit(ctx, store, 0, uint64(size/memsnap.PageSize), func(w *memsnap.Session) error { return w.PutPages(0, memory) })
			took := time.Since(began)
			number = info.Number
			if err == nil && old != 0 {
				_, err = store.Purge(ctx, old)
			}
			return took, err
		}})
	if err != nil {
		return err
	}
	rate := func(t compare.Series) float64 { return float64(size) / 1e6 / t.Median() }
	s.add("disk.write", "MB/s", rate(t[0]), turns, "the raw disk: %d MiB that do not compress into one file, synced", size>>20)
	s.add("commit.rate", "MB/s", rate(t[1]), turns, "commit of a generation of the same")
	s.add("commit.ratio", "x", t[1].Median()/t[0].Median(), turns, "time of that commit, to the raw disk")

	into, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Munmap(into)) }()
	// Into fresh memory, as at a restore; the file is in the cache of the kernel in both cases.
	fresh := func(f func() error) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			if err := unix.Madvise(into, unix.MADV_DONTNEED); err != nil {
				return 0, err
			}
			began := time.Now()
			err := f()
			return time.Since(began), err
		}
	}
	t, err = compare.Turns(turns,
		compare.Way{Name: "plain", Run: fresh(func() error { return readFile(file, into) })},
		compare.Way{Name: "restore", Run: fresh(func() error {
			g, _, err := store.OpenNewest(ctx)
			if err != nil {
				return err
			}
			return errors.Join(g.Restore(ctx, into), g.Close())
		})})
	if err != nil {
		return err
	}
	if string(into) != string(memory) {
		return errors.New("what was read is not what was written")
	}
	s.add("disk.read", "MB/s", rate(t[0]), turns, "the same file read into memory, from the kernel's cache")
	s.add("restore.rate", "MB/s", rate(t[1]), turns, "restore of the generation, every byte checked")
	s.add("restore.ratio", "x", t[1].Median()/t[0].Median(), turns, "time of that restore, to reading the file")
	return nil
}

// sizes measures what a generation adds to the disk.
func (s *suite) sizes() error {
	store, err := openStore(filepath.Join(s.dir, "sizes"))
	if err != nil {
		return err
	}
	const pages = 16 << 20 / memsnap.PageSize
	memory := make([]byte, pages*memsnap.PageSize)
	fill(memory, 1)
	info, err := commit(s.ctx, store, 0, pages, func(w *memsnap.Session) error { return w.PutPages(0, memory) })
	if err != nil {
		return err
	}
	// The sections that a process has.
	idle, err := commit(s.ctx, store, info.Number, pages, func(w *memsnap.Session) error { return w.PutSection("state", memory[:1000]) })
	if err != nil {
		return err
	}
	s.add("generation.idle", "bytes", float64(idle.BytesStored), 1, "a generation in which only 1,000 bytes of state changed")
	for _, n := range []int{10, 1000} {
		fill(memory, uint64(n))
		r := rand.New(rand.NewPCG(1, uint64(n)))
		if info, err = store.newest(); err != nil {
			return err
		}
		info, err = commit(s.ctx, store, info.Number, pages, func(w *memsnap.Session) error {
			for _, page := range r.Perm(pages)[:n] {
				if err := w.PutPages(uint64(page), memory[page*memsnap.PageSize:][:memsnap.PageSize]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		s.add(fmt.Sprintf("generation.%dpages", n), "x", float64(info.BytesStored)/float64(n*memsnap.PageSize), 1,
			"bytes of a generation in which %d pages of 4 KiB changed that do not compress, to those pages", n)
	}
	return nil
}

// bareStore is a store of its own.
type bareStore struct{ *memsnap.Store }

func openStore(dir string) (bareStore, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return bareStore{}, err
	}
	store, err := memsnap.Open(dir, memsnap.Options{})
	return bareStore{store}, err
}

func (s bareStore) newest() (memsnap.Info, error) {
	list, err := s.Generations()
	if err != nil || len(list) == 0 {
		return memsnap.Info{}, errors.Join(err, errors.New("no generation"))
	}
	return list[len(list)-1], nil
}

// commit makes a generation.
func commit(ctx context.Context, s bareStore, base, pages uint64, put func(*memsnap.Session) error) (memsnap.Info, error) {
	w, err := s.Begin(base)
	if err != nil {
		return memsnap.Info{}, err
	}
	w.SetPages(pages)
	if err := put(w); err != nil {
		return memsnap.Info{}, errors.Join(err, w.Abort())
	}
	return w.Commit(ctx)
}

// byClock is a way that is measured by the clock on the wall.
func byClock(name string, f func() error) compare.Way {
	return compare.Way{Name: name, Run: func() (time.Duration, error) {
		began := time.Now()
		err := f()
		return time.Since(began), err
	}}
}

// writeFile writes a file anew and makes it durable.
func writeFile(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(unix.Fdatasync(int(f.Fd())), f.Close())
}

// readFile reads a whole file of that length.
func readFile(path string, into []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = f.ReadAt(into, 0)
	return errors.Join(err, f.Close())
}

// fill fills memory with bytes that do not compress.
func fill(p []byte, seed uint64) {
	r := rand.NewPCG(seed, 0)
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
}
