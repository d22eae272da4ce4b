package runtime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"perdure/memsnap"
)

// exportedProcess returns a process that was suspended, and an export of it.
func exportedProcess(t *testing.T) (*bench, []byte) {
	t.Helper()
	b, saved := suspended(t, "counter", 20*time.Millisecond)
	var out bytes.Buffer
	c, err := saved.Export(t.Context(), 0, "counter", &out)
	if err != nil || len(c.Bad)+len(c.Skipped) > 0 || c.Generation.Number == 0 {
		t.Fatalf("export: got %+v, %v", c, err)
	}
	return b, out.Bytes()
}

// importTo imports an export into a directory.
func importTo(t *testing.T, from io.Reader, dir string) (Imported, error) {
	return ImportProcess(t.Context(), from, func(string) (string, error) { return dir, nil }, memsnap.Options{})
}

// finish runs a process to its end, and returns what it has printed by then.
func (b *bench) finish() *outcome {
	b.t.Helper()
	return b.outcome(b.life(b.t.Context(), nil))
}

// TestCopiesGoOn wants a process that was exported and imported, and one that was forked, to end as the
// original does, all of them from the same moment.
func TestCopiesGoOn(t *testing.T) {
	b, export := exportedProcess(t)
	saved, err := OpenSaved(b.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	printed, err := os.ReadFile(b.stdout.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := newBench(t, named(t, "counter"), named(t, "counter").Long).finish()
	dirs := map[string]string{"original": b.opt.Dir, "import": filepath.Join(t.TempDir(), "i"), "fork": filepath.Join(t.TempDir(), "f")}
	i, err := importTo(t, iotest.OneByteReader(bytes.NewReader(export)), dirs["import"])
	if err != nil || i.Name != "counter" || i.Generation.Number != 1 {
		t.Fatalf("import: got %+v, %v", i, err)
	}
	if c, err := saved.Fork(t.Context(), 0, dirs["fork"], memsnap.Options{}); err != nil || c.Generation.Number != verify(t, b.opt.Dir) {
		t.Fatalf("fork: got %+v, %v", c, err)
	}
	for name, dir := range dirs {
		b.opt.Dir = dir
		if err := errors.Join(os.WriteFile(b.stdout.Name(), printed, 0o600), seekEnd(b.stdout)); err != nil {
			t.Fatal(err)
		}
		p := b.open()
		if _, ok := p.Restored(); !ok {
			t.Errorf("%s: starts anew", name)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { b.finish().compare(t, want) })
	}
}

func seekEnd(f *os.File) error {
	_, err := f.Seek(0, io.SeekEnd)
	return err
}

// TestImportRefusesDamage wants an export with any byte changed or cut off, or one too many, to be refused, and
// nothing to be left of it.
func TestImportRefusesDamage(t *testing.T) {
	_, export := exportedProcess(t)
	parent := t.TempDir()
	dir := filepath.Join(parent, "new")
	refused := func(what string, at int, bad []byte) {
		t.Helper()
		_, err := importTo(t, bytes.NewReader(bad), dir)
		if !errors.Is(err, ErrBadExport) && !errors.Is(err, memsnap.ErrCorrupt) && !errors.Is(err, memsnap.ErrVersion) &&
			!errors.Is(err, memsnap.ErrKey) {
			t.Fatalf("%s at %d: got %v", what, at, err)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
			t.Fatalf("%s at %d: there is %v, %v", what, at, left, err)
		}
	}
	step := func(at int) int { // close to each other where the structures are
		if at < 200 || at > len(export)-2000 {
			return 29
		}
		return 4001
	}
	for at := 0; at < len(export); at += step(at) {
		bad := slices.Clone(export)
		bad[at] ^= 1 << (at % 8)
		refused("flipped", at, bad)
		refused("cut off", at, export[:at])
	}
	refused("longer", len(export), append(slices.Clone(export), 0))
	failed := errors.New("the cable was pulled")
	if _, err := importTo(t, io.MultiReader(bytes.NewReader(export[:len(export)/2]), iotest.ErrReader(failed)), dir); !errors.Is(err, failed) {
		t.Errorf("a reader that fails: got %v", err)
	}
	if _, err := importTo(t, bytes.NewReader(export), dir); err != nil {
		t.Error(err)
	}
}

// TestImportBelievesNoHead wants sizes and sums in the head that do not fit the rest to be refused.
func TestImportBelievesNoHead(t *testing.T) {
	_, export := exportedProcess(t)
	h, name, err := readExportHead(bytes.NewReader(export))
	if err != nil {
		t.Fatal(err)
	}
	rest := export[exportSize+len(name):]
	for what, change := range map[string]func(*exportHead){
		"another program": func(h *exportHead) { h.Program[0]++ },
		"a larger one":    func(h *exportHead) { h.ProgramSize++ },
		"a huge one":      func(h *exportHead) { h.ProgramSize = maxProgram },
		"none":            func(h *exportHead) { h.ProgramSize, h.Program = 0, [32]byte{} },
		"too large":       func(h *exportHead) { h.ProgramSize = maxProgram + 1 },
		"no name":         func(h *exportHead) { h.NameSize = 0 },
		"reserved bytes":  func(h *exportHead) { h.Reserved[1] = 1 },
	} {
		bad := h
		change(&bad)
		var b bytes.Buffer
		if err := binary.Write(&b, binary.LittleEndian, bad); err != nil {
			t.Fatal(err)
		}
		head := append(b.Bytes(), name[:bad.NameSize]...)
		binary.LittleEndian.PutUint32(head[exportSize-4:], exportCRC(head))
		dir := filepath.Join(t.TempDir(), "new")
		if _, err := importTo(t, io.MultiReader(bytes.NewReader(head), bytes.NewReader(rest)), dir); !errors.Is(err, ErrBadExport) && !errors.Is(err, memsnap.ErrCorrupt) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	export[8]++ // the version comes before the checksum: another one may have it elsewhere
	if _, err := importTo(t, bytes.NewReader(export), filepath.Join(t.TempDir(), "new")); !errors.Is(err, memsnap.ErrVersion) {
		t.Errorf("a version that is not known: got %v", err)
	}
}

func FuzzExportHead(f *testing.F) {
	head, err := encodeExportHead("counter", []byte("program"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(head)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, name, err := readExportHead(bytes.NewReader(b))
		if err != nil {
			return
		}
		if h.ProgramSize > maxProgram || name == "" || len(name) != int(h.NameSize) {
			t.Errorf("accepted %+v, %q", h, name)
		}
	})
}

// TestExportFormat holds FORMAT.md and the structure together.
func TestExportFormat(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "\n## Export\n")
	type field struct {
		offset, size int
		name         string
	}
	var got, want []field
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \| (\d+) \| (\w+) \|`).FindAllStringSubmatch(table, -1) {
		offset, _ := strconv.Atoi(m[1])
		size, _ := strconv.Atoi(m[2])
		got = append(got, field{offset, size, m[3]})
	}
	offset := 0
	v := reflect.TypeFor[exportHead]()
	for i := range v.NumField() {
		size := int(v.Field(i).Type.Size())
		want = append(want, field{offset, size, v.Field(i).Name})
		offset += size
	}
	if !slices.Equal(got, want) || offset != exportSize {
		t.Errorf("the document has\n%v\nthe structure\n%v, %d bytes", got, want, offset)
	}
}

// TestGoldenExport wants an export that the first released version has written to go on. It is "counter.wasm 5 300", suspended
// when it had printed 55, and is never made anew.
func TestGoldenExport(t *testing.T) {
	golden, err := os.Open("../testdata/formats/export-v1/counter.export")
	if err != nil {
		t.Fatal(err)
	}
	defer golden.Close()
	b := newBench(t, named(t, "counter"), nil)
	if i, err := importTo(t, golden, b.opt.Dir); err != nil || i.Name != "counter" {
		t.Fatalf("got %+v, %v", i, err)
	}
	b.opt.Program = "" // it brings its own
	var want strings.Builder
	for n := 56; n <= 300; n++ {
		want.WriteString(strconv.Itoa(n) + "\n")
	}
	if got := b.finish(); got.stdout != want.String() || got.status != 0 {
		t.Errorf("status %d, output: %s", got.status, firstDifference(got.stdout, want.String()))
	}
}
