package folder

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// stormSeed returns the seed of a random test, and says how to have it again.
func stormSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	if s := os.Getenv("PERDURE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("PERDURE_SEED: %v", err)
		}
	}
	t.Logf("PERDURE_SEED=%d", seed)
	return seed
}

// TestStorm changes 1,000 files at random, and wants in the end what the folder shows. On the
// way no set may have a program that never was whole, or lack one that was only ever replaced.
func TestStorm(t *testing.T) {
	const names, steps = 1000, 6000
	random := rand.New(rand.NewPCG(stormSeed(t), 0))
	dir := t.TempDir()
	path := func(i int, suffix string) string { return filepath.Join(dir, fmt.Sprintf("p%d%s", i, suffix)) }
	content := func(step int) string { return fmt.Sprintf("%d %0*d", step, random.IntN(5000), step) }
	replace := func(i int, content string) {
		write(t, path(i, ".new"), content)
		must(t, os.Rename(path(i, ".new"), path(i, ".wasm")))
	}
	// The first names are only ever replaced by a rename; the whole contents that each had.
	const kept = 50
	whole := make([]map[string]bool, kept)
	for i := range whole {
		text := content(0)
		whole[i] = map[string]bool{sum(text): true}
		replace(i, text)
	}
	w := start(t, Options{Dir: dir, Rescan: 50 * time.Millisecond})
	sets := 0
	check := func(set Set) {
		sets++
		for i := range whole {
			name := fmt.Sprint("p", i)
			if p := set[name]; !whole[i][p.SHA256] || p.Problem != nil {
				t.Fatalf("set %d: %s is %+v", sets, name, p)
			}
		}
	}
	check(first(t, w))
	for step := range steps {
		select {
		case set := <-w.Changes():
			check(set)
		default:
		}
		if random.IntN(10) == 0 {
			i := random.IntN(kept)
			text := content(step)
			whole[i][sum(text)] = true
			replace(i, text)
			continue
		}
		i, j := kept+random.IntN(names-kept), kept+random.IntN(names-kept)
		var err error
		switch random.IntN(8) {
		case 0, 1:
			write(t, path(i, ".wasm"), content(step))
		case 2:
			replace(i, content(step))
		case 3:
			err = os.Rename(path(i, ".wasm"), path(j, ".wasm"))
		case 4:
			err = os.Remove(path(i, ".wasm"))
		case 5:
			write(t, path(i, ".toml"), content(step))
		case 6:
			err = os.Remove(path(i, ".toml"))
		case 7:
			err = os.Chmod(path(i, ".wasm"), 0o400|os.FileMode(random.IntN(2))<<7)
		}
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	want := shown(t, dir)
	await(t, w, "is what the folder shows", func(set Set) bool {
		check(set)
		if len(set) != len(want) {
			return false
		}
		for name, p := range want {
			if got := set[name]; !same(&got, &p) || got.Name != name {
				return false
			}
		}
		return true
	})
	t.Logf("%d programs, %d sets", len(want), sets)
}

// shown reads a folder of regular files, in the simplest way.
func shown(t *testing.T, dir string) Set {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.wasm"))
	must(t, err)
	set := Set{}
	for _, path := range paths {
		name := filepath.Base(path[:len(path)-len(".wasm")])
		info, err := os.Stat(path)
		must(t, err)
		module, err := os.ReadFile(path)
		must(t, err)
		side, err := os.ReadFile(filepath.Join(dir, name+".toml"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		set[name] = Program{Name: name, Path: path, SHA256: sum(string(module)), Size: info.Size(), ModTime: info.ModTime(), Side: side}
	}
	return set
}
