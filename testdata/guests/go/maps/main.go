// Maps fills, searches, deletes from and walks maps of several kinds; what a
// walk finds is sorted before it is printed. Garbage is made and collected.
//
// Usage: maps [ROUNDS]. One line a round.
package main

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/big"
	"os"
	"runtime"
	"slices"
	"strconv"
)

// random is splitmix64: the same sequence for every engine and every run.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

type point struct{ x, y int16 }

func main() {
	rounds := 25
	if len(os.Args) > 1 {
		rounds, _ = strconv.Atoi(os.Args[1])
	}
	r := random(4)
	kept := map[string][]byte{}
	product := big.NewInt(1)
	for round := range rounds {
		counts := map[uint64]int{}
		names := map[string]uint64{}
		grid := map[point]string{}
		for range 5000 {
			n := r.next()
			counts[n%3000]++
			names[strconv.FormatUint(n%20000, 36)] += n >> 32
			grid[point{int16(n % 64), int16(n >> 8 % 64)}] = "at"
			if n%5 == 0 {
				delete(counts, n>>8%3000)
			}
		}
		h := fnv.New64a()
		for _, k := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(h, "%d:%d ", k, counts[k])
		}
		for _, k := range slices.Sorted(maps.Keys(names)) {
			fmt.Fprintf(h, "%s:%d ", k, names[k])
		}
		for k := range kept {
			if k < "40" {
				delete(kept, k)
			}
		}
		for range 200 {
			n := r.next()
			kept[strconv.FormatUint(n%4096, 16)] = make([]byte, n>>54)
		}
		nBytes := 0
		for _, b := range kept {
			nBytes += len(b)
		}
		product.Mul(product, new(big.Int).SetUint64(r.next()|1))
		product.Mod(product, new(big.Int).Lsh(big.NewInt(1), 521))
		if round%8 == 7 {
			runtime.GC()
		}
		fmt.Printf("%d counts=%d names=%d grid=%d kept=%d,%d %016x %s\n", round, len(counts), len(names), len(grid), len(kept), nBytes,
			h.Sum64(), product.Text(62)[:8])
	}
}
