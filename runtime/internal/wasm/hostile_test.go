package wasm

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// try decodes, validates and, if that succeeds, encodes b. Whatever b is, the outcome is a documented error
// or a module that survives being encoded.
func try(t *testing.T, what string, b []byte) error {
	t.Helper()
	m, err := decodeAndValidate(b)
	if err != nil {
		if !typedError(err) {
			t.Errorf("%s: undocumented error %T: %v", what, err, err)
		}
		return err
	}
	again, err := decodeAndValidate(m.Encode())
	if err != nil {
		t.Errorf("%s: decode what was encoded: %v", what, err)
	} else if !equalModules(m, again) {
		t.Errorf("%s: encoded and decoded again, the module is another", what)
	}
	return nil
}

// realModules returns modules from several compilers, by name.
func realModules(t *testing.T) map[string][]byte {
	t.Helper()
	dir, err := specDir()
	if err != nil {
		t.Fatalf("find the engine's test data: %v", err)
	}
	root := filepath.Join(dir, "../../..")
	modules := map[string][]byte{}
	for _, file := range []string{
		"imports/wasi_snapshot_preview1/testdata/cargo-wasi/wasi.wasm",
		"imports/wasi_snapshot_preview1/testdata/tinygo/wasi.wasm",
		"imports/wasi_snapshot_preview1/testdata/zig-cc/wasi.wasm",
		"internal/integration_test/bench/testdata/case.wasm",
		"internal/integration_test/spectest/v2/testdata/br_table.0.wasm",
		"internal/integration_test/spectest/v2/testdata/bulk.0.wasm",
		"internal/integration_test/spectest/v2/testdata/custom.0.wasm",
		"internal/integration_test/spectest/v2/testdata/elem.0.wasm",
		"internal/integration_test/spectest/v2/testdata/imports.1.wasm",
		"internal/integration_test/spectest/v2/testdata/simd_lane.0.wasm",
		"internal/integration_test/spectest/v2/testdata/table_init.2.wasm",
	} {
		b, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		modules[file] = b
	}
	return modules
}

func TestRealModulesAreValid(t *testing.T) {
	for name, b := range realModules(t) {
		if err := try(t, name, b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTruncatedModulesDoNotPanic(t *testing.T) {
	for name, b := range realModules(t) {
		stride := max(1, len(b)*len(b)/(12<<20)) // keeps the work for each module near 10 MiB
		for n := 0; n < len(b); n += stride {
			try(t, fmt.Sprintf("the first %d bytes of %s", n, name), b[:n])
		}
	}
}

func TestDamagedModulesDoNotPanic(t *testing.T) {
	for name, b := range realModules(t) {
		stride := max(1, len(b)*len(b)/(3<<20))
		for at := 8; at < len(b); at += stride {
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				b[at] ^= flip
				try(t, fmt.Sprintf("%s with byte %d xor %#x", name, at, flip), b)
				b[at] ^= flip
			}
		}
	}
}

// section returns a module of one section.
func section(id byte, content ...byte) []byte {
	b := append([]byte("\x00asm\x01\x00\x00\x00"), id)
	b = AppendUleb(b, uint64(len(content)))
	return append(b, content...)
}

func TestHugeCountsAreRefusedWithoutAllocating(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	body := func(code ...byte) []byte {
		b := section(byte(SectionType), 1, funcTypeForm, 0, 0)
		b = append(b, section(byte(SectionFunction), 1, 0)[8:]...)
		content := append([]byte{1, byte(len(code))}, code...)
		return append(b, section(byte(SectionCode), content...)[8:]...)
	}
	cases := map[string][]byte{
		"a custom section name":    section(byte(SectionCustom), huge...),
		"the parameters":           section(byte(SectionType), append([]byte{1, funcTypeForm}, huge...)...),
		"the items of a segment":   section(byte(SectionElement), append([]byte{1, 1, 0}, huge...)...),
		"the expressions of one":   section(byte(SectionElement), append([]byte{1, 5, 0x70}, huge...)...),
		"the bytes of a segment":   section(byte(SectionData), append([]byte{1, 1}, huge...)...),
		"the size of a function":   section(byte(SectionCode), append([]byte{1}, huge...)...),
		"the locals of a function": body(append(append([]byte{1}, huge...), 0x7f, 0x0b)...),
		"the runs of locals":       body(append(huge, 0x0b)...),
		"the labels of br_table":   body(append(append([]byte{0, 0x41, 0, 0x0e}, huge...), 0x0b)...),
		"the types of select":      body(append(append([]byte{0, 0x1c}, huge...), 0x0b)...),
	}
	for id := SectionType; id <= SectionData; id++ {
		if id != SectionStart {
			cases["the "+id.String()+" section"] = section(byte(id), huge...)
		}
	}
	for what, b := range cases {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := try(t, what, b)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("accepted a module with 2^32-1 for %s", what)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%s: allocated %d bytes for a module of %d", what, n, len(b))
		}
	}
}

// A call can push a thousand values with two bytes, and blocks can be nested as deep as the code is long.
func TestStacksAreBounded(t *testing.T) {
	results := make([]ValType, MaxParams)
	for i := range results {
		results[i] = I64
	}
	call := Instr{Op: OpCall}
	end := []byte{byte(OpEnd)}
	repeat := func(code []byte, n int) (b []byte) {
		for range n {
			b = append(b, code...)
		}
		return b
	}
	module := func(body []byte) []byte {
		m := Module{
			Types:   []FuncType{{Results: results}, {}},
			Imports: []Import{{Kind: ExternFunc}},
			Funcs:   []uint32{1},
			Codes:   []Code{{Body: body}},
		}
		return m.Encode()
	}
	err := try(t, "65 calls with 1000 results", module(append(repeat(call.Append(nil), 66), end...)))
	if u, ok := err.(*UnsupportedError); !ok || u.Feature != featureManyStackEntries {
		t.Errorf("66 calls with 1000 results each: %v", err)
	}
	for _, c := range []struct {
		depth int
		want  string
	}{{MaxBlockDepth, ""}, {MaxBlockDepth + 1, featureDeepBlocks}} {
		nested := append(repeat([]byte{byte(OpBlock), blockTypeEmpty}, c.depth), repeat(end, c.depth+1)...)
		err := try(t, "nested blocks", module(nested))
		if u, ok := err.(*UnsupportedError); (err != nil) != (c.want != "") || ok && u.Feature != c.want {
			t.Errorf("%d nested blocks: %v, want %q", c.depth, err, c.want)
		}
	}
	results = append(results, I64)
	err = try(t, "1001 results", module(end))
	if u, ok := err.(*UnsupportedError); !ok || u.Feature != featureManyParams {
		t.Errorf("a function with %d results: %v", len(results), err)
	}
}

func TestLongSectionsAreBounded(t *testing.T) {
	content := AppendUleb(nil, MaxItems+1)
	content = append(content, make([]byte, MaxItems+1)...) // functions of type 0
	err := try(t, "a million functions", section(byte(SectionFunction), content...))
	if u, ok := err.(*UnsupportedError); !ok || u.Feature != featureManyItems {
		t.Errorf("a section with %d entries: %v", MaxItems+1, err)
	}
}
