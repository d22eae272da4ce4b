// Jsonwork marshals, unmarshals and rewrites a tree of JSON values and runs a
// regular expression over the text (reflection, interfaces).
//
// Usage: jsonwork [ROUNDS]. One line a round.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"regexp"
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

type account struct {
	ID       uint64            `json:"id"`
	Name     string            `json:"name"`
	Balance  float64           `json:"balance"`
	Tags     []string          `json:"tags,omitempty"`
	Limits   map[string]int    `json:"limits"`
	Children []*account        `json:"children,omitempty"`
	Notes    map[string]string `json:"notes,omitempty"`
}

func grow(r *random, depth int) *account {
	n := r.next()
	a := &account{ID: n >> 12, Name: "account " + strconv.FormatUint(n%100000, 36), Balance: float64(int64(n)>>20) / 128,
		Limits: map[string]int{"day": int(n % 1000), "month": int(n % 30000)}}
	for i := range n % 4 {
		a.Tags = append(a.Tags, fmt.Sprintf("tag-%d \"%x\"\t<é>", i, n>>(8*i)&255))
	}
	if depth > 0 {
		for range 2 + n>>62 {
			a.Children = append(a.Children, grow(r, depth-1))
		}
	}
	return a
}

var numbers = regexp.MustCompile(`"balance":(-?[0-9]+)(\.[0-9]+)?`)

func main() {
	rounds := 35
	if len(os.Args) > 1 {
		rounds, _ = strconv.Atoi(os.Args[1])
	}
	r := random(3)
	for round := range rounds {
		h := fnv.New64a()
		text, err := json.Marshal(grow(&r, 3+round%2))
		if err != nil {
			fail(err)
		}
		h.Write(text)

		var loose map[string]any
		if err := json.Unmarshal(text, &loose); err != nil {
			fail(err)
		}
		again, err := json.MarshalIndent(loose, "", " ")
		if err != nil {
			fail(err)
		}
		h.Write(again)

		var strict account
		d := json.NewDecoder(bytes.NewReader(again))
		d.DisallowUnknownFields()
		if err := d.Decode(&strict); err != nil {
			fail(err)
		}
		fmt.Fprintf(h, "%+v", strict.Limits)
		found := numbers.FindAllSubmatchIndex(text, -1)
		fmt.Printf("%d %d bytes, %d balances, %016x\n", round, len(text), len(found), h.Sum64())
	}
}

func fail(err error) {
	fmt.Println(err)
	os.Exit(1)
}
