package keeper

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSecret wants a process to have one secret, and another process another one.
func TestSecret(t *testing.T) {
	dir := t.TempDir()
	first, made, err := Secret(dir)
	if err != nil || !made || len(first) != 2*secretSize {
		t.Fatalf("got %q, made %v, %v", first, made, err)
	}
	if other, _, err := Secret(dir); err != nil || other == first {
		t.Fatalf("two secrets are the same: %q, %v", other, err)
	}
	if err := WriteSecret(dir, first); err != nil {
		t.Fatal(err)
	}
	if again, made, err := Secret(dir); err != nil || made || again != first {
		t.Errorf("got %q, made %v, %v, want %q", again, made, err, first)
	}
	path := filepath.Join(dir, SecretFile)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the secret has mode %v, %v", st.Mode(), err)
	}
	for _, bad := range []string{"", first[1:], first + "00", "x" + first[1:]} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _, err := Secret(dir); err == nil {
			t.Errorf("%q is taken for the secret %q", bad, got)
		}
	}
}
