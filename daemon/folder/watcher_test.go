package folder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// patience bounds every wait; on an idle machine one takes milliseconds.
const patience = 2 * time.Minute

// start runs a watcher until the test ends.
func start(t *testing.T, o Options) *Watcher {
	t.Helper()
	if o.Settle == 0 {
		o.Settle = minSettle
	}
	o.Log = zerolog.New(zerolog.NewTestWriter(t))
	w, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// await receives sets until one is as wanted.
func await(t *testing.T, w *Watcher, what string, wanted func(Set) bool) Set {
	t.Helper()
	var last Set
	deadline := time.After(patience)
	for {
		select {
		case last = <-w.Changes():
			if wanted(last) {
				return last
			}
		case <-deadline:
			t.Fatalf("no set in which %s; the last one: %v", what, last)
		}
	}
}

// first receives the first set.
func first(t *testing.T, w *Watcher) Set {
	t.Helper()
	return await(t, w, "is anything", func(Set) bool { return true })
}

// settleProblem waits until the folder as such has a problem, or none.
func settleProblem(t *testing.T, w *Watcher, wanted bool) error {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		if err := w.Problem(); (err != nil) == wanted {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the folder's problem is %v; wanted one: %v", w.Problem(), wanted)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sum(content string) string {
	hash := sha256.Sum256([]byte(content))
	return hex.EncodeToString(hash[:])
}

// holds returns a test for a set whose programs are exactly those, by name and content.
func holds(contents map[string]string) func(Set) bool {
	return func(set Set) bool {
		for name, content := range contents {
			if p := set[name]; p.SHA256 != sum(content) || p.Size != int64(len(content)) || p.Problem != nil || p.Name != name {
				return false
			}
		}
		return len(set) == len(contents)
	}
}

func TestTheFirstSetIsWhole(t *testing.T) {
	dir := t.TempDir()
	contents := make(map[string]string)
	for i := range 50 {
		name := "p" + strconv.Itoa(i)
		contents[name] = "program " + name
		write(t, filepath.Join(dir, name+".wasm"), contents[name])
	}
	for _, noise := range []string{".hidden.wasm", "p1.wasm~", ".p1.wasm.swp", "p2.wasm.tmp", "README", "alone.toml"} {
		write(t, filepath.Join(dir, noise), "noise")
	}
	w := start(t, Options{Dir: dir})
	if set := first(t, w); !holds(contents)(set) {
		t.Errorf("the first set is %v", set)
	}
}

func TestAMissingFolderIsMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var", "modules")
	w := start(t, Options{Dir: dir})
	if set := first(t, w); len(set) != 0 {
		t.Errorf("the first set is %v", set)
	}
	info, err := os.Stat(dir)
	must(t, err)
	if info.Mode() != os.ModeDir|0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	write(t, filepath.Join(dir, "a.wasm"), "one")
	p := await(t, w, "a is there", holds(map[string]string{"a": "one"}))["a"]
	if p.Path != filepath.Join(dir, "a.wasm") || p.Side != nil || time.Since(p.ModTime) > time.Hour {
		t.Errorf("got %+v", p)
	}
}

func TestChangesOfAProgram(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "a.wasm")
	w := start(t, Options{Dir: dir})
	first(t, w)
	a := func(content string) func(Set) bool { return holds(map[string]string{"a": content}) }

	write(t, path, "created")
	await(t, w, "a was created", a("created"))
	write(t, path, "overwritten")
	await(t, w, "a was overwritten", a("overwritten"))
	write(t, filepath.Join(dir, ".a.wasm.tmp"), "renamed within")
	must(t, os.Rename(filepath.Join(dir, ".a.wasm.tmp"), path))
	await(t, w, "a was replaced by a rename within the folder", a("renamed within"))
	write(t, filepath.Join(elsewhere, "new"), "moved here")
	must(t, os.Rename(filepath.Join(elsewhere, "new"), path))
	await(t, w, "a was replaced by a rename from elsewhere", a("moved here"))
	must(t, os.Rename(path, path+".bak"))
	write(t, path, "edited") // as editors do it that keep a copy
	await(t, w, "a was replaced by an editor", a("edited"))
	must(t, os.Rename(path, filepath.Join(dir, "b.wasm")))
	await(t, w, "a is called b", holds(map[string]string{"b": "edited"}))
	must(t, os.Remove(filepath.Join(dir, "b.wasm")))
	await(t, w, "nothing is left", holds(nil))
	must(t, os.Rename(path+".bak", path))
	await(t, w, "a is back", a("moved here"))
	must(t, os.Link(path, filepath.Join(dir, "c.wasm")))
	await(t, w, "c is the same", holds(map[string]string{"a": "moved here", "c": "moved here"}))
}

