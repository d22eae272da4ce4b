package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"perdure/memsnap"
	"perdure/runtime"
)

// TestCall wants exports of a reactor to be called, its memory to last between the calls and over kill -9, and every
// error to have its code.
func TestCall(t *testing.T) {
	ctx := context.Background()
	s := newSpec(t, "ledger")
	h, c := beginRunning(t, s)
	add := func(n int, want string) {
		t.Helper()
		got, err := c.Call(ctx, "add", []string{strconv.Itoa(n)})
		if err != nil || len(got) != 1 || got[0].Value != want {
			t.Fatalf("add(%d) = %v, %v; want %s", n, got, err, want)
		}
	}
	add(40, "40")
	add(2, "42")
	await(t, "the reactor to wait", func() bool {
		st, err := c.Status(ctx)
		return err == nil && st.Reactor && st.Phase == PhaseParked
	})
	if err := h.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ends(t, h)
	_, c = beginRunning(t, s)
	add(58, "100")
	for _, f := range []struct {
		export string
		args   []string
		want   Code
	}{
		{"nothing", nil, CodeNoExport}, {"add", nil, CodeArguments}, {"add", []string{"x"}, CodeArguments}, {"fail", nil, CodeTrap},
	} {
		_, err := c.Call(ctx, f.export, f.args)
		var e *Error
		if !errors.Is(err, f.want) || !errors.As(err, &e) || f.want == CodeTrap && len(e.Stack) == 0 {
			t.Errorf("%s(%q): %v, want %v", f.export, f.args, err, f.want)
		}
	}
	add(0, "107") // what it did before it trapped stays
	_, command := beginRunning(t, newSpec(t, "counter", "10"))
	if _, err := command.Call(ctx, "add", nil); !errors.Is(err, CodeNotReactor) {
		t.Errorf("a command: %v", err)
	}
}

// TestKey wants a key to be used that the worker could not read any more.
func TestKey(t *testing.T) {
	s := newSpec(t, "counter", "1")
	s.Settings.Memsnap.KeyFile = filepath.Join(t.TempDir(), "key")
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Settings.Memsnap.KeyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	h, c := beginRunning(t, s)
	out, err := c.Suspend(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ends(t, h)
	for _, k := range []memsnap.Options{{Key: key}, {}} {
		saved, err := runtime.OpenSavedWith(s.Dir, k)
		if err != nil {
			t.Fatal(err)
		}
		st, err := saved.State(context.Background())
		if with := k.Key != nil; with != (err == nil && st.Generation.Number == out.Generation) {
			t.Errorf("with the key: %v; generation %d, %v", with, st.Generation.Number, err)
		}
	}
	_, c = beginRunning(t, s)
	if st, err := c.Status(context.Background()); err != nil || st.RestoredFrom != out.Generation {
		t.Errorf("went on from %d, %v, want %d", st.RestoredFrom, err, out.Generation)
	}
}
