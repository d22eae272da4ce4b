package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// FuzzDecode wants every text, as a file and as a side file, to be taken or refused in the documented way, and what is
// taken to be valid.
func FuzzDecode(f *testing.F) {
	sample, err := os.ReadFile("perdure.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(sample))
	f.Add(strings.ReplaceAll(string(sample), "\n#", "\n"))
	f.Add("process.a = { args = [\"x\"], env.A = \"\", listen = [\"tcp://:80\", 1, [], {}], limits.memory = 1.5 }")
	f.Add("[process.\"a b\".snapshot]\nevery = 1979-05-27T07:32:00Z\n[[process.c]]\nx = 1")
	f.Add("[daemon]\nstate_dir = \"/a\"\nmodules_dir = '/a'\nsettle = \"\"\"1d\"\"\"\n\"log_level\" = \"\\u0000\"")
	f.Add("a.b.c.d.e.f.g.h.i.j = [[[[[[[[[[{}]]]]]]]]]]")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > maxSideFile {
			return // refused before it is looked at
		}
		c, err := Decode(strings.NewReader(text))
		checkDecoded(t, c, err)
		c, err = Default().WithSide("web", "web.toml", strings.NewReader(text))
		checkDecoded(t, c, err)
	})
}

func checkDecoded(t *testing.T, c Config, err error) {
	if err == nil {
		if err := c.Validate(); err != nil {
			t.Errorf("decoded, but not valid: %v", err)
		}
		if d := Diff(c, c); d != nil {
			t.Errorf("differs from itself: %v", d)
		}
		return
	}
	var syntax *SyntaxError
	if errors.As(err, &syntax) {
		if syntax.Line < 1 || syntax.Column < 1 || syntax.Problem == "" || err.Error() == "" {
			t.Errorf("a syntax error without a place: %#v", syntax)
		}
		return
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("an error of another kind: %T %v", err, err)
	}
	for _, e := range joined.Unwrap() {
		var k *KeyError
		if !errors.As(e, &k) || k.Key == "" || k.Problem == "" {
			t.Errorf("a problem of another kind: %#v", e)
		}
	}
}

// FuzzTexts wants what a text type gives back to be what it has taken.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{"1d12h", "1.5GiB", "0.000000001K", "12.5%", "/a:/b:ro", "tcp://[::1]:80", "unix:///x", ":9464"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		again(t, s, ParseDuration)
		again(t, s, ParseSize)
		again(t, s, ParsePercent)
		again(t, s, ParseSpace)
		again(t, s, ParseDir)
		again(t, s, ParseListen)
		again(t, s, ParseAddress)
	})
}

func again[T comparable](t *testing.T, s string, parse func(string) (T, error)) {
	v, err := parse(s)
	if err != nil {
		return
	}
	text := fmt.Sprint(v)
	if w, err := parse(text); err != nil || w != v {
		t.Errorf("%T: %q is %v, written as %q, which is %v, %v", v, s, v, text, w, err)
	}
}
