package wasm

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// goGuest builds a Go program for WASI: a module of some megabytes.
var goGuest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "wasm-bench")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left over in the temporary directory does no harm
	source := "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n"
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		return nil, err
	}
	out := filepath.Join(dir, "main.wasm")
	cmd := exec.Command("go", "build", "-o", out, filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if _, err := cmd.Output(); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

func guest(b *testing.B) []byte {
	b.Helper()
	g, err := goGuest()
	if err != nil {
		b.Fatalf("build a guest: %v", err)
	}
	b.SetBytes(int64(len(g)))
	b.ReportAllocs()
	b.ResetTimer()
	return g
}

func BenchmarkDecode(b *testing.B) {
	g := guest(b)
	for b.Loop() {
		if _, err := Decode(g); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	g := guest(b)
	m, err := Decode(g)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := m.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	g := guest(b)
	m, err := Decode(g)
	if err != nil {
		b.Fatal(err)
	}
	r := NewReader(nil)
	var in Instr
	n := 0
	for b.Loop() {
		n = 0
		for i := range m.Codes {
			r.Reset(m.Codes[i].Body)
			for r.Next(&in) == nil {
				n++
			}
		}
	}
	b.ReportMetric(float64(n), "instructions")
}

func BenchmarkEncode(b *testing.B) {
	g := guest(b)
	m, err := Decode(g)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		m.Encode()
	}
}
