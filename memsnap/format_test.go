package memsnap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// field is a row of a table in FORMAT.md.
type field struct {
	offset, size int
	name         string
	text         string
}

// formatTables reads the tables with byte offsets, by the heading above each, and the register of versions.
func formatTables(t *testing.T) (map[string][]field, map[string]uint32) {
	t.Helper()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	tables, versions := map[string][]field{}, map[string]uint32{}
	heading := ""
	row := regexp.MustCompile(`^\| (\d+) \| (\d+) \| (\w+) \| ?(.*?) ?\|$`)
	for _, line := range strings.Split(string(doc), "\n") {
		if strings.HasPrefix(line, "#") {
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
			continue
		}
		if m := row.FindStringSubmatch(line); m != nil {
			offset, _ := strconv.Atoi(m[1])
			size, _ := strconv.Atoi(m[2])
			tables[heading] = append(tables[heading], field{offset, size, m[3], m[4]})
		} else if cells := strings.Split(line, " | "); heading == "Register of versions" && len(cells) == 4 {
			if v, err := strconv.ParseUint(cells[1], 10, 32); err == nil {
				versions[strings.TrimPrefix(cells[0], "| ")] = uint32(v) // the last one stays
			}
		}
	}
	return tables, versions
}

func TestFormatDocumentAgreesWithTheCodec(t *testing.T) {
	tables, versions := formatTables(t)
	for _, c := range []struct {
		heading string
		value   any
		size    int
	}{
		{"Header", header{}, headerSize},
		{"Footer", footer{}, footerSize},
		{"Table head", tableHead{}, tableHeadSize},
		{"Block entry", blockEntry{}, blockEntrySize},
		{"Archive head", archiveHead{}, archiveHeadSize},
		{"Archive reference", archiveRef{}, archiveRefSize},
		{"Section entry", sectionEntry{}, sectionEntrySize},
		{"Info", infoRecord{}, infoSize},
	} {
		var want []field
		offset := 0
		v := reflect.TypeOf(c.value)
		for i := range v.NumField() {
			size := int(v.Field(i).Type.Size())
			want = append(want, field{offset: offset, size: size, name: v.Field(i).Name})
			offset += size
		}
		got := tables[c.heading]
		delete(tables, c.heading)
		for i := range got {
			got[i].text = ""
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ndocument %v\ncodec    %v", c.heading, got, want)
		}
		if encoded := appendFixed(nil, c.value); offset != c.size || len(encoded) != c.size {
			t.Errorf("%s: fields take %d bytes, encoded %d, the constant says %d", c.heading, offset, len(encoded), c.size)
		}
	}
	for heading := range tables {
		t.Errorf("the document has a table %q that is not compared", heading)
	}
	want := map[string]uint32{
		"file": formatVersion, "block table": blockTableVersion, "archive part": archiveVersion,
		"section table": sectionTableVersion, "info": infoVersion, "pin": pinVersion,
	}
	if !reflect.DeepEqual(versions, want) {
		t.Errorf("register of versions %v, codec %v", versions, want)
	}
}

