package memsnap

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"perdure/internal/durable"
	"perdure/internal/durable/faultfs"
)

var (
	modelSeed  = flag.Uint64("memsnap.seed", 0, "seed of the model test; 0 takes the usual ones")
	modelSteps = flag.Int("memsnap.steps", usualSteps, "steps of the model test, over all seeds")
)

// state is the plain picture of a generation: for each page the seed of its content, 0 for a zero page.
type state struct {
	pages    []uint32
	sections map[string]string
}

func (s state) clone() state {
	c := state{slices.Clone(s.pages), map[string]string{}}
	for k, v := range s.sections {
		c.sections[k] = v
	}
	return c
}

// pageOf makes the content that belongs to a seed: some compress, some do not.
func pageOf(seed uint32) []byte {
	p := make([]byte, PageSize)
	switch {
	case seed == 0:
	case seed%3 == 0:
		fillRandom(p, uint64(seed))
	default:
		copy(p[seed%4000:], fmt.Sprintf("page %d", seed))
	}
	return p
}

// checkState compares an open generation with its picture.
func checkState(g *Generation, want state, r *rand.Rand) error {
	if g.Pages() != uint64(len(want.pages)) {
		return fmt.Errorf("%d pages, want %d", g.Pages(), len(want.pages))
	}
	memory := make([]byte, len(want.pages)*PageSize)
	if err := g.Restore(context.Background(), memory); err != nil {
		return err
	}
	var zeros uint64
	for i, seed := range want.pages {
		if !bytes.Equal(memory[i*PageSize:][:PageSize], pageOf(seed)) {
			return fmt.Errorf("page %d has the wrong content: %.40q, want %.40q", i, memory[i*PageSize:][:PageSize], pageOf(seed))
		}
		if seed == 0 {
			zeros++
		}
	}
	if info := g.Info(); info.PagesZero != zeros || info.PagesNew+info.PagesLinked+info.PagesZero != info.Pages {
		return fmt.Errorf("the report counts wrongly, there are %d zero pages: %+v", zeros, info)
	}
	stored := make([]bool, len(want.pages))
	for first, count := range g.Stored() {
		for i := first; i < first+count; i++ {
			stored[i] = true
		}
	}
	for i, seed := range want.pages {
		if stored[i] != (seed != 0) {
			return fmt.Errorf("page %d is said to be stored: %v", i, stored[i])
		}
	}
	if len(want.pages) > 0 {
		page, i := make([]byte, PageSize), r.IntN(len(want.pages))
		if err := g.ReadPage(uint64(i), page); err != nil {
			return err
		}
		if !bytes.Equal(page, pageOf(want.pages[i])) {
			return fmt.Errorf("page %d, read alone, has the wrong content", i)
		}
	}
	var names []string
	for name, content := range want.sections {
		names = append(names, name)
		got, err := g.Section(name)
		if err != nil {
			return err
		}
		if string(got) != content {
			return fmt.Errorf("section %s: %.40q, want %.40q", name, got, content)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, g.Sections()) {
		return fmt.Errorf("sections %v, want %v", g.Sections(), names)
	}
	return nil
}

// model runs random sessions and knows what has to come out.
type model struct {
	t       *testing.T
	r       *rand.Rand
	fs      *faultfs.FS
	store   *Store
	states  map[uint64]state
	pins    map[uint64]bool
	highest uint64

	session *Session
	puts    map[int]uint32
	next    state
	base    state
}

func TestModel(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	if *modelSeed != 0 {
		seeds = []uint64{*modelSeed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			m := &model{t: t, r: rand.New(rand.NewPCG(seed, 0)), fs: faultfs.New(), states: map[uint64]state{}, pins: map[uint64]bool{}}
			m.reopen()
			steps := *modelSteps / len(seeds) / thin
			for i := range steps {
				if err := m.step(); err != nil {
					t.Fatalf("step %d (go test -run TestModel -memsnap.seed=%d -memsnap.steps=%d): %v", i, seed, steps*thin, err)
				}
			}
			for number := range m.states {
				if err := m.check(number, true); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d generations", len(m.states))
		})
	}
}

func (m *model) reopen() {
	var err error
	if m.store, err = Open("/store", Options{FS: m.fs, CommitWorkers: 1 + m.r.IntN(2), RestoreWorkers: 2}); err != nil {
		m.t.Fatal(err)
	}
	// Small budgets, so that chains of archives come about even with small memories.
	m.store.budget = func(n uint64) archiveBudget {
		return archiveBudget{bytes: uint64(m.r.IntN(100)), pages: uint64(m.r.IntN(40))}
	}
	m.store.policy.Redundancy = m.r.Uint64N(4)
	m.session = nil
}

func (m *model) step() error {
	if m.session == nil {
		return m.idleStep()
	}
	w, r := m.session, m.r
	switch r.IntN(24) {
	case 0, 1:
		n := r.IntN(80)
		if r.IntN(8) > 0 {
			n = max(n, len(m.next.pages)) // mostly it grows
		}
		w.SetPages(uint64(n))
		m.size(n)
	case 2:
		name := string(rune('a' + r.IntN(4)))
		_, has := m.base.sections[name]
		switch err := w.KeepSection(name); {
		case has && err == nil:
			m.next.sections[name] = m.base.sections[name]
		case has || !errors.Is(err, ErrNotFound):
			return fmt.Errorf("keep section: %v", err)
		}
	case 3, 4:
		name := string(rune('a' + r.IntN(4)))
		content := strings.Repeat(fmt.Sprint(r.IntN(4)), r.IntN(300))
		m.next.sections[name] = content
		return w.PutSection(name, []byte(content))
	case 5, 6, 7:
		return m.commit()
	case 8:
		m.session = nil
		return errors.Join(w.Abort(), w.Abort())
	default:
		if len(m.next.pages) == 0 {
			return nil
		}
		first := r.IntN(len(m.next.pages))
		n := 1 + r.IntN(min(6, len(m.next.pages)-first))
		var data []byte
		for i := range n {
			seed := r.Uint32N(1000)
			if r.IntN(4) == 0 {
				seed = 0
			}
			m.puts[first+i] = seed
			data = append(data, pageOf(seed)...)
		}
		return w.PutPages(uint64(first), data)
	}
	return nil
}

// size gives the memory n pages: what a session puts stays put, and the rest is the base's, whatever size came between.
func (m *model) size(n int) {
	m.next.pages = make([]uint32, n)
	copy(m.next.pages, m.base.pages)
}

func (m *model) idleStep() error {
	r := m.r
	switch r.IntN(15) {
	case 14:
		return m.damage()
	case 0:
		m.reopen()
	case 10:
		return m.purge()
	case 11:
		return m.purgeExpired()
	case 12:
		number := m.random()
		if number == 0 {
			return nil
		}
		if m.pins[number] = !m.pins[number]; m.pins[number] {
			return m.store.Pin(number, fmt.Sprint("step ", number))
		}
		return m.store.Unpin(number)
	case 13:
		if _, err := m.store.Sweep(context.Background()); err != nil {
			return err
		}
		return checkFreed(m.store, m.fs)
	case 1, 2:
		if number := m.random(); number != 0 {
			return m.check(number, r.IntN(2) == 0)
		}
	default:
		base := m.newest()
		if r.IntN(6) == 0 {
			base = m.random()
		}
		if base != 0 && m.states[base].sections == nil {
			return nil
		}
		w, err := m.store.Begin(base)
		if err != nil {
			return err
		}
		if _, err := m.store.Begin(base); !errors.Is(err, ErrBusy) {
			return fmt.Errorf("second session: %v", err)
		}
		m.session, m.base, m.next = w, m.states[base], m.states[base].clone()
		m.next.sections, m.puts = map[string]string{}, map[int]uint32{}
	}
	return nil
}

func (m *model) commit() error {
	w := m.session
	m.session = nil
	// Puts beyond a memory that shrank later are refused; the model does not track them.
	for _, r := range w.runs {
		if r.end() > uint64(len(m.next.pages)) {
			if _, err := w.Commit(context.Background()); !errors.Is(err, ErrRange) {
				return fmt.Errorf("put beyond the memory: %v", err)
			}
			return nil
		}
	}
	for page, seed := range m.puts {
		m.next.pages[page] = seed
	}
	fail := m.r.IntN(5) == 0
	if fail {
		m.fs.SetInjector(faultfs.FailAt(m.r.IntN(14), faultfs.ErrInjected))
	}
	info, err := w.Commit(context.Background())
	m.fs.SetInjector(nil)
	if err != nil {
		if !fail || !errors.Is(err, faultfs.ErrInjected) {
			return err
		}
		list, err := m.store.Generations()
		if err != nil || len(list) != len(m.states) {
			return fmt.Errorf("after a failed commit there are %d generations, want %d: %v", len(list), len(m.states), err)
		}
		return nil
	}
	if info.Number <= m.highest || info.Number != w.Number() {
		return fmt.Errorf("number %d after %d", info.Number, m.highest)
	}
	m.highest = info.Number
	m.states[info.Number] = m.next
	return m.check(info.Number, m.r.IntN(4) == 0)
}

func (m *model) newest() uint64 {
	var newest uint64
	for n := range m.states {
		newest = max(newest, n)
	}
	return newest
}

// purge removes some generations, or is denied to, and sometimes fails on its way.
func (m *model) purge() error {
	ctx := context.Background()
	var numbers []uint64
	denied := false
	for range 1 + m.r.IntN(3) {
		if n := m.random(); n != 0 {
			numbers = append(numbers, n)
			denied = denied || m.pins[n] || n == m.newest()
		}
	}
	fail := m.r.IntN(4) == 0
	if fail {
		m.fs.SetInjector(faultfs.FailAt(m.r.IntN(120), faultfs.ErrInjected))
	}
	_, err := m.store.Purge(ctx, numbers...)
	m.fs.SetInjector(nil)
	switch {
	case err == nil && denied:
		return fmt.Errorf("purge of %v was not denied", numbers)
	case errors.Is(err, ErrDenied):
		if !denied {
			return err
		}
		return nil
	case err != nil && (!fail || !errors.Is(err, faultfs.ErrInjected)):
		return fmt.Errorf("purge of %v: %w", numbers, err)
	case err != nil: // some of them may be gone
		files, err := m.store.files()
		if err != nil {
			return err
		}
		for _, n := range numbers {
			if !files.isLive(n) {
				delete(m.states, n)
			}
		}
		if _, err := m.store.Sweep(ctx); err != nil {
			return err
		}
	default:
		for _, n := range numbers {
			delete(m.states, n)
		}
	}
	return m.afterPurge()
}

func (m *model) purgeExpired() error {
	if m.r.IntN(4) > 0 {
		return nil
	}
	m.store.policy.MaxSnapshots = 1 + m.r.Uint64N(30)
	report, err := m.store.PurgeExpired(context.Background())
	m.store.policy.MaxSnapshots = 0
	if err != nil {
		return err
	}
	newest := m.newest()
	for _, n := range report.Purged {
		if _, ok := m.states[n]; !ok || m.pins[n] || n == newest {
			return fmt.Errorf("the policy took generation %d", n)
		}
		delete(m.states, n)
	}
	return m.afterPurge()
}

// damage flips a bit of some file, sees that nothing wrong is restored, has it repaired, and takes the damage back.
func (m *model) damage() error {
	ctx := context.Background()
	entries, err := m.fs.ReadDir("/store")
	if err != nil || len(entries) == 0 {
		return err
	}
	path := "/store/" + entries[m.r.IntN(len(entries))].Name
	good, err := m.fs.ReadFile(path)
	if err != nil {
		return err
	}
	bad := slices.Clone(good)
	bad[m.r.IntN(len(bad))] ^= 1 << m.r.IntN(8)
	if err := m.fs.SetFile(path, bad); err != nil {
		return err
	}
	defer func() {
		if err := m.fs.SetFile(path, good); err != nil {
			m.t.Error(err)
		}
	}()
	for range 3 {
		number := m.random()
		if number == 0 {
			break
		}
		g, err := m.store.OpenGeneration(ctx, number)
		if err == nil {
			err = checkState(g, m.states[number], m.r)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return fmt.Errorf("with %s damaged: %w", path, err)
		}
	}
	report, err := m.store.Repair(ctx)
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFound) {
		return nil // nothing is whole enough
	}
	if err != nil {
		return fmt.Errorf("repair with %s damaged: %w", path, err)
	}
	if number := report.Generation.Number; number != 0 {
		m.highest = number
		m.states[number] = m.states[report.Checked]
		if len(report.Damage.Sections) == 0 && report.Damage.Lost() == 0 && len(report.Damage.Files) == 0 {
			if err := m.check(number, true); err != nil {
				return fmt.Errorf("repaired with %s damaged: %w", path, err)
			}
		}
	}
	return nil
}

