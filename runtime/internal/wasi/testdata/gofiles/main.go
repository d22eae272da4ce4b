// Gofiles does to its files what programs do, and says what went wrong.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing/fstest"
	"time"
)

func main() {
	steps := []struct {
		name string
		run  func() error
	}{
		{"tree", tree}, {"append", appending}, {"offsets", offsets}, {"links", links}, {"times", times}, {"listing", listing},
		{"errors", errs}, {"escape", escape}, {"clock", clock}, {"environment", environment}, {"remove", remove},
	}
	for _, s := range steps {
		if err := s.run(); err != nil {
			fmt.Printf("%s: %v\n", s.name, err)
			os.Exit(1)
		}
	}
	fmt.Println("fine")
	os.Exit(7)
}

func tree() error {
	if err := os.MkdirAll("a/b/c", 0o755); err != nil {
		return err
	}
	for _, name := range []string{"a/1", "a/b/2", "a/b/c/3", "a/b/c/4"} {
		if err := os.WriteFile(name, []byte("content of "+name), 0o644); err != nil {
			return err
		}
	}
	return fstest.TestFS(os.DirFS("a"), "1", "b/2", "b/c/3", "b/c/4")
}

func appending() error {
	f, err := os.OpenFile("log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	for i := range 5 {
		if _, err := fmt.Fprintf(f, "line %d\n", i); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	b, err := os.ReadFile("log")
	if err == nil && strings.Count(string(b), "\n") != 5 {
		err = fmt.Errorf("read %q", b)
	}
	return err
}

func offsets() error {
	f, err := os.Create("big")
	if err != nil {
		return err
	}
	defer f.Close()
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	for i := range 20 {
		if _, err := f.WriteAt(block, int64(i)*int64(len(block))); err != nil {
			return err
		}
	}
	if err := f.Truncate(1_000_000); err != nil {
		return err
	}
	if _, err := f.Seek(-16, io.SeekEnd); err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err != nil || string(b) != "0123456789abcdef" {
		return fmt.Errorf("the end is %q, %v", b, err)
	}
	if n, err := f.ReadAt(make([]byte, 100), 999_990); n != 10 || err != io.EOF {
		return fmt.Errorf("read %d at the end, %v", n, err)
	}
	return nil
}

func links() error {
	if err := os.Symlink("a/1", "link"); err != nil {
		return err
	}
	if err := os.Link("a/1", "hard"); err != nil {
		return err
	}
	if to, err := os.Readlink("link"); err != nil || to != "a/1" {
		return fmt.Errorf("link to %q, %v", to, err)
	}
	a, err := os.Stat("link")
	if err != nil {
		return err
	}
	b, err := os.Lstat("hard")
	if err != nil {
		return err
	}
	if !os.SameFile(a, b) {
		return errors.New("link and hard link are not the same file")
	}
	if l, err := os.Lstat("link"); err != nil || l.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("the link is a %v, %v", l.Mode(), err)
	}
	return os.Rename("hard", "a/b/moved")
}

func times() error {
	at := time.Unix(1_000_000_000, 123_456_789)
	if err := os.Chtimes("a/1", at, at.Add(time.Second)); err != nil {
		return err
	}
	st, err := os.Stat("a/1")
	if err == nil && !st.ModTime().Equal(at.Add(time.Second)) {
		err = fmt.Errorf("modified at %v", st.ModTime())
	}
	return err
}

func listing() error {
	if err := os.Mkdir("many", 0o755); err != nil {
		return err
	}
	for i := range 500 {
		if err := os.WriteFile(fmt.Sprintf("many/file with a long name %03d", i), nil, 0o644); err != nil {
			return err
		}
	}
	d, err := os.Open("many")
	if err != nil {
		return err
	}
	defer d.Close()
	seen := map[string]bool{}
	for {
		list, err := d.ReadDir(7)
		for _, e := range list {
			if seen[e.Name()] {
				return fmt.Errorf("%s twice", e.Name())
			}
			seen[e.Name()] = true
			// Removed while the directory is read.
			if err := os.Remove(filepath.Join("many", e.Name())); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if len(seen) != 500 {
		return fmt.Errorf("%d entries", len(seen))
	}
	return os.Remove("many")
}

func errs() error {
	if _, err := os.Open("none"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Mkdir("a", 0o755); !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Remove("a"); err == nil {
		return errors.New("removed a directory with files")
	}
	f, err := os.Open("a/1")
	if err != nil {
		return err
	}
	if _, err := f.Write([]byte("x")); err == nil {
		return errors.New("wrote to a file that is open for reading")
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.WriteFile("/ro/new", nil, 0o644); err == nil {
		return errors.New("made a file in a read-only directory")
	}
	if err := os.WriteFile("/ro/a/1", nil, 0o644); err == nil {
		return errors.New("wrote to a file in a read-only directory")
	}
	b, err := os.ReadFile("/ro/a/1")
	if err == nil && string(b) != "content of a/1" {
		err = fmt.Errorf("read %q", b)
	}
	return err
}

func escape() error {
	for _, p := range []string{"../../../../../../etc/passwd", "/etc/passwd", "a/../../etc/passwd"} {
		if b, err := os.ReadFile(p); err == nil && len(b) > 0 {
			return fmt.Errorf("read %s", p)
		}
	}
	return nil
}

func clock() error {
	begin := time.Now()
	time.Sleep(20 * time.Millisecond)
	if d := time.Since(begin); d < 20*time.Millisecond || d > time.Minute {
		return fmt.Errorf("slept %v", d)
	}
	return nil
}

func environment() error {
	if len(os.Args) != 2 || os.Args[1] != "argument" || os.Getenv("NAME") != "value" {
		return fmt.Errorf("%q, %q", os.Args, os.Environ())
	}
	b, err := io.ReadAll(os.Stdin)
	if err == nil && string(b) != "input" {
		err = fmt.Errorf("input %q", b)
	}
	return err
}

func remove() error {
	for _, name := range []string{"a", "log", "big", "link"} {
		if err := os.RemoveAll(name); err != nil {
			return err
		}
	}
	left, err := os.ReadDir(".")
	if err == nil && len(left) != 0 {
		err = fmt.Errorf("%v is left", left)
	}
	return err
}