func TestAFileThatIsBeingCopiedIsNotTaken(t *testing.T) {
	const settle = time.Second
	dir := t.TempDir()
	path := filepath.Join(dir, "a.wasm")
	w := start(t, Options{Dir: dir, Settle: settle})
	first(t, w)
	for end := time.Now().Add(patience); ; {
		const pieces = 30
		n, set, slow := copyInPieces(t, w, path, pieces, settle)
		if n == pieces && holds(map[string]string{"a": strings.Repeat("piece ", pieces)})(set) {
			return
		}
		// Who copies too slowly is not waited for.
		if !slow || time.Now().After(end) {
			t.Fatalf("after %d pieces the first set with it is %v", n, set)
		}
		must(t, os.Remove(path))
		await(t, w, "the file is gone", holds(nil))
	}
}

// copyInPieces writes so many pieces to a file, for longer than the settling time, until a set comes. It returns how many it
// has written, the set, and whether it has paused for the settling time, or has taken as long as a new file may to settle.
func copyInPieces(t *testing.T, w *Watcher, path string, pieces int, settle time.Duration) (n int, set Set, slow bool) {
	t.Helper()
	began := time.Now()
	last := began // when the piece before began to be written
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ; n < pieces; n++ {
		select {
		case <-tick.C:
		case set := <-w.Changes():
			return n, set, slow || time.Since(last) >= settle || time.Since(began) >= 10*settle
		}
		now := time.Now()
		_, err := f.WriteString("piece ")
		must(t, err)
		slow = slow || time.Since(last) >= settle
		last = now
	}
	set = first(t, w)
	return n, set, slow || time.Since(began) >= 10*settle
}

func TestSideFiles(t *testing.T) {
	dir := t.TempDir()
	module, side := filepath.Join(dir, "a.wasm"), filepath.Join(dir, "a.toml")
	w := start(t, Options{Dir: dir})
	first(t, w)
	is := func(want string) func(Set) bool {
		return func(set Set) bool {
			p := set["a"]
			return string(p.Side) == want && p.Side != nil && p.SHA256 == sum("module") && p.Problem == nil
		}
	}
	write(t, side, "args = []")
	write(t, module, "module")
	await(t, w, "a has its side file", is("args = []"))
	write(t, side, "")
	await(t, w, "the side file is empty, but there", is(""))
	must(t, os.Remove(side))
	await(t, w, "the side file is gone", func(set Set) bool { return set["a"].Side == nil && set["a"].SHA256 == sum("module") })
	write(t, filepath.Join(dir, ".a.toml"), strings.Repeat("#", 100<<10)) // so that it is there as a whole
	must(t, os.Rename(filepath.Join(dir, ".a.toml"), side))
	set := await(t, w, "the side file is too long", func(set Set) bool { return set["a"].Side != nil })
	if n := len(set["a"].Side); n != maxSide {
		t.Errorf("%d bytes of the side file were read, want %d", n, maxSide)
	}
	must(t, os.Remove(side))
	must(t, os.Mkdir(side, 0o700))
	set = await(t, w, "the side file is a directory", func(set Set) bool { return errors.Is(set["a"].Problem, ErrNotRegular) })
	if p := set["a"]; p.SHA256 != "" || p.Side != nil || !strings.Contains(p.Problem.Error(), "side file") {
		t.Errorf("got %+v", p)
	}
}

func TestProblems(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in("good.wasm"), "good")
	write(t, in("-x.wasm"), "bad name")
	write(t, in("large.wasm"), strings.Repeat("x", 101))
	write(t, in("limit.wasm"), strings.Repeat("x", 100))
	must(t, os.Mkdir(in("dir.wasm"), 0o700))
	must(t, syscall.Mkfifo(in("pipe.wasm"), 0o600))
	write(t, filepath.Join(elsewhere, "target"), "linked")
	must(t, os.Symlink(filepath.Join(elsewhere, "target"), in("link.wasm")))
	must(t, os.Symlink(filepath.Join(elsewhere, "nothing"), in("dangling.wasm")))
	must(t, os.Symlink(in("loop.wasm"), in("loop.wasm")))
	w := start(t, Options{Dir: dir, MaxSize: 100})
	set := first(t, w)
	for _, name := range []string{"good", "limit", "link"} {
		if p := set[name]; p.Problem != nil || p.SHA256 == "" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for name, want := range map[string]string{
		"-x": "begins with a dash", "large": "101 bytes", "dir": "not a regular file", "pipe": "not a regular file",
		"dangling": "no such file", "loop": "too many levels",
	} {
		if p := set[name]; p.Problem == nil || !strings.Contains(p.Problem.Error(), want) || p.SHA256 != "" || p.Name != name {
			t.Errorf("%s: %+v, want a problem with %q", name, p, want)
		}
	}
	if len(set) != 9 {
		t.Errorf("%d programs: %v", len(set), slices.Sorted(maps.Keys(set)))
	}
	must(t, os.Remove(in("dir.wasm")))
	write(t, in("dir.wasm"), "a file now")
	await(t, w, "the problem is solved", func(set Set) bool { return set["dir"].SHA256 == sum("a file now") })
}