func (m *model) afterPurge() error {
	list, err := m.store.Generations()
	if err != nil {
		return err
	}
	if len(list) != len(m.states) {
		return fmt.Errorf("%d generations are listed, want %d", len(list), len(m.states))
	}
	if m.r.IntN(8) == 0 {
		if err := checkFreed(m.store, m.fs); err != nil {
			return err
		}
	}
	if number := m.random(); number != 0 {
		return m.check(number, true)
	}
	return nil
}

func (m *model) random() uint64 {
	numbers := make([]uint64, 0, len(m.states))
	for n := range m.states {
		numbers = append(numbers, n)
	}
	if len(numbers) == 0 {
		return 0
	}
	slices.Sort(numbers)
	return numbers[m.r.IntN(len(numbers))]
}

func (m *model) check(number uint64, verify bool) error {
	g, err := m.store.OpenGeneration(context.Background(), number)
	if err != nil {
		return err
	}
	defer g.Close()
	if verify {
		if err := g.Verify(context.Background()); err != nil {
			return err
		}
	}
	if err := checkState(g, m.states[number], m.r); err != nil {
		return fmt.Errorf("generation %d: %w", number, err)
	}
	return checkRefs(g.pages)
}

// checkRefs compares what a map counts with what it holds.
func checkRefs(m *pageMap) error {
	counts := map[uint64]uint64{}
	for page := range m.links {
		m.all(uint64(page), func(l backlink) bool { counts[l.generation()]++; return true })
	}
	for number, ref := range m.refs {
		if counts[number] != ref.links {
			return fmt.Errorf("%d backlinks to generation %d are counted, there are %d", ref.links, number, counts[number])
		}
	}
	if len(counts) != len(m.refs) {
		return fmt.Errorf("%d generations are counted, there are %d", len(m.refs), len(counts))
	}
	return nil
}

var _ durable.FS = (*faultfs.FS)(nil)
