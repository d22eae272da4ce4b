package runtime

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"perdure/memsnap"
	"perdure/runtime/internal/engine"
)

// stateOf is a digest of all that a process was restored to.
func stateOf(p *Process) [32]byte {
	h := sha256.New()
	_, _ = h.Write(p.mem.Bytes()) // a hash takes everything
	_, _ = h.Write(engine.EncodeImage(p.saved.image))
	_, _ = h.Write(p.saved.wasi)
	fmt.Fprint(h, p.state)
	return [32]byte(h.Sum(nil))
}

// patient is a process with several generations, to be damaged.
type patient struct {
	t      *testing.T
	b      *bench
	dir    string // of the process, whole
	given  map[string]string
	want   *outcome
	states map[uint64][32]byte // by generation
	files  []string            // below dir
	newest uint64
}

// newPatient runs a small guest through several generations.
func newPatient(t *testing.T, generations int) *patient {
	t.Helper()
	s := named(t, "tree")
	want, polls := undisturbed(t, s)
	p := &patient{t: t, b: newBench(t, s, s.Args), want: want, states: map[uint64][32]byte{}}
	var d *director
	for range generations {
		d = &director{t: t, mean: 1}
		// Suspend at equal distances.
		stop, at := &suspender{director: d}, polls/int64(generations+1)
		p.b.opt.hooks.poll = stop.poll
		r, err := p.b.life(t.Context(), func(p *Process) { d.p, stop.left = p, at })
		if err != nil || !r.Suspended {
			t.Fatalf("generation %d: %v", r.Generation, err)
		}
		p.newest = r.Generation
	}
	p.b.opt.hooks.poll = nil
	p.dir = p.b.opt.Dir
	p.given = p.b.contents()
	store, err := memsnap.Open(filepath.Join(p.dir, generationsDir), memsnap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := store.Generations()
	if err != nil || len(list) != generations {
		t.Fatalf("%d generations, %v", len(list), err)
	}
	for i := range list {
		dir := p.copy()
		for _, later := range list[i+1:] {
			p.remove(dir, later.Number)
		}
		p.b.opt.Dir = dir
		q := p.b.open()
		if q.base != list[i].Number {
			t.Fatalf("restored generation %d, want %d", q.base, list[i].Number)
		}
		p.states[q.base] = stateOf(q)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	err = filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			p.files = append(p.files, strings.TrimPrefix(path, p.dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// suspender suspends the guest after so many polls.
type suspender struct {
	*director
	left int64
}

func (s *suspender) poll() engine.PollAnswer {
	if s.left--; s.left != 0 {
		return engine.PollGo
	}
	s.ask(cutRequest{suspend: true})
	return engine.PollCut
}

// contents returns the files of the guest's directory.
func (b *bench) contents() map[string]string {
	files := map[string]string{}
	for name, content := range tree(b.t, b.out) {
		files[name] = strings.TrimPrefix(content, "file ")
	}
	return files
}

// copy copies the whole directory to a new one.
func (p *patient) copy() string {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(p.dir)); err != nil {
		p.t.Fatal(err)
	}
	return dir
}

// remove removes the file of a generation.
func (p *patient) remove(dir string, number uint64) {
	p.t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, generationsDir, fmt.Sprintf("*%d*", number)))
	if err != nil || len(names) != 1 {
		p.t.Fatalf("files of generation %d: %q, %v", number, names, err)
	}
	if err := os.Remove(names[0]); err != nil {
		p.t.Fatal(err)
	}
}

// named says whether an error of Open tells what is wrong.
func namedError(err error) bool {
	var refused *RefusedError
	var other *OtherProgramError
	for _, e := range []error{memsnap.ErrCorrupt, memsnap.ErrVersion, ErrBadState, ErrNoProgram} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.As(err, &refused) || errors.As(err, &other)
}

// verdicts counts what damage led to.
type verdicts struct{ unharmed, older, refused int }

// check opens the process in dir after some damage, and runs it to its end if run is set.
func (p *patient) check(dir, what string, run bool, v *verdicts) {
	t := p.t
	t.Helper()
	b := *p.b
	b.rec = &recorder{}
	b.opt.Events = b.rec.event
	b.opt.Dir = dir
	q, err := Open(t.Context(), b.opt)
	if err != nil {
		v.refused++
		if !namedError(err) {
			t.Errorf("%s: the error has no name: %v", what, err)
		}
		return
	}
	defer func() {
		if err := q.Close(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}()
	base, restored := q.Restored()
	if !restored {
		t.Errorf("%s: started anew", what)
		return
	}
	if stateOf(q) != p.states[base] {
		t.Errorf("%s: another state than that of generation %d", what, base)
		return
	}
	if skipped := all[SkippedEvent](b.rec); base != p.newest {
		v.older++
		if len(skipped) == 0 || skipped[0].Generation != p.newest {
			t.Errorf("%s: generation %d in place of %d, but told only %v", what, base, p.newest, skipped)
		}
	} else {
		v.unharmed++
		if len(skipped) > 0 {
			t.Errorf("%s: told %v for nothing", what, skipped)
		}
	}
	if !run {
		return
	}
	for name, content := range p.given {
		if err := os.WriteFile(filepath.Join(b.out, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := q.Run(t.Context())
	got := b.outcome(r, err)
	got.stdout = p.want.stdout // only the rest of it was printed
	got.compare(t, p.want)
	if t.Failed() {
		t.Fatal(what)
	}
}

// damage damages each file at some of its bytes and at some of its lengths, and runs the
// process after each runEvery-th of it.
func (p *patient) damage(points, runEvery int) verdicts {
	var v verdicts
	n := 0
	for _, name := range p.files {
		whole, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			p.t.Fatal(err)
		}
		stride := max(1, len(whole)/points)
		if name == "/"+programFile {
			stride *= 8 // while the original is there, it does not matter
		}
		try := func(what string, content []byte) {
			n++
			dir := p.copy()
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				p.t.Fatal(err)
			}
			p.check(dir, fmt.Sprintf("%s %s", name, what), n%runEvery == 0, &v)
			if err := os.RemoveAll(dir); err != nil {
				p.t.Fatal(err)
			}
		}
		for at := 0; at < len(whole); at += stride {
			try(fmt.Sprintf("cut to %d of %d bytes", at, len(whole)), whole[:at])
			bad := slices.Clone(whole)
			bad[at] ^= 1 << (n % 8)
			try(fmt.Sprintf("bit %d of byte %d of %d flipped", n%8, at, len(whole)), bad)
			clear(bad[at:min(len(bad), at+stride)])
			if string(bad) != string(whole) {
				try(fmt.Sprintf("%d bytes from %d of %d zeroed", stride, at, len(whole)), bad)
			}
		}
		try("with 100 bytes more", append(slices.Clone(whole), make([]byte, 100)...))
	}
	p.t.Logf("%d damages: %d unharmed, %d went on from an older generation, %d refused", n, v.unharmed, v.older, v.refused)
	return v
}

// After damage a process goes on from the same or an older generation, or is refused.
func TestDamage(t *testing.T) {
	p := newPatient(t, 4)
	points := 8
	if underRace {
		points = 3
	}
	v := p.damage(points, 2)
	if v.unharmed == 0 || v.older == 0 {
		t.Error("the damage did not reach the newest generation, or nothing but it")
	}
}

// Generations that are missing are as good as damaged, but for the newest: nobody can
// know that there was one.
func TestDamageMissing(t *testing.T) {
	p := newPatient(t, 4)
	for number := uint64(1); number <= p.newest; number++ {
		dir := p.copy()
		p.remove(dir, number)
		b := *p.b
		b.opt.Dir = dir
		q, err := Open(t.Context(), b.opt)
		if err != nil {
			if !namedError(err) {
				t.Errorf("without generation %d: %v", number, err)
			}
			continue
		}
		if base, ok := q.Restored(); !ok || stateOf(q) != p.states[base] {
			t.Errorf("without generation %d: restored %d, %t", number, base, ok)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The copy of the program is as good as the program, or refused.
func TestDamageProgram(t *testing.T) {
	p := newPatient(t, 2)
	whole, err := os.ReadFile(filepath.Join(p.dir, programFile))
	if err != nil {
		t.Fatal(err)
	}
	source := p.b.opt.Program
	gone := filepath.Join(t.TempDir(), "gone.wasm")
	var v verdicts

	p.b.opt.Program = gone
	p.check(p.copy(), "original gone", true, &v)
	if v.unharmed != 1 {
		t.Fatalf("with the copy alone: %+v", v)
	}
	for at := 0; at < len(whole); at += len(whole) / 20 {
		bad := slices.Clone(whole)
		bad[at] ^= 4
		for what, content := range map[string][]byte{"cut": whole[:at], "flipped": bad} {
			dir := p.copy()
			if err := os.WriteFile(filepath.Join(dir, programFile), content, 0o600); err != nil {
				t.Fatal(err)
			}
			v = verdicts{}
			p.b.opt.Program = gone
			p.check(dir, fmt.Sprintf("original gone, copy %s at %d", what, at), true, &v)
			if v.refused != 1 {
				t.Errorf("copy %s at %d: %+v", what, at, v)
			}
			// While the original is there the copy is mended.
			v = verdicts{}
			p.b.opt.Program = source
			p.check(dir, fmt.Sprintf("copy %s at %d", what, at), false, &v)
			if b, err := os.ReadFile(filepath.Join(dir, programFile)); v.unharmed != 1 || err != nil || string(b) != string(whole) {
				t.Errorf("copy %s at %d with the original there: %+v, the copy is mended: %t", what, at, v, string(b) == string(whole))
			}
		}
	}
	// With nothing but a damaged copy, there is no process.
	for _, number := range []uint64{1, 2} {
		p.remove(p.dir, number)
	}
	whole[len(whole)/2] ^= 1
	if err := os.WriteFile(filepath.Join(p.dir, programFile), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	p.b.opt.Program, p.b.opt.Dir = gone, p.dir
	if q, err := Open(t.Context(), p.b.opt); !errors.Is(err, ErrNoProgram) && !errors.Is(err, ErrBadState) {
		t.Errorf("a copy that nothing vouches for was run: %v", err)
		_ = q.Close()
	}
}

// A damaged cache is made anew.
func TestDamageCache(t *testing.T) {
	s := named(t, "primes")
	cache := t.TempDir()
	run := func(what string) {
		t.Helper()
		b := newBench(t, s, s.Args)
		b.opt.CacheDir = cache
		o := b.outcome(b.life(t.Context(), nil))
		if o.stdout != string(s.Golden(t)) {
			t.Errorf("%s: %s", what, firstDifference(o.stdout, string(s.Golden(t))))
		}
		if w := all[WarningEvent](b.rec); len(w) > 0 {
			t.Errorf("%s: %v", what, w)
		}
	}
	run("first")
	var files []string
	err := filepath.WalkDir(cache, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 2 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, path := range files {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		places := []int{0, 7, 8, 20, 31, 40, 60, len(whole) / 3, len(whole) / 2, len(whole) - 1}
		if underRace {
			places = places[4:7]
		}
		for _, at := range places {
			at = min(at, len(whole)-1)
			bad := slices.Clone(whole)
			bad[at] ^= 0x10
			for what, content := range map[string][]byte{"cut": whole[:at], "flipped": bad} {
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				run(fmt.Sprintf("%s %s at %d of %d", strings.TrimPrefix(path, cache), what, at, len(whole)))
			}
		}
	}
}
