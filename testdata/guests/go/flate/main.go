// Flate compresses and decompresses generated text and hashes it.
//
// Usage: flate [ROUNDS]. One line a round.
package main

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"os"
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

var words = []string{"page", "cut", "process", "journal", "the ", "of ", "and ", "\n", "backlink", "0123456789"}

func main() {
	rounds := 25
	if len(os.Args) > 1 {
		rounds, _ = strconv.Atoi(os.Args[1])
	}
	r := random(2)
	for round := range rounds {
		var text []byte
		for len(text) < 60000 {
			n := r.next()
			text = append(text, words[n%uint64(len(words))]...)
			if n>>60 == 0 {
				text = strconv.AppendUint(text, n, 16)
			}
		}
		var packed bytes.Buffer
		w, err := flate.NewWriter(&packed, 1+round%9)
		if err != nil {
			fail(err)
		}
		if _, err := w.Write(text); err != nil {
			fail(err)
		}
		if err := w.Close(); err != nil {
			fail(err)
		}
		nFlate := packed.Len()
		back, err := io.ReadAll(flate.NewReader(&packed))
		if err != nil {
			fail(err)
		}
		if !bytes.Equal(back, text) {
			fail(fmt.Errorf("round %d: other bytes came back", round))
		}

		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		if _, err := z.Write(back); err != nil {
			fail(err)
		}
		if err := z.Close(); err != nil {
			fail(err)
		}
		fmt.Printf("%d %d flate=%d gzip=%d crc=%08x sha256=%x\n", round, len(text), nFlate, zipped.Len(),
			crc32.ChecksumIEEE(zipped.Bytes()), sha256.Sum256(zipped.Bytes()))
	}
}

func fail(err error) {
	fmt.Println(err)
	os.Exit(1)
}
