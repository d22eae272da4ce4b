package memsnap

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

func fillRandom(p []byte, seed uint64) {
	c := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = c.Read(p)
}

// fillCompressible makes bytes that compress about 2:1, as data with repetitions does.
func fillCompressible(p []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	words := make([][]byte, 400)
	for i := range words {
		words[i] = make([]byte, 2+r.IntN(9))
		fillRandom(words[i], r.Uint64())
	}
	for i := 0; i < len(p); {
		i += copy(p[i:], words[r.IntN(len(words))])
	}
}

func openStore(tb testing.TB, o Options) *Store {
	tb.Helper()
	s, err := Open(filepath.Join(tb.TempDir(), "store"), o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func begin(tb testing.TB, s *Store, base uint64) *Session {
	tb.Helper()
	w, err := s.Begin(base)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

func commit(tb testing.TB, w *Session) Info {
	tb.Helper()
	info, err := w.Commit(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return info
}
