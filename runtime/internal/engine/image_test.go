package engine

import (
	"bytes"
	"encoding/hex"
	"math"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasm"
)

// exampleImage is that of FORMAT.md and of testdata/formats/image-v1.
func exampleImage() *Image {
	return &Image{
		Root: 2,
		Frames: []*instrument.Frame{
			{Func: 2, Offset: 0x123, InCall: true, Stack: []instrument.Value{{Type: wasm.I64, Lo: 5}}},
			{Func: 1, Offset: 0x110, InCall: true, Locals: []instrument.Value{{Type: wasm.I32, Lo: 7}, {Type: wasm.F64, Lo: math.Float64bits(2.5)}}},
		},
		Globals:      []Global{{0, instrument.Value{Type: wasm.V128, Lo: 3, Hi: 4}}, {5, instrument.Value{Type: wasm.FuncRef, Lo: NullRef}}},
		Tables:       []Table{{0, []int32{-1, 1, 0}}},
		DroppedElems: []uint32{4},
	}
}

func formatDoc(t *testing.T) string {
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFormatDocument holds the numbers of FORMAT.md and those of the code together.
func TestFormatDocument(t *testing.T) {
	doc := formatDoc(t)
	row := func(cells ...string) {
		t.Helper()
		if !regexp.MustCompile(`(?m)^\| ` + strings.Join(cells, ` \| `) + ` \|`).MatchString(doc) {
			t.Errorf("FORMAT.md has no row %v", cells)
		}
	}
	row("imageVersion", strconv.Itoa(imageVersion))
	row("maxImageItems", strconv.Itoa(maxImageItems))
	for _, typ := range []wasm.ValType{wasm.I32, wasm.I64, wasm.F32, wasm.F64, wasm.V128, wasm.FuncRef, wasm.ExternRef} {
		row(typ.String(), "0x"+strconv.FormatUint(uint64(typ), 16))
	}
	row(strconv.Itoa(imageVersion), "[^|]+") // the register
	// The least sizes, and the fields in their order.
	for name, want := range map[string]struct {
		size   int
		typ    reflect.Type
		counts []string
	}{
		"Image":  {7, reflect.TypeOf(Image{}), []string{"Version"}},
		"Frame":  {minFrameSize, reflect.TypeOf(instrument.Frame{}), nil},
		"Value":  {minValueSize, reflect.TypeOf(instrument.Value{}), nil},
		"Global": {minGlobalSize, reflect.TypeOf(Global{}), nil},
		"Table":  {minTableSize, reflect.TypeOf(Table{}), nil},
	} {
		_, section, _ := strings.Cut(doc, "\n## "+name+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		section, _, _ = strings.Cut(section, "\n| Type | Code")
		sum, fields := 0, want.counts
		for i := 0; i < want.typ.NumField(); i++ {
			fields = append(fields, want.typ.Field(i).Name)
		}
		var got []string
		for _, m := range regexp.MustCompile(`(?m)^\| (\w+) \| ([^|]+) \| (\d*) ?\|`).FindAllStringSubmatch(section, -1) {
			n, _ := strconv.Atoi(m[3])
			sum += n
			if !strings.HasPrefix(m[1], "N") {
				got = append(got, m[1])
			}
		}
		if sum != want.size || !reflect.DeepEqual(got, fields) {
			t.Errorf("%s: fields %v of at least %d bytes, the code has %v of %d", name, got, sum, fields, want.size)
		}
	}
}

// TestFormatExample holds that the example in FORMAT.md is the encoding.
func TestFormatExample(t *testing.T) {
	_, s, _ := strings.Cut(formatDoc(t), "```\n")
	s, _, _ = strings.Cut(s, "```")
	var b []byte
	for _, line := range strings.Split(strings.TrimSpace(s), "\n") {
		m := regexp.MustCompile(`^((?:[0-9a-f]{2} {1,2})+)`).FindString(line)
		part, err := hex.DecodeString(strings.ReplaceAll(m, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	if want := EncodeImage(exampleImage()); !bytes.Equal(b, want) {
		t.Errorf("the example is\n% x, the encoding\n% x", b, want)
	}
}

// TestGoldenImage reads the image that version 1 wrote. The file never changes.
func TestGoldenImage(t *testing.T) {
	b, err := os.ReadFile("testdata/formats/image-v1")
	if err != nil {
		t.Fatal(err)
	}
	im, err := DecodeImage(b)
	if err != nil || !reflect.DeepEqual(im, exampleImage()) {
		t.Errorf("got %+v, %v", im, err)
	}
}

// TestImageValues holds that values come back bit for bit, and that others are refused.
func TestImageValues(t *testing.T) {
	for _, v := range []instrument.Value{
		{Type: wasm.F32, Lo: 0x7fa00001}, {Type: wasm.F64, Lo: 0x7ff4000000000123}, {Type: wasm.I32, Lo: math.MaxUint32},
		{Type: wasm.I64, Lo: math.MaxUint64}, {Type: wasm.V128, Lo: math.MaxUint64, Hi: math.MaxUint64}, {Type: wasm.ExternRef, Lo: NullRef},
	} {
		im, err := DecodeImage(EncodeImage(&Image{Globals: []Global{{1, v}}}))
		if err != nil || im.Globals[0].Value != v {
			t.Errorf("%v: got %+v, %v", v, im, err)
		}
	}
	for want, b := range map[string]string{
		"ends early": "", "version 2": "02", "version 0": "00", "type 0x0": "01 00 00 01 00 00 00 00 00 00", "i32 is 0x100000000": "01 00 00 01 00 7f 80 80 80 80 10 00 00 00",
		"shortest form": "01 80 00 00 00 00 00 00", "too large": "01 80 80 80 80 10 00 00 00 00 00", "too many": "01 00 00 00 00 00 00 00",
		"frame flag is 2": "01 00 01 00 00 02 00 00 00 00 00 00 00", "table entry": "01 00 00 00 01 00 01 ff ff ff ff ff 01 00 00",
		"form": "01 ff ff ff ff ff ff ff ff ff ff 01 00 00 00",
	} {
		raw, err := hex.DecodeString(strings.ReplaceAll(b, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeImage(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", b, err, want)
		}
	}
}

// FuzzImage holds that what DecodeImage accepts is encoded to the same bytes, and that
// resuming it in a program does not crash.
func FuzzImage(f *testing.F) {
	f.Add(EncodeImage(exampleImage()))
	programs := []*Program{load(f, "frames", instrument.Options{EveryLoop: true}), load(f, "tables", instrument.Options{EveryLoop: true})}
	for _, p := range programs {
		for nth := 0; nth < 3; nth++ {
			f.Add(EncodeImage(stopped(f, p, false, PollCut, nth)))
		}
		f.Add(EncodeImage(stopped(f, p, true, PollGo, 0)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := DecodeImage(b)
		if err != nil {
			return
		}
		if again := EncodeImage(im); !bytes.Equal(again, b) {
			t.Fatalf("encoded again % x is % x", b, again)
		}
		for _, p := range programs {
			resumeAny(t, p, b)
		}
	})
}
