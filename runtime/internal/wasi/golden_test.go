package wasi

import (
	"os"
	"reflect"
	"slices"
	"testing"
)

// TestStateGolden reads a state of each version, as a program of that time wrote it. The files are never made anew.
func TestStateGolden(t *testing.T) {
	for _, c := range []struct {
		file string
		want func(*State)
	}{
		{"../../../testdata/formats/wasi-v1/state.json", func(s *State) {
			s.Version, s.Cut = 1, 0
			for i := range s.Descriptors {
				s.Descriptors[i].Socket = nil
			}
			s.Descriptors = slices.DeleteFunc(s.Descriptors, func(d Descriptor) bool { return d.Kind == KindSocket })
			s.Descriptors[len(s.Descriptors)-1].FD = 1001
		}},
	} {
		b, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeState(b)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		want := fullState()
		c.want(want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v\nwant %+v", c.file, got, want)
		}
	}
}