func TestARescanFindsWhatNoEventTells(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	target := filepath.Join(elsewhere, "target")
	write(t, target, "one")
	must(t, os.Symlink(target, filepath.Join(dir, "a.wasm")))
	w := start(t, Options{Dir: dir})
	first(t, w)
	write(t, target, "the second")
	w.Reconfigure(30*time.Millisecond, 10*time.Millisecond)
	await(t, w, "a is the second", holds(map[string]string{"a": "the second"}))
	must(t, os.Remove(target))
	set := await(t, w, "the target is gone", func(set Set) bool { return set["a"].Problem != nil })
	if !strings.Contains(set["a"].Problem.Error(), "no such file") {
		t.Errorf("got %v", set["a"].Problem)
	}
	write(t, target, "the third")
	await(t, w, "a is the third", holds(map[string]string{"a": "the third"}))
}

func TestAFolderThatCannotBeReadIsNotAnEmptyOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "modules")
	must(t, os.Mkdir(dir, 0o700))
	write(t, filepath.Join(dir, "a.wasm"), "one")
	// For a moment there is no folder at all: the settling time is for that too.
	const settle = 500 * time.Millisecond
	w := start(t, Options{Dir: dir, Settle: settle})
	first(t, w)
	for claim, obstacle := range map[string]func() error{
		"a file in its place":               func() error { return os.WriteFile(dir, nil, 0o600) },
		"a link that leads round in circle": func() error { return os.Symlink(dir, dir) },
	} {
		aside := dir + ".aside"
		for again, tries := true, 1; again; tries++ {
			again = false
			began := time.Now()
			must(t, os.Rename(dir, aside))
			must(t, obstacle())
			moment := time.Since(began)
			err := settleProblem(t, w, true)
			if !errors.Is(err, syscall.ENOTDIR) && !errors.Is(err, syscall.ELOOP) {
				t.Errorf("%s: the problem is %v", claim, err)
			}
			select { // a set would have come before the problem was known, or with it
			case set := <-w.Changes():
				if again = moment >= settle && tries < 20; !again {
					t.Errorf("%s: a set %v, after %v without a folder", claim, set, moment)
				}
			default:
			}
			content := fmt.Sprint(claim, tries)
			write(t, filepath.Join(aside, "b.wasm"), content)
			must(t, os.Remove(dir))
			must(t, os.Rename(aside, dir))
			settleProblem(t, w, false)
			await(t, w, "b was found again", holds(map[string]string{"a": "one", "b": content}))
		}
	}
}

func TestAnotherFolderInItsPlace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "modules")
	w := start(t, Options{Dir: dir})
	first(t, w)
	for i := range 5 {
		name := fmt.Sprint("a", i)
		write(t, filepath.Join(dir, name+".wasm"), "one")
		await(t, w, name+" is there", holds(map[string]string{name: "one"}))
		switch i % 3 {
		case 0: // deleted; the next one often gets its inode number
			must(t, os.RemoveAll(dir))
			must(t, os.Mkdir(dir, 0o700))
		case 1: // deleted for longer
			must(t, os.RemoveAll(dir))
			await(t, w, "all is gone", holds(nil))
			must(t, os.Mkdir(dir, 0o700))
			continue
		case 2: // moved away
			must(t, os.Rename(dir, fmt.Sprint(dir, i)))
			must(t, os.Mkdir(dir, 0o700))
		}
		await(t, w, "the new folder is empty", holds(nil))
	}
}

func TestLostEventsAreNoticed(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	dir := t.TempDir()
	w, err := New(Options{Dir: dir, Settle: minSettle, Log: zerolog.New(zerolog.NewTestWriter(t))})
	must(t, err)
	defer w.unwatch()
	w.scan(time.Now(), 0)
	write(t, filepath.Join(dir, "a.wasm"), "one")
	write(t, filepath.Join(dir, "b.wasm"), "two")
	for i := range limit + 10_000 { // in turns, since the kernel merges what is equal
		must(t, os.Chmod(filepath.Join(dir, []string{"a.wasm", "b.wasm"}[i%2]), 0o600))
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !w.wait(context.Background(), deadline.C) {
		if w.notify == nil || !deadline.Reset(patience) {
			t.Fatal("an overflow was not noticed")
		}
	}
	if w.notify != nil {
		t.Error("the old watch is still trusted")
	}
}

func TestNewRefuses(t *testing.T) {
	for claim, o := range map[string]Options{
		"no folder":         {},
		"a relative path":   {Dir: "modules"},
		"a negative settle": {Dir: "/x", Settle: -1},
		"a negative rescan": {Dir: "/x", Rescan: -1},
		"a negative size":   {Dir: "/x", MaxSize: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", claim)
		}
	}
}

func TestRunTwice(t *testing.T) {
	w := start(t, Options{Dir: t.TempDir()})
	first(t, w)
	if err := w.Run(context.Background()); err == nil {
		t.Error("no error")
	}
}
