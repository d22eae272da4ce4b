// Sort sorts numbers, strings and structures with callbacks, round after round.
//
// Usage: sort [ROUNDS]. One line a round.
package main

import (
	"cmp"
	"container/heap"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
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

type person struct {
	name string
	age  int
	id   uint64
}

type queue []person

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].id < q[j].id }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(person)) }
func (q *queue) Pop() any {
	old := *q
	p := old[len(old)-1]
	*q = old[:len(old)-1]
	return p
}

func main() {
	rounds := 30
	if len(os.Args) > 1 {
		rounds, _ = strconv.Atoi(os.Args[1])
	}
	r := random(1)
	for round := range rounds {
		h := fnv.New64a()
		numbers := make([]uint64, 10000)
		for i := range numbers {
			numbers[i] = r.next()
		}
		slices.Sort(numbers)
		fmt.Fprintln(h, numbers[:100])

		people := make([]person, 3000)
		for i := range people {
			n := r.next()
			people[i] = person{name: strconv.FormatUint(n%1000, 36), age: int(n >> 57), id: n}
		}
		slices.SortFunc(people, func(a, b person) int {
			return cmp.Or(cmp.Compare(a.age, b.age), strings.Compare(a.name, b.name), cmp.Compare(a.id, b.id))
		})
		fmt.Fprintln(h, people[:100])
		sort.SliceStable(people, func(i, j int) bool { return people[i].name < people[j].name })
		fmt.Fprintln(h, people[:100])

		var q queue
		for _, p := range people[:1000] {
			heap.Push(&q, p)
		}
		var youngest int
		for q.Len() > 0 {
			youngest = youngest*31 + heap.Pop(&q).(person).age
		}
		fmt.Printf("%d %016x %d\n", round, h.Sum64(), youngest)
	}
}
