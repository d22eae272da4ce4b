package runtime

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// FORMAT.md has each section, field, phase and version.
func TestFormat(t *testing.T) {
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, s := range []string{sectionProcess, sectionStack, sectionWASI} {
		want[s] = true
	}
	for _, p := range []phase{phaseStart, phaseMain, phaseInit, phaseIdle, phaseCall, phaseEnded} {
		want[string(p)] = true
	}
	typ := reflect.TypeFor[processState]()
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		want[name] = true
	}
	versions := 0
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, fmt.Sprintf("| %d |", versions+1)) {
			versions++
		}
	}
	for name := range want {
		if !strings.Contains(string(b), "| `"+name+"`") {
			t.Errorf("%s is not in FORMAT.md", name)
		}
	}
	if versions != processVersion {
		t.Errorf("FORMAT.md knows %d versions, the code %d", versions, processVersion)
	}
}
