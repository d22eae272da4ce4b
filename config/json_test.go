package config

import (
	"encoding/json"
	"reflect"
	"testing"
)

// TestProcessIsTheSameBehindJSON wants every setting of a process to survive JSON, in which a daemon hands them to its workers:
// the default ones, and others that all differ from those.
func TestProcessIsTheSameBehindJSON(t *testing.T) {
	other := Process{OnChange: Replace, Settings: Default().Settings}
	eachField(reflect.ValueOf(&other).Elem(), func(f field) { alter(t, f) })
	for _, want := range []Process{Default().Process("any"), other} {
		var got Process
		behindJSON(t, want, &got)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		var reloadable ReloadableProcess
		behindJSON(t, want.Reloadable(), &reloadable)
		if reloadable != want.Reloadable() {
			t.Errorf("got %+v\nwant %+v", reloadable, want.Reloadable())
		}
	}
}

func behindJSON(t *testing.T, from, to any) {
	t.Helper()
	b, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, to); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
}

// TestWithIsTheReverseOfReloadable wants every setting that counts at once to be taken over, and no other.
func TestWithIsTheReverseOfReloadable(t *testing.T) {
	old := Default().Process("any")
	eachField(reflect.ValueOf(&old).Elem(), func(f field) {
		changed := old.clone()
		eachField(reflect.ValueOf(&changed).Elem(), func(g field) {
			if g.value.Type() == f.value.Type() && g.name == f.name {
				alter(t, g)
			}
		})
		want := old
		if f.apply == "now" {
			want = changed
		}
		if got := old.With(changed.Reloadable()); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v\nwant %+v", f.name, got, want)
		}
	})
}

func TestReloadableValidate(t *testing.T) {
	good := Default().Process("any").Reloadable()
	if err := good.Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	bad := good
	bad.Redundancy, bad.LogSize = -1, 0
	if got := bad.Validate(); got == nil || !reflect.DeepEqual(got.Error(), "memsnap.redundancy: -1 is out of range; write 1 to 1000000, or 0 to store no page twice\nconsole.log_size: 0 is out of range; write 4KiB to 1TiB") {
		t.Errorf("got %v", got)
	}
}