func TestFormatDocumentNamesTheConstants(t *testing.T) {
	tables, _ := formatTables(t)
	hex := func(b [8]byte) string { return "`" + strings.ToUpper(fmt.Sprintf("% x", b[:])) + "`" }
	find := func(heading, name string) field {
		for _, f := range tables[heading] {
			if f.name == name {
				return f
			}
		}
		t.Fatalf("no field %s of %s", name, heading)
		return field{}
	}
	for _, c := range []struct{ heading, name, text string }{
		{"Header", "Magic", hex(headerMagic)},
		{"Footer", "Magic", hex(footerMagic)},
		{"Header", "HeaderSize", strconv.Itoa(headerSize)},
		{"Header", "PageSize", "4,096"},
		{"Header", "PagesPerBlock", strconv.Itoa(pagesPerBlock)},
		{"Footer", "InfoSize", strconv.Itoa(infoSize)},
	} {
		if f := find(c.heading, c.name); !strings.HasPrefix(f.text, c.text) {
			t.Errorf("%s of %s is documented as %q, the codec has %q", c.name, c.heading, f.text, c.text)
		}
	}
	if at := find("Footer", "Root").offset; at != rootOffset {
		t.Errorf("the root hash is documented at %d, the codec has it at %d", at, rootOffset)
	}
	doc, _ := os.ReadFile("FORMAT.md")
	b := budgetFor(0)
	for _, text := range []string{
		fmt.Sprintf("as 1,%03d bytes and %d for each stored page", b.bytes-1000, budgetFor(1).bytes-b.bytes),
		fmt.Sprintf("131,072 pages and %d per", budgetFor(1).pages-b.pages),
	} {
		if !bytes.Contains(doc, []byte(text)) {
			t.Errorf("the document does not say %q", text)
		}
	}
	if b.pages != 131072 || maxPages != 1<<24 || maxSectionSize != 1<<30 || maxArchiveSize != 1<<30 ||
		maxNumber != 1<<40-1 || maxBacklinks != 7 {
		t.Error("a bound differs from the document")
	}
}

func TestBlockEntryByHandIsTheStructure(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		b := make([]byte, blockEntrySize)
		fillRandom(b, r.Uint64())
		var e, byHand blockEntry
		decodeFixed(b, &e)
		decodeBlockEntry(b, &byHand)
		if e != byHand || !bytes.Equal(appendBlockEntry(nil, &e), b) || !bytes.Equal(appendFixed(nil, e), b) {
			t.Fatalf("% x: %+v, by hand %+v", b, e, byHand)
		}
	}
}

// TestEveryFileIsAsDocumented reads a file by the offsets of the document alone.
func TestEveryFileIsAsDocumented(t *testing.T) {
	tables, _ := formatTables(t)
	at := func(b []byte, base int, heading, name string) uint64 {
		for _, f := range tables[heading] {
			if f.name == name {
				var v uint64
				for i := f.size - 1; i >= 0; i-- {
					v = v<<8 | uint64(b[base+f.offset+i])
				}
				return v
			}
		}
		t.Fatalf("no field %s of %s", name, heading)
		return 0
	}
	s := openStore(t, Options{})
	w := begin(t, s, 0)
	w.SetPages(50)
	_ = w.PutPages(3, pageOf(1))
	_ = w.PutPages(20, bytes.Repeat(pageOf(3), 20))
	_ = w.PutSection("meta", []byte("some text"))
	info := commit(t, w)
	b, err := os.ReadFile(s.dir + "/0000000000000001.gen")
	if err != nil {
		t.Fatal(err)
	}
	foot := len(b) - footerSize
	size := func(name string) int { return int(at(b, foot, "Footer", name)) }
	blockTable := headerSize + size("BlocksSize") + size("SectionsSize")
	archive := blockTable + size("BlockTableSize")
	sections := archive + size("ArchiveSize")
	report := sections + size("SectionTableSize")
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"size of the file", at(b, foot, "Footer", "FileSize"), uint64(len(b))},
		{"end of the info", uint64(report + size("InfoSize")), uint64(foot)},
		{"blocks", at(b, blockTable, "Table head", "Count"), 2},
		{"pages of the last block", at(b, blockTable+tableHeadSize+blockEntrySize, "Block entry", "Pages"), 5},
		{"pages", at(b, archive, "Archive head", "Pages"), 50},
		{"runs", at(b, archive, "Archive head", "Runs"), 2},
		{"sections", at(b, sections, "Table head", "Count"), 1},
		{"pages new", at(b, report, "Info", "PagesNew"), 21},
		{"bytes stored", at(b, report, "Info", "BytesStored"), info.BytesStored},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.what, c.got, c.want)
		}
	}
	runs := b[archive+archiveHeadSize : sections]
	if want := []byte{3, 0<<3 | 1, 0, 0, 16, 19<<3&0x7f | 0x80 | 1, 19 << 3 >> 7, 0, 0}; !bytes.Equal(runs, want) {
		t.Errorf("runs % x, want % x", runs, want)
	}
}
