package runtime

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"perdure/runtime/internal/guests"
)

// TestCheckGuests wants every guest that runs to be found fit.
func TestCheckGuests(t *testing.T) {
	for _, name := range guests.Names(t) {
		r, err := Check(guests.Path(t, name), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		kind := KindCommand
		if name == "ledger" {
			kind = KindReactor
		}
		if len(r.Refused) > 0 || r.Kind != kind || r.Suspendable == 0 || r.Suspendable > r.Functions ||
			r.HotBytes <= r.Bytes || r.HotBytes > 3*r.Bytes || r.Memory == nil || len(r.Imports) == 0 {
			t.Errorf("%s: got %+v", name, r)
		}
		if simd := slices.Contains(r.Features, featureSIMD); simd != (name == "simd") && simd != (name == "zig-generic") {
			t.Errorf("%s: SIMD is used: got %v", name, simd)
		}
	}
}

// TestCheckFeatures wants each feature beyond WebAssembly 1.0 to be seen where it is used, and nowhere else.
func TestCheckFeatures(t *testing.T) {
	const head = "0061736d01000000"
	for _, c := range []struct{ feature, module string }{
		{"", "0104016000000302010007 0a01065f737461727400000a040102000b"},
		{featureMultiValue, "0109026000027f7f60000003030200010 70a01065f737461727400010a0b020600410141020b02000b"},
		{featureMutable, "010401600000030201000606017f0141000b070e0201670300065f737461727400000a040102000b"},
		{featureSign, "010401600000030201000 70a01065f737461727400000a08010600410 1c01a0b"},
		{featureSaturating, "010401600000030201000 70a01065f737461727400000a0c010a00430000803ffc001a0b"},
		{featureSIMD, "010401600000030201000 70a01065f737461727400000a17011500fd0c000000000000000000000000000000001a0b"},
		{featureReferences, "010401600000030201000 70a01065f737461727400000a08010600d070d11a0b"},
		{featureBulk, "01040160000003020100050301000107 0a01065f737461727400000a0d010b00410041004101fc0b000b"},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(head+c.module, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		r := check(b, nil)
		want := []string{c.feature}
		if c.feature == "" {
			want = nil
		}
		if len(r.Refused) > 0 || !slices.Equal(r.Features, want) {
			t.Errorf("%q: got %q, refused %q", c.feature, r.Features, r.Refused)
		}
	}
}

// TestCheckBrokenPrograms cuts a program at many lengths and changes many of its bytes: it is found fit or
// refused with a reason, and never a panic.
func TestCheckBrokenPrograms(t *testing.T) {
	src := guests.Bytes(t, "spin")
	for n := 0; n < len(src); n += 97 {
		// A cut may fall between two sections, behind all code: then only debug information is gone.
		if r := check(src[:n], nil); len(r.Refused) == 0 && n < len(src)/2 {
			t.Errorf("cut at %d of %d: got no reason", n, len(src))
		}
		changed := slices.Clone(src)
		changed[n] ^= 0xff
		check(changed, nil)
	}
}

// TestCheckFiles wants files that are no programs to be told apart from those that are not there.
func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := Check(filepath.Join(dir, "nothing"), nil); !errors.Is(err, ErrNoProgram) {
		t.Errorf("a file that is not there: got %v, want ErrNoProgram", err)
	}
	r, err := Check(dir, nil)
	if err != nil || len(r.Refused) != 1 || r.Refused[0] != "is a directory" {
		t.Errorf("a directory: got %+v, %v", r, err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err = Check(empty, nil); err != nil || len(r.Refused) != 1 {
		t.Errorf("an empty file: got %+v, %v", r, err)
	}
}
